"""All of etcd at once: dumped at one revision, loaded into an empty prefix, sealed anew; on a real etcd."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from orchestrator.assembly import backup
from orchestrator.assembly.shared import SharedStore
from orchestrator.assembly.stores import check_restored, open_store
from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config
from orchestrator.pki.authority import Authority, ensure_signing_key
from orchestrator.store.backup import Backup, Kept
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
    monkeypatch.setattr(transfer, "MARKS_TOLD", 100)
    told: list[tuple[int, int]] = []
    reached = await transfer.load(
        api, other, entries, leases, revision + 300, lambda *pair: told.append(pair)
    )
    assert reached > revision + 300
    assert [wanted for _, wanted in told] == [revision + 300] * len(told)
    assert len(told) > 3 and told == sorted(told) and told[0][0] < revision + 50 < told[-1][0]
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


def config_of(directory: Path, etcd: Etcd, **settings: Any) -> Config:
    (directory / "pki").mkdir(parents=True, exist_ok=True)
    (directory / "instance").write_text("abc123\n")
    endpoints = (etcd.endpoint,)
    config = Config(
        data_dir=directory, store="etcd", etcd_endpoints=endpoints, etcd_prefix=f"/{directory.parent.name}"
    )
    return replace(config, **settings)


async def test_a_servers_key_is_rotated_in_etcd(api: EtcdApi, keys: Keys, etcd: Etcd, tmp_path: Path) -> None:
    config = config_of(tmp_path / "a", etcd, encrypt=("secrets",))
    supervisor = Supervisor("store")
    shared = await SharedStore.reach(config, SystemClock())
    opened = await open_store(config, SystemClock(), supervisor, shared)
    await opened.keep_in_line()
    await opened.engine.transact(Txn((), (Put(f"{SECRETS}a/s", b"hunter2"),)))
    first = key_id_of((await stored(api, keys))[f"{SECRETS}a/s"])
    done = await opened.admin.rotate_key()
    assert (done["resealed"], done["dropped_keys"]) == (1, 1)
    assert key_id_of((await stored(api, keys))[f"{SECRETS}a/s"]) == done["key"] != first
    entry = await opened.engine.get(f"{SECRETS}a/s")
    assert entry is not None and entry.value == b"hunter2"
    assert (await opened.admin.status())["engine"] == "etcd"
    assert (await opened.admin.compact())["after"]["compact_revision"] >= entry.revision
    await opened.engine.close()
    await supervisor.stop()
    await shared.close()


async def test_a_backup_goes_from_etcd_into_a_log_and_back(
    api: EtcdApi, keys: Keys, etcd: Etcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "ETCD_REVISION_GAP", 300)
    store = await EtcdStore.open(api, SystemClock(), keys=keys)
    await put(store, "/registry/events/a/e", b"event", await store.lease_grant(600))
    await put(store, "/registry/pods/a/p", b"pod")
    await put(store, "/registry/masterleases/10.0.0.1:6443", b"{}", await store.lease_grant(15))
    await store.close()
    source = config_of(tmp_path / "a", etcd)
    Authority(source.data_dir / "pki", SystemClock())
    ensure_signing_key(source.data_dir / "pki" / "sa.key")

    def take(config: Config, path: Path) -> None:
        with path.open("wb") as stream:
            backup.take(config, None, stream)

    await asyncio.to_thread(take, source, tmp_path / "first")
    log = Config(data_dir=tmp_path / "log")
    none = tmp_path / "none"
    await asyncio.to_thread(backup.restore, Backup.open(tmp_path / "first"), log, none, force=False)
    await asyncio.to_thread(take, log, tmp_path / "second")
    found = Backup.open(tmp_path / "second")
    assert {entry.key: entry.value for entry in found.entries()} == await stored(api, keys)

    target = config_of(tmp_path / "b", etcd, etcd_prefix=f"{keys.prefix}-b")
    manifest = replace_revision(found, await api.revision(keys.first))
    done = await asyncio.to_thread(backup.restore, manifest, target, none, force=True)
    assert done.revision >= manifest.manifest.revision + 300
    restored = await stored(api, Keys(f"{keys.prefix}-b"))
    assert sorted(restored) == ["/registry/events/a/e", "/registry/pods/a/p"]
    assert restored.items() <= (await stored(api, keys)).items()
    with pytest.raises(StartupError, match="holds keys"):
        await asyncio.to_thread(backup.restore, manifest, target, none, force=True)
    check_restored(target.data_dir)  # A refused restore leaves nothing behind.
    assert (target.data_dir / "instance").exists()


def replace_revision(found: Backup, revision: int) -> Backup:
    """The same backup taken earlier: a log's revisions after a restore are far beyond this etcd's."""
    return Backup(found.path, structs.replace(found.manifest, revision=revision))


async def test_a_restore_takes_over_an_etcd_whose_keys_were_removed(
    api: EtcdApi, etcd: Etcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a cluster with another CA and another encryption key, whose traces lie beside the store's prefix."""
    monkeypatch.setattr(backup, "ETCD_REVISION_GAP", 10)
    old, new = (
        config_of(tmp_path / name, etcd, encrypt=("secrets",), run_dir=tmp_path) for name in ("old", "new")
    )

    async def run(config: Config, key: str) -> None:
        supervisor = Supervisor("store")
        shared = await SharedStore.reach(config, SystemClock())
        await shared.join()
        opened = await open_store(config, SystemClock(), supervisor, shared)
        await opened.engine.transact(Txn((), (Put(key, b"hunter2"),)))
        if key == "/registry/pods/a/later":
            with pytest.raises(StartupError, match="servers run"):
                await asyncio.to_thread(restore)
        await opened.engine.close()
        await supervisor.stop()
        await shared.close()

    def take() -> None:
        with (tmp_path / "backup").open("wb") as stream:
            backup.take(old, None, stream)

    def restore() -> None:
        etcd.ctl("del", "--prefix", f"{old.etcd_prefix}/")
        found = replace_revision(Backup.open(tmp_path / "backup"), 1)
        backup.restore(found, old, tmp_path / "none", force=True)

    await run(old, f"{SECRETS}a/s")
    await asyncio.to_thread(take)
    etcd.ctl("del", "--prefix", f"{old.etcd_prefix}/")
    etcd.ctl("del", "--prefix", f"/orchestrator{old.etcd_prefix}/")
    await api.compact(await api.revision(b"/"))  # History that the new key can't read.
    await run(new, "/registry/pods/a/later")
    with monkeypatch.context() as broken:
        broken.setattr(transfer, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await asyncio.to_thread(restore)
    with pytest.raises(StartupError, match="restore into this etcd"):
        await run(old, "/registry/pods/a/p")
    await asyncio.to_thread(restore)
    await run(old, "/registry/pods/a/p")
    with pytest.raises(StartupError, match="another cluster"):
        await run(new, "/registry/pods/a/p")


async def interrupted(*_: object) -> int:
    raise KeyboardInterrupt


async def test_an_operator_is_told_how_long_revisions_take() -> None:
    clock, told = VirtualClock(), list[str]()
    pace = backup.Pace(clock, told.append)
    pace.reached(100, 5_000_100)
    assert "5000000" in told[0] and "1250 to 12500 s" in told[0]
    for revision in range(10_100, 60_100, 10_000):
        await clock.advance(2.0)
        pace.reached(revision, 5_000_100)
    assert len(told) == 2 and "of 5000100, about 994 s left" in told[1]
    pace.reached(5_000_100, 5_000_100)
    assert len(told) == 2
    short = backup.Pace(clock, told.append)
    short.reached(1, 1000)
    assert len(told) == 2
