"""The cluster DNS of one node: zone and server kept in step with Services and EndpointSlices.

Watches SERVICES and ENDPOINTSLICES; writes no objects. Until both were listed once, cluster names are answered with
SERVFAIL, which makes clients ask again, instead of a wrong NXDOMAIN.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Sequence

import structlog

from orchestrator.api.item import Item
from orchestrator.api.resources import ENDPOINTSLICES, SERVICES
from orchestrator.base.clock import Clock, SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.informer.cache import Informers
from orchestrator.network.dns.forward import Forwarder, ResolvConf, Server
from orchestrator.network.dns.names import Names, service_names
from orchestrator.network.dns.server import DNSServer, Resolver
from orchestrator.network.dns.zone import Zone
from orchestrator.network.proxy import SERVICE_INDEX, slice_services

log = structlog.get_logger(__name__)

SLICE = 50
"""Services whose names are computed before other tasks get their turn."""


class ClusterDNS:
    """`addresses` are where it listens; `dns_address` is what the zone says of itself; reverse names of
    `cluster_cidrs` are never forwarded; `upstreams` names the resolvers for the rest (the host's when None)."""

    def __init__(
        self,
        informers: Informers,
        *,
        domain: str,
        dns_address: str,
        addresses: Sequence[Server],
        cluster_cidrs: Collection[str],
        upstreams: Callable[[], Sequence[Server]] | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.synced = asyncio.Event()
        """Set when the zone holds what the caches held at the start."""
        self.bound: list[Server] = []
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES)
        self._addresses = tuple(addresses)
        clock, rng = clock or SystemClock(), rng or random.SystemRandom()
        own = {host for host, _ in addresses}
        self.zone = Zone(domain, dns_address, cluster_cidrs)
        self._forwarder = Forwarder(upstreams or ResolvConf(own=own), clock, rng)
        self._resolver = Resolver(self.zone, self._forwarder, rng)
        self._server = DNSServer(self._resolver, clock)
        self._supervisor = Supervisor("dns", clock)
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Listen and follow. Raises `NetworkError` when an address can't be bound."""
        self.bound = await self._server.start(self._addresses)
        self._slices.add_index(SERVICE_INDEX, slice_services)
        self._services.on_change(self._service_changed)
        self._slices.on_change(self._slice_changed)
        self._supervisor.serve("zone", self._run)

    async def stop(self) -> None:
        await self._supervisor.stop()
        await self._server.stop()
        await self._forwarder.stop()

    def _service_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        if item is not None:
            self._mark(f"{item.meta.namespace}/{item.meta.name}")

    def _slice_changed(self, old: Item | None, new: Item | None) -> None:
        for item in (old, new):
            if item is not None:
                for key in slice_services(item):
                    self._mark(key)

    def _mark(self, key: str) -> None:
        self._dirty.add(key)
        self._wake.set()

    async def _run(self) -> None:
        await self._services.synced()
        await self._slices.synced()
        while True:
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            for number, key in enumerate(dirty):
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
                self._update(key)
            self._resolver.ready = True
            self.synced.set()
            await self._wake.wait()

    def _update(self, key: str) -> None:
        try:
            names = self._names(key)
        except Exception:
            log.exception("names of this Service can't be computed and stay as they are", service=key)
            return
        self._resolver.invalidate(self.zone.put(key, names))

    def _names(self, key: str) -> Names | None:
        service = self._services.get(key)
        if service is None:
            return None
        slices = [item.object for item in self._slices.by_index(SERVICE_INDEX, key)]
        return service_names(service.object, slices, self.zone.domain)
