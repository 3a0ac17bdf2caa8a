"""etcd at its worst: answers lost twice, data lost or rolled back, a full database, other tenants, a large history."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.store.backup import Kept
from orchestrator.store.etcd import engine, reading, transfer
from orchestrator.store.etcd.api import EtcdApi, Message
from orchestrator.store.etcd.cache import Cache
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import (
    CompactedError,
    Compare,
    NoSpaceError,
    Put,
    StoreError,
    TooLargeError,
    Txn,
    UnavailableError,
    UnknownOutcomeError,
)
from orchestrator.store.record import Record
from orchestrator.wire.grpc import GrpcClient, GrpcError
from tests.contract.etcd_support import Etcd, etcd_running

Step = Callable[[Message], Awaitable[Message]]


class ScriptedApi(EtcdApi):
    """etcd itself, but what happens to a transaction with comparisons is told by the next step of the test."""

    steps: list[Step]

    async def txn(self, request: Message, *right: Any) -> Message:
        if request.get("compare") and self.steps:
            return await self.steps.pop(0)(request)
        return await super().txn(request, *right)

    async def send(self, request: Message) -> Message:
        return await super().txn(request)


@asynccontextmanager
async def opened(etcd: Etcd, prefix: str, *steps: Step) -> AsyncIterator[tuple[EtcdStore, ScriptedApi]]:
    client = GrpcClient([etcd.endpoint])
    api = ScriptedApi(client, SystemClock())
    api.steps = list(steps)
    store = await EtcdStore.open(api, SystemClock(), keys=Keys(prefix, root=""))
    try:
        yield store, api
    finally:
        await store.close()
        await client.close()


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"/{tmp_path.name}"


def put(key: str, value: bytes = b"v", at: int | None = None) -> Txn:
    return Txn(() if at is None else (Compare(key, at),), (Put(key, value),))


def failing(error: StoreError) -> Step:
    async def step(request: Message) -> Message:
        raise error

    return step


async def test_a_write_that_lands_just_before_it_is_repeated_has_succeeded(etcd: Etcd, prefix: str) -> None:
    async with opened(etcd, prefix) as (store, api):

        async def land_late(request: Message) -> Message:
            await api.send(request)
            return await api.send(request)

        api.steps = [failing(UnknownOutcomeError("no answer")), land_late]
        result = await store.transact(put("/a", b"ours", at=0))
        entry = await store.get("/a")
        assert entry is not None and entry.version == 1
        assert (result.succeeded, result.revision) == (True, entry.revision)


async def test_a_write_whose_repeat_is_refused_may_still_have_been_made(etcd: Etcd, prefix: str) -> None:
    lost, refused = UnknownOutcomeError("no answer"), UnavailableError("nothing was written")
    async with opened(etcd, prefix, failing(lost), failing(refused)) as (store, _):
        with pytest.raises(UnknownOutcomeError):
            await store.transact(put("/a", at=0))
        with pytest.raises(UnavailableError):  # Sent once only, so it was certainly not made.
            store._api.steps = [failing(refused)]  # type: ignore[attr-defined]
            await store.transact(put("/a", at=0))


@pytest.mark.parametrize("overwritten", [False, True])
async def test_a_write_answered_after_all_was_loaded_anew_has_its_true_entry(
    etcd: Etcd, prefix: str, overwritten: bool
) -> None:
    async with opened(etcd, prefix) as (store, api):
        first = await store.transact(put("/a", b"1"))

        async def load_anew(request: Message) -> Message:
            answer = await api.send(request)
            if overwritten:
                etcd.ctl("put", f"{prefix}/a", "later")
            await store._feed.load(history=False)
            return answer

        api.steps = [load_anew]
        result = await store.transact(put("/a", b"2", at=first.revision))
        (entry,) = result.entries
        assert (entry.value, entry.version, entry.revision) == (b"2", 2, result.revision)
        assert entry.create_revision == first.revision


class LossyClient(GrpcClient):
    """Loses the first answer."""

    lost = False

    async def unary(self, *arguments: Any, **options: Any) -> bytes:
        answer = await super().unary(*arguments, **options)
        if self.lost:
            return answer
        self.lost = True
        raise GrpcError("UNAVAILABLE", "connection reset", sent=True, endpoint=self.endpoint)


async def test_a_lease_whose_grant_was_not_answered_is_granted_again(etcd: Etcd) -> None:
    client = LossyClient([etcd.endpoint])
    try:
        assert await EtcdApi(client, SystemClock()).lease_grant(30)
    finally:
        await client.close()


def restored_empty(etcd: Etcd) -> None:
    """Its data directory is removed: the cluster's id stays, since it follows from the configuration."""
    etcd.kill()
    shutil.rmtree(etcd.data)
    etcd.start()


async def test_an_etcd_that_lost_its_data_is_noticed_by_whoever_asks(prefix: str) -> None:
    with etcd_running() as etcd:
        async with opened(etcd, prefix) as (store, _):
            for number in range(5):
                await store.transact(put("/old", b"%d" % number))
            watch = store.watch("/", store.revision)
            await asyncio.to_thread(restored_empty, etcd)
            with pytest.raises(CompactedError):
                async with asyncio.timeout(30):
                    await anext(watch)
            async with asyncio.timeout(30):
                while not await seen(store, "/old", None):  # noqa: ASYNC110 - etcd tells no Event
                    await asyncio.sleep(0.05)
            assert (await store.transact(put("/new", at=0))).succeeded
            assert await store.get("/new") is not None
            assert [entry.key for entry in (await store.range("/")).entries] == ["/new"]
            assert store.healthy and store.stats()["data_losses_total"] == 1


async def seen(store: EtcdStore, key: str, expected: object) -> bool:
    try:
        return await store.get(key) == expected
    except StoreError:
        return False


async def test_a_write_made_by_an_etcd_that_lost_its_data_is_not_told_as_made(prefix: str) -> None:
    with etcd_running() as etcd:
        async with opened(etcd, prefix) as (store, api):
            await store.transact(put("/old"))
            told = api.newest

            async def behind(request: Message) -> Message:
                api.newest = told + 50  # What it had told before it lost that.
                return await api.send(request)

            api.steps = [behind]
            with pytest.raises(UnknownOutcomeError, match="lost data"):
                await store.transact(put("/new", at=0))
            assert await store.get("/new") is not None
            assert store.stats()["data_losses_total"] == 1


async def test_reads_of_a_full_etcd_go_on_while_others_delete(prefix: str) -> None:
    with etcd_running("--quota-backend-bytes=4000000") as etcd:
        for number in range(4):
            etcd.ctl("put", f"/tenant/{number}", "")
        async with opened(etcd, prefix) as (store, _):
            await store.transact(put("/kept", b"1"))
            with pytest.raises(NoSpaceError):
                for number in range(20):
                    await store.transact(put("/big", b"%d" % number + bytes(900_000)))
            watch = store.watch("/", store.revision)
            for number in range(2):
                etcd.ctl("del", f"/tenant/{number}")
                assert await store.get("/kept") is not None
            assert store.stats()["loads_total"] == 1 and watch.live
            etcd.ctl("del", "--prefix", f"{prefix}/orchestrator.internal/spare/")
            etcd.ctl("del", "/tenant/3")
            assert await store.get("/kept") is not None  # Without a marker left all is loaded anew.
            watch.close()


async def test_reads_are_quick_while_another_tenant_writes_all_the_time(etcd: Etcd, prefix: str) -> None:
    """Not a bound on time: how often the watch was waited for in vain."""
    async with opened(etcd, prefix) as (store, api):
        await store.transact(put("/a"))
        waits = []
        arrives = store._freshness._arrives

        async def counted(revision: int, timeout_s: float) -> bool:
            came = await arrives(revision, timeout_s)
            waits.append(came)
            return came

        store._freshness._arrives = counted  # type: ignore[method-assign]
        for _ in range(20):
            await api.send({"success": [{"put": {"key": b"/tenant" + prefix.encode()}}]})
            assert await store.get("/a") is not None
        assert waits.count(False) <= 1


async def test_keys_of_others_that_are_not_text_are_left_alone(etcd: Etcd, prefix: str) -> None:
    strange = f"{prefix}/".encode() + b"\xff\xfe"
    async with opened(etcd, prefix) as (store, api):
        await api.send({"success": [{"put": {"key": strange, "value": b"1"}}]})
        await store.transact(put("/a"))
        assert store.healthy
        await api.send({"success": [{"delete": {"key": strange}}]})
        await api.send({"success": [{"put": {"key": strange, "value": b"2"}}]})
        assert [entry.key for entry in (await store.range("/")).entries] == ["/a"]
    async with opened(etcd, prefix) as (store, api):
        assert [entry.key for entry in (await store.range("/")).entries] == ["/a"]
        assert [entry.key for entry in (await transfer.dump(api, Keys(prefix, root="")))[1]] == ["/a"]


async def fill(api: ScriptedApi, prefix: str, count: int, size_bytes: int) -> None:
    """`count` revisions, several on their way at once."""
    for start in range(0, count, 50):
        await asyncio.gather(
            *(
                api.send(
                    {
                        "success": [
                            {"put": {"key": f"{prefix}/{at % 40}".encode(), "value": bytes(size_bytes)}}
                        ]
                    }
                )
                for at in range(start, min(start + 50, count))
            )
        )


async def test_a_start_with_more_history_than_can_be_followed_in_time_goes_without(
    etcd: Etcd, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(etcd, prefix) as (store, api):
        await fill(api, prefix, 500, 10)
        oldest = store.revision
    monkeypatch.setattr(engine, "HISTORY_PATIENCE_S", 0.0)
    async with opened(etcd, prefix) as (store, _):
        assert len((await store.range("/")).entries) == 40
        assert store.compact_revision >= oldest and store.healthy


async def test_taking_over_much_at_once_does_not_hold_up_others(etcd: Etcd, prefix: str) -> None:
    """Between two turns of others there are few revisions, in a load as in a watch's answer."""
    async with opened(etcd, prefix) as (_, api):
        await fill(api, prefix, 600, 100)
    applied: list[int] = []

    class Counting(Cache):
        def apply(self, records: Sequence[Record]) -> None:
            applied.append(len(records))
            super().apply(records)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Cache", Counting)
        async with opened(etcd, prefix) as (store, _):
            await store.ping()
    assert sum(applied) > 500 and max(applied) <= reading.SLICE


async def test_a_value_too_large_for_this_etcd_is_told_with_the_remedy_before_a_load_begins(
    etcd: Etcd, prefix: str
) -> None:
    async with opened(etcd, prefix) as (store, api):
        with pytest.raises(TooLargeError, match="--max-request-bytes"):
            await store.transact(put("/a", bytes(2 * 1024 * 1024)))
        entries = [Kept(f"/{name}", bytes(size), 1, 1, 1, 0) for name, size in (("a", 1), ("b", 2 << 20))]
        with pytest.raises(StartupError, match=r"/b of 2097152 bytes.*--max-request-bytes"):
            await transfer.load(api, Keys(prefix, root=""), entries, [], 0)
        assert (await store.range("/")).entries == []
