"""The log keeper and the reader of its files: records, tails, rotation, a keeper that is killed."""

import asyncio
import gzip
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import containerd_keeper, containerd_logs
from orchestrator.runtime.containerd_output import Keeper, Output
from orchestrator.runtime.containerd_streams import AttachStreams
from orchestrator.runtime.interface import LogOptions, RuntimeFailure


@pytest.mark.parametrize(
    ("rest", "data", "end", "wanted", "left"),
    [
        (b"", b"one\ntwo\n", False, [b"F one", b"F two"], b""),
        (b"on", b"e\ntw", False, [b"F one"], b"tw"),
        (b"tw", b"", True, [b"P tw"], b""),
        (b"", b"", True, [], b""),
        (b"", b"\n\n", False, [b"F ", b"F "], b""),
        (b"", b"x" * 20_000 + b"\n", False, [b"P " + b"x" * 16_384, b"F " + b"x" * 3_616], b""),
    ],
)
def test_output_becomes_records(
    rest: bytes, data: bytes, end: bool, wanted: list[bytes], left: bytes
) -> None:
    text, after = containerd_keeper.records(2, rest, data, end)
    lines = text.split(b"\n")[:-1]
    assert [line.split(b" stderr ", 1)[1] for line in lines] == wanted and after == left
    assert all(len(line.split(b" ")[0]) == len("2026-01-02T03:04:05.000000006Z") for line in lines)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, because a socket's path has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="orck", dir="/tmp") as name:
        yield Path(name)


def write(path: Path, *texts: str) -> None:
    stamps = (f"2026-01-02T03:04:{second:02d}.000000000Z" for second in range(60))
    path.write_text("".join(f"{stamp} stdout F {text}\n" for stamp, text in zip(stamps, texts, strict=False)))


async def texts(path: Path, options: LogOptions) -> list[str]:
    lines = containerd_logs.lines(path, options, lambda: False, asyncio.sleep)
    return [line.data.decode() async for line in lines]


@pytest.mark.parametrize("tail", [None, 0, 1, 2, 3, 4, 9])
async def test_a_tail_reaches_into_rotated_files(directory: Path, tail: int | None) -> None:
    path = directory / "0.log"
    write(directory / "0.log.20260101-000000", "a", "b")
    write(path, "c", "d")
    everything = ["a", "b", "c", "d"]
    wanted = everything if tail is None else everything[len(everything) - min(tail, 4) :]
    assert await texts(path, LogOptions(tail_lines=tail)) == wanted


async def test_since_compares_times(directory: Path) -> None:
    write(directory / "0.log", "a", "b", "c")
    at_b_s = 1767323041.0
    assert containerd_logs.stamp(at_b_s) == "2026-01-02T03:04:01.000000000Z"
    assert await texts(directory / "0.log", LogOptions(since_s=at_b_s)) == ["b", "c"]


async def test_a_log_that_is_not_there_is_empty(directory: Path) -> None:
    assert await texts(directory / "none" / "0.log", LogOptions(follow=True)) == []


def test_a_full_log_is_renamed_and_old_ones_go(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containerd_keeper, "FILE_BYTES_MAX", 10)
    log = containerd_keeper.Log(str(directory / "0.log"))
    for number in range(9):
        log.write(b"record %d\n" % number)
    log.close()
    kept = containerd_logs.files(directory / "0.log")
    assert [file.read_bytes() for file in kept] == [b"record %d\n" % number for number in range(4, 9)]


def test_all_parts_but_the_last_are_compressed(directory: Path) -> None:
    for number in range(3):
        (directory / f"0.log.2026010{number}").write_bytes(b"part %d\n" % number)
    (directory / "0.log").write_bytes(b"now\n")
    for _ in range(2):
        containerd_keeper.compress(str(directory / "0.log"))
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["0.log", "0.log.20260100.gz", "0.log.20260101.gz", "0.log.20260102"]
    assert gzip.decompress((directory / "0.log.20260101.gz").read_bytes()) == b"part 1\n"


def test_compressed_parts_count_and_go_with_the_others(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerd_keeper, "FILE_BYTES_MAX", 10)
    log = containerd_keeper.Log(str(directory / "0.log"), containerd_keeper.compress)
    for number in range(9):
        log.write(b"record %d\n" % number)
    log.close()
    assert len(containerd_logs.files(directory / "0.log")) == containerd_keeper.FILES_MAX


@pytest.mark.parametrize("tail", [None, 1, 3, 5])
async def test_compressed_parts_are_read_through(directory: Path, tail: int | None) -> None:
    path = directory / "0.log"
    for number, text in enumerate("abc"):
        write(directory / f"0.log.2026010{number}", text)
    write(path, "d")
    containerd_keeper.compress(str(path))
    everything = ["a", "b", "c", "d"]
    assert await texts(path, LogOptions(tail_lines=tail)) == everything[-tail if tail else 0 :][:4]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lost", [0, 2])
async def test_a_reader_that_fell_behind_goes_on_through_what_is_kept(
    directory: Path, packed: bool, lost: int
) -> None:
    """Rotated several times between two looks; where its own part and the next are gone it goes on after those."""
    path = directory / "0.log"
    path.write_text("2026-01-02T03:04:00.000000000Z stdout F 0\n")
    going = True
    follow = containerd_logs.lines(path, LogOptions(follow=True), lambda: going, asyncio.sleep)
    found = [(await anext(follow)).data]
    for number in range(1, 5):
        path.rename(directory / f"0.log.2026010{number}")
        path.write_text(f"2026-01-02T03:04:0{number}.000000000Z stdout F {number}\n")
    if packed:
        containerd_keeper.compress(str(path))
    for part in containerd_logs.files(path)[:lost]:
        os.unlink(part)
    going = False
    found += [line.data async for line in follow]
    assert found == [b"0", *(b"%d" % number for number in range(max(1, lost), 5))]


class Process:
    """What a container's shim is to the keeper: it holds both ends of its pipes."""

    def __init__(self, directory: Path, name: str) -> None:
        self.paths = [str(directory / f"{name}-{stream}") for stream in ("out", "err")]
        self.log = directory / f"{name}.log"
        for path in self.paths:
            os.mkfifo(path)
        self.ends = [os.open(path, os.O_RDWR) for path in self.paths]
        self.output = Output(name, *self.paths, str(self.log))

    def say(self, stream: int, data: bytes) -> None:
        os.write(self.ends[stream], data)

    def end(self) -> None:
        for end in self.ends:
            os.close(end)


class Kept:
    """A keeper, and what is handed to another one in its place."""

    def __init__(self, directory: Path, supervisor: Supervisor) -> None:
        self.running: list[Process] = []
        self.keeper = Keeper(directory / "k.sock", SystemClock(), supervisor, self.hand_over)

    async def hand_over(self) -> None:
        for process in self.running:
            await self.keeper.keep(process.output)


@pytest.fixture
async def kept(directory: Path) -> AsyncIterator[Kept]:
    supervisor = Supervisor("test")
    kept = Kept(directory, supervisor)
    yield kept
    for process in kept.running:
        process.end()
        await kept.keeper.ended(process.output.container_id, 5)
    await kept.keeper.close()
    await supervisor.stop()


async def until_logged(process: Process, count: int) -> list[tuple[str, bytes]]:
    async with asyncio.timeout(10):
        while True:
            lines = containerd_logs.lines(process.log, LogOptions(), lambda: False, asyncio.sleep)
            found = [(line.stream, line.data) async for line in lines]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_streams_are_told_apart_and_the_end_is_told(directory: Path, kept: Kept) -> None:
    process = Process(directory, "a")
    await kept.keeper.keep(process.output)
    await kept.keeper.keep(process.output)
    process.say(0, b"out\n")
    await until_logged(process, 1)
    process.say(1, b"err")
    process.end()
    await kept.keeper.ended("a", 10)
    assert not kept.keeper.keeps("a")
    assert await until_logged(process, 2) == [("stdout", b"out"), ("stderr", b"err")]


async def test_who_is_attached_sees_what_comes_as_it_comes(directory: Path, kept: Kept) -> None:
    process = Process(directory, "a")
    await kept.keeper.keep(process.output)

    async def nothing(*_: int) -> int:
        return 0

    connection = await kept.keeper.attach("a")
    streams = AttachStreams(
        connection,
        "",
        SystemClock(),
        close_stdin=nothing,
        resize=nothing,
        wait=nothing,  # type: ignore[arg-type]
    )
    process.say(0, b"prompt> ")
    async with asyncio.timeout(10):
        assert await streams.read() == ("stdout", b"prompt> ")
        process.say(1, b"no")
        assert await streams.read() == ("stderr", b"no")
        process.end()
        assert await streams.read() is None
    await streams.close()
    with pytest.raises(RuntimeFailure, match="not running"):
        await kept.keeper.attach("b")


async def test_a_keeper_that_is_killed_is_replaced_and_nothing_is_lost(directory: Path, kept: Kept) -> None:
    process = Process(directory, "a")
    kept.running.append(process)
    await kept.keeper.keep(process.output)
    process.say(0, b"before\n")
    await until_logged(process, 1)
    os.kill(keeper_pid(directory), signal.SIGKILL)
    process.say(0, b"meanwhile\n")
    assert await until_logged(process, 2) == [("stdout", b"before"), ("stdout", b"meanwhile")]


def keeper_pid(directory: Path) -> int:
    """The keeper's process, by what it was started with."""
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and str(directory / "k.sock") in _command(entry):
                return int(entry.name)
    raise AssertionError("no keeper runs")


def _command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text()
    except OSError:
        return ""
