"""Volumes on a server: NFS, where the host can mount it. Blocking; called by `podvolumes` and `claimed`.

`mount(8)` is run, as its helpers are what knows these file systems; without them, or without the kernel's part, its
words are the event's.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from orchestrator.agent.volumes.errors import VolumeError
from orchestrator.api.item import Object
from orchestrator.base import mounting

MOUNT_DEADLINE_S = 60.0


def mount_nfs(name: str, source: Object, options: Sequence[str], target: Path) -> None:
    """Mount the export `source` (server, path, readOnly) of volume `name` at `target`, unless it is.

    Raises `VolumeError`.
    """
    if mounting.is_mounted(target):
        return
    target.mkdir(parents=True, exist_ok=True, mode=0o750)
    server = source["server"]
    server = f"[{server}]" if ":" in server and not server.startswith("[") else server
    chosen = [*options, *(["ro"] if source.get("readOnly") else [])]
    arguments = ["-t", "nfs", *(["-o", ",".join(chosen)] if chosen else [])]
    arguments += [f"{server}:{source['path']}", str(target)]
    _mount(name, arguments)


def _mount(name: str, arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            ["mount", *arguments], capture_output=True, text=True, timeout=MOUNT_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VolumeError.mount(name, _failure("signal: killed", arguments, "it took too long")) from error
    if done.returncode != 0:
        text = _failure(f"exit status {done.returncode}", arguments, (done.stderr or done.stdout).strip())
        raise VolumeError.mount(name, text)


def _failure(how: str, arguments: list[str], output: str) -> str:
    command = " ".join(arguments)
    return f"mount failed: {how}\nMounting command: mount\nMounting arguments: {command}\nOutput: {output}\n"
