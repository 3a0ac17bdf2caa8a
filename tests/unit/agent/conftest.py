"""A node without a host: the real agent over a real store and registry, a simulated engine, a clock that stands still.

`World` is the cluster and the engine, which outlive agents; `world.agent()` starts one, as often as wanted.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.agent.agent import Agent, AgentSettings
from orchestrator.agent.containers.podfiles import DnsSettings
from orchestrator.agent.pods.feed import NODE_INDEX, PodFeeds, node_index
from orchestrator.agent.simulated import AddressesOnly
from orchestrator.api.access import ADMIN, node
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import NODES, PODS, SERVICES, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.auth.authorizer import AuthorizerChain
from orchestrator.auth.node import NodeAuthorizer
from orchestrator.auth.rbac import Rbac
from orchestrator.base import mounting
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client
from orchestrator.client.local import LocalClient
from orchestrator.informer.cache import Informers
from orchestrator.network.dataplane.interface import PodNetwork
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.runtime.interface import Container, Runtime
from orchestrator.runtime.simulated import SimulatedRuntime
from orchestrator.store.engine import LogStore
from tests.unit.agent.builders import Json

schemas = cache(Schemas.load)
PATIENCE_S = 10.0
"""How long, on the real clock, a test waits for what must happen."""


@pytest.fixture(autouse=True)
def no_mounts_stay(tmp_path: Path) -> Iterator[None]:
    """Volumes of secrets are mounts, which would keep the directory from being removed."""
    yield
    mounting.unmount_below(tmp_path)


class Notes:
    """Events, as (type, reason, message)."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, str]] = []

    def event(self, regarding: Object, type_: str, reason: str, message: str) -> None:
        self.written.append((type_, reason, message))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.written]


class Hands(ThreadPoolExecutor):
    """The loop's threads; knows whether any of them works."""

    def __init__(self) -> None:
        super().__init__(4)
        self.busy = 0
        self._mutex = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self._count(1)
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(lambda _: self._count(-1))
        return future

    def _count(self, change: int) -> None:
        with self._mutex:
            self.busy += change


class Nobody:
    """No roles and no bindings: the node authorizer alone decides for the agent."""

    def list(self) -> list[Any]:
        return []


class World:
    """One cluster with one node's engine and network."""

    def __init__(self, directory: Path, store: LogStore, clock: VirtualClock) -> None:
        self.directory = directory
        self.store = store
        self.clock = clock
        self.hands = Hands()
        self.notes = Notes()
        self.supervisor = Supervisor("world", clock)
        rng = random.Random(5)
        strategies = built_in("10.43.0.0/24", range(30000, 30100), clock, rng)
        self.registry = Registry(store, ResourceTable(), schemas(), strategies, AdmissionChain(), clock, rng)
        none = Nobody()
        rbac = Rbac(none, none, none, none)
        self.admin = LocalClient(self.registry, AuthorizerChain(NodeAuthorizer(none), rbac), ADMIN)  # type: ignore[arg-type]
        self.informers = Informers(self.admin, self.supervisor, clock, resync_s=0)
        pods = self.informers.of(PODS)
        pods.add_index(NODE_INDEX, node_index)
        self.services = self.informers.of(SERVICES)
        self.feeds = PodFeeds(pods)
        self.node_client = LocalClient(self.registry, AuthorizerChain(NodeAuthorizer(pods), rbac), node("n1"))
        self.runtime = SimulatedRuntime(clock, self.supervisor)
        self.network = AddressesOnly("10.42.0.0/24")
        self.drained: list[str] = []
        self.agents: list[Agent] = []

    async def begin(self) -> None:
        asyncio.get_running_loop().set_default_executor(self.hands)
        await self.admin.create(
            NODES,
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "n1"},
                "spec": {"podCIDR": "10.42.0.0/24"},
            },
        )
        self.informers.start()
        await self.informers.synced()

    async def agent(
        self,
        runtime: Runtime | None = None,
        network: PodNetwork | None = None,
        client: Client | None = None,
        *,
        simulated: bool = True,
    ) -> Agent:
        """A started agent; with `simulated` off it writes volumes and probes."""
        found = await self.built(runtime, network, client, simulated=simulated)
        await found.start()
        return found

    async def built(
        self,
        runtime: Runtime | None = None,
        network: PodNetwork | None = None,
        client: Client | None = None,
        *,
        simulated: bool = True,
    ) -> Agent:
        async def wired(_: str) -> PodNetwork:
            return network or self.network

        async def drain(address: str) -> None:
            self.drained.append(address)

        settings = AgentSettings(
            "n1", "192.0.2.7", 0, self.directory / "agent", DnsSettings("10.43.0.10", "cluster.local"), {},
            simulated=simulated,
        )  # fmt: skip
        agent = Agent(
            settings,
            client=client or self.node_client,
            feed=self.feeds.of("n1"),
            services=self.services,
            runtime=runtime or self.runtime,
            network=wired,
            recorder=self.notes,
            clock=self.clock,
            before_stop=drain,
        )
        self.agents.append(agent)
        return agent

    async def close(self) -> None:
        for agent in self.agents:
            await agent.stop()
        await self.supervisor.stop()
        await self.registry.close()

    # Short ways

    async def create(self, name: str, *containers: Json, **spec: Any) -> Object:
        """A pod that is bound to the node already."""
        named = list(containers) or [container("app")]
        body = {"nodeName": "n1", "terminationGracePeriodSeconds": 5, "containers": named, **spec}
        return await self.admin.create(
            PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}, "default"
        )

    async def pod(self, name: str) -> Object:
        return await self.admin.get(PODS, name, "default")

    async def status(self, name: str) -> Object:
        return dict((await self.pod(name)).get("status") or {})

    async def state(self, name: str, container: str = "app") -> Object:
        """The status of one container; empty while there is none."""
        status = await self.status(name)
        for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            for entry in status.get(field) or ():
                if entry["name"] == container:
                    return dict(entry)
        return {}

    async def delete(self, name: str, grace_s: int | None = None) -> None:
        await self.admin.delete(PODS, name, "default", DeleteOptions(grace_period_s=grace_s))

    async def gone(self, name: str) -> bool:
        try:
            await self.pod(name)
        except NotFound:
            return True
        return False

    async def ready(self, name: str) -> bool:
        conditions = (await self.status(name)).get("conditions") or ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def containers(self, pod: Object) -> list[Container]:
        """What the engine has of a pod's containers, oldest first."""
        uid = pod["metadata"]["uid"]
        return [r.facts for r in self.runtime._containers.values() if r.facts.pod_uid == uid]

    def empty(self) -> bool:
        """Nothing of any pod is left on the node."""
        return not (self.runtime._sandboxes or self.runtime._containers or self.network._held)

    async def until(self, condition: Callable[[], Awaitable[bool] | bool], what: str = "") -> None:
        """Let the loop run, the clock standing still, until `condition` holds."""
        end_s = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            assert asyncio.get_running_loop().time() < end_s, what or "what was waited for did not happen"
            await asyncio.sleep(0.001)

    async def pass_until(self, condition: Callable[[], Awaitable[bool] | bool], step_s: float = 1.0) -> float:
        """Move the clock on until `condition` holds; returns how many seconds that took.

        Between steps everything that is under way comes to rest, however slow the machine is.
        """
        for passed in range(2000):
            await self._rest()
            held = condition()
            if held if isinstance(held, bool) else await held:
                return passed * step_s
            await self.clock.advance(step_s)
        raise AssertionError("what was waited for did not happen in time")

    async def _rest(self) -> None:
        """Until no thread works for us and what they brought has been taken in."""
        committer, still = self.store._committer, 0
        while still < 5:
            busy = self.hands.busy or committer._busy or committer._queue
            still = 0 if busy else still + 1
            await asyncio.sleep(0.001 if busy or still > 3 else 0)

    async def calm(self) -> None:
        """Let everything that is under way come to rest, the clock standing still."""
        revision, same = -1, 0
        while same < 10:
            now = self.informers.of(PODS).revision
            same, revision = (same + 1, now) if now == revision else (0, now)
            await asyncio.sleep(0.001)


def container(name: str, *command: str, **more: Any) -> Json:
    return {"name": name, "image": "demo:1", "command": list(command), **more}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def world(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[World]:
    supervisor = Supervisor("store", clock)
    store = await LogStore.open(tmp_path / "store", clock, supervisor)
    made = World(tmp_path, store, clock)
    await made.begin()
    yield made
    await made.close()
    await store.close()
    await supervisor.stop()
