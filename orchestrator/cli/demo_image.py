"""The demo application's image, made on this host from Debian's static busybox: a web server that says its name.

Called by `orchestrator demo`; the bytes depend on nothing but busybox, so a second run loads nothing.
"""

import struct
from pathlib import Path

from orchestrator.base.errors import StartupError
from orchestrator.runtime.imagetar import Entry, build

TAG = "orchestrator.internal/demo:1"
BUSYBOX = Path("/bin/busybox")
PORT = 8080
APPLETS = ("sh", "cat", "echo", "env", "hostname", "httpd", "ls", "ps", "rm", "sleep", "touch", "wget")

PT_INTERP = 3

SERVE = f"""#!/bin/sh
# Process 1 gets no signal that it has not asked for. Requests under way have a second to end.
trap 'sleep 1; exit 0' TERM INT
echo "$(hostname) serves on port {PORT}"
httpd -f -vv -p {PORT} -h /www &
wait
"""

PAGE = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "${GREETING:-Hello} from $(hostname)"
[ ! -r /etc/demo/motd ] || cat /etc/demo/motd
"""


def archive() -> bytes:
    """The image in `docker save` format. Raises `StartupError` when there is no static busybox."""
    files = {
        "/bin/busybox": Entry(static_busybox(BUSYBOX)),
        **{f"/bin/{applet}": Entry(link="busybox") for applet in APPLETS},
        "/bin/serve": Entry(SERVE.encode()),
        "/www/cgi-bin/index.cgi": Entry(PAGE.encode()),
        "/www/healthz": Entry(b"ok\n", mode=0o644),
        "/etc/passwd": Entry(b"root:x:0:0:root:/:/bin/sh\n", mode=0o644),
        "/tmp": Entry(mode=0o1777),
    }
    config = {"Cmd": ["/bin/serve"], "Env": ["PATH=/bin"], "ExposedPorts": {f"{PORT}/tcp": {}}}
    return build(TAG, files, config)


def static_busybox(path: Path) -> bytes:
    """The program's bytes. Raises `StartupError` where it is absent or needs libraries."""
    fix = "Install it: apt-get install busybox-static."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartupError(f"The demo is built from {path}: {error.strerror}.", fix) from error
    if not is_static(data):
        raise StartupError(f"{path} is not a statically linked program.", fix)
    return data


def is_static(elf: bytes) -> bool:
    """Whether a 64-bit little-endian ELF program names no interpreter, so that it runs without libraries."""
    if elf[:6] != b"\x7fELF\x02\x01":
        return False
    offset = struct.unpack_from("<Q", elf, 32)[0]
    size, count = struct.unpack_from("<HH", elf, 54)
    kinds = {struct.unpack_from("<I", elf, offset + size * number)[0] for number in range(count)}
    return PT_INTERP not in kinds
