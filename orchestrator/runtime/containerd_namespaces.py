"""A pod's namespaces held by files: no process, nothing to start, nothing to reap.

A namespace lives as long as a file is bound to it. A thread of our own leaves the host's namespaces, writes the
host name and the sysctls where it stands, binds what it has to files below the sandbox's directory and ends.
Beside them lies the pod's `/dev/shm`. All of it is gone after the host restarted, which `holds` tells. Blocking
and quick (about 1 ms); called by `containerd_sandboxes`, which runs it off the loop.
"""

import contextlib
import ctypes
import os
import shutil
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.runtime.interface import RuntimeFailure, SandboxSpec

CLONE_NEWNET, CLONE_NEWUTS, CLONE_NEWIPC = 0x40000000, 0x04000000, 0x08000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 2, 4, 8, 4096
MNT_DETACH = 2
SHM_BYTES = 64 << 20
FLAGS: Mapping[str, int] = {"net": CLONE_NEWNET, "uts": CLONE_NEWUTS, "ipc": CLONE_NEWIPC}
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT = "boot"

_libc = ctypes.CDLL(None, use_errno=True)


def kinds(network: str, ipc: str) -> tuple[str, ...]:
    """Which namespaces a sandbox has for itself."""
    own = ("net", "uts") if network == "pod" else ()
    return (*own, "ipc") if ipc == "pod" else own


def make(directory: Path, spec: SandboxSpec) -> None:
    """Make and hold the sandbox's namespaces; what an earlier attempt left goes first. Raises `RuntimeFailure`."""
    remove(directory)
    directory.mkdir(parents=True, mode=0o711)
    wanted = kinds(spec.network, spec.ipc)
    try:
        _in_thread(lambda: _unshare(directory, wanted, spec))
        if "ipc" in wanted:
            shm = directory / "shm"
            shm.mkdir(mode=0o1777)
            options = f"mode=1777,size={SHM_BYTES}"
            _mount("shm", shm, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
        (directory / _BOOT).write_text(BOOT_ID.read_text())
    except OSError as error:
        remove(directory)
        raise RuntimeFailure(f"can't make the pod's namespaces: {error}", "CreatePodSandboxError") from error


def holds(directory: Path, network: str, ipc: str) -> bool:
    """Whether the namespaces are there: made since the host started, and still bound."""
    try:
        if (directory / _BOOT).read_text() != BOOT_ID.read_text():
            return False
        device = directory.stat().st_dev
        return all((directory / kind).stat().st_dev != device for kind in kinds(network, ipc))
    except OSError:
        return False


def release(directory: Path) -> None:
    """Let the namespaces go; the kernel ends each with its last process."""
    with contextlib.suppress(FileNotFoundError):
        (directory / _BOOT).unlink()
    for name in (*FLAGS, "shm"):
        target = directory / name
        while _is_mounted(target):
            _umount(target)


def remove(directory: Path) -> None:
    """Let go and remove the directory; an absent one is fine."""
    release(directory)
    shutil.rmtree(directory, ignore_errors=True)


def _is_mounted(path: Path) -> bool:
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except OSError:
        return False


def _unshare(directory: Path, wanted: tuple[str, ...], spec: SandboxSpec) -> None:
    """Runs in a thread that ends after: it never comes back to the host's namespaces."""
    flags = sum(FLAGS[kind] for kind in wanted)
    if flags:
        _check(_libc.unshare(flags), "unshare")
    if "uts" in wanted and spec.hostname:
        socket.sethostname(spec.hostname)
    for name, value in spec.sysctls.items():
        _sysctl(name, value)
    for kind in wanted:
        target = directory / kind
        target.touch()
        _mount(f"/proc/thread-self/ns/{kind}", target, "", MS_BIND, "")


def _sysctl(name: str, value: str) -> None:
    """A pod's sysctl is one of its network or ipc namespace, and written from inside."""
    separator = "/" if "/" in name.partition(".")[0] else "."
    path = Path("/proc/sys", *name.split(separator))
    if not {"", "..", "."}.isdisjoint(name.split(separator)):
        raise OSError(f"sysctl {name!r} is no sysctl")
    path.write_text(value)


def _in_thread(work: Callable[[], None]) -> None:
    problems: list[OSError] = []

    def run() -> None:
        try:
            work()
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=run, name="sandbox")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


def _mount(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    words = (source.encode(), os.fsencode(target), kind.encode() or None)
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None), f"mount {target}")


def _umount(target: Path) -> None:
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
