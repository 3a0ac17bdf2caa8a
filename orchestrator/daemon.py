"""Composition root: builds the house in the order in which a request flows, and takes it down in reverse.

    config ─ host ─ pki ─ store ─ registry ─ auth ─ server ─ informers ─┬─ scheduler
                                                                        ├─ controllers
                                                                        └─ network ─ agents

Nothing on the host is changed before every check has passed. Called by `cli` only.
"""

import random
import resource as limits
from contextlib import AsyncExitStack

import structlog

from orchestrator import __version__
from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.plugins import default_plugins
from orchestrator.api import resources as table
from orchestrator.api.access import ADMIN, component
from orchestrator.api.openapi import OpenAPI
from orchestrator.api.resources import ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.assembly import bootstrap, host
from orchestrator.assembly.access import Access
from orchestrator.assembly.certificates import Certificates
from orchestrator.assembly.clients import Clients, recorder_of
from orchestrator.assembly.metrics import ComponentCollector, StoreCollector, TaskCollector
from orchestrator.assembly.nodes import Nodes
from orchestrator.base.clock import Clock, SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.local import LocalClient
from orchestrator.config import Config
from orchestrator.controllers.all import build as build_controllers
from orchestrator.informer.cache import Informers
from orchestrator.informer.controller import Runner
from orchestrator.registry.registry import Registry
from orchestrator.registry.storage import Storage
from orchestrator.registry.strategies import built_in
from orchestrator.scheduler.scheduler import Scheduler
from orchestrator.server.app import ApiServer
from orchestrator.server.health import Health
from orchestrator.server.metrics import Metrics
from orchestrator.server.relay import Relay
from orchestrator.server.reviews import Reviews
from orchestrator.store.engine import LogStore
from orchestrator.web.listener import Listener

log = structlog.get_logger(__name__)

FILES_MAX = 1 << 20


class Daemon:
    """One server of the cluster with its nodes. `start`, then `stop`; both once."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.port = 0
        self._stack = AsyncExitStack()
        self._rng = random.Random()
        self._not_ready = "starting"
        self._supervisors: list[Supervisor] = []

    async def start(self) -> None:
        """Serve and work. Raises `StartupError` before anything outside the data directory is changed."""
        try:
            await self._build()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Take everything down in reverse order; containers, links and rules stay."""
        self._not_ready = "stopping"
        await self._stack.aclose()

    async def _build(self) -> None:
        config = self.config = host.complete(self.config)
        instance = host.instance_id(config.data_dir)
        self._check(instance)
        raise_file_limit()
        nodes = Nodes(config, instance, self.clock, self._rng)
        self._stack.push_async_callback(nodes.close)
        await nodes.find_engine()
        host.make_directories(config, instance)
        certificates = Certificates(config, self.clock)
        store = await self._open_store()
        registry = await self._make_registry(store)
        access = Access(certificates.signing_key(), registry, self.clock)
        api = self._serve(certificates, store, registry, access)
        await self._listen(api, certificates)
        await self._begin(registry, access, certificates, nodes)

    def _check(self, instance: str) -> None:
        config = self.config
        if config.store == "etcd":
            raise StartupError(
                "This version has no etcd engine yet.",
                'Leave store at its default "log" for a single server.',
            )
        host.check_port(config.bind, config.port, "the API", "--port")
        if not config.no_agent:
            host.check_root()
            host.check_port(config.node_ip, config.agent_port, "the node agent", "--agent-port")
            host.check_ranges(config, instance)

    async def _open_store(self) -> LogStore:
        supervisor = self._supervisor("store")
        store = await LogStore.open(self.config.data_dir / "store", self.clock, supervisor)
        self._stack.push_async_callback(store.close)
        return store

    async def _make_registry(self, store: LogStore) -> Registry:
        self.table = ResourceTable(table.BUILT_IN)
        self.schemas = Schemas.load()
        strategies = built_in(self.config.service_cidr, self.config.node_ports(), self.clock, self._rng)
        chain = AdmissionChain(default_plugins(Storage(store, self.clock), self.clock, self._rng))
        registry = Registry(store, self.table, self.schemas, strategies, chain, self.clock, self._rng)
        self._stack.push_async_callback(registry.close)
        return registry

    def _serve(
        self, certificates: Certificates, store: LogStore, registry: Registry, access: Access
    ) -> ApiServer:
        self.reviews = Reviews(access.authorizer, access.tokens, registry)
        relay = Relay(registry, certificates.agent_client_context())
        metrics = Metrics()
        for collector in (
            StoreCollector(store.stats),
            ComponentCollector(),
            TaskCollector(self._supervisors),
        ):
            metrics.registry.register(collector)
        return ApiServer(
            registry,
            self.table,
            access.authenticator,
            access.authorizer,
            access.tokens,
            OpenAPI(self.table, self.schemas),
            relay,
            Health(live={"log": lambda: _store_check(store)}, ready={"startup": self._startup_check}),
            self.clock,
            address=f"{self.config.advertise_address}:{self.config.port}",
            metrics=metrics,
        )

    async def _listen(self, api: ApiServer, certificates: Certificates) -> None:
        config = self.config
        listener = Listener(api.handle, config.bind, config.port, certificates.server_context())
        self.port = await listener.start()
        self._stack.push_async_callback(listener.close)
        self._stack.push_async_callback(api.close)
        certificates.write_kubeconfig(self.port)

    async def _begin(
        self, registry: Registry, access: Access, certificates: Certificates, nodes: Nodes
    ) -> None:
        """Everything that works through clients."""
        config = self.config
        clients = Clients(registry, access, self.reviews)
        await bootstrap.write(
            clients.as_identity(ADMIN),
            service_cidr=config.service_cidr,
            dns_address=config.dns_address,
            api_address=config.advertise_address,
            api_port=self.port,
        )
        supervisor = self._supervisor("informers")
        informers = Informers(clients.as_identity(ADMIN), supervisor, self.clock)
        access.connect(informers)
        self._start_deciders(clients, informers, certificates)
        nodes.watch(informers)
        informers.start()
        await informers.synced()
        self._not_ready = ""
        self._supervisor("certificates").serve("renewal", certificates.renew)
        self._stack.push_async_callback(nodes.stop)
        await nodes.start(clients, certificates)
        log.info("ready", version=__version__, port=self.port, node=config.node_name)

    def _start_deciders(self, clients: Clients, informers: Informers, certificates: Certificates) -> None:
        """Scheduler and controllers, each under its own identity and supervisor."""
        supervisor = self._supervisor("scheduler")
        client, recorder = self._component(clients, "kube-scheduler", supervisor)
        scheduler = Scheduler(client, informers, self.clock, recorder, self._rng)
        supervisor.serve("loop", scheduler.run)
        supervisor = self._supervisor("controllers")
        client, recorder = self._component(clients, "kube-controller-manager", supervisor)
        for controller in build_controllers(
            client,
            self.clock,
            recorder,
            self.table,
            ca_pem=certificates.ca_pem.decode(),
            pod_cidr=self.config.pod_cidr,
        ):
            Runner(controller, informers, supervisor, self.clock).start()

    def _component(
        self, clients: Clients, name: str, supervisor: Supervisor
    ) -> tuple[LocalClient, EventRecorder]:
        client = clients.as_identity(component(name))
        return client, recorder_of(client, name, "", supervisor, self.clock)

    def _supervisor(self, name: str) -> Supervisor:
        supervisor = Supervisor(name, self.clock)
        self._supervisors.append(supervisor)
        self._stack.push_async_callback(supervisor.stop)
        return supervisor

    async def _startup_check(self) -> None:
        if self._not_ready:
            raise RuntimeError(self._not_ready)


async def _store_check(store: LogStore) -> None:
    if not store.healthy:
        raise RuntimeError(store.fault or "closed")


def raise_file_limit() -> None:
    """As many open files as the system lets us have: each watch and each pod costs some."""
    _, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    limits.setrlimit(limits.RLIMIT_NOFILE, (hard, hard))
