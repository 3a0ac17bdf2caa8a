"""Kernel settings under `/proc/sys/net`, those of the calling thread's network namespace.

A setting of the whole host that we change is noted with its former value in a file first, so that removing the
network can restore it.
"""

from pathlib import Path

from orchestrator.network.dataplane.interface import NetworkError

ROOT = Path("/proc/sys/net")


def read(name: str) -> str | None:
    """The value of `ipv4/ip_forward` and its like; None when the kernel has no such setting."""
    try:
        return (ROOT / name).read_text().strip()
    except OSError:
        return None


def write(name: str, value: str) -> None:
    """Set it unless it is so already. Raises `NetworkError`."""
    if read(name) == value:
        return
    try:
        (ROOT / name).write_text(value)
    except OSError as error:
        raise NetworkError(f"/proc/sys/net/{name} = {value}: {error.strerror}.") from error


def write_noted(name: str, value: str, notes: Path) -> None:
    """As `write`, keeping the first former value under `notes`. Raises `NetworkError`."""
    former = read(name)
    if former == value:
        return
    note = notes / name.replace("/", ".")
    if former is not None and not note.exists():
        notes.mkdir(parents=True, exist_ok=True)
        note.write_text(former)
    write(name, value)


def restore(notes: Path) -> None:
    """Put back every value noted under `notes` and forget the notes."""
    if not notes.is_dir():
        return
    for note in notes.iterdir():
        write(note.name.replace(".", "/"), note.read_text().strip())
        note.unlink()
    notes.rmdir()
