"""How much directory trees hold: measured in one thread, kept, measured again when old.

A tree is measured at most once a minute, and one that takes long at most for a twentieth of the time: a volume with
millions of files must not keep a CPU busy. Nobody waits longer than asked for; what is not known yet is left out.
Owner: the `Collector` of the node.
"""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent.stats import host
from orchestrator.agent.stats.usage import DiskUse
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor

FRESH_S = 60.0
SHARE = 20
"""A tree that takes 10 s is measured again after 200 s."""
BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Known:
    use: DiskUse | None
    due_s: float


class Disks:
    """Sizes of directories by path."""

    def __init__(self, clock: Clock, supervisor: Supervisor) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._known: dict[Path, _Known] = {}
        self._work: asyncio.Task[None] | None = None
        self._wanted: set[Path] = set()

    def get(self, path: Path) -> DiskUse | None:
        """What is known of a tree, maybe old; `None` before its first measurement and when it is gone."""
        known = self._known.get(path)
        return known.use if known is not None else None

    async def refresh(self, paths: Iterable[Path], wait_s: float) -> None:
        """Measure what is old of these, waiting at most `wait_s` for what was never measured; forget all others."""
        asked = set(paths)
        self._known = {path: known for path, known in self._known.items() if path in asked}
        now_s = self._clock.monotonic_s()
        old = {path for path in asked if path not in self._known or self._known[path].due_s <= now_s}
        if not old:
            return
        self._wanted |= old
        if self._work is None or self._work.done():
            self._work = self._supervisor.spawn("measure disks", self._measure())
        if old - self._known.keys():
            await asyncio.wait({self._work}, timeout=wait_s)

    async def _measure(self) -> None:
        while self._wanted:
            path = self._wanted.pop()
            begin_s = self._clock.monotonic_s()
            use = await asyncio.to_thread(measure, path, self._clock.now_s())
            now_s = self._clock.monotonic_s()
            self._known[path] = _Known(use, now_s + max(FRESH_S, SHARE * (now_s - begin_s)))


def measure(path: Path, now_s: float) -> DiskUse | None:
    """What a tree holds on its own file system; a link to several names counts once. Blocking."""
    try:
        root = os.stat(path)
        used, inodes = root.st_blocks * BLOCK_BYTES, 1
        seen: set[int] = set()
        waiting = [os.fspath(path)]
        while waiting:
            for entry in _entries(waiting.pop()):
                facts = _facts(entry)
                if facts is None or facts.st_dev != root.st_dev or facts.st_ino in seen:
                    continue
                if facts.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    seen.add(facts.st_ino)
                used, inodes = used + facts.st_blocks * BLOCK_BYTES, inodes + 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
        return DiskUse(now_s, used, inodes, host.file_system(path, now_s))
    except OSError:
        return None


def _entries(path: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except OSError:
        return []


def _facts(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """Of something that may be gone by now."""
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None
