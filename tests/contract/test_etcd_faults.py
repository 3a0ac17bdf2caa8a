"""etcd at its worst: answers lost twice, data lost or rolled back, a full database, other tenants, a large history."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.store.etcd.api import EtcdApi, Message
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import (
    Compare,
    Put,
    StoreError,
    Txn,
    UnavailableError,
    UnknownOutcomeError,
)
from orchestrator.wire.grpc import GrpcClient, GrpcError
from tests.contract.etcd_support import Etcd

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
