"""Parts of volumes that containers mount: `subPath` and `subPathExpr`.

The part is opened below the volume's directory and then mounted from the descriptor, below
`<pod>/volume-subpaths/<volume>/<container>/<number of the mount>`, where no container reaches: a symlink that is
exchanged meanwhile changes nothing. The engine is given that place. What is mounted there is left when it is still
the same file, and gone with the pod. Blocking; called by `podvolumes`.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from orchestrator.agent.volumes.beneath import closing, make_beneath, open_beneath
from orchestrator.agent.volumes.errors import SubPathError
from orchestrator.api.item import Object
from orchestrator.base import mounting

DIRECTORY = "volume-subpaths"
_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")


def sub_path(mount: Object, env: Mapping[str, str]) -> str:
    """The part that a volume mount names, empty for all of it. Raises `SubPathError`."""
    expression = mount.get("subPathExpr")
    path = _expanded(str(expression), env) if expression else str(mount.get("subPath") or "")
    if path.startswith("/"):
        raise SubPathError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise SubPathError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def _expanded(expression: str, env: Mapping[str, str]) -> str:
    """With every variable it names; one that is empty is as missing."""
    missing: set[str] = set()

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        if not env.get(name):
            missing.add(name)
        return env.get(name, "")

    text = _REFERENCE.sub(value, expression)
    if missing:
        raise SubPathError(f"missing value for {', '.join(sorted(missing))}")
    return text


def mount_part(volume: Path, part: str, target: Path) -> Path:
    """`part` of the directory `volume`, made where it is missing, mounted at `target`. Raises `OSError`."""
    with closing(os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        mode = stat.S_IMODE(os.fstat(root).st_mode) & 0o2777
        with closing(_opened(root, part, mode)) as found:
            _show(found, target)
    return target


def _opened(root: int, part: str, mode: int) -> int:
    try:
        return open_beneath(root, part)
    except FileNotFoundError:
        return make_beneath(root, part, mode)


def _show(found: int, target: Path) -> None:
    facts = os.fstat(found)
    if mounting.is_mounted(target):
        there = target.stat()
        if (there.st_dev, there.st_ino) == (facts.st_dev, facts.st_ino):
            return
        mounting.unmount(target)
    make_target(target, directory=stat.S_ISDIR(facts.st_mode))
    mounting.bind_descriptor(found, target)


def make_target(target: Path, *, directory: bool) -> None:
    """An empty directory or file to mount on; what an earlier mount of another sort needed goes."""
    if target.is_dir() and not directory:
        target.rmdir()
    elif target.exists() and not target.is_dir() and directory:
        target.unlink()
    if directory:
        target.mkdir(parents=True, exist_ok=True, mode=0o750)
    else:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        target.touch(mode=0o640)
