"""Directories of files that change all at once: a new directory, then one rename of the symlink `..data`.

Readers see the old set or the new one, never a mixture; clients of such volumes watch for that rename. What a crash
cut off goes with the next write. Blocking; called by `podvolumes`.
"""

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent.volumes.ownership import give_to_group

DATA = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """What a file holds; `user` owns it, None leaves it to root."""

    data: bytes
    mode: int = 0o644
    user: int | None = None


Files = Mapping[str, File]


def is_written(path: Path) -> bool:
    """Whether the volume at `path` was complete once."""
    return (path / DATA).is_symlink()


def write(path: Path, files: Files, group: int | None) -> None:
    """Make the volume at `path` hold exactly `files`, open to `group` if there is one. Raises `OSError`."""
    path.mkdir(parents=True, exist_ok=True)
    if group is not None:
        os.chown(path, -1, group)
    path.chmod(0o777 if group is None else 0o2777)
    current = path / DATA
    if current.is_symlink() and _same(current.resolve(), files, group):
        return
    _discard_leftovers(path, current.readlink().name if current.is_symlink() else "")
    fresh = path / f"..{os.urandom(8).hex()}"
    fresh.mkdir(mode=0o755)
    fresh.chmod(0o755)
    for name, file in files.items():
        _write_file(fresh, name, file)
    if group is not None:
        give_to_group(fresh, group, read_only=True)
    link = path / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    os.replace(link, current)
    _link_names(path, files)
    _discard_leftovers(path, fresh.name)


def _discard_leftovers(path: Path, current: str) -> None:
    for entry in path.iterdir():
        if entry.name.startswith("..") and not entry.is_symlink() and entry.name != current:
            shutil.rmtree(entry, ignore_errors=True)


def _write_file(root: Path, name: str, file: File) -> None:
    target = root / name
    for folder in reversed(target.relative_to(root).parents[:-1]):
        made = root / folder
        if not made.is_dir():
            made.mkdir(mode=0o755)
            made.chmod(0o755)
    target.write_bytes(file.data)
    if file.user is not None:
        os.chown(target, file.user, -1)
    target.chmod(file.mode)


def _link_names(path: Path, files: Files) -> None:
    wanted = {name.split("/", 1)[0] for name in files}
    for name in wanted:
        link = path / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in path.iterdir():
        if not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()


def _same(directory: Path, files: Files, group: int | None) -> bool:
    found = {str(p.relative_to(directory)): p for p in directory.rglob("*") if p.is_file()}
    return found.keys() == files.keys() and all(_is(found[name], file, group) for name, file in files.items())


def _is(path: Path, file: File, group: int | None) -> bool:
    facts = path.stat()
    mode = file.mode if group is None else file.mode | 0o440
    owned = (file.user is None or facts.st_uid == file.user) and (group is None or facts.st_gid == group)
    return owned and stat.S_IMODE(facts.st_mode) == mode and path.read_bytes() == file.data
