"""The Service proxy of one node: keeps the packet filter's Service rules equal to Services and EndpointSlices.

Watches SERVICES and ENDPOINTSLICES; writes no objects. A change marks its Service; one loop computes the marked
Services anew (`desired.served`) and applies all rules, at most one application in flight: what changes meanwhile is
the next batch, and the first change after calm is applied at once. Once a second, and after every failure, the
loop looks whether the rules are still there.

Owner of the renderer: the loop task. Callers: the daemon starts and stops it; the agent waits with `wait_without`.
"""

import asyncio
from collections import Counter
from collections.abc import Collection

import structlog

from orchestrator.api.item import Item
from orchestrator.api.resources import ENDPOINTSLICES, SERVICES
from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock, SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.informer.cache import Informers
from orchestrator.network.dataplane.interface import NetworkError, ServiceRenderer, ServiceRules
from orchestrator.network.desired import SERVICE_LABEL, Served, served

log = structlog.get_logger(__name__)

CHECK_PERIOD_S = 0.8
SLICE = 50
"""Services computed before other tasks get their turn."""
SERVICE_INDEX = "network/service"

_NOTHING = Served()


def slice_services(item: Item) -> list[str]:
    """Index function of EndpointSlices: the Service's `namespace/name`."""
    name = item.labels.get(SERVICE_LABEL)
    return [f"{item.meta.namespace}/{name}"] if name else []


class ServiceProxy:
    """Start it after the informers. `local_addresses` are Service addresses that this node serves itself, without
    rules (the cluster DNS); an empty `node_addresses` opens node ports on every address of the host."""

    def __init__(
        self,
        informers: Informers,
        renderer: ServiceRenderer,
        *,
        pod_cidr: str,
        service_cidr: str,
        node_addresses: tuple[str, ...] = (),
        local_addresses: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self.synced = asyncio.Event()
        """Set when the rules were applied for the first time."""
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES)
        self._renderer = renderer
        self._frame = (pod_cidr, service_cidr, node_addresses)
        self._local = frozenset(local_addresses)
        self._clock = clock or SystemClock()
        self._supervisor = Supervisor("proxy", self._clock)
        self._backoff = Backoff(0.05, 5.0)
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._check_due = False
        self._served: dict[str, Served] = {}
        self._ready: Counter[str] = Counter()
        """Ready endpoint addresses in the applied rules, by number of Services."""
        self._unapplied: list[tuple[Served, Served]] = []
        """Before and after of each Service that was computed since the last success."""
        self._failed = False
        self._applied = asyncio.Condition()

    def start(self) -> None:
        """Watch and apply from now on."""
        self._slices.add_index(SERVICE_INDEX, slice_services)
        self._services.on_change(self._service_changed)
        self._slices.on_change(self._slice_changed)
        self._supervisor.serve("rules", self._run)
        self._supervisor.serve("check", self._tick)

    async def stop(self) -> None:
        """Stop following; the rules stay, so that traffic goes on."""
        await self._supervisor.stop()

    async def wait_without(self, address: str, timeout_s: float) -> bool:
        """Wait until no applied rule sends new connections to `address` as a ready endpoint, at most `timeout_s`.

        Whether that came true in time. An address that only serves as a last resort, because no other endpoint is
        ready, does not count: waiting would not free it.
        """
        try:
            async with asyncio.timeout(timeout_s), self._applied:
                await self._applied.wait_for(lambda: not self._ready[address])
        except TimeoutError:
            return False
        return True

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

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(CHECK_PERIOD_S)
            self._check_due = True
            self._wake.set()

    async def _run(self) -> None:
        await self._services.synced()
        await self._slices.synced()
        while True:
            try:
                await self._round()
                self._backoff.reset()
            except NetworkError as error:
                self._wake.set()
                delay_s = self._backoff.next_s()
                log.error(
                    "Service rules could not be applied", cause=str(error), retry_in_s=round(delay_s, 2)
                )
                await self._clock.sleep(delay_s)
            await self._wake.wait()

    async def _round(self) -> None:
        """Bring the rules to what the caches say now."""
        self._wake.clear()
        lost = await self._is_lost()
        if not (lost or self._dirty or self._failed) and self.synced.is_set():
            return
        await self._compute()
        ports = tuple(port for one in self._served.values() for port in one.ports)
        self._failed = True
        await self._renderer.apply(ServiceRules(ports, *self._frame))
        self._failed = False
        await self._announce()

    async def _announce(self) -> None:
        """The computed rules are in force: tell those who wait for an endpoint to be gone."""
        async with self._applied:
            for before, after in self._unapplied:
                self._ready.subtract(before.ready)
                self._ready.update(after.ready)
                for address in before.ready - after.ready:
                    if not self._ready[address]:
                        del self._ready[address]
            self._unapplied.clear()
            self._applied.notify_all()
        self.synced.set()

    async def _is_lost(self) -> bool:
        due, self._check_due = self._check_due, False
        if not (due and self.synced.is_set()) or await self._renderer.check():
            return False
        log.warning("Service rules were altered by somebody else and are written anew")
        return True

    async def _compute(self) -> None:
        """Compute the marked Services anew."""
        dirty, self._dirty = self._dirty, set()
        for number, key in enumerate(dirty):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            before = self._served.get(key, _NOTHING)
            try:
                after = self._compute_one(key)
            except Exception:
                log.exception("rules of this Service can't be computed and stay as they are", service=key)
                continue
            if after.ports:
                self._served[key] = after
            else:
                self._served.pop(key, None)
            self._unapplied.append((before, after))

    def _compute_one(self, key: str) -> Served:
        service = self._services.get(key)
        if service is None:
            return _NOTHING
        slices = [item.object for item in self._slices.by_index(SERVICE_INDEX, key)]
        return served(service.object, slices, self._local)
