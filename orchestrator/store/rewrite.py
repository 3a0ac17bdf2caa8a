"""Keeps the log from growing for ever: a new file begins with a snapshot and takes the old one's place.

The steps, each of which may be the last before a crash: the snapshot and what was committed since are
written to a temporary file, in slices, beside the running commits; it is synced; between two batches the
rest is copied, synced, and the file gets its final name; the directory is synced; commits go on in the new
file; the old one is removed. Recovery takes the file with the highest number, which is always complete.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from orchestrator.store.commit import Committer, finish
from orchestrator.store.disk import Disk
from orchestrator.store.interface import Entry
from orchestrator.store.log import LogFile
from orchestrator.store.record import (
    GRANT,
    KEPT,
    PAIR,
    SNAPSHOT,
    Operation,
    Record,
    number_value,
)
from orchestrator.store.state import State

log = structlog.get_logger(__name__)

SLICE_ENTRIES = 256
SLICE_BYTES = 1024 * 1024
"""One slice is encoded on the loop at a time."""
TAIL_BYTES = 256 * 1024
"""No more than about this is copied while commits wait."""
ROUNDS_MAX = 20
REWRITE_BYTES_MIN = 64 * 1024 * 1024
REWRITE_FACTOR = 3
"""The log is rewritten when it is larger than both the minimum and this multiple of the live data."""


def log_path(directory: Path, number: int) -> Path:
    return directory / f"{number:016d}.log"


def worthwhile(log_bytes: int, live_bytes: int) -> bool:
    """Whether a log file is large enough beside what a new one would hold."""
    return log_bytes > max(REWRITE_BYTES_MIN, REWRITE_FACTOR * live_bytes)


def snapshot(state: State) -> Iterator[list[Record]]:
    """The records of a snapshot of `state` as it is at the first `next`, in slices of bounded size."""
    revision, last_lease = state.revision, state.leases.last
    entries = state.entries()
    leases = [Operation(GRANT, lease.id, "", number_value(lease.ttl_s)) for lease in state.leases.all()]
    for start in range(0, len(leases), SLICE_ENTRIES):
        yield [Record(0, leases[start : start + SLICE_ENTRIES])]
    for part in _slices(entries):
        yield [_kept(entry) for entry in part]
    yield [Record(revision, [Operation(SNAPSHOT, 0, "", number_value(last_lease))])]


def _slices(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    size = 0
    for entry in entries:
        part.append(entry)
        size += len(entry.item.raw)
        if len(part) >= SLICE_ENTRIES or size >= SLICE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _kept(entry: Entry) -> Record:
    value = PAIR.pack(entry.create_revision, entry.version) + entry.item.raw
    return Record(entry.item.revision, [Operation(KEPT, entry.lease, entry.key, value)])


class Rewriter:
    """Replaces the committer's log file. One run at a time."""

    def __init__(self, disk: Disk, directory: Path, committer: Committer) -> None:
        self.runs = 0
        self._disk = disk
        self._directory = directory
        self._committer = committer

    async def run(self) -> None:
        """Raises `OSError` or `StoreError` when it could not; the old log then stays in use, unharmed."""
        old = self._committer.log
        number = old.header.number + 1
        temporary = self._directory / f"{number:016d}.tmp"
        new = LogFile.create(
            self._disk, temporary, number, old.header.store_id, self._committer.state.revision
        )
        try:
            copied = await self._fill(old, new)
            await self._switch(old, new, copied, log_path(self._directory, number))
        finally:
            if self._committer.log is not new:
                new.close()
                self._disk.unlink(temporary)
        await self._in_thread(lambda: self._disk.unlink(old.path))
        self.runs += 1
        log.info("store log rewritten", old_bytes=old.tail, new_bytes=new.tail, file=new.path.name)

    async def _fill(self, old: LogFile, new: LogFile) -> int:
        """Write the snapshot and all but the newest batches; returns the old file's offset copied up to."""
        copied = self._committer.published_end
        for records in snapshot(self._committer.state):
            data = new.encode(records)
            await self._write(new, data)
        for _ in range(ROUNDS_MAX):
            await self._in_thread(new.sync)
            end = self._committer.published_end
            if end - copied <= TAIL_BYTES:
                break
            await self._copy(old, new, copied, end)
            copied = end
        return copied

    async def _write(self, new: LogFile, data: bytes) -> None:
        await self._in_thread(lambda: new.write(data, durably=False))

    async def _copy(self, old: LogFile, new: LogFile, start: int, end: int) -> None:
        await self._in_thread(lambda: old.copy_into(new, start, end))

    async def _switch(self, old: LogFile, new: LogFile, copied: int, target: Path) -> None:
        def finish_file() -> None:
            old.copy_into(new, copied, old.tail)
            new.sync()
            self._disk.rename(new.path, target)
            new.path = target
            try:
                self._disk.sync_directory(self._directory)
            except OSError as error:
                # Which of the two files a restart would find is now unknown: neither may grow.
                self._committer.stop(f"syncing {self._directory} failed: {error}")

        def take_over() -> None:
            self._committer.log = new
            self._committer.published_end = new.tail
            old.close()

        await self._committer.exclusive(finish_file, take_over)

    async def _in_thread(self, job: Callable[[], object]) -> None:
        await finish(asyncio.get_running_loop().run_in_executor(None, job))
