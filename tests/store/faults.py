"""A disk that fails at one of its calls, and what a store must make of it, whichever call it is."""

import asyncio
import errno
import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from orchestrator.base.errors import OrchestratorError
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import NoSpaceError, Put, StoppedError, Txn
from tests.store.ledger import SMALL, STORE, Told, Workload, check, check_writing, reopen
from tests.store.medium import Medium
from tests.store.memory_disk import Grow, Image, MemoryDisk, Spoiled, SpoiledNames, Write
from tests.store.model import row_of

SHORT = -1
"""Instead of an error number: the call writes a part only, and says so."""
REFUSING = {"create", "allocate"}
"""Where there is no space, these refuse a write and nothing more."""
TIMEOUT_S = 30


class FailingDisk(MemoryDisk):
    """Call number `at` of a verb fails with `code`, and all of any verb after it if `lasting`.

    What a failed call leaves is the worst that the kernel may leave: a part of a write in the cache, of which
    nobody knows whether it gets to the medium; after a failed sync the same holds for everything unsynced.
    """

    def __init__(self, code: int, lasting: bool, rng: random.Random) -> None:
        super().__init__()
        self.calls: list[str] = []
        """Names of all calls since `begin`."""
        self.failed: list[str] = []
        """Names of those that failed."""
        self.begin()
        self._code = code
        self._lasting = lasting
        self._rng = rng

    def begin(self, at: int = 0, verb: str = "") -> None:
        """Count from now on, and fail at call `at` of `verb`; 0 is never."""
        self.calls = []
        self._at = at
        self._verb = verb
        self._broken = False

    def _fails(self, verb: str) -> bool:
        self.calls.append(verb)
        if verb == self._verb:
            self._at -= 1
        if verb == self._verb and self._at == 0:
            self._broken = self._lasting
        elif not self._broken:
            return False
        if self._code == SHORT and verb != "write_some":
            return False
        self.failed.append(verb)
        return True

    def _error(self) -> OSError:
        return OSError(self._code, os.strerror(self._code))

    def _maybe(self, verb: str) -> None:
        with self._mutex:
            if self._fails(verb):
                raise self._error()

    def make_directory(self, path: Path) -> None:
        self._maybe("make_directory")
        super().make_directory(path)

    def lock(self, path: Path) -> int:
        self._maybe("lock")
        return super().lock(path)

    def create(self, path: Path) -> int:
        self._maybe("create")
        return super().create(path)

    def open(self, path: Path) -> int:
        self._maybe("open")
        return super().open(path)

    def size(self, fd: int) -> int:
        self._maybe("size")
        return super().size(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self._maybe("read")
        return super().read(fd, size, offset)

    def names(self, directory: Path) -> list[str]:
        self._maybe("names")
        return super().names(directory)

    def rename(self, source: Path, target: Path) -> None:
        self._maybe("rename")
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._maybe("link")
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        self._maybe("unlink")
        super().unlink(path)

    def write_some(self, fd: int, data: memoryview, offset: int, flags: int) -> int:
        with self._mutex:
            if not self._fails("write_some"):
                return super().write_some(fd, data, offset, flags)
            part = data[: self._rng.randrange(len(data) + 1)]
            if self._code == SHORT:
                return super().write_some(fd, part or data[:1], offset, flags)
            number, file = self._file(fd)
            file.write(bytes(part), offset)
            self._log(Write(number, offset, bytes(part), False))
            self._log(Spoiled(number))
            raise self._error()

    def sync(self, fd: int) -> None:
        with self._mutex:
            if self._fails("sync"):
                self._log(Spoiled(self._file(fd)[0]))
                raise self._error()
            super().sync(fd)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        with self._mutex:
            if not self._fails("allocate"):
                return super().allocate(fd, offset, size)
            number, file = self._file(fd)
            got = offset + self._rng.randrange(size + 1)
            if got > file.size:
                file.resize(got)
                self._log(Grow(number, got))
            if self._code != errno.ENOSPC:
                self._log(Spoiled(number))
            raise self._error()

    def truncate(self, fd: int, size: int) -> None:
        with self._mutex:
            if self._fails("truncate"):
                self._log(Spoiled(self._file(fd)[0]))
                raise self._error()
            super().truncate(fd, size)

    def sync_directory(self, path: Path) -> None:
        with self._mutex:
            if self._fails("sync_directory"):
                self._log(SpoiledNames(str(path)))
                raise self._error()
            super().sync_directory(path)


@dataclass(frozen=True)
class Fault:
    """Which call fails, and how."""

    verb: str
    at: int
    code: int
    lasting: bool
    seed: int
    again: bool = False
    """On a store that was opened before, instead of a new one."""

    def __str__(self) -> str:
        name = "short write" if self.code == SHORT else errno.errorcode[self.code]
        later = " and all later ones" if self.lasting else ""
        store = "an old" if self.again else "a new"
        return f"{name} at {self.verb} number {self.at}{later}, {store} store, seed {self.seed}"


class Trial:
    """One run on a failing disk, and everything that must hold during it and afterwards."""

    def __init__(self, fault: Fault, rounds: int) -> None:
        self.fault = fault
        self._rng = random.Random(fault.seed)
        self.disk = FailingDisk(fault.code, fault.lasting, self._rng)
        self.work = Workload(self.disk, fault.seed, writers=3, rounds=rounds)
        self.calls: list[str] = []
        """Made while it was open and watched."""

    async def run(self) -> str:
        """What came of it: "refused to open", "stopped", "went on". Raises `AssertionError`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                outcome = await self._run()
                await self._check_restarts()
                return outcome
        except Exception as error:
            raise AssertionError(f"{self.fault} ({', '.join(self.disk.failed[:5])}): {error!r}") from error

    async def _run(self) -> str:
        if self.fault.again:
            store = await self._open()
            await self.work.run(store)
            await self.work.close(store)
        self.disk.begin(self.fault.at, self.fault.verb)
        try:
            store = await self._open()
        except (OSError, OrchestratorError):
            assert self.disk.failed and not self.disk.open_files, self.disk.open_files
            return "refused to open"
        try:
            await self.work.run(store)
            self.calls = list(self.disk.calls)
            await self._check_running(store)
            return "went on" if store.healthy else "stopped"
        finally:
            await self.work.close(store)
            assert not self.disk.open_files, self.disk.open_files

    async def _open(self) -> LogStore:
        return await LogStore.open(STORE, self.work.clock, disk=self.disk, settings=SMALL)

    async def _check_running(self, store: LogStore) -> None:
        """Reads go on; writes go on, or are refused for good and for a reason that is told."""
        await self._check_reads(store)
        if self.fault.lasting and store.healthy:
            self.disk.begin()
        if store.healthy:
            assert not store.fault and not self.work.stopped
            await self._write_until_it_works(store)
            assert not store.no_space
            return
        assert store.fault
        assert set(self.disk.failed) - REFUSING or self.fault.code != errno.ENOSPC, (
            "stopped for lack of space"
        )
        self.disk.begin()
        for _ in range(3):
            try:
                await store.transact(Txn((), (Put("/never", b"1"),)))
            except StoppedError:
                continue
            raise AssertionError("a stopped store took a write")
        await self._check_reads(store)

    async def _check_reads(self, store: LogStore) -> None:
        found = [row_of(entry) for entry in (await store.range("/")).entries]
        assert found == self.work.history.state(store.revision) if store.revision else not found

    async def _write_until_it_works(self, store: LogStore) -> None:
        for _ in range(2):
            uncertain = Txn((), (Put("/after", b"%d" % store.revision),))
            try:
                await self.work.put_one(store)
            except NoSpaceError:
                continue  # The fault may have waited for this call.
            except StoppedError:
                self.work.uncertain.append(uncertain)
                break
            return
        assert not store.healthy, "a write was refused twice, and there was one fault"

    async def _check_restarts(self) -> None:
        """On what the process left in the cache, and on what a power loss leaves."""
        await self._check_image(self.disk.image(), "restarted")
        medium = Medium(self.disk.first_image())
        for op in list(self.disk.journal):
            medium.apply(op)
        least, *others = medium.images(None, self._rng, 1)
        for how, image in (least, *self._rng.sample(others, min(2, len(others)))):
            await self._check_image(image, f"power lost, {how}")

    async def _check_image(self, image: Image, how: str) -> None:
        try:
            store = await reopen(MemoryDisk(image))
            try:
                history = await self.work.history.extend(store, self.work.uncertain)
                await check(store, history, self.work.told, self._rng)
                await check_writing(store, Told())
            finally:
                await store.close()
        except Exception as error:
            raise AssertionError(f"{how}: {error!r}") from error


async def calls_without_fault(seed: int, rounds: int, again: bool) -> list[str]:
    """The calls that there are to fail."""
    trial = Trial(Fault("", 0, errno.EIO, False, seed, again), rounds)
    assert await trial.run() == "went on"
    return trial.calls


async def every_fault(seed: int, rounds: int) -> list[Fault]:
    """Every call of an undisturbed run, of a new store and of an old one, in each way."""
    ways = [(code, lasting) for code in (errno.EIO, errno.ENOSPC) for lasting in (False, True)]
    faults = []
    for again in (False, True):
        counts = Counter(await calls_without_fault(seed, rounds, again))
        for verb, count in counts.items():
            extra = [(SHORT, True)] if verb == "write_some" else []
            faults += [
                Fault(verb, at, code, lasting, seed, again)
                for at in range(1, count + 1)
                for code, lasting in [*ways, *extra]
            ]
    return faults


def some_of_each(faults: Iterable[Fault], rng: random.Random, count: int) -> list[Fault]:
    """So many for each kind of call."""
    by_verb: dict[str, list[Fault]] = {}
    for fault in faults:
        by_verb.setdefault(fault.verb, []).append(fault)
    return [fault for found in by_verb.values() for fault in rng.sample(found, min(count, len(found)))]


@dataclass
class Tally:
    """What came of many trials."""

    outcomes: Counter[str] = field(default_factory=Counter)
    verbs: Counter[str] = field(default_factory=Counter)
    """In how many trials a call of this name failed."""
    wrong: list[str] = field(default_factory=list)


async def campaign(faults: Iterable[Fault], rounds: int, end_s: float = inf) -> Tally:
    """Try all of them, or what fits until `end_s` on the monotonic clock."""
    tally = Tally()
    for fault in faults:
        if time.monotonic() > end_s:
            break
        trial = Trial(fault, rounds)
        try:
            tally.outcomes[await trial.run()] += 1
        except AssertionError as error:
            tally.wrong.append(str(error))
        tally.verbs.update(set(trial.disk.failed))
    return tally
