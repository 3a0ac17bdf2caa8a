"""Volumes that are paths of the host: made where their type says so, checked where it says what they are. Blocking."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from orchestrator.agent.volumes.errors import VolumeError
from orchestrator.api.item import Object

_CHECKS: Final[dict[str, tuple[Callable[[Path], bool], str]]] = {
    "DirectoryOrCreate": (Path.is_dir, "directory"),
    "Directory": (Path.is_dir, "directory"),
    "FileOrCreate": (Path.is_file, "file"),
    "File": (Path.is_file, "file"),
    "Socket": (Path.is_socket, "socket file"),
    "CharDevice": (Path.is_char_device, "character device"),
    "BlockDevice": (Path.is_block_device, "block device"),
}
"""What a type demands and how it is called in the refusal; a file may be anything but a directory."""


def set_up(name: str, source: Object) -> Path:
    """The path of volume `name`. Raises `VolumeError`."""
    path, kind = Path(source["path"]), source.get("type") or ""
    try:
        _make(path, kind)
    except OSError as error:
        raise VolumeError.mount(name, f"{error.filename}: {error.strerror}") from error
    if kind not in _CHECKS and kind:
        raise VolumeError.mount(name, f"{kind} is an invalid volume type")
    if kind:
        good, called = _CHECKS[kind]
        if not good(path):
            raise VolumeError.mount(name, f"hostPath type check failed: {path} is not a {called}")
    return path


def _make(path: Path, kind: str) -> None:
    if path.exists():
        return
    if kind in ("", "DirectoryOrCreate"):
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind == "FileOrCreate":
        path.touch(mode=0o644)
        path.chmod(0o644)
