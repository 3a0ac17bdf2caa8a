"""Every file begun anew: dead bytes and old forms of values are gone from disk, nothing readable is."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import CompactedError, Delete, NoSpaceError, Put, StoppedError, Txn
from orchestrator.store.keyring import EMPTY
from orchestrator.store.sealing import SEALED, Sealer
from orchestrator.store.settings import LogSettings
from tests.unit.store.conftest import BROKEN, NO_SPACE, FaultyDisk, LazyDisk

SMALL = LogSettings(segment_bytes=32 * 1024, snapshot_bytes=64 * 1024)
SECRETS = "/registry/secrets/"


def raw(directory: Path) -> bytes:
    """Everything that is on disk, as somebody who steals it would read it."""
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def put(store: LogStore, key: str, value: bytes) -> None:
    await store.transact(Txn((), (Put(key, value),)))


async def image(store: LogStore) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in (await store.range("/")).entries}


def sealer() -> Sealer:
    return Sealer(EMPTY.with_new("2026"), [SECRETS])


async def test_values_are_sealed_on_disk_and_plain_for_readers(tmp_path, lazy_disk):
    one = sealer()
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL, sealer=one)
    for number in range(300):
        await put(store, f"{SECRETS}a/s{number % 7}", b"hunter2-%d" % number * 20)
    watch = store.watch(SECRETS, 1)
    assert (await anext(watch))[0].previous is None
    past = await store.range(SECRETS, revision=3)
    assert [entry.value[:9] for entry in past.entries] == [b"hunter2-%d" % number for number in range(3)]
    await store.snapshot()
    assert b"hunter2" not in raw(tmp_path)
    expected = await image(store)
    await store.close()
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL, sealer=one)
    assert await image(store) == expected
    await store.close()


@pytest.mark.parametrize("before", ["plain", "old key"])
async def test_after_a_renewal_no_old_form_is_on_disk(tmp_path, lazy_disk, before):
    """Amid writes, with history, deleted values, a snapshot and several segments."""
    one = sealer()
    first = one if before == "old key" else Sealer()
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL, sealer=first)
    for number in range(400):
        await put(store, f"{SECRETS}a/s{number % 7}", b"hunter2-%d" % number * 20)
    await store.snapshot()
    await put(store, f"{SECRETS}a/gone", b"hunter2")
    await store.transact(Txn((), (Delete(f"{SECRETS}a/gone"),)))
    if before == "plain":
        await store.close()
        store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL, sealer=one)
        assert b"hunter2" in raw(tmp_path)
    old = SEALED + bytes.fromhex(one.keyring.primary.id) if before == "old key" else b"hunter2"
    if before == "old key":
        one.use(one.keyring.with_new("2027"))
    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            await put(store, f"{SECRETS}b/s{number % 5}", b"hunter2+%d" % number)
            number += 1

    writer = asyncio.get_running_loop().create_task(write())
    await store.renew()
    assert old not in raw(tmp_path)
    assert b"hunter2" not in raw(tmp_path)
    stop.set()
    await writer
    assert await image(store) == {
        **{f"{SECRETS}a/s{n % 7}": b"hunter2-%d" % n * 20 for n in range(393, 400)},
        **{key: value for key, value in (await image(store)).items() if "/b/" in key},
    }
    expected = await image(store)
    await store.close()
    one.use(one.keyring.only_primary())
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL, sealer=one)
    assert await image(store) == expected
    await store.close()


async def test_a_renewal_gives_disk_space_back(tmp_path, lazy_disk):
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL)
    for _ in range(50):
        await put(store, "/registry/pods/a/p", bytes(20_000))
    before = store.stats()["disk_bytes"]
    await store.renew()
    after = store.stats()["disk_bytes"]
    assert after < before / 3
    assert after == sum(path.stat().st_size for path in tmp_path.iterdir())
    with pytest.raises(CompactedError):
        await store.range("/", revision=store.revision - 1)
    await store.renew()
    await put(store, "/registry/pods/a/p", b"x")
    await store.close()
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL)
    assert await image(store) == {"/registry/pods/a/p": b"x"}
    await store.close()


class FullDisk(LazyDisk):
    """Has room for `capacity_bytes` of allocated files."""

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        self._directory = directory
        self._capacity_bytes = capacity_bytes

    def allocate(self, fd: int, offset: int, size: int) -> None:
        taken = 0
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):  # A thread may be removing it.
                taken += path.stat().st_size
        if taken + size > self._capacity_bytes:
            raise OSError(NO_SPACE, "No space left on device")
        super().allocate(fd, offset, size)


async def test_on_a_full_disk_a_renewal_makes_room(tmp_path):
    disk = FullDisk(tmp_path, 40 * 32 * 1024)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=disk, settings=SMALL)
    with pytest.raises(NoSpaceError):
        for number in range(2000):
            await put(store, f"/registry/pods/a/p{number % 3}", bytes(10_000))
    expected = await image(store)
    await store.renew()
    await put(store, "/registry/pods/a/p3", bytes(10_000))
    assert not store.no_space
    assert await image(store) == {**expected, "/registry/pods/a/p3": bytes(10_000)}
    await store.close()


async def test_an_empty_store_can_be_renewed(tmp_path, lazy_disk):
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL)
    await store.renew()
    await store.renew()
    await put(store, "/a", b"1")
    await store.close()
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=SMALL)
    assert await image(store) == {"/a": b"1"}
    await store.close()


async def test_a_segment_that_can_not_be_ended_stops_the_store(tmp_path):
    disk = FaultyDisk()
    store = await LogStore.open(tmp_path, VirtualClock(), disk=disk, settings=SMALL)
    await put(store, "/a", b"1")
    disk.faults["write_durably"] = [BROKEN]
    with pytest.raises(StoppedError, match="Input/output"):
        await store.renew()
    assert not store.healthy
    with pytest.raises(StoppedError):
        await put(store, "/a", b"2")
    assert await image(store) == {"/a": b"1"}
    await store.close()


async def test_a_sealed_value_without_its_key_is_no_object(tmp_path, lazy_disk: LazyDisk):
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, sealer=sealer())
    await put(store, f"{SECRETS}a/s", b"hunter2")
    await store.close()
    from orchestrator.store.sealing import SealError

    for other in (Sealer(), sealer()):
        with pytest.raises(SealError):
            await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, sealer=other)
