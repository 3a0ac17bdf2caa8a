"""The endpoints of the Service `kubernetes` where several servers share one store.

Each server keeps a key `/registry/masterleases/<address>:<port>` on a lease of 15 s, as Kubernetes' lease endpoint
reconciler does (ours names the port too: several servers may run on one host). Whoever notices a change of those
keys writes what they say into Endpoints and EndpointSlices, so the address of a dead server goes when its lease
ends, that of a stopped one at once. Every server does so; they write the same.
"""

import asyncio

import msgspec
import structlog

from orchestrator.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.api.options import ListOptions
from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES
from orchestrator.assembly import bootstrap
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client
from orchestrator.store.interface import LeaseNotFoundError, Put, Store, StoreError, Txn

log = structlog.get_logger(__name__)

PREFIX = "/registry/masterleases/"
LEASE_S = 15
RENEW_S = 5.0
RESYNC_S = 30.0
RETRY_S = 1.0
STOP_TIMEOUT_S = 3.0
SERVICE_LABEL = "kubernetes.io/service-name=kubernetes"


class ApiServers:
    """Owner of this server's lease; one of many writers of the endpoints."""

    def __init__(
        self, store: Store, client: Client, address: str, port: int, supervisor: Supervisor, clock: Clock
    ) -> None:
        self._store = store
        self._client = client
        self._address = address
        self._port = port
        self._supervisor = supervisor
        self._clock = clock
        self._lease = 0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Be among the endpoints from now on. Raises `StoreError`, `ApiError`."""
        await self._announce()
        await self._try()
        self._supervisor.serve("lease", self._keep_alive)
        self._supervisor.serve("watch", self._watch)
        self._supervisor.serve("endpoints", self._keep_reconciled)

    async def stop(self) -> None:
        """Be no endpoint any more."""
        await self._supervisor.stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                if self._lease:
                    await self._store.lease_revoke(self._lease)
                await self._reconcile()
        except (StoreError, ApiError, TimeoutError) as error:
            said = str(error) or f"nothing within {STOP_TIMEOUT_S:.0f} s"
            log.info("this server's address stays until its lease ends", error=said)

    async def _announce(self) -> None:
        self._lease = await self._store.lease_grant(LEASE_S)
        key = f"{PREFIX}{self._address}:{self._port}"
        value = msgspec.json.encode(bootstrap.endpoints([(self._address, self._port)]))
        await self._store.transact(Txn((), (Put(key, value, self._lease),)))

    async def _keep_alive(self) -> None:
        while True:
            await self._clock.sleep(RENEW_S)
            try:
                if not await self._store.lease_keep_alive(self._lease):
                    await self._announce()
            except LeaseNotFoundError:
                continue
            except StoreError as error:
                log.warning("this server's address was not renewed", error=str(error))

    async def _watch(self) -> None:
        while True:
            watch = self._store.watch(PREFIX, self._store.revision)
            self._changed.set()
            try:
                async for _ in watch:
                    self._changed.set()
            except StoreError as error:
                log.debug("watching servers anew", error=str(error))
            finally:
                watch.close()
            await self._clock.sleep(RETRY_S)

    async def _keep_reconciled(self) -> None:
        while True:
            waiting = self._supervisor.spawn("changed", self._changed.wait())
            await asyncio.wait((waiting,), timeout=RESYNC_S)
            waiting.cancel()
            self._changed.clear()
            try:
                await self._try()
            except (ApiError, StoreError) as error:
                log.warning("endpoints of the API not written", error=str(error))
                self._changed.set()
                await self._clock.sleep(RETRY_S)

    async def _try(self) -> None:
        try:
            await self._reconcile()
        except (Conflict, AlreadyExists, NotFound):
            self._changed.set()  # Another server writes the same: look again.

    async def _reconcile(self) -> None:
        found = await self._store.range(PREFIX)
        addresses = sorted(_address(entry.key) for entry in found.entries)
        if not addresses:
            return  # The last server takes nothing away: it may be that it only restarts.
        await bootstrap.keep(self._client, ENDPOINTS, bootstrap.endpoints(addresses), ("subsets",))
        wanted = {slice["metadata"]["name"]: slice for slice in bootstrap.slices(addresses)}
        for slice in wanted.values():
            await bootstrap.keep(self._client, ENDPOINTSLICES, slice, ("endpoints", "ports"))
        await self._remove_others(set(wanted))

    async def _remove_others(self, wanted: set[str]) -> None:
        mine = ListOptions(label_selector=SERVICE_LABEL)
        for item in (await self._client.list(ENDPOINTSLICES, "default", mine)).items:
            name = item.meta.name
            if name not in wanted and name.startswith("kubernetes"):
                await self._client.delete(ENDPOINTSLICES, name, "default")


def _address(key: str) -> tuple[str, int]:
    address, _, port = key.removeprefix(PREFIX).rpartition(":")
    return address, int(port)
