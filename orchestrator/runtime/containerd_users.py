"""Who a container runs as: `user[:group]` of a spec, looked up in the image's passwd and group. Pure but for `read`.

Called by `containerd`; the texts of one image are read once, straight from the layers where its snapshot lies,
without mounting anything.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.runtime.interface import RuntimeFailure

TEXT_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Accounts:
    """The image's `/etc/passwd` and `/etc/group`, as rows of fields."""

    users: tuple[tuple[str, ...], ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """What the process runs as. `groups` are the additional ones, ascending."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def resolve(user: str, supplemental: Iterable[int], accounts: Accounts, *, strict: bool = False) -> Identity:
    """`uid`, `name`, each with `:gid` or `:group`; empty is root. Raises `RuntimeFailure` for a name unknown.

    The image's memberships of the user count whatever the group, unless `strict`.
    """
    name, _, group = (user or "0").partition(":")
    row = next((row for row in accounts.users if row[0] == name or row[2] == name), None)
    if row is None and not name.isdecimal():
        raise RuntimeFailure(f"unable to find user {name}: no matching entries in passwd file")
    uid = int(row[2]) if row else int(name)
    gid = _gid(group, accounts) if group else int(row[3]) if row and row[3].isdecimal() else 0
    login = row[0] if row else ""
    member = {int(row[2]) for row in accounts.groups if login and login in row[3].split(",")}
    extra = (set() if strict else member) | set(supplemental)
    return Identity(uid, gid, tuple(sorted(extra | {gid})))


def _gid(group: str, accounts: Accounts) -> int:
    found = next((row for row in accounts.groups if row[0] == group), None)
    if found is not None:
        return int(found[2])
    if group.isdecimal():
        return int(group)
    raise RuntimeFailure(f"unable to find group {group}: no matching entries in group file")


def parse(passwd: str, group: str) -> Accounts:
    """Rows that are malformed are passed over."""
    return Accounts(_rows(passwd, 4), _rows(group, 4))


def _rows(text: str, fields: int) -> tuple[tuple[str, ...], ...]:
    rows = (tuple(line.strip().split(":")) for line in text.splitlines() if not line.startswith("#"))
    return tuple(row for row in rows if len(row) >= fields and row[2].isdecimal())


def read(mounts: Iterable[Mapping[str, Any]]) -> Accounts:
    """From the layers that a snapshot's mounts name, the uppermost first. Blocking."""
    found = layers(mounts)
    return parse(_text(found, "etc/passwd"), _text(found, "etc/group"))


def layers(mounts: Iterable[Mapping[str, Any]]) -> list[Path]:
    """The directories that a snapshot's mounts lay over each other, the uppermost first."""
    return [layer for mount in mounts for layer in _layers(mount)]


def _layers(mount: Mapping[str, Any]) -> list[Path]:
    if mount.get("type") == "overlay":
        options = dict(option.partition("=")[::2] for option in mount.get("options", ()))
        upper = [options["upperdir"]] if "upperdir" in options else []
        return [Path(part) for part in (*upper, *options.get("lowerdir", "").split(":")) if part]
    return [Path(mount["source"])]


def _text(layers: Iterable[Path], name: str) -> str:
    for layer in layers:
        try:
            descriptor = _open_inside(layer, name)
        except FileNotFoundError:
            continue
        except OSError:
            return ""
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            return file.read(TEXT_BYTES_MAX).decode("utf-8", "replace")
    return ""


def _open_inside(layer: Path, name: str) -> int:
    """Follows no link, so that no image can make us read the host's files."""
    directory, _, base = name.rpartition("/")
    at = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inner = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(base, flags, dir_fd=inner)
        finally:
            os.close(inner)
    finally:
        os.close(at)
