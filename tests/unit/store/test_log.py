"""Recovery of damaged files: what was whole comes back, what was torn is reported, the rest is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.store.disk import Disk
from orchestrator.store.log import HEADER_BYTES, DamagedLogError, Dropped, Header, LogFile
from orchestrator.store.record import PUT, Operation, Record, encode_batch

BATCHES = [
    [Record(1, [Operation(PUT, 0, "/a", b"one")])],
    [
        Record(2, [Operation(PUT, 7, "/b", b"two"), Operation(PUT, 0, "/c", b"")]),
        Record(3, [Operation(PUT, 0, "/a", b"x")]),
    ],
    [Record(4, [Operation(PUT, 0, "/d", b"OBAT and more of it")])],
]
RECORDS = [record for batch in BATCHES for record in batch]


class Sample:
    """A small log on disk, and where its batches begin and end."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self.disk = disk
        self.path = path
        log = LogFile.create(disk, path, 1, b"i" * 16, 0)
        self.bounds = [HEADER_BYTES]
        for batch in BATCHES:
            log.write(log.encode(batch))
            self.bounds.append(log.tail)
        log.close()
        self.data = path.read_bytes()[: log.tail + 64]

    def recover(self, data: bytes) -> tuple[list[Record], Dropped | None]:
        self.path.unlink()  # ext4 writes a truncated file back when it is closed; a new one stays in memory.
        self.path.write_bytes(data)
        log = LogFile.open(self.disk, self.path)
        try:
            found: list[Record] = []
            dropped = log.replay(found.append)
            return found, dropped
        finally:
            log.close()


@pytest.fixture
def sample(tmp_path: Path, lazy_disk: Disk) -> Sample:
    return Sample(lazy_disk, tmp_path / "sample.log")


def test_whole_log_comes_back(sample: Sample) -> None:
    assert sample.recover(sample.data) == (RECORDS, None)


def test_truncation_at_any_byte_keeps_every_whole_batch(sample: Sample) -> None:
    for size in range(HEADER_BYTES, sample.bounds[-1]):
        found, dropped = sample.recover(sample.data[:size])
        whole = sum(end <= size for end in sample.bounds[1:])
        assert found == [record for batch in BATCHES[:whole] for record in batch]
        torn = sample.data[sample.bounds[whole] : size].strip(b"\0")
        assert (dropped is not None) == bool(torn), size


def test_lost_pages_of_the_last_batch_are_reported_and_cut_off(sample: Sample) -> None:
    start, end = sample.bounds[-2:]
    for lost in range(start, end, 7):
        data = bytearray(sample.data)
        data[lost : lost + 7] = bytes(len(data[lost : lost + 7]))
        found, dropped = sample.recover(bytes(data))
        if bytes(data) != sample.data:
            assert dropped is not None and dropped.start == start
            assert found == RECORDS[:-1]
        assert sample.recover(sample.path.read_bytes()) == (found, None)


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


def test_no_flipped_bit_goes_unnoticed(sample: Sample) -> None:
    header = [*range(128), *range(128, HEADER_BYTES, 61)]
    for offset in [*header, *range(HEADER_BYTES, len(sample.data))]:
        for bit in range(8):
            data = bytearray(sample.data)
            data[offset] ^= 1 << bit
            try:
                found, dropped = sample.recover(bytes(data))
            except DamagedLogError:
                continue
            assert dropped is not None and offset >= sample.bounds[-2], (offset, bit)
            assert found in (RECORDS, RECORDS[:-1])


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
    log = LogFile.open(sample.disk, sample.path)
    log.replay(lambda record: None)
    start = log.tail
    log.write(log.encode([Record(5, [Operation(PUT, 0, "/evil", forged * 3)])]))
    end = log.tail
    log.close()
    found, dropped = sample.recover(sample.path.read_bytes()[: end - 1])
    assert found == RECORDS and dropped is not None and dropped.start == start


def test_format_of_a_newer_version_is_refused_by_its_number(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.log.FORMAT", 9)
    newer = Header(b"i" * 16, 1, 0, b"s" * 16).encode()
    monkeypatch.undo()
    with pytest.raises(StartupError, match="format 9"):
        sample.recover(newer + sample.data[HEADER_BYTES:])


def test_writing_goes_on_behind_a_dropped_tail(sample: Sample) -> None:
    sample.recover(sample.data[: sample.bounds[-1] - 3])
    log = LogFile.open(sample.disk, sample.path)
    assert log.replay(lambda record: None) is None
    log.write(log.encode(BATCHES[2]))
    log.close()
    assert sample.recover(sample.path.read_bytes()) == (RECORDS, None)
