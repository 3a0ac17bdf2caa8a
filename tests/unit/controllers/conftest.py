"""A cluster without HTTP and without hosts: real store, registry, admission, informers and controllers.

Time stands still unless a test moves it; pods become ready and end by a simulated kubelet.
"""

import asyncio
import builtins
import itertools
import random
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.namespace_lifecycle import NamespaceLifecycle
from orchestrator.admission.resourcequota import QuotaLedger
from orchestrator.api.access import Attributes, Identity, component
from orchestrator.api.errors import Conflict, NotFound
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import (
    DEPLOYMENTS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    Resource,
    ResourceTable,
)
from orchestrator.api.schema import Schemas
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.local import LocalClient
from orchestrator.controllers.daemonnodes import target_of
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.controller import Controller, Runner
from orchestrator.informer.queue import WorkQueue
from orchestrator.registry.registry import Registry
from orchestrator.registry.storage import Storage
from orchestrator.registry.strategies import built_in
from orchestrator.store.engine import LogStore

schemas = cache(Schemas.load)


class AllowAll:
    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        return None


class Kubelet:
    """Runs every pod at once, on the node it has or names or else on `n1`. `hold` keeps pods as they are."""

    name = "kubelet"
    watches = (PODS,)
    writes = (PODS,)

    def __init__(self, client: LocalClient) -> None:
        self._client = client
        self._addresses = itertools.count(1)
        self.hold: Callable[[Item], bool] = lambda pod: False

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._pods = informers.of(PODS)
        self._pods.on_change(lambda old, new: queue.add(key_of(new or old)))

    async def reconcile(self, key: str) -> float | None:
        item = self._pods.get(key)
        if item is None or self.hold(item):
            return 0.5 if item is not None else None
        meta, view = item.meta, pod_view(item)
        try:
            if meta.deletion_timestamp:
                await self._client.delete(PODS, meta.name, meta.namespace, DeleteOptions(grace_period_s=0))
            elif not view.spec.node_name:
                node = {"kind": "Node", "name": target_of(item) or "n1"}
                target = {"metadata": {"name": meta.name}, "target": node}
                await self._client.create(PODS, target, meta.namespace, subresource="binding", name=meta.name)
            elif not view.status.pod_ip and not view.finished:
                address = f"10.42.0.{next(self._addresses)}"
                ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:20Z"}
                status = {
                    "phase": "Running",
                    "podIP": address,
                    "podIPs": [{"ip": address}],
                    "conditions": [ready],
                }
                patch = {"status": status}
                await self._client.patch(
                    PODS, meta.name, meta.namespace, patch, type="strategic", subresource="status"
                )
        except (NotFound, Conflict):
            pass
        return None


class Cluster:
    """See the module. `start` takes the controllers of a test."""

    def __init__(
        self, store: LogStore, registry: Registry, clock: VirtualClock, supervisor: Supervisor
    ) -> None:
        self.store, self.registry, self.clock, self.supervisor = store, registry, clock, supervisor
        self.client = LocalClient(registry, AllowAll(), component("kube-controller-manager"))
        self.recorder = EventRecorder(self.client, "test", "", clock)
        self.informers = Informers(self.client, supervisor, clock, resync_s=0, rng=random.Random(1))
        self.kubelet = Kubelet(self.client)
        self.table = registry.table
        self._runners: list[Runner] = []

    async def start(self, *controllers: Controller, kubelet: bool = True) -> None:
        for controller in (*controllers, *([self.kubelet] if kubelet else [])):
            self._runners.append(Runner(controller, self.informers, self.supervisor, self.clock))
        self.informers.start()
        self.supervisor.serve("events", self.recorder.run)
        for runner in self._runners:
            runner.start()
        await self.settle()

    async def settle(self) -> None:
        """Until nobody works or writes any more, retries that are due soon included."""
        async with asyncio.timeout(20):
            for _ in range(2):
                await self._calm()
                await self.clock.advance(0.1)
            await self._calm()

    async def _calm(self) -> None:
        revision, quiet = -1, 0
        while quiet < 3:
            for _ in range(40):
                await asyncio.sleep(0)
            await self.store.lease_grant(3600)  # durable after every write before it
            busy = any(len(runner.queue) or runner.queue._working for runner in self._runners)
            quiet = 0 if busy or self.store.revision != revision else quiet + 1
            revision = self.store.revision

    async def advance(self, duration_s: float, step_s: float = 5.0) -> None:
        """Move time on in steps, letting everybody work after each."""
        while duration_s > 0:
            await self.clock.advance(min(step_s, duration_s))
            duration_s -= step_s
            await self.settle()

    async def create(self, resource: Resource, obj: Object, namespace: str = "default") -> Object:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return await self.client.create(resource, body, namespace)

    async def get(self, resource: Resource, name: str, namespace: str = "default") -> Object:
        return await self.client.get(resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = "default") -> builtins.list[Object]:
        return [item.object for item in (await self.client.list(resource, namespace)).items]

    async def patch(self, resource: Resource, name: str, patch: Object, **options: Any) -> Object:
        return await self.client.patch(resource, name, options.pop("namespace", "default"), patch, **options)

    async def events(self, reason: str) -> builtins.list[str]:
        return [event["message"] for event in await self.list(EVENTS, None) if event["reason"] == reason]

    async def node(self, name: str, **spec: Any) -> Object:
        body = {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec}
        return await self.create(NODES, body)

    async def pods(self, namespace: str = "default") -> builtins.list[Object]:
        return await self.list(PODS, namespace)

    async def sets(self) -> builtins.list[Object]:
        return sorted(await self.list(REPLICASETS), key=lambda s: s["metadata"]["creationTimestamp"])

    async def is_at_rest(self, duration_s: float = 30.0) -> bool:
        """Whether nobody writes anything while time goes on."""
        before = self.store.revision
        await self.advance(duration_s, step_s=duration_s / 2)
        return self.store.revision == before

    async def deployment(self, name: str = "web", replicas: int = 3, **spec: Any) -> Object:
        body = {
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": template(name),
                **spec,
            },
        }
        return await self.create(DEPLOYMENTS, body)


def template(name: str, image: str = "busybox") -> Object:
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }


_revisions = itertools.count(1)


def pod_item(name: str, **parts: Any) -> Item:
    """An `Item` as the store would hold it, at a revision of its own; `meta`, `spec`, `status` are merged in."""
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", **parts.get("meta", {})}
    spec = {"containers": [{"name": "main", "image": "busybox"}], **parts.get("spec", {})}
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": parts.get("status", {}),
    }
    return Item(encode(obj), next(_revisions))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def cluster(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Cluster]:
    supervisor = Supervisor("test", clock)
    store = await LogStore.open(tmp_path / "store", clock, supervisor)
    rng = random.Random(7)
    strategies = built_in("10.43.0.0/16", range(30000, 30100), clock, rng)
    chain = AdmissionChain((NamespaceLifecycle(Storage(store, clock)),), QuotaLedger(clock))
    registry = Registry(store, ResourceTable(), schemas(), strategies, chain, clock, rng)
    made = Cluster(store, registry, clock, supervisor)
    await made.create(NAMESPACES, {"metadata": {"name": "default"}})
    yield made
    await supervisor.stop()
    await registry.close()
    await store.close()


@pytest.fixture(name="pod_item")
def pod_item_fixture() -> Callable[..., Item]:
    return pod_item


@pytest.fixture(name="template")
def template_fixture() -> Callable[..., Object]:
    return template
