"""A real registry with informers, and builders for the objects that the network reads."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import ADMIN
from orchestrator.api.resources import ENDPOINTSLICES, SERVICES, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.local import LocalClient
from orchestrator.informer.cache import Informers
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.store.engine import LogStore

schemas = cache(Schemas.load)


class Everybody:
    """An authorizer that says yes."""

    async def authorize(self, identity, attributes):
        return


def service_object(name="web", **spec):
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterIP", "ports": ports, **spec},
    }


def slice_object(
    *endpoints, service="web", ports=({"name": "http", "port": 8080, "protocol": "TCP"},), **more
):
    """Each endpoint is an address, or a dictionary."""
    return {
        "metadata": {
            "name": f"{service}-slice",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": list(ports),
        "endpoints": [
            {"addresses": [one], "conditions": {"ready": True}} if isinstance(one, str) else one
            for one in endpoints
        ],
        **more,
    }


class World:
    service = staticmethod(service_object)
    slice = staticmethod(slice_object)

    def __init__(self, registry, clock, supervisor) -> None:
        self.clock = clock
        self.client = LocalClient(registry, Everybody(), ADMIN)
        self.informers = Informers(self.client, supervisor, clock, resync_s=0, rng=random.Random(1))

    async def put(self, obj):
        """Create a Service or EndpointSlice, or bring it to this."""
        resource = ENDPOINTSLICES if "addressType" in obj else SERVICES
        name = obj["metadata"]["name"]
        known = await self.client.list(resource)
        if name in {item.meta.name for item in known.items}:
            return await self.client.patch(resource, name, "default", obj)
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        return await self.client.create(resource, {**kind, **obj}, "default")

    async def until(self, condition):
        """Let everybody work until `condition()`, which what is on its way must bring about."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = VirtualClock()
    supervisor = Supervisor("test", clock)
    store = await LogStore.open(tmp_path / "store", clock, supervisor)
    rng = random.Random(5)
    strategies = built_in("10.43.0.0/16", range(30000, 30100), clock, rng)
    registry = Registry(store, ResourceTable(), schemas(), strategies, AdmissionChain(), clock, rng)
    yield World(registry, clock, supervisor)
    await supervisor.stop()
    await registry.close()
    await store.close()
