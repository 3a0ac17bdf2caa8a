"""What a power loss leaves of a `MemoryDisk`: everything synced, and of the rest any part, torn and out of order.

Rules. A durable write, a sync or a directory's sync binds exactly what POSIX promises for it. Of data that
nobody synced, each write may be lost, whole, cut at any byte, or there in some of its 512-byte sectors only,
whatever happened to the writes before it; a file may have its new length and zeros instead of the data. Of
names that nobody synced (created, renamed, removed), any may have happened, in their order. A sync that failed
binds nothing, and no later one makes up for it.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.store.memory_disk import (
    Cut,
    File,
    Grow,
    Image,
    Link,
    Op,
    Rename,
    Spoiled,
    SpoiledNames,
    Sync,
    SyncNames,
    Unlink,
    Write,
)

SECTOR_BYTES = 512
Data = Write | Grow | Cut
Names = Link | Unlink | Rename


class Medium:
    """Follows a journal; `images` may be asked before each operation is applied."""

    def __init__(self, image: Image) -> None:
        self._files = {number: file.copy() for number, (_, file) in enumerate(sorted(image.items()))}
        self._names = {path: number for number, path in enumerate(sorted(image))}
        self._waiting: list[Data] = []
        self._waiting_names: list[Names] = []
        self._doubtful: list[Data] = []
        """Of failed writes and syncs: there or not, until something later is on the same place."""
        self._doubtful_names: list[Names] = []

    def apply(self, op: Op) -> None:
        """`op` has returned."""
        if isinstance(op, Write) and op.durable:
            self._settle(op.file, op.offset, op.offset + len(op.data))
            self._doubtful = [change for change in self._doubtful if not _covers(op, change)]
            _change(self._files.setdefault(op.file, File()), op)
        elif isinstance(op, Data):
            self._waiting.append(op)
        elif isinstance(op, Names):
            self._waiting_names.append(op)
        elif isinstance(op, Sync):
            self._settle(op.file)
        elif isinstance(op, SyncNames):
            self._settle_names()
        elif isinstance(op, Spoiled):
            self._doubtful += [change for change in self._waiting if change.file == op.file]
            self._waiting = [change for change in self._waiting if change.file != op.file]
        elif isinstance(op, SpoiledNames):
            self._doubtful_names += self._waiting_names
            self._waiting_names = []

    def _settle_names(self) -> None:
        for change in self._waiting_names:
            _rename(self._names, change)
            paths = _paths(change)
            self._doubtful_names = [old for old in self._doubtful_names if not paths & _paths(old)]
        self._waiting_names.clear()

    def _settle(self, file: int, start: int = 0, end: int | None = None) -> None:
        """What waits for the medium between two offsets is on it now: a page is written as a whole."""
        rest: list[Data] = []
        for change in self._waiting:
            if change.file == file and (end is None or _touches(change, start, end)):
                _change(self._files.setdefault(file, File()), change)
            else:
                rest.append(change)
        self._waiting = rest

    def nothing_kept(self) -> Image:
        """Only what is certain."""
        return self._image([], [])

    def images(self, op: Op | None, rng: random.Random, tears: int) -> Iterator[tuple[str, Image]]:
        """What may be left when the power goes while `op` runs, as (how, files)."""
        data: list[Data] = [*self._doubtful, *self._waiting]
        names: list[Names] = [*self._doubtful_names, *self._waiting_names]
        if isinstance(op, Data):
            data.append(op)
        elif isinstance(op, Names):
            names.append(op)
        yield "nothing kept", self._image([], [])
        if not data and not names:
            return
        yield "all kept", self._image(data, names)
        if names and data:
            yield "names kept, data lost", self._image([], names)
            yield "data kept, names lost", self._image(data, [])
        yield from self._some(data, names, rng, tears)

    def _some(
        self, data: Sequence[Data], names: Sequence[Names], rng: random.Random, tears: int
    ) -> Iterator[tuple[str, Image]]:
        for first in range(1, len(names)):
            yield f"first {first} names, data kept", self._image(data, names[:first])
            yield f"first {first} names, data lost", self._image([], names[:first])
        for _ in range(tears if data else 0):
            yield "last write torn", self._image([*data[:-1], *torn(data[-1], rng)], names)
            some = [part for change in data if rng.random() < 0.7 for part in torn(change, rng)]
            yield "some data torn", self._image(some, [name for name in names if rng.random() < 0.5])

    def _image(self, data: Sequence[Data], names: Sequence[Names]) -> Image:
        paths = dict(self._names)
        for name in names:
            _rename(paths, name)
        files = dict(self._files)
        copied: set[int] = set()
        for change in data:
            if change.file not in copied:
                copied.add(change.file)
                files[change.file] = files[change.file].copy() if change.file in files else File()
            _change(files[change.file], change)
        return {path: files.get(number) or File() for path, number in paths.items()}


def _touches(change: Data, start: int, end: int) -> bool:
    if isinstance(change, Write):
        return change.offset < end and start < change.offset + len(change.data)
    return change.size <= end


def _covers(write: Write, change: Data) -> bool:
    return (
        isinstance(change, Write)
        and change.file == write.file
        and write.offset <= change.offset
        and change.offset + len(change.data) <= write.offset + len(write.data)
    )


def _paths(change: Names) -> set[str]:
    if isinstance(change, Rename):
        return {change.source, change.target}
    return {change.path}


def _change(file: File, change: Data) -> None:
    if isinstance(change, Write):
        file.write(change.data, change.offset)
    elif isinstance(change, Cut) or change.size > file.size:
        file.resize(change.size)


def _rename(paths: dict[str, int], change: Names) -> None:
    if isinstance(change, Link):
        paths[change.path] = change.file
    elif isinstance(change, Unlink):
        paths.pop(change.path, None)
    else:
        paths.pop(change.source, None)
        paths[change.target] = change.file


def torn(change: Data, rng: random.Random) -> list[Data]:
    """A part of one write: up to any byte, or some sectors; its length alone; or all of it."""
    if not isinstance(change, Write):
        return [change]
    size = len(change.data)
    how = rng.randrange(5)
    if how == 0:
        return [change]
    if how == 1:
        return [Grow(change.file, change.offset + size)]
    if how == 2:
        return [change._replace(data=change.data[: rng.randrange(size + 1)])]
    sectors = _sectors(change)
    if how == 3:
        return list(sectors[: rng.randrange(len(sectors) + 1)])
    kept: list[Data] = [sector for sector in sectors if rng.random() < 0.6]
    return [Grow(change.file, change.offset + size), *kept]


def _sectors(write: Write) -> list[Write]:
    parts = []
    at = write.offset
    end = write.offset + len(write.data)
    while at < end:
        stop = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        parts.append(write._replace(offset=at, data=write.data[at - write.offset : stop - write.offset]))
        at = stop
    return parts


def save(image: Image, directory: Path) -> None:
    """Write an image as real files, to look into one that a check failed on."""
    directory.mkdir(parents=True, exist_ok=True)
    for path, file in image.items():
        (directory / Path(path).name).write_bytes(bytes(file.data).ljust(file.size, b"\0"))
