"""Recovery of damaged files: what was whole comes back, what was torn is reported, the rest is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.store import header as header_module
from orchestrator.store.header import HEADER_BYTES, SEGMENT_MAGIC, DamagedLogError, Dropped, Header
from orchestrator.store.log import Log
from orchestrator.store.record import PUT, SEAL, Operation, Record, encode_batch
from orchestrator.store.recovery import Recovered, Recovery
from orchestrator.store.segment import segment_path
from orchestrator.store.settings import LogSettings
from tests.store.memory_disk import File, MemoryDisk

DIRECTORY = Path("/memory/store")
SETTINGS = LogSettings(segment_bytes=16 * 1024)
BATCHES = [
    [Record(1, [Operation(PUT, 0, "/a", b"one")])],
    [
        Record(2, [Operation(PUT, 7, "/b", b"two"), Operation(PUT, 0, "/c", b"")]),
        Record(3, [Operation(PUT, 0, "/a", b"x")]),
    ],
    [Record(4, [Operation(PUT, 0, "/d", b"OBAT and more of it")])],
]
VALUES = [{}, {"/a": b"one"}, {"/a": b"x", "/b": b"two", "/c": b""}]
VALUES.append(VALUES[2] | {"/d": b"OBAT and more of it"})

Image = dict[str, bytes]


def opened(disk: MemoryDisk) -> tuple[Recovered, Log]:
    disk.make_directory(DIRECTORY)
    return Recovery(disk, DIRECTORY, VirtualClock(), SETTINGS).run()


def write(log: Log, batch: list[Record]) -> None:
    log.write(log.encode(batch), batch[-1].revision)


def close(found: Recovered, log: Log) -> None:
    log.close()
    found.close()


def values(found: Recovered) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in found.state.entries()}


def image_of(disk: MemoryDisk) -> Image:
    return {Path(path).name: file.read(file.size, 0) for path, file in disk.image().items()}


def disk_of(image: Image) -> MemoryDisk:
    return MemoryDisk({str(DIRECTORY / name): File(data) for name, data in image.items()})


def recover(image: Image) -> tuple[dict[str, bytes], Dropped | None, Image]:
    """What a start finds, what it drops, and the files that it leaves."""
    disk = disk_of(image)
    try:
        found, log = opened(disk)
    except BaseException:
        assert not disk.open_files
        raise
    try:
        return values(found), found.dropped, image_of(disk)
    finally:
        close(found, log)


class Sample:
    """A small log of one segment, and where its batches begin and end."""

    def __init__(self) -> None:
        disk = MemoryDisk()
        found, log = opened(disk)
        self.bounds = [HEADER_BYTES]
        for batch in BATCHES:
            write(log, batch)
            self.bounds.append(log.current.tail)
        close(found, log)
        (self.name,) = image_of(disk)
        self.path = DIRECTORY / self.name
        self.data = image_of(disk)[self.name][: self.bounds[-1] + 64]

    def recover(self, data: bytes) -> tuple[dict[str, bytes], Dropped | None]:
        found, dropped, _ = recover({self.name: data})
        return found, dropped


@pytest.fixture(scope="module")
def sample() -> Sample:
    return Sample()


def test_whole_log_comes_back(sample: Sample) -> None:
    assert sample.recover(sample.data) == (VALUES[3], None)


def test_truncation_at_any_byte_keeps_every_whole_batch(sample: Sample) -> None:
    for size in range(HEADER_BYTES, sample.bounds[-1]):
        found, dropped, after = recover({sample.name: sample.data[:size]})
        whole = sum(end <= size for end in sample.bounds[1:])
        assert found == VALUES[whole]
        torn = sample.data[sample.bounds[whole] : size].strip(b"\0")
        assert (dropped is not None) == bool(torn), size
        assert recover(after)[:2] == (found, None)


def test_lost_pages_of_the_last_batch_are_reported_and_cut_off(sample: Sample) -> None:
    start, end = sample.bounds[-2:]
    for lost in range(start, end, 7):
        data = bytearray(sample.data)
        data[lost : lost + 7] = bytes(len(data[lost : lost + 7]))
        found, dropped, after = recover({sample.name: bytes(data)})
        if bytes(data) != sample.data:
            assert dropped is not None and dropped.start == start
            assert found == VALUES[2]
        assert recover(after)[:2] == (found, None)


@pytest.mark.parametrize("at", [0, 1, 8, 20, 30, 40, -1])
def test_damage_before_the_last_batch_is_refused_and_named(sample: Sample, at: int) -> None:
    start, end = sample.bounds[1:3]
    data = bytearray(sample.data)
    data[(start if at >= 0 else end) + at] ^= 1
    with pytest.raises(DamagedLogError) as raised:
        sample.recover(bytes(data))
    assert raised.value.path == sample.path and start <= raised.value.offset < end


def test_zeroed_batch_before_the_last_is_damage_not_an_end(sample: Sample) -> None:
    start, end = sample.bounds[1:3]
    data = sample.data[:start] + bytes(end - start) + sample.data[end:]
    with pytest.raises(DamagedLogError):
        sample.recover(data)


def drop_second(sample: Sample) -> bytes:
    second, third = sample.bounds[1:3]
    return sample.data[:second] + sample.data[third:]


def double_second(sample: Sample) -> bytes:
    second, third = sample.bounds[1:3]
    return sample.data[:third] + sample.data[second:third] + sample.data[third:]


@pytest.mark.parametrize("change", [drop_second, double_second])
def test_missing_or_doubled_batch_is_damage(sample: Sample, change: Callable[[Sample], bytes]) -> None:
    with pytest.raises(DamagedLogError, match="stands where batch"):
        sample.recover(change(sample))


def test_batch_forged_in_a_value_does_not_turn_a_torn_tail_into_damage(sample: Sample) -> None:
    forged = encode_batch([Record(9, [])], 99, seed=0)
    disk = disk_of({sample.name: sample.data})
    found, log = opened(disk)
    start = log.current.tail
    write(log, [Record(5, [Operation(PUT, 0, "/evil", forged * 3)])])
    end = log.current.tail
    close(found, log)
    now, dropped = sample.recover(image_of(disk)[sample.name][: end - 1])
    assert now == VALUES[3] and dropped is not None and dropped.start == start


def test_format_of_a_newer_version_is_refused_by_its_number(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = Header.decode(sample.path, sample.data[:HEADER_BYTES], SEGMENT_MAGIC)
    monkeypatch.setattr(header_module, "FORMAT", 9)
    newer = header.encode()
    monkeypatch.undo()
    with pytest.raises(StartupError, match="format 9"):
        sample.recover(newer + sample.data[HEADER_BYTES:])


def test_writing_goes_on_behind_a_dropped_tail(sample: Sample) -> None:
    disk = disk_of({sample.name: sample.data[: sample.bounds[-1] - 3]})
    found, log = opened(disk)
    write(log, BATCHES[2])
    close(found, log)
    assert recover(image_of(disk))[:2] == (VALUES[3], None)


def test_nothing_of_a_long_torn_tail_stays_behind_what_is_written_in_its_place() -> None:
    disk = MemoryDisk()
    found, log = opened(disk)
    write(log, BATCHES[0])
    start = log.position.offset
    write(log, [Record(2, [Operation(PUT, 0, "/long", b"x" * 10_000)])])
    end = log.position.offset
    close(found, log)
    image = image_of(disk)
    (name,) = (name for name in image if name.endswith("1.segment"))
    torn = bytearray(image[name])
    torn[start + 100] ^= 1
    disk = disk_of({name: bytes(torn)})
    found, log = opened(disk)
    assert found.dropped is not None and (found.dropped.start, found.dropped.end) == (start, end)
    assert not any(image_of(disk)[name][start:])
    write(log, [Record(2, [Operation(PUT, 0, "/short", b"y")])])
    close(found, log)
    assert recover(image_of(disk))[:2] == (VALUES[1] | {"/short": b"y"}, None)


def chain() -> Image:
    """Three segments, the third one with two batches, and a spare."""
    disk = MemoryDisk()
    found, log = opened(disk)
    for n in range(8):
        write(log, [Record(n + 1, [Operation(PUT, 0, f"/{n}", bytes([65 + n]) * 4000)])])
        log.prepare()
    assert (len(log.segments), log.current.batch) == (3, 8) and log.spare is not None
    close(found, log)
    return image_of(disk)


CHAIN = chain()
FIRST, SECOND, THIRD, SPARE = (segment_path(DIRECTORY, number).name for number in (1, 2, 3, 4))


def tail_of(data: bytes) -> int:
    return len(data.rstrip(b"\0"))


def test_chain_of_segments_comes_back() -> None:
    found, dropped, after = recover(CHAIN)
    assert len(found) == 8 and dropped is None and set(after) == {FIRST, SECOND, THIRD, SPARE}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({FIRST: None}, FIRST),
        ({SECOND: None}, SECOND),
        ({THIRD: None}, THIRD),
        ({THIRD: None, SPARE: None}, THIRD),
        ({SECOND: CHAIN[FIRST]}, SECOND),
        ({SECOND: CHAIN[THIRD], THIRD: CHAIN[SECOND]}, SECOND),
        ({SPARE: CHAIN[THIRD]}, SPARE),
        ({SECOND: CHAIN[SECOND][: -len(CHAIN[SECOND]) + tail_of(CHAIN[SECOND]) - SEAL.size]}, SECOND),
        ({FIRST: CHAIN[FIRST][:9000]}, FIRST),
        ({FIRST: CHAIN[FIRST][:HEADER_BYTES]}, FIRST),
        ({SECOND: bytes(16384)}, SECOND),
    ],
)
def test_missing_doubled_swapped_or_shortened_segment_is_named(
    change: dict[str, bytes | None], named: str
) -> None:
    image = {name: data for name, data in {**CHAIN, **change}.items() if data is not None}
    with pytest.raises(DamagedLogError) as raised:
        recover(image)
    assert raised.value.path.name == named


def test_segment_of_another_run_with_the_same_batches_does_not_fit() -> None:
    other = chain()
    with pytest.raises(DamagedLogError, match="does not follow"):
        recover(CHAIN | {SECOND: other[SECOND]})


def test_no_flipped_bit_goes_unnoticed(sample: Sample) -> None:
    """In the header, every byte of a small log, and samples of a chain."""
    for offset in [*range(140), *range(140, HEADER_BYTES, 61), *range(HEADER_BYTES, len(sample.data))]:
        data = bytearray(sample.data)
        data[offset] ^= 1 << offset % 8
        try:
            found, dropped = sample.recover(bytes(data))
        except DamagedLogError:
            continue
        assert dropped is not None and offset >= sample.bounds[-2], offset
        assert found in (VALUES[2], VALUES[3])
    last = tail_of(CHAIN[THIRD]) - 4100
    for name in CHAIN:
        for offset in range(0, len(CHAIN[name]), 997):
            data = bytearray(CHAIN[name])
            data[offset] ^= 1 << offset % 8
            try:
                _, dropped, _ = recover(CHAIN | {name: bytes(data)})
            except DamagedLogError as error:
                assert error.path.name == name
                continue
            assert dropped is not None and name == THIRD and offset >= last, (name, offset)


def test_crash_between_the_steps_of_a_rotation_is_gone_on_from() -> None:
    """After the seal; with a torn seal; with a torn header; with a spare that was not wholly allocated."""
    begun = {name: CHAIN[name] for name in (FIRST, SECOND)}
    seal = tail_of(CHAIN[SECOND])
    torn_seal = CHAIN[SECOND][: seal - 5] + bytes(len(CHAIN[SECOND]) - seal + 5)
    torn_header = CHAIN[THIRD][:70].ljust(16384, b"\0")
    for change, spare in (
        ({THIRD: bytes(16384)}, THIRD),
        ({THIRD: b""}, THIRD),
        ({THIRD: bytes(5000), SECOND: torn_seal}, THIRD),
        ({THIRD: torn_header}, THIRD),
    ):
        disk = disk_of(begun | change)
        found, log = opened(disk)
        assert len(values(found)) == 6 and log.spare is not None and log.spare.path.name == spare
        for n in range(4):
            write(log, [Record(7 + n, [Operation(PUT, 0, f"/more/{n}", b"y" * 4000)])])
        close(found, log)
        assert len(recover(image_of(disk))[0]) == 10


def test_batch_larger_than_a_segment_gets_one_of_its_own() -> None:
    disk = MemoryDisk()
    found, log = opened(disk)
    for n, size in enumerate((100, 100_000, 100, 50_000)):
        write(log, [Record(n + 1, [Operation(PUT, 0, f"/{n}", b"x" * size)])])
    close(found, log)
    now, dropped, _ = recover(image_of(disk))
    assert [len(value) for value in now.values()] == [100, 100_000, 100, 50_000] and dropped is None


def test_header_says_what_it_was_given() -> None:
    header = Header(SEGMENT_MAGIC, b"i" * 16, 7, 1 << 40, b"s" * 16, b"c" * 32, 99, 4096)
    assert Header.decode(Path("x"), header.encode(), SEGMENT_MAGIC) == header
    assert header.encode() != replace(header, batch=98).encode()
