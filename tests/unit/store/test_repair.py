"""A damaged directory: `check` names all that is wrong, `repair` keeps what came before and says what it lost."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.store.check import DAMAGE, UNFINISHED, check
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.header import DamagedLogError
from orchestrator.store.interface import CompactedError, Put, Txn
from orchestrator.store.repair import REVISION_GAP, repair
from orchestrator.store.settings import LogSettings

SMALL = LogSettings(segment_bytes=16 * 1024)


async def opened(path: Path, disk: Disk) -> LogStore:
    return await LogStore.open(path, VirtualClock(), disk=disk, settings=SMALL)


async def write(store: LogStore, first: int, last: int) -> None:
    """Revision n puts /n; /newest is in every one."""
    for n in range(first, last + 1):
        await store.transact(Txn((), (Put(f"/{n:03}", b"x" * 1000), Put("/newest", b"%d" % n))))


async def keys(path: Path, disk: Disk) -> tuple[int, list[str]]:
    store = await opened(path, disk)
    found = [entry.key for entry in (await store.range("/")).entries]
    entry = await store.get("/newest")
    assert entry is not None and int(entry.value) == len(found) - 1
    revision = store.revision
    await store.transact(Txn((), (Put("/after", b"v"),)))
    await store.close()
    return revision, found


@pytest.fixture
async def directory(tmp_path: Path, lazy_disk: Disk) -> Path:
    """Sixty revisions, a snapshot at the thirtieth, another at the fortieth; history needs everything."""
    path = tmp_path / "store"
    store = await opened(path, lazy_disk)
    await write(store, 1, 30)
    await store.snapshot()
    await write(store, 31, 40)
    await store.snapshot()
    await write(store, 41, 60)
    await store.close()
    return path


def change(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


def contents(path: Path, pattern: str = "0*") -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.glob(pattern)}


def snapshots(path: Path) -> list[Path]:
    return sorted(path.glob("*.snapshot"))


def remove_spare(path: Path) -> None:
    for file in path.glob("*.segment"):
        if file not in segments(path):
            file.unlink()


def segments(path: Path) -> list[Path]:
    return sorted(file for file in path.glob("*.segment") if file.read_bytes().strip(b"\0"))


def no_pause(_: float) -> None:
    pass


async def test_whole_store_has_no_findings_and_is_left_alone(directory: Path, lazy_disk: Disk) -> None:
    before = contents(directory)
    report = check(directory, sleep=no_pause)
    assert report.ok and not report.findings
    assert report.figures["revision"] == 60 and report.figures["snapshots"] == 2
    assert report.figures["segments"] == len(segments(directory))
    assert contents(directory) == before
    done = repair(directory, lazy_disk, VirtualClock())
    assert (done.damage, done.kept_revision, done.lost) == ("", 60, [])
    assert not contents(directory, "damaged-*")


async def test_check_names_every_damaged_file(directory: Path) -> None:
    first, second = segments(directory)[:2]
    snapshot = snapshots(directory)[0]
    change(first, 5000)
    change(second, 9000)
    change(snapshot, 5000)
    report = check(directory, sleep=no_pause)
    assert not report.ok
    assert {finding.file for finding in report.findings} == {first.name, second.name, snapshot.name}
    assert {finding.kind for finding in report.findings} == {DAMAGE}
    at = {finding.file: finding.offset for finding in report.findings}
    assert 4096 <= at[first.name] <= 5000 and 7000 < at[second.name] <= 9000


async def test_check_tells_a_torn_tail_from_damage(directory: Path) -> None:
    last = segments(directory)[-1]
    end = len(last.read_bytes().rstrip(b"\0"))
    change(last, end - 1)
    report = check(directory, sleep=no_pause)
    assert report.ok and [finding.kind for finding in report.findings] == [UNFINISHED]


@pytest.mark.parametrize("at", [0, 1, 2, -1])
async def test_check_finds_a_missing_segment(directory: Path, at: int) -> None:
    gone = segments(directory)[at]
    if at == -1:
        remove_spare(directory)
    gone.unlink()
    report = check(directory, sleep=no_pause)
    if at:
        assert not report.ok and gone.name in {finding.file for finding in report.findings}
    else:
        assert report.ok  # Only history of a process that is gone would need it.


async def test_check_beside_a_writing_server_finds_nothing(tmp_path: Path, lazy_disk: Disk) -> None:
    settings = LogSettings(segment_bytes=16 * 1024, snapshot_bytes=8192, history_bytes=0)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=settings)
    await write(store, 1, 5)
    for n in range(3):
        checking = asyncio.ensure_future(asyncio.to_thread(check, tmp_path))
        at = store.revision
        while not checking.done():
            await write(store, at + 1, at + 10)
            at += 10
        assert (await checking).ok, n
    await store.close()


def test_check_of_nothing_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StartupError, match="no store"):
            check(path, sleep=no_pause)


def break_newest_snapshot_and_log(path: Path) -> int:
    """The older snapshot still leads up to the damage, behind the newer one."""
    change(snapshots(path)[-1], 5000)
    last = segments(path)[-1]
    end = len(last.read_bytes().rstrip(b"\0"))
    change(last, end - 1500)
    return 58


def break_middle(path: Path) -> int:
    change(segments(path)[-2], 4096 + 3000)
    return 0


def lose_last(path: Path) -> int:
    for file in sorted(path.glob("*.segment"))[len(segments(path)) - 1 :]:
        file.unlink()
    return 0


@pytest.mark.parametrize("damage", [break_newest_snapshot_and_log, break_middle, lose_last])
async def test_repair_keeps_what_came_before_and_says_what_it_lost(
    directory: Path, lazy_disk: Disk, damage: Callable[[Path], int]
) -> None:
    wanted = damage(directory)
    old = contents(directory)
    with pytest.raises(DamagedLogError) as refused:
        await opened(directory, lazy_disk)
    report = repair(directory, lazy_disk, VirtualClock())
    assert report.damage == str(refused.value)
    assert 40 <= report.kept_revision < 60 and report.kept_revision == (wanted or report.kept_revision)
    revision, found = await keys(directory, lazy_disk)
    assert revision == report.revision
    assert found == [*(f"/{n:03}" for n in range(1, report.kept_revision + 1)), "/newest"]
    aside = contents(Path(report.set_aside))
    assert aside == old
    if damage is not lose_last:
        assert report.lost and report.lost_records and report.lost_revisions
        assert report.kept_revision < report.lost_revisions[0] <= report.lost_revisions[1] == 60
    assert report.revision >= report.kept_revision + REVISION_GAP
    assert check(directory, sleep=no_pause).ok


@pytest.mark.parametrize("damage", [break_middle, lose_last])
async def test_after_a_repair_no_revision_is_given_out_twice(
    directory: Path, lazy_disk: Disk, damage: Callable[[Path], int]
) -> None:
    """Not even where nothing tells of those that were lost; who goes on from one of them is told."""
    damage(directory)
    report = repair(directory, lazy_disk, VirtualClock())
    store = await opened(directory, lazy_disk)
    result = await store.transact(Txn((), (Put("/again", b"v"),)))
    assert result.revision == report.revision + 1 > REVISION_GAP
    for revision in (report.kept_revision, 60, report.revision - 1):
        with pytest.raises(CompactedError):
            await store.range("/", revision=revision)
        with pytest.raises(CompactedError):
            await anext(store.watch("/", revision))
    watch = store.watch("/", report.revision)
    assert [event.key for event in await anext(watch)] == ["/again"]
    watch.close()
    await store.close()


async def test_repair_does_not_touch_a_store_of_which_nothing_is_left(
    directory: Path, lazy_disk: Disk
) -> None:
    for file in (*snapshots(directory), segments(directory)[0]):
        change(file, 100)
    before = contents(directory)
    with pytest.raises(StartupError, match="orchestrator restore"):
        repair(directory, lazy_disk, VirtualClock())
    assert contents(directory) == before


async def test_repair_refuses_a_store_in_use(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await opened(tmp_path, lazy_disk)
    with pytest.raises(StartupError, match="in use"):
        repair(tmp_path, lazy_disk, VirtualClock())
    await store.close()
