"""All of etcd at once: dumped at one revision, loaded into an empty prefix, sealed anew; on a real etcd."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.store.backup import Kept
from orchestrator.store.etcd import transfer
from orchestrator.store.etcd.api import EtcdApi
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import Put, Txn
from orchestrator.store.keyring import EMPTY
from orchestrator.store.sealing import Sealer, key_id_of
from orchestrator.wire.grpc import GrpcClient
from tests.contract.etcd_support import Etcd

SECRETS = "/registry/secrets/"


@pytest.fixture
async def api(etcd: Etcd) -> AsyncIterator[EtcdApi]:
    client = GrpcClient([etcd.endpoint])
    yield EtcdApi(client, SystemClock())
    await client.close()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(f"/{tmp_path.name}")


async def stored(api: EtcdApi, keys: Keys) -> dict[str, bytes]:
    _, entries, _ = await transfer.dump(api, keys)
    return {entry.key: entry.value for entry in entries}


async def put(store: EtcdStore, key: str, value: bytes, lease: int = 0) -> None:
    assert (await store.transact(Txn((), (Put(key, value, lease),)))).succeeded


async def test_a_dump_is_loaded_elsewhere_with_higher_revisions(
    api: EtcdApi, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PAGE_KEYS", 7)
    monkeypatch.setattr(transfer, "BATCH_PUTS", 3)
    store = await EtcdStore.open(api, SystemClock(), keys=keys)
    lease = await store.lease_grant(600)
    for number in range(30):
        await put(store, f"/registry/pods/a/p{number:02d}", b"v%d" % number, lease if number % 2 else 0)
    revision, entries, leases = await transfer.dump(api, keys)
    await put(store, "/registry/pods/a/later", b"")
    await store.close()
    assert [entry.key for entry in entries] == [f"/registry/pods/a/p{number:02d}" for number in range(30)]
    assert (revision, leases) == (entries[-1].revision, [(1, transfer.LEASE_S)])

    other = Keys(f"{keys.prefix}-restored")
    reached = await transfer.load(api, other, entries, leases, revision + 300)
    assert reached >= revision + 300
    loaded = (await transfer.dump(api, other))[1]
    assert [(e.key, e.value, bool(e.lease)) for e in loaded] == [
        (e.key, e.value, bool(e.lease)) for e in entries
    ]
    with pytest.raises(StartupError, match="holds keys"):
        await transfer.load(api, other, entries, leases, 0)


async def test_values_are_brought_into_the_wanted_form_while_others_write(api: EtcdApi, keys: Keys) -> None:
    plain = Sealer()
    store = await EtcdStore.open(api, SystemClock(), keys=keys, sealer=plain)
    for number in range(150):
        await put(store, f"{SECRETS}a/s{number}", b"hidden%d" % number)
    await put(store, "/registry/pods/a/p", b"seen")
    await store.close()

    sealer = Sealer(EMPTY.with_new("now"), [SECRETS])
    store = await EtcdStore.open(api, SystemClock(), keys=keys, sealer=sealer)
    count, _ = await asyncio.gather(
        transfer.reseal(api, keys, sealer),
        asyncio.gather(*(put(store, f"{SECRETS}a/s{number}", b"new") for number in range(5))),
    )
    assert 145 <= count <= 150
    assert await transfer.reseal(api, keys, sealer) == 0
    found = await stored(api, keys)
    assert found["/registry/pods/a/p"] == b"seen"
    assert all(key_id_of(found[f"{SECRETS}a/s{number}"]) for number in range(150))
    entry = await store.get(f"{SECRETS}a/s149")
    assert entry is not None and entry.value == b"hidden149"

    sealer.use(sealer.keyring.with_new("later"))
    assert await transfer.reseal(api, keys, sealer) == 150
    assert {key_id_of(value) for value in (await stored(api, keys)).values()} == {
        "",
        sealer.keyring.primary.id,
    }

    off = Sealer(sealer.keyring)
    assert await transfer.reseal(api, keys, off) == 150
    assert (await stored(api, keys))[f"{SECRETS}a/s149"] == b"hidden149"
    await store.close()


async def test_what_had_a_lease_keeps_it_when_sealed_anew(api: EtcdApi, keys: Keys) -> None:
    lease = await api.lease_grant(600)
    one = Kept(f"{SECRETS}a/s", b"x", 1, 1, 1, 1)
    await api.txn({"success": [{"put": {"key": keys.to_etcd(one.key), "value": one.value, "lease": lease}}]})
    await transfer.reseal(api, keys, Sealer(EMPTY.with_new("now"), [SECRETS]))
    page = await api.range({"key": keys.to_etcd(one.key)})
    assert page["kvs"][0]["lease"] == lease
