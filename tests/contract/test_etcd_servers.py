"""Several servers on one etcd: who may write, with which keys, and what an etcd that is not ours is told."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.admission.chain import AdmissionChain, AdmissionRequest
from orchestrator.api.access import ADMIN, Attributes
from orchestrator.api.access import Identity as User
from orchestrator.api.errors import NotFound, ServiceUnavailable
from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS, Resource, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.client.leader import Elector, OnlyLeader
from orchestrator.client.local import LocalClient
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.store.etcd.api import EtcdApi
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.keys import Keys
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
