"""A server with custom kinds: what the daemon connects and what makes definitions established."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from orchestrator.api.access import ADMIN
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS
from orchestrator.api.schema import Schemas
from orchestrator.auth.authorizer import AuthorizerChain
from orchestrator.auth.node import NodeAuthorizer
from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.local import LocalClient
from orchestrator.controllers.customresourcedefinition import CustomResourceDefinitionController
from orchestrator.controllers.garbagecollector import GarbageCollector
from orchestrator.controllers.namespace import NamespaceController
from orchestrator.informer.cache import Informers
from orchestrator.informer.controller import Runner
from tests.contract.api_support import Cluster, Held, served

Json = dict[str, Any]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@asynccontextmanager
async def custom_cluster(directory: Path, schemas: Schemas) -> AsyncIterator[Cluster]:
    clock = SystemClock()
    supervisor = Supervisor("custom", clock)
    async with served(directory, schemas) as cluster:
        client = LocalClient(cluster.registry, AuthorizerChain(NodeAuthorizer(Held()), cluster.rbac), ADMIN)
        informers = Informers(client, supervisor, clock)
        informers.of(CUSTOMRESOURCEDEFINITIONS).on_change(cluster.custom.changed)
        recorder = EventRecorder(client, "test", "", clock)
        controller = CustomResourceDefinitionController(client, clock, recorder, cluster.registry.table)
        for each in (
            controller,
            GarbageCollector(client, clock, recorder, cluster.registry.table),
            NamespaceController(client, clock, recorder, cluster.registry.table),
        ):
            Runner(each, informers, supervisor, clock).start()
        informers.start()
        await informers.synced()
        yield cluster
        await supervisor.stop()


def definition(
    plural: str, kind: str, *versions: Json, group: str = "stable.example.com", **spec: Any
) -> Json:
    """A namespaced definition; a version without `served` and `storage` has both."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"served": True, "storage": True, **version} for version in versions],
            **spec,
        },
    }


def version(name: str, spec: Json | None = None, **facts: Any) -> Json:
    """One version whose `spec` and `status` have these properties."""
    properties = {"spec": {"type": "object", "properties": spec or {}}, "status": {"type": "object", "properties": {
        "replicas": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}}}}  # fmt: skip
    return {
        "name": name,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        **facts,
    }


async def establish(cluster: Cluster, crd: Json) -> Json:
    """Create or replace a definition, and wait until its newest generation is served."""
    name = crd["metadata"]["name"]
    status, answer, _ = await cluster.call("POST", CRDS, crd)
    if status == 409:
        _, known, _ = await cluster.call("GET", f"{CRDS}/{name}")
        meta = {**crd["metadata"], "resourceVersion": known["metadata"]["resourceVersion"]}
        status, answer, _ = await cluster.call("PUT", f"{CRDS}/{name}", {**crd, "metadata": meta})
    assert status in (200, 201), answer
    generation = answer["metadata"]["generation"]
    async with asyncio.timeout(20):
        while True:
            kind = cluster.custom.kind(name)
            if kind is not None and kind.generation == generation:
                return answer
            await asyncio.sleep(0.01)


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds that follows by itself."""
    async with asyncio.timeout(20):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def answers(cluster: Cluster, path: str, code: int) -> None:
    """Wait until a GET is answered with `code`."""

    async def holds() -> bool:
        return (await cluster.call("GET", path))[0] == code

    await eventually(holds)
