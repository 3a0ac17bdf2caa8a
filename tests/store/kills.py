"""`kill -9` at random moments of a process with 64 writers, again and again on the same directory."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from orchestrator.base.clock import VirtualClock
from orchestrator.store.engine import LogStore
from orchestrator.store.settings import KIB, LogSettings

WRITERS = 64
KEYS = 5
GUARD_S = 60
SETTINGS = LogSettings(
    segment_bytes=128 * KIB, history_s=1, history_bytes=256 * KIB, snapshot_bytes=128 * KIB
)
"""A segment is full after some hundred writes; so often a snapshot begins."""
REPOSITORY = Path(__file__).parents[2]


def value_of(number: int, rng: random.Random) -> bytes:
    return b"%d." % number * rng.choice((1, 20, 200))


@dataclass
class Acknowledged:
    """What one child said before it died: the newest number and revision of each key."""

    revision: int = 0
    count: int = 0
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, line: bytes) -> None:
        key, number, revision = line.split()
        assert int(revision) > 0 or number == b"-"
        self.revision = max(self.revision, int(revision))
        if number != b"-":
            self.count += 1
            self.keys[key.decode()] = (int(number), int(revision))


class Kills:
    """Owner of the directory; one child at a time."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.kills = 0
        self.acknowledged = 0
        self.found: Counter[str] = Counter()
        """In how many kills a file of this kind was left: what the kill landed in."""
        self.segments = 0
        """How many segments were begun, all in all."""
        self._directory = directory
        self._rng = random.Random(seed)
        self._revision = 0
        command = [sys.executable, "-m", "tests.store.kill_child", str(directory)]
        pipe = subprocess.PIPE
        self._nursery = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=REPOSITORY)

    async def run_one(self) -> None:
        """Start, kill, reopen, check. Raises `AssertionError`."""
        after = self._rng.choice((0, 1, 50, 500, 1500))
        said = self._start_and_kill(after, self._rng.random() * (0.05 if after else 0.2))
        self.kills += 1
        self.acknowledged += said.count
        self._note_files()
        store = await LogStore.open(self._directory, VirtualClock(), settings=SETTINGS)
        try:
            if store.dropped:
                self.found["dropped tail"] += 1
            await self._check(store, said)
        finally:
            await store.close()

    def close(self) -> None:
        """End the process that the children come from."""
        self._nursery.communicate(timeout=GUARD_S)

    def _start_and_kill(self, after: int, delay_s: float) -> Acknowledged:
        """Kill a child `delay_s` after so many acknowledgements; 0 is at any moment of its start."""
        stdin, stdout = self._nursery.stdin, self._nursery.stdout
        assert stdin is not None and stdout is not None
        stdin.write(b"%d\n" % self._rng.randrange(1 << 30))
        stdin.flush()
        pid = _said(stdout.readline(), b"born")
        kill = partial(os.kill, pid, signal.SIGKILL)
        guard, killer = threading.Timer(GUARD_S, kill), threading.Timer(delay_s, kill)
        guard.start()
        if not after:
            killer.start()
        said = Acknowledged()
        while not (line := stdout.readline()).startswith(b"died"):
            said.add(line)
            if said.count == after and not killer.ident:
                killer.start()
        for timer in (guard, killer):
            timer.cancel()
            if timer.ident:
                timer.join()
        status = _said(line, b"died")
        assert status == -signal.SIGKILL, f"the child ended by itself: {status}"
        return said

    def _note_files(self) -> None:
        paths = list(self._directory.iterdir()) if self._directory.exists() else []
        self.found.update({path.suffix for path in paths if path.suffix})
        numbers = [int(path.stem, 16) for path in paths if path.suffix == ".segment"]
        self.segments = max([self.segments, *numbers])

    async def _check(self, store: LogStore, said: Acknowledged) -> None:
        assert store.revision >= max(said.revision, self._revision), "a revision went back"
        self._revision = store.revision
        for key, (number, revision) in said.keys.items():
            entry = await store.get(key)
            assert entry and entry.revision >= revision, (
                f"{key} number {number} at {revision} is lost: {entry}"
            )
            if entry.revision == revision:
                assert entry.value.split(b".")[0] == b"%d" % number
        for entry in (await store.range("/")).entries:
            if entry.key.count("/") == 2 and not entry.key.endswith("/gone"):
                twin = await store.get(f"{entry.key}/twin")
                assert twin and (twin.value, twin.revision) == (entry.value, entry.revision), entry.key


def _said(line: bytes, word: bytes) -> int:
    said, number, _ = line.split()
    assert said == word, f"the child said {line!r}"
    return int(number)


async def campaign(directory: Path, seed: int, kills: int, seconds: float) -> Kills:
    """So many kills, or as many as fit into the time."""
    run = Kills(directory, seed)
    end = time.monotonic() + seconds
    try:
        while run.kills < kills and time.monotonic() < end:
            await run.run_one()
    finally:
        run.close()
    return run
