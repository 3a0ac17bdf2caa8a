"""Images for tests, made from Debian's busybox-static: nothing is pulled."""

import subprocess
from pathlib import Path

from orchestrator.runtime.imagetar import Entry, build

BUSYBOX = Path("/bin/busybox")
TAG = "orchestrator.internal/test-busybox:1"


def busybox_archive(tag: str = TAG) -> bytes:
    """`docker save` archive of an image with busybox and links for its applets; runs `sh` by default."""
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True, timeout=10)
    files = {f"/bin/{applet}": Entry(link="busybox") for applet in listed.stdout.split()}
    files |= {
        "/bin/busybox": Entry(BUSYBOX.read_bytes()),
        "/etc/passwd": Entry(b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", mode=0o644),
        "/etc/group": Entry(b"root:x:0:\nnogroup:x:65534:\n", mode=0o644),
        "/tmp": Entry(mode=0o1777),
        "/root": Entry(mode=0o700),
        "/proc": Entry(),
        "/sys": Entry(),
        "/dev": Entry(),
    }
    return build(tag, files, {"Cmd": ["sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"})
