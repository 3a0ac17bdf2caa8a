"""What only a store on etcd can meet: lost answers, broken watches, other servers and tenants, a full etcd, access."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.assembly.etcd import Etcd as Connection
from orchestrator.assembly.identity import Identity
from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.config import Config
from orchestrator.pki.authority import Authority, CertificateSpec
from orchestrator.store.etcd import engine
from orchestrator.store.etcd.api import EtcdApi
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import (
    CompactedError,
    Compare,
    Delete,
    Event,
    NoSpaceError,
    Put,
    TooLargeError,
    Txn,
    TxnResult,
    UnknownOutcomeError,
    Watch,
)
from orchestrator.store.keyring import EMPTY
from orchestrator.store.sealing import Sealer
from orchestrator.wire.grpc import GrpcClient
from tests.contract.etcd_support import Etcd, Line, etcd_running


def put(key: str, value: bytes = b"v", at: int | None = None) -> Txn:
    return Txn(() if at is None else (Compare(key, at),), (Put(key, value),))


async def take(watch: Watch, count: int) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(20):
        while len(events) < count:
            events += await anext(watch)
    return events


@asynccontextmanager
async def opened(*endpoints: str, prefix: str, sealer: Sealer | None = None) -> AsyncIterator[EtcdStore]:
    client = GrpcClient(endpoints)
    store = await EtcdStore.open(
        EtcdApi(client, SystemClock()), SystemClock(), keys=Keys(prefix, root=""), sealer=sealer
    )
    try:
        yield store
    finally:
        await store.close()
        await client.close()


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"/{tmp_path.name}"


@pytest.fixture
async def other(etcd: Etcd, prefix: str) -> AsyncIterator[EtcdStore]:
    """The store as another server has it."""
    async with opened(etcd.endpoint, prefix=prefix) as store:
        yield store


@pytest.fixture
async def line(etcd: Etcd) -> AsyncIterator[Line]:
    line = Line(etcd.port)
    await line.start()
    yield line
    await line.stop()


@pytest.fixture
async def store(line: Line, prefix: str) -> AsyncIterator[EtcdStore]:
    """A store behind a line that the test can hold up and cut."""
    async with opened(line.endpoint, prefix=prefix) as store:
        await store.ping()
        yield store


async def until(look: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while not await look():  # noqa: ASYNC110 - etcd tells no Event
            await asyncio.sleep(0.01)


async def unhealthy(store: EtcdStore) -> bool:
    return not store.healthy


async def lose_answer(line: Line, store: EtcdStore, other: EtcdStore, txn: Txn, key: str) -> TxnResult:
    """The transaction is made, but the connection breaks before the answer has come."""
    line.to_client.clear()
    writing = asyncio.ensure_future(store.transact(txn))
    await until(lambda: other.get(key))
    line.cut()
    line.mend()
    return await writing


async def test_a_write_whose_answer_is_lost_is_found_to_be_made_and_not_made_twice(
    store: EtcdStore, other: EtcdStore, line: Line
) -> None:
    result = await lose_answer(line, store, other, put("/a", b"1", at=0), "/a")
    entry = await other.get("/a")
    assert result.succeeded and entry is not None
    assert (entry.version, entry.revision) == (1, result.revision)
    assert result.entries[0].value == b"1"


async def test_a_write_that_never_got_there_is_made_once(
    store: EtcdStore, other: EtcdStore, line: Line
) -> None:
    line.to_server.clear()
    writing = asyncio.ensure_future(store.transact(put("/a", b"1", at=0)))
    await asyncio.sleep(0.1)
    line.cut()
    line.mend()
    result = await writing
    entry = await other.get("/a")
    assert result.succeeded and entry is not None and (entry.version, entry.value) == (1, b"1")


async def test_a_lost_write_that_another_server_forestalled_has_failed(
    store: EtcdStore, other: EtcdStore, line: Line
) -> None:
    line.to_server.clear()
    writing = asyncio.ensure_future(store.transact(put("/a", b"ours", at=0)))
    await asyncio.sleep(0.1)
    await other.transact(put("/a", b"theirs", at=0))
    line.cut()
    line.mend()
    result = await writing
    assert (result.succeeded, result.failed) == (False, ("/a",))
    entry = await store.get("/a")
    assert entry is not None and entry.value == b"theirs"


async def test_a_lost_write_that_was_overwritten_since_is_still_found(
    store: EtcdStore, other: EtcdStore, line: Line
) -> None:
    line.to_client.clear()
    writing = asyncio.ensure_future(store.transact(put("/a", b"ours", at=0)))
    await until(lambda: other.get("/a"))
    entry = await other.get("/a")
    assert entry is not None
    await other.transact(put("/a", b"later", at=entry.revision))
    line.cut()
    line.mend()
    result = await writing
    assert result.succeeded and result.entries[0].value == b"ours"
    assert result.revision == entry.revision


async def test_an_unconditional_write_is_not_repeated_but_told_of(
    store: EtcdStore, other: EtcdStore, line: Line
) -> None:
    with pytest.raises(UnknownOutcomeError):
        await lose_answer(line, store, other, put("/a"), "/a")
    entry = await other.get("/a")
    assert entry is not None and entry.version == 1


async def test_a_broken_watch_goes_on_without_gap_or_duplicate(
    store: EtcdStore, other: EtcdStore, line: Line
) -> None:
    watch = store.watch("/", store.revision)
    for number in range(30):
        await other.transact(Txn((), (Put(f"/{number % 4}", b"%d" % number), Put("/x", b"%d" % number))))
        if number % 10 == 5:
            line.cut()
            line.mend()
    await other.transact(Txn((), (Delete("/x"),)))
    events = await take(watch, 61)
    assert len(events) == 61 and events[-1].entry is None
    assert [int(e.entry.value) for e in events if e.entry and e.key != "/x"] == list(range(30))
    assert [e.revision for e in events] == sorted(e.revision for e in events)
    last = events[-2].entry
    assert events[-1].previous is not None and last is not None and last.version == 30
    watch.close()


async def test_what_etcd_forgot_while_the_watch_was_broken_ends_watches_and_is_loaded(
    store: EtcdStore, other: EtcdStore, line: Line
) -> None:
    await store.transact(put("/a", b"1"))
    watch = store.watch("/", store.revision)
    line.cut()
    await until(lambda: unhealthy(store))
    await other.transact(put("/a", b"2"))
    await other.transact(put("/b", b"2"))
    await other.compact(other.revision)
    line.mend()
    with pytest.raises(CompactedError):
        await take(watch, 1)
    watch.close()
    entry = await store.get("/a")
    assert entry is not None and (entry.value, entry.version) == (b"2", 2)
    assert [found.key for found in (await store.range("/")).entries] == ["/a", "/b"]
    kept = store.watch("/", store.revision)
    await other.transact(put("/c"))
    assert (await take(kept, 1))[0].key == "/c"
    kept.close()


async def test_a_read_sees_what_another_server_acknowledged_before_it(
    store: EtcdStore, other: EtcdStore
) -> None:
    async def pass_on(number: int) -> None:
        key = f"/{number}"
        for value in range(5):
            written = await other.transact(put(key, b"%d" % value))
            entry = await store.get(key)
            assert entry is not None and entry.revision >= written.revision
            assert (await store.range(key)).revision >= written.revision

    await asyncio.gather(*(pass_on(number) for number in range(8)))
    assert store.stats()["revision_checks_total"] < 8 * 5 * 2


async def test_reads_go_on_while_other_tenants_of_etcd_write(
    store: EtcdStore, etcd: Etcd, prefix: str
) -> None:
    """Revisions that are not ours reach no watch of ours; nor are they part of the store."""
    await store.transact(put("/a"))
    for number in range(3):
        etcd.ctl("put", f"/tenant{prefix}", str(number))
        assert await store.get("/a") is not None
    assert [entry.key for entry in (await store.range("/")).entries] == ["/a"]
    result = await store.transact(put("/a", b"2", at=1))
    assert not result.succeeded


async def test_a_watch_goes_on_at_a_server_that_was_restarted(etcd: Etcd, prefix: str) -> None:
    async with opened(etcd.endpoint, prefix=prefix) as store:
        for number in range(4):
            await store.transact(put("/a", b"%d" % number))
        await store.compact(store.revision - 2)
        seen = store.revision - 2
    async with opened(etcd.endpoint, prefix=prefix) as store:
        watch = store.watch("/", seen)
        events = await take(watch, 2)
        assert [event.entry.value for event in events if event.entry] == [b"2", b"3"]
        assert events[0].previous is not None and events[0].previous.value == b"1"
        assert events[1].entry is not None and events[1].entry.version == 4
        watch.close()
        older = store.watch("/", seen - 1)
        with pytest.raises(CompactedError):
            await take(older, 1)
        older.close()


async def test_more_than_a_page_of_keys_is_loaded_whole(etcd: Etcd, prefix: str) -> None:
    names = [f"/{number:04d}" for number in range(1050)]
    async with opened(etcd.endpoint, prefix=prefix) as store:
        for start in range(0, len(names), 100):
            await store.transact(
                Txn((), tuple(Put(name, name.encode()) for name in names[start : start + 100]))
            )
        await store.compact(store.revision)
    async with opened(etcd.endpoint, prefix=prefix) as store:
        entries = (await store.range("/")).entries
        assert [entry.key for entry in entries] == names
        assert all(entry.value == entry.key.encode() and entry.version == 1 for entry in entries)


async def test_another_endpoint_is_used_when_one_is_gone(etcd: Etcd, prefix: str, line: Line) -> None:
    first, second = line, Line(etcd.port)
    await second.start()
    async with opened("http://127.0.0.1:1", first.endpoint, second.endpoint, prefix=prefix) as store:
        watch = store.watch("/", store.revision)
        await store.transact(put("/a", at=0))
        await first.stop()
        assert (await store.transact(put("/b", at=0))).succeeded
        assert await store.get("/a") is not None
        await second.stop()
        await until(lambda: unhealthy(store))
        await first.start()
        assert (await store.transact(put("/c", at=0))).succeeded
        assert [event.key for event in await take(watch, 3)] == ["/a", "/b", "/c"]
        watch.close()


async def test_a_write_too_large_for_etcd_is_told_so(store: EtcdStore) -> None:
    with pytest.raises(TooLargeError):
        await store.transact(put("/a", bytes(2 * 1024 * 1024)))
    with pytest.raises(TooLargeError):
        await store.transact(Txn((), tuple(Put(f"/{number}", b"") for number in range(200))))
    assert (await store.range("/")).entries == []


async def test_a_lease_counts_from_its_last_renewal_on_any_server(store: EtcdStore, other: EtcdStore) -> None:
    lease = await store.lease_grant(60)
    await store.transact(Txn((), (Put("/a", b"", lease),)))
    assert await other.lease_keep_alive(lease) == 60
    await other.lease_revoke(lease)
    assert await store.get("/a") is None
    assert await store.lease_keep_alive(lease) == 0


async def test_values_lie_sealed_in_etcd_and_plain_everywhere_else(etcd: Etcd, prefix: str) -> None:
    sealer = Sealer(EMPTY.with_new("2026-01-01T00:00:00Z"), ("/secrets/",))
    async with opened(etcd.endpoint, prefix=prefix, sealer=sealer) as store:
        watch = store.watch("/", store.revision)
        await store.transact_many([put("/secrets/a", b"hidden"), put("/pods/a", b"shown")])
        assert {event.key: event.entry.value for event in await take(watch, 2) if event.entry} == {
            "/secrets/a": b"hidden",
            "/pods/a": b"shown",
        }
        watch.close()
    stored = etcd.ctl("get", "--prefix", f"{prefix}/")
    assert "shown" in stored and "hidden" not in stored
    async with opened(etcd.endpoint, prefix=prefix, sealer=sealer) as store:
        entry = await store.get("/secrets/a")
        assert entry is not None and entry.value == b"hidden"


@pytest.mark.parametrize("compacted", [False, True])
async def test_history_whose_key_is_gone_is_done_without_at_once(
    etcd: Etcd, prefix: str, monkeypatch: pytest.MonkeyPatch, compacted: bool
) -> None:
    """Whether what does not open is brought by the watch, or is what etcd's history begins with."""
    monkeypatch.setattr(engine, "HISTORY_PATIENCE_S", 3600.0)
    first = EMPTY.with_new("2026-01-01T00:00:00Z")
    both = first.with_new("2026-02-01T00:00:00Z")
    async with opened(etcd.endpoint, prefix=prefix, sealer=Sealer(first, ("/secrets/",))) as store:
        old = (await store.transact(put("/secrets/a", b"old"))).revision
    async with opened(etcd.endpoint, prefix=prefix, sealer=Sealer(both, ("/secrets/",))) as store:
        await store.transact(put("/secrets/a", b"new"))
    if compacted:
        etcd.ctl("compact", str(old))
    async with (
        asyncio.timeout(60),
        opened(etcd.endpoint, prefix=prefix, sealer=Sealer(both.only_primary(), ("/secrets/",))) as store,
    ):
        entry = await store.get("/secrets/a")
        assert entry is not None and entry.value == b"new" and store.compact_revision > old


async def test_a_full_etcd_refuses_writes_serves_reads_and_comes_back(prefix: str) -> None:
    with etcd_running("--quota-backend-bytes=4000000") as etcd:
        async with opened(etcd.endpoint, prefix=prefix) as store:
            await store.transact(put("/kept", b"1"))
            with pytest.raises(NoSpaceError):
                for number in range(20):
                    await store.transact(put("/big", b"%d" % number + bytes(900_000)))
            assert store.no_space and store.healthy
            assert await store.get("/kept") is not None
            async with opened(etcd.endpoint, prefix=prefix) as another:
                assert another.no_space and await another.get("/kept") is not None
            await store.transact(Txn((), (Delete("/big"),)))
            await store.compact(store.revision)
            etcd.ctl("defrag")
            etcd.ctl("alarm", "disarm")
            assert (await store.transact(put("/kept", b"2"))).succeeded
            assert not store.no_space


def config(etcd: Etcd, directory: Path, **changes: str) -> Config:
    return Config(
        data_dir=directory / "data",
        run_dir=directory,
        store="etcd",
        etcd_endpoints=(etcd.endpoint,),
        **changes,  # type: ignore[arg-type]
    )


async def refusal(config: Config, patience_s: float = 0.0) -> str:
    config.check()
    with pytest.raises(StartupError) as raised:
        connection = await Connection.connect(config, SystemClock(), patience_s)
        await connection.close()
    return f"{raised.value.cause} {raised.value.fix}"


async def works(config: Config) -> None:
    connection = await Connection.connect(config, SystemClock())
    store = await EtcdStore.open(connection.api, SystemClock(), keys=connection.keys)
    assert (await store.transact(put("/registry/a"))).succeeded
    assert await store.get("/registry/a") is not None
    await store.close()
    await connection.close()


@pytest.fixture(scope="module")
def tls_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Etcd, Path]]:
    """An etcd that asks for client certificates, and the directory with `ca`, `etcd` and `client` files."""
    directory = tmp_path_factory.mktemp("pki")
    authority = Authority(directory, SystemClock())
    authority.ensure("etcd", CertificateSpec("etcd", (), ("127.0.0.1",), ("server", "client")))
    authority.ensure("client", CertificateSpec("orchestrator"))
    flags = (
        f"--cert-file={directory}/etcd.crt",
        f"--key-file={directory}/etcd.key",
        f"--trusted-ca-file={directory}/ca.crt",
        "--client-cert-auth",
    )
    with etcd_running(*flags, scheme="https") as etcd:
        yield etcd, directory


async def test_etcd_with_client_certificates(tls_etcd: tuple[Etcd, Path], tmp_path: Path) -> None:
    etcd, pki = tls_etcd
    ca, pair = (
        str(pki / "ca.crt"),
        {"etcd_cert": str(pki / "client.crt"), "etcd_key": str(pki / "client.key")},
    )
    await works(config(etcd, tmp_path, etcd_ca=ca, **pair))
    assert "--etcd-cert" in await refusal(config(etcd, tmp_path, etcd_ca=ca))
    stranger = Authority(tmp_path / "other", SystemClock())
    assert "--etcd-ca" in await refusal(
        config(etcd, tmp_path, etcd_ca=str(stranger.pair.certificate), **pair)
    )
    assert "can't be read" in await refusal(config(etcd, tmp_path, etcd_ca="/nowhere/ca.crt"))


@pytest.fixture(scope="module")
def guarded_etcd() -> Iterator[Etcd]:
    """An etcd with authentication; the user `orchestrator` has what it needs, `guest` nothing."""
    with etcd_running() as etcd:
        etcd.ctl("user", "add", "root:secret")
        etcd.ctl("user", "grant-role", "root", "root")
        etcd.ctl("role", "add", "server")
        for prefix in ("/registry/", "/orchestrator/"):
            etcd.ctl("role", "grant-permission", "server", "readwrite", "--prefix=true", prefix)
        etcd.ctl("user", "add", "orchestrator:pass")
        etcd.ctl("user", "grant-role", "orchestrator", "server")
        etcd.ctl("user", "add", "guest:pass")
        etcd.ctl("auth", "enable")
        yield etcd


async def test_etcd_with_user_and_password(guarded_etcd: Etcd, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("pass\n")
    named = {"etcd_password_file": str(password)}
    good = config(guarded_etcd, tmp_path, etcd_user="orchestrator", **named)
    await works(good)
    assert "readwrite" in await refusal(config(guarded_etcd, tmp_path, etcd_user="guest", **named))
    assert "--etcd-user" in await refusal(config(guarded_etcd, tmp_path))
    password.write_text("wrong")
    assert "authentication failed" in await refusal(good)


async def test_a_token_that_etcd_forgot_is_taken_anew(guarded_etcd: Etcd, tmp_path: Path) -> None:
    """etcd keeps its tokens in memory: after its restart every one of them is unknown."""
    password = tmp_path / "password"
    password.write_text("pass")
    connection = await Connection.connect(
        config(guarded_etcd, tmp_path, etcd_user="orchestrator", etcd_password_file=str(password)),
        SystemClock(),
    )
    store = await EtcdStore.open(connection.api, SystemClock(), keys=connection.keys)
    watch = store.watch("/registry/", store.revision)
    await store.transact(put("/registry/t", b"1"))
    await asyncio.to_thread(guarded_etcd.kill)
    await asyncio.to_thread(guarded_etcd.start)
    entry = await store.get("/registry/t")
    assert entry is not None
    assert (await store.transact(put("/registry/t", b"2", at=entry.revision))).succeeded
    assert len(await take(watch, 2)) == 2
    watch.close()
    await store.close()
    await connection.close()


async def test_an_etcd_that_does_not_answer_is_told_of_in_words(tmp_path: Path) -> None:
    nowhere = Config(store="etcd", etcd_endpoints=("http://127.0.0.1:1",))
    text = await refusal(nowhere)
    assert "No etcd endpoint answers" in text and "refused" in text and "--etcd-endpoints" in text


async def test_of_servers_that_start_together_one_gives_the_identity(etcd: Etcd, tmp_path: Path) -> None:
    configs = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        configs.append(config(etcd, tmp_path / name, etcd_prefix="/together"))
    connection = await Connection.connect(configs[0], SystemClock())
    identities = [Identity(connection, config, SystemClock()) for config in configs]
    await asyncio.gather(*(identity.adopt() for identity in identities))
    for name in ("ca.crt", "ca.key", "sa.key"):
        assert len({(c.data_dir / "pki" / name).read_bytes() for c in configs}) == 1
    await asyncio.gather(*(identity.adopt() for identity in identities))
    with pytest.raises(StartupError, match=r"10\.43\.0\.0/16"):
        changed = config(etcd, tmp_path / "a", etcd_prefix="/together", service_cidr="10.99.0.0/16")
        await Identity(connection, changed, SystemClock()).check()
    await connection.close()


async def test_etcdctl_shows_what_one_expects(etcd: Etcd) -> None:
    client = GrpcClient([etcd.endpoint])
    store = await EtcdStore.open(EtcdApi(client, SystemClock()), SystemClock())
    await store.transact(put("/registry/pods/default/web", b"{}"))
    await store.close()
    await client.close()
    assert etcd.ctl("get", "--prefix", "/registry/pods/") == "/registry/pods/default/web\n{}\n"
