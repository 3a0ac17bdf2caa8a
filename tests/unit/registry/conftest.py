"""A registry over a real log store, with the real schemas and strategies, and a clock that stands still."""

import builtins
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.admission.chain import AdmissionChain, AdmissionRequest
from orchestrator.api.access import ADMIN
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions, WriteOptions
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.results import ItemList
from orchestrator.api.schema import Schemas
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.registry.patching import Patch, PatchKind
from orchestrator.registry.registry import Registry
from orchestrator.registry.results import Deleted, Written
from orchestrator.registry.strategies import built_in
from orchestrator.store.engine import LogStore

schemas = cache(Schemas.load)


class Hook:
    """An admission plugin that lets a test act between the read and the write of a change."""

    def __init__(self) -> None:
        self.act: Callable[[], Awaitable[object]] | None = None

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        return True

    async def mutate(self, request: AdmissionRequest) -> None:
        act, self.act = self.act, None
        if act is not None:
            await act()

    async def validate(self, request: AdmissionRequest) -> None:
        return


class Api:
    """The verbs with the options that most tests do not care about."""

    def __init__(self, registry: Registry, store: LogStore, clock: VirtualClock, hook: Hook) -> None:
        self.hook = hook
        self.registry = registry
        self.store = store
        self.clock = clock

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "default", **options: Any
    ) -> Written:
        return await self.registry.create(resource, namespace, obj, WriteOptions(**options), ADMIN)

    async def update(
        self,
        resource: Resource,
        obj: Object,
        subresource: str = "",
        namespace: str = "default",
        **options: Any,
    ) -> Written:
        name = obj["metadata"]["name"]
        return await self.registry.update(
            resource, namespace, name, obj, WriteOptions(**options), ADMIN, subresource
        )

    async def patch(
        self, resource: Resource, name: str, body: Any, kind: PatchKind = "merge", subresource: str = "",
        namespace: str = "default", **options: Any,
    ) -> Written:  # fmt: skip
        return await self.registry.patch(
            resource, namespace, name, Patch(kind, body), WriteOptions(**options), ADMIN, subresource
        )

    async def get(self, resource: Resource, name: str, namespace: str = "default") -> Object:
        return (await self.registry.get(resource, namespace, name)).object

    async def delete(
        self, resource: Resource, name: str, namespace: str = "default", **options: Any
    ) -> Deleted:
        return await self.registry.delete(resource, namespace, name, DeleteOptions(**options), ADMIN)

    async def list(self, resource: Resource, namespace: str | None = "default", **options: Any) -> ItemList:
        return await self.registry.list(resource, namespace, ListOptions(**options))

    def watch(self, resource: Resource, namespace: str | None = "default", **options: Any) -> Any:
        return self.registry.watch(resource, namespace, WatchOptions(**options))

    @staticmethod
    def names(items: builtins.list[Item]) -> builtins.list[str]:
        return [item.meta.name for item in items]

    @staticmethod
    def config_map(name: str = "", **metadata: Any) -> Object:
        named = {"name": name} if name else {}
        return {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {**named, **metadata}, "data": {"key": "value"},
        }  # fmt: skip

    @staticmethod
    def pod(name: str, **spec: Any) -> Object:
        container = {"name": "main", "image": "busybox"}
        return {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [container], **spec},
        }  # fmt: skip

    @staticmethod
    def deployment(name: str, replicas: int = 3) -> Object:
        labels = {"app": name}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "busybox"}]},
        }
        return {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        }  # fmt: skip

    @staticmethod
    def service(name: str, **spec: Any) -> Object:
        return {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": 80}], "selector": {"app": name}, **spec},
        }  # fmt: skip


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def api(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Api]:
    supervisor = Supervisor("test", clock)
    store = await LogStore.open(tmp_path / "store", clock, supervisor)
    rng, hook = random.Random(7), Hook()
    strategies = built_in("10.43.0.0/29", range(30000, 30003), clock, rng)
    registry = Registry(store, ResourceTable(), schemas(), strategies, AdmissionChain((hook,)), clock, rng)
    yield Api(registry, store, clock, hook)
    await registry.close()
    await store.close()
    await supervisor.stop()
