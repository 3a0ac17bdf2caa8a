"""Several servers on one etcd: who may write, with which keys, and what an etcd that is not ours is told."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.admission.chain import AdmissionChain, AdmissionRequest
from orchestrator.api.access import ADMIN, Attributes
from orchestrator.api.access import Identity as User
from orchestrator.api.errors import NotFound, ServiceUnavailable
from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS, Resource, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.assembly.agreement import Agreement
from orchestrator.assembly.etcd import Etcd as Connection
from orchestrator.assembly.identity import Identity
from orchestrator.assembly.shared import SharedStore
from orchestrator.assembly.stores import OpenStore, open_store
from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.client.leader import Elector, OnlyLeader
from orchestrator.client.local import LocalClient
from orchestrator.config import Config
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.store.etcd.api import EtcdApi
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import Put, Txn
from orchestrator.store.keyring import EMPTY, Keyring
from orchestrator.store.sealing import Sealer, key_id_of
from orchestrator.wire.grpc import GrpcClient
from tests.contract.etcd_support import Etcd


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return f"/{tmp_path.name}"


class Everybody:
    async def authorize(self, identity: User, attributes: Attributes) -> None:
        pass


class Frozen(VirtualClock):
    """A clock of a process that stood still."""

    frozen_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.frozen_s


class FreezingAdmission:
    """The process stands still when a request has been authorized and its transaction is not sent yet."""

    def __init__(self, clock: Frozen) -> None:
        self._clock = clock

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        return resource is CONFIGMAPS

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        self._clock.frozen_s = 60.0 if request.name == "late" else 0.0
        return None

    async def validate(self, request: AdmissionRequest) -> None:
        pass


class NoWork:
    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


@pytest.fixture
async def store(etcd: Etcd, prefix: str) -> AsyncIterator[EtcdStore]:
    client = GrpcClient([etcd.endpoint])
    store = await EtcdStore.open(EtcdApi(client, SystemClock()), SystemClock(), keys=Keys(prefix))
    yield store
    await store.close()
    await client.close()


async def test_a_leader_frozen_amid_a_request_does_not_send_it(store: EtcdStore) -> None:
    clock, rng = Frozen(), random.Random(1)
    strategies = built_in("10.43.0.0/24", range(30000, 30010), clock, rng)
    admission = AdmissionChain((FreezingAdmission(clock),))
    registry = Registry(store, ResourceTable(), Schemas.load(), strategies, admission, clock, rng)
    other = LocalClient(registry, Everybody(), ADMIN)
    elector = Elector("thing", "a", other, NoWork(), clock, rng)
    assert await elector._try()
    leader = LocalClient(registry, OnlyLeader(Everybody(), elector), ADMIN)
    await leader.create(CONFIGMAPS, {"metadata": {"name": "early"}}, "default")
    with pytest.raises(ServiceUnavailable, match="does not lead thing"):
        await leader.create(CONFIGMAPS, {"metadata": {"name": "late"}}, "default")
    with pytest.raises(NotFound):
        await leader.get(CONFIGMAPS, "late", "default")
    await registry.close()


SECRETS = "/registry/secrets/"
FIRST, SECOND = EMPTY.with_new("now"), EMPTY.with_new("now")


def config(etcd: Etcd, directory: Path, prefix: str) -> Config:
    (directory / "pki").mkdir(parents=True)
    (directory / "instance").write_text("abc123\n")
    return Config(
        data_dir=directory,
        run_dir=directory,
        store="etcd",
        etcd_endpoints=(etcd.endpoint,),
        etcd_prefix=prefix,
    )


class Servers:
    """Joins servers of one cluster; `None` where one was let in, else why not."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.supervisors: list[Supervisor] = []

    def agreement(self) -> Agreement:
        return Agreement(self.connection, SystemClock())

    async def refusal(self, agreement: Agreement, keyring: Keyring, *prefixes: str) -> str:
        self.supervisors.append(Supervisor("server"))
        try:
            await agreement.join(Sealer(keyring, prefixes), self.supervisors[-1])
        except StartupError as error:
            return f"{error.cause} {error.fix}"
        return ""


@pytest.fixture
async def servers(etcd: Etcd, tmp_path: Path, prefix: str) -> AsyncIterator[Servers]:
    servers = Servers(await Connection.connect(config(etcd, tmp_path / "x", prefix), SystemClock()))
    yield servers
    for supervisor in servers.supervisors:
        await supervisor.stop()
    await servers.connection.close()


async def test_of_servers_that_start_together_only_those_with_one_key_are_let_in(servers: Servers) -> None:
    rings = (FIRST, SECOND, FIRST, SECOND)
    refusals = await asyncio.gather(*(servers.refusal(servers.agreement(), ring, SECRETS) for ring in rings))
    assert sorted(bool(refusal) for refusal in refusals) == [False, False, True, True]
    assert refusals[0] == refusals[2] and refusals[1] == refusals[3]
    assert "which this server does not have" in (refusals[0] or refusals[1])


async def test_servers_that_encrypt_nothing_start_together(servers: Servers) -> None:
    refusals = await asyncio.gather(*(servers.refusal(servers.agreement(), EMPTY) for _ in range(4)))
    assert refusals == [""] * 4
    assert "encrypt nothing" in await servers.refusal(servers.agreement(), FIRST, SECRETS)


async def test_what_is_encrypted_changes_only_while_no_other_server_runs(servers: Servers) -> None:
    first = servers.agreement()
    assert not await servers.refusal(first, FIRST, SECRETS)
    plain = await servers.refusal(servers.agreement(), FIRST)
    assert "this one nothing" in plain and "encrypt setting" in plain
    assert "configmaps" in await servers.refusal(servers.agreement(), FIRST, SECRETS, "/registry/configmaps/")
    await first.leave()
    assert not await servers.refusal(servers.agreement(), FIRST)
    assert not await servers.refusal(servers.agreement(), FIRST)


async def test_a_server_whose_lease_ended_joins_again_or_says_why_not(
    servers: Servers, etcd: Etcd, prefix: str
) -> None:
    first, second = servers.agreement(), servers.agreement()
    assert not await servers.refusal(first, FIRST, SECRETS)
    await first._api.lease_revoke(first._lease)
    await first._rejoin()
    assert not first.broken and await second.others() == 1
    await first._api.lease_revoke(first._lease)
    assert not await servers.refusal(second, FIRST)
    await first._rejoin()
    assert "encrypt nothing" in first.broken
    with pytest.raises(StartupError):
        await first.confirm()


@asynccontextmanager
async def server(config: Config) -> AsyncIterator[OpenStore]:
    supervisor = Supervisor("store")
    shared = await SharedStore.reach(config, SystemClock())
    try:
        await shared.join()
        opened = await open_store(config, SystemClock(), supervisor, shared)
        await opened.keep_in_line()
        yield opened
        await opened.engine.close()
    finally:
        await supervisor.stop()
        await shared.close()


async def test_the_key_is_not_rotated_while_another_server_seals_with_it(
    etcd: Etcd, tmp_path: Path, prefix: str
) -> None:
    plain = config(etcd, tmp_path / "a", prefix)
    one = replace(plain, encrypt=("secrets",))
    file = one.data_dir / "encryption-keys.json"
    async with server(one) as opened:
        two = replace(config(etcd, tmp_path / "b", prefix), encrypt=one.encrypt, encryption_keys=str(file))
        key = opened.encryption.describe()["key"]
        async with server(two) as other:
            before = file.read_bytes()
            with pytest.raises(Exception, match="stop all other servers"):
                await opened.admin.rotate_key()
            assert file.read_bytes() == before
            await opened.engine.transact(Txn((), (Put(f"{SECRETS}a/s", b"hunter2"),)))
            entry = await other.engine.get(f"{SECRETS}a/s")
            assert entry is not None and entry.value == b"hunter2"
            stored = await other.engine._api.range({"key": f"{prefix}/secrets/a/s".encode()})  # type: ignore[attr-defined]
            assert key_id_of(stored["kvs"][0]["value"]) == key
        assert (await opened.admin.rotate_key())["key"] != key
    async with server(two) as again:
        assert (await again.engine.get(f"{SECRETS}a/s")).value == b"hunter2"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "words"), [(b"k8s\0\n\x0c\n\x02v1", "another Kubernetes"), (b"{}", "none of our clusters")]
)
async def test_an_etcd_that_belongs_to_somebody_else_is_left_as_it_is(
    etcd: Etcd, tmp_path: Path, prefix: str, value: bytes, words: str
) -> None:
    ours = config(etcd, tmp_path / "a", prefix)
    connection = await Connection.connect(ours, SystemClock())
    for name in ("a", "b"):
        key = f"{prefix}/pods/{name}".encode()
        await connection.api.txn({"success": [{"put": {"key": key, "value": value}}]})
    before = await connection.api.revision(b"/")
    with pytest.raises(StartupError, match=words) as raised:
        await Identity(connection, ours, SystemClock()).check()
    assert "--etcd-prefix" in raised.value.fix
    assert await connection.api.revision(b"/") == before
    await connection.close()
