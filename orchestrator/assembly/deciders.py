"""Scheduler and controllers: imported and started once the API answers, so that it need not wait for them.

On a store of its own a server simply runs them. Where several servers share one, each stands for election for both
(the leases `kube-scheduler` and `kube-controller-manager`) and runs what it leads, for as long as it does.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from orchestrator.api.access import Authorizer, component
from orchestrator.api.item import Item
from orchestrator.api.resources import LEASES, ResourceTable
from orchestrator.assembly.clients import Clients, recorder_of
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.leader import Elector, OnlyLeader
from orchestrator.client.local import LocalClient
from orchestrator.controllers.all import build
from orchestrator.controllers.certificatesigning import Sign
from orchestrator.informer.cache import Informers, Subscription
from orchestrator.informer.controller import Runner
from orchestrator.scheduler.profiles import Profile
from orchestrator.scheduler.rules.infos import DEFAULT_SCHEDULER
from orchestrator.scheduler.scheduler import Scheduler

WORKERS = {"deployment": 16, "garbagecollector": 20, "replicaset": 16}
"""Keys worked on at a time, where that is more than 4: thousands of orphans, or of workloads, share syncs."""
SCHEDULER, CONTROLLERS = "kube-scheduler", "kube-controller-manager"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What controllers need to know of the cluster. `sign` is the authority's; `beside` runs where they run, such as
    etcd's compaction."""

    table: ResourceTable
    ca_pem: str
    pod_cidr: str
    sign: Sign
    beside: Sequence[tuple[str, Callable[[], Awaitable[None]]]] = ()
    profiles: Sequence[Profile] = (Profile(),)
    """Of the scheduler."""


class Component:
    """A part that is built anew for each of its terms: nothing that it knew in the last one is true any more."""

    def __init__(self, supervisor: Supervisor, informers: Informers, build: Callable[[], None]) -> None:
        self._supervisor = supervisor
        self._informers = informers
        self._build = build
        self._subscription = Subscription()

    def start(self) -> None:
        with self._informers.subscribing() as self._subscription:
            self._build()

    async def stop(self) -> None:
        """Stop its tasks; the informers go on."""
        await self._supervisor.stop()
        self._subscription.end()


class Deciders:
    """Owner of the scheduler's and the controllers' tasks, each under its own identity and supervisor."""

    def __init__(
        self, clients: Clients, informers: Informers, clock: Clock, rng: random.Random, cluster: Cluster
    ) -> None:
        self._clients = clients
        self._informers = informers
        self._clock = clock
        self._rng = rng
        self._cluster = cluster
        self._scheduling, self._controlling = Supervisor("scheduler", clock), Supervisor("controllers", clock)
        self.supervisors = [self._scheduling, self._controlling]
        self._components = {
            SCHEDULER: Component(self._scheduling, informers, self._build_scheduler),
            CONTROLLERS: Component(self._controlling, informers, self._build_controllers),
        }
        self._electors: dict[str, Elector] = {}

    def start(self) -> None:
        """Decide from now on; each waits for the informers that it reads."""
        for part in self._components.values():
            part.start()

    def elect(self, identity: str) -> None:
        """Stand for election as `identity`, and decide while leading."""
        for name, part in self._components.items():
            client = self._clients.as_identity(component(name))
            elector = self._electors[name] = Elector(name, identity, client, part, self._clock, self._rng)
            informer = self._informers.of(LEASES, field_selector=f"metadata.name={name}")
            informer.on_change(_look_when_free(elector))
            elector.start()

    async def stop(self) -> None:
        """Stop deciding, and let others."""
        if self._electors:
            await asyncio.gather(*(elector.stop() for elector in self._electors.values()))
            return
        for part in self._components.values():
            await part.stop()

    def _client(self, name: str) -> LocalClient:
        elector = self._electors.get(name)

        def guard(authorizer: Authorizer) -> Authorizer:
            return OnlyLeader(authorizer, elector) if elector is not None else authorizer

        return self._clients.as_identity(component(name), guard)

    def _build_scheduler(self) -> None:
        client = self._client(SCHEDULER)
        recorder = recorder_of(client, DEFAULT_SCHEDULER, "", self._scheduling, self._clock)
        scheduler = Scheduler(
            client, self._informers, self._clock, recorder, self._rng, self._cluster.profiles
        )
        self._clients.explained_by(scheduler.why)
        self._scheduling.serve("loop", scheduler.run)

    def _build_controllers(self) -> None:
        client, cluster = self._client(CONTROLLERS), self._cluster
        recorder = recorder_of(client, CONTROLLERS, "", self._controlling, self._clock)
        controllers = build(
            client, self._clock, recorder, cluster.table,
            ca_pem=cluster.ca_pem, pod_cidr=cluster.pod_cidr, sign=cluster.sign,
            issue=self._clients.lasting_token,
        )  # fmt: skip
        for controller in controllers:
            workers = WORKERS.get(controller.name, 4)
            Runner(controller, self._informers, self._controlling, self._clock, workers=workers).start()
        for name, run in cluster.beside:
            self._controlling.serve(name, run)


def _look_when_free(elector: Elector) -> Callable[[Item | None, Item | None], None]:
    """Wakes a candidate when the lease's holder has gone."""

    def changed(old: Item | None, new: Item | None) -> None:
        if new is None or not (new.object.get("spec") or {}).get("holderIdentity"):
            elector.look()

    return changed
