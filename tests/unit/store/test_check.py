"""Looking at a store that a server is writing to: what is read of its last batches may be old, or half."""

from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store.check import DAMAGE, UNFINISHED, check
from orchestrator.store.frames import READ_BYTES
from orchestrator.store.header import HEADER_BYTES
from orchestrator.store.log import Log
from orchestrator.store.record import PUT, Operation, Record
from orchestrator.store.recovery import Recovery
from orchestrator.store.settings import LogSettings
from tests.store.memory_disk import File, MemoryDisk

DIRECTORY = Path("/memory/store")
BATCHES = 6


class BehindDisk(MemoryDisk):
    """The first large reads see nothing from `cut` on, as if the rest was written just afterwards."""

    cut = 0
    behind = 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        data = super().read(fd, size, offset)
        if size >= READ_BYTES and self.behind and offset <= self.cut < offset + len(data):
            self.behind -= 1
            return data[: self.cut - offset].ljust(len(data), b"\0")
        return data


def written(log: Log, count: int) -> list[int]:
    bounds = [HEADER_BYTES]
    for number in range(1, count + 1):
        log.write(log.encode([Record(number, [Operation(PUT, 0, f"/{number}", b"x" * 100)])]), number)
        bounds.append(log.current.tail)
    return bounds


def filled() -> tuple[BehindDisk, list[int]]:
    disk = BehindDisk()
    disk.make_directory(DIRECTORY)
    found, log = Recovery(disk, DIRECTORY, VirtualClock(), LogSettings(segment_bytes=16 * 1024)).run()
    bounds = written(log, BATCHES)
    log.close()
    found.close()
    return disk, bounds


def no_second_look(_: float) -> None:
    raise AssertionError("the first look found something")


@pytest.mark.parametrize("behind", [1, 2])
@pytest.mark.parametrize("half", [0, 20, 90])
def test_batches_written_while_they_are_read_are_no_damage(behind: int, half: int) -> None:
    disk, bounds = filled()
    disk.cut, disk.behind = bounds[-3] + half, behind
    report = check(DIRECTORY, disk, sleep=no_second_look)
    assert not report.findings and not disk.behind
    assert report.figures["records"] == report.figures["operations"] == BATCHES


@pytest.mark.parametrize(("at", "kind"), [(-3, DAMAGE), (-2, UNFINISHED)])
def test_what_stays_broken_is_told(at: int, kind: str) -> None:
    disk, bounds = filled()
    image = {path: File(file.data, file.size) for path, file in disk.image().items()}
    (file,) = image.values()
    file.data[bounds[at] + 90] ^= 1
    report = check(DIRECTORY, MemoryDisk(image), sleep=lambda _: None)
    assert [finding.kind for finding in report.findings] == [kind]


class TurningDisk(MemoryDisk):
    """A server begins the next segment while the first one is read."""

    log: Log | None = None

    def read(self, fd: int, size: int, offset: int) -> bytes:
        data = super().read(fd, size, offset)
        if size >= READ_BYTES and self.log is not None:
            log, self.log = self.log, None
            log.rotate()
            log.write(log.encode([Record(BATCHES + 1, [Operation(PUT, 0, "/next", b"v")])]), BATCHES + 1)
        return data


@pytest.mark.parametrize("spare", [True, False])
def test_segment_begun_while_the_one_before_is_read_is_no_damage(spare: bool) -> None:
    disk = TurningDisk()
    disk.make_directory(DIRECTORY)
    found, log = Recovery(disk, DIRECTORY, VirtualClock(), LogSettings(segment_bytes=16 * 1024)).run()
    written(log, BATCHES)
    if spare:
        log.prepare()
    disk.log = log
    assert not check(DIRECTORY, disk, sleep=no_second_look).findings
    assert disk.log is None
    log.close()
    found.close()
