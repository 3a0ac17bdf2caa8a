"""Composition root: builds the house in the order in which a request flows, and takes it down in reverse.

    config ─ host ─ pki ─ store ─ registry ─ auth ─ server ─ informers ─┬─ scheduler
                                                                        ├─ controllers
                                                                        └─ network ─ agents

Nothing on the host is changed before every check has passed. Called by `cli` only.
"""

import asyncio
import importlib
import random
import resource as limits
import secrets
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import structlog

from orchestrator import __version__
from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.plugins import default_plugins
from orchestrator.admission.resourcequota import QuotaLedger
from orchestrator.api import resources as table
from orchestrator.api.access import ADMIN
from orchestrator.api.openapi import OpenAPI
from orchestrator.api.resources import ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.assembly import bootstrap, fairness, host
from orchestrator.assembly.access import Access, LateAuthorizer
from orchestrator.assembly.certificates import Certificates
from orchestrator.assembly.clients import Clients
from orchestrator.assembly.components import component_statuses
from orchestrator.assembly.fairness import FairnessKeeper
from orchestrator.assembly.health import check_store
from orchestrator.assembly.metrics import ComponentCollector, LoopCollector, StoreCollector, TaskCollector
from orchestrator.assembly.staticpods import static_pod
from orchestrator.assembly.store_admin import Engine
from orchestrator.assembly.stores import OpenStore, check_restored, open_store
from orchestrator.base.clock import Clock, SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.looptime import LoopTime
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config
from orchestrator.informer.cache import Informers
from orchestrator.registry.custom_kinds import CustomKinds
from orchestrator.registry.registry import Registry
from orchestrator.registry.storage import Storage
from orchestrator.registry.strategies import built_in
from orchestrator.registry.strategies.services import ServiceStrategy
from orchestrator.server.app import ApiServer
from orchestrator.server.health import Check, Health, Unhealthy
from orchestrator.server.metrics import Metrics
from orchestrator.server.relay import Relay
from orchestrator.server.reviews import Reviews
from orchestrator.store.sealing import prefixes_of
from orchestrator.web.listener import Listener

if TYPE_CHECKING:
    from orchestrator.assembly.engine import Engine as ContainerEngine
    from orchestrator.assembly.nodes import Nodes
    from orchestrator.assembly.shared import SharedStore

log = structlog.get_logger(__name__)


ENGINE_PATIENCE_S = 3.0
ENGINE_RETRY_S = 5.0


class Daemon:
    """One server of the cluster with its nodes. `start`, then `stop`; both once."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.port = 0
        self._stack = AsyncExitStack()
        self._rng = random.Random()
        self._not_ready = "starting"
        self._undecided = "not started yet"
        self.ready = asyncio.Event()
        """Set when `/readyz` says ok; nodes may still be starting."""
        self._supervisors: list[Supervisor] = []
        self._authorizer = LateAuthorizer()
        self._looptime = LoopTime()

    async def start(self) -> None:
        """Serve and work. Raises `StartupError` before anything outside the data directory is changed."""
        self._looptime.start()
        self._stack.callback(self._looptime.stop)
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
        shared = await self._reach_etcd() if config.store == "etcd" else None
        engine = await self._find_engine(instance)
        host.make_directories(config, instance)
        if shared is not None:
            await shared.join()
        certificates = Certificates(config, self.clock)
        opened = await self._open_store(shared)
        registry = await self._make_registry(opened.engine)
        access = Access(certificates.signing_key(), registry, self.clock)
        self._authorizer.connect(access.authorizer)
        api = self._serve(certificates, opened, registry, access, shared)
        await self._listen(api, certificates)
        clients = Clients(registry, access, self.reviews)
        informers = await self._make_ready(clients, access, api, shared)
        await self._begin_work(clients, informers, certificates, instance, engine, shared)

    def _check(self, instance: str) -> None:
        config = self.config
        check_restored(config.data_dir)
        prefixes_of(config.encrypt)
        host.check_port(config.bind, config.port, "the API", "--port")
        if not config.no_agent:
            host.check_root()
            host.check_port(config.node_ip, config.agent_port, "the node agent", "--agent-port")
            host.check_ranges(config, instance)

    async def _find_engine(self, instance: str) -> "ContainerEngine | None":
        """The host's engine; None without an agent. A host that was a node before serves the API in any case and
        waits for its engine aside: workloads and clients must not suffer from one that hangs."""
        if self.config.no_agent:
            return None
        from orchestrator.assembly.engine import Engine as ContainerEngine

        engine = ContainerEngine(self.config, instance, self.clock)
        self._stack.push_async_callback(engine.close)
        known = host.is_known(self.config.data_dir)
        try:
            async with asyncio.timeout(ENGINE_PATIENCE_S if known else None):
                await engine.find()
        except (StartupError, TimeoutError) as error:
            if not known:
                raise
            log.error("no container engine, waiting for it", error=str(error) or "no answer in time")
        return engine

    async def _reach_etcd(self) -> "SharedStore":
        """etcd, and whether this server fits the cluster there. Its modules cost a server without it nothing."""
        from orchestrator.assembly.shared import SharedStore

        shared = await SharedStore.reach(self.config, self.clock)
        self._stack.push_async_callback(shared.close)
        return shared

    async def _open_store(self, shared: "SharedStore | None") -> OpenStore:
        supervisor = self._supervisor("store")
        opened = await open_store(self.config, self.clock, supervisor, shared)
        self._stack.push_async_callback(opened.engine.close)
        self._supervisor("encryption").serve("rewrite", opened.keep_in_line)
        return opened

    async def _make_registry(self, store: Engine) -> Registry:
        self.table = ResourceTable(table.BUILT_IN)
        self.schemas = Schemas.load()
        strategies = built_in(self.config.service_cidr, self.config.node_ports(), self.clock, self._rng)
        plugins = default_plugins(Storage(store, self.clock), self._authorizer, self.clock, self._rng)
        services = strategies[table.SERVICES.group, table.SERVICES.plural]
        assert isinstance(services, ServiceStrategy)
        self._services = services
        registry = Registry(
            store,
            self.table,
            self.schemas,
            strategies,
            AdmissionChain(plugins, QuotaLedger(self.clock)),
            self.clock,
            self._rng,
            self._authorizer,
        )
        self._stack.push_async_callback(registry.close)
        self.custom = CustomKinds(self.table, self.schemas, strategies, registry.views)
        return registry

    def _serve(
        self,
        certificates: Certificates,
        opened: OpenStore,
        registry: Registry,
        access: Access,
        shared: "SharedStore | None",
    ) -> ApiServer:
        self.reviews = Reviews(access.authorizer, access.tokens, registry)
        components = self._component_checks(opened.engine, shared)
        registry.virtual.connect(table.COMPONENTSTATUSES, partial(component_statuses, components))
        relay = Relay(registry, certificates.agent_client_context())
        metrics = Metrics()
        for collector in (
            StoreCollector(opened.stats),
            LoopCollector(self._looptime),
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
            self._health(opened.engine, shared),
            self.clock,
            address=f"{self.config.advertise_address}:{self.config.port}",
            metrics=metrics,
            store_admin=opened.admin,
        )

    def _health(self, store: Engine, shared: "SharedStore | None") -> Health:
        """A store that only a restart can mend makes the server not live; etcd comes back by itself."""
        ready: dict[str, Check] = {"startup": self._startup_check}
        if shared is not None:
            return Health(ready={"etcd": shared.check, **ready})
        return Health(live={"store": lambda: check_store(store)}, ready=ready)

    def _component_checks(self, store: Engine, shared: "SharedStore | None") -> dict[str, Check]:
        """Under the names of Kubernetes' components. Who stands by for another server is well."""

        async def deciding() -> None:
            if self._undecided:
                raise Unhealthy(self._undecided)

        etcd = shared.check if shared is not None else lambda: check_store(store)
        return {"etcd-0": etcd, "controller-manager": deciding, "scheduler": deciding}

    async def _listen(self, api: ApiServer, certificates: Certificates) -> None:
        config = self.config
        listener = Listener(api.handle, config.bind, config.port, certificates.server_context())
        self.port = await listener.start()
        self._stack.push_async_callback(listener.close)
        self._stack.push_async_callback(api.close)
        certificates.write_kubeconfig(self.port)

    async def _make_ready(
        self, clients: Clients, access: Access, api: ApiServer, shared: "SharedStore | None"
    ) -> Informers:
        """The objects that every cluster has, and the roles known: from here on `/readyz` says ok."""
        config, admin = self.config, clients.as_identity(ADMIN)
        await bootstrap.write(admin, service_cidr=config.service_cidr, dns_address=config.dns_address)
        await fairness.write(admin)
        if shared is None:
            await bootstrap.write_endpoints(admin, config.advertise_address, self.port)
        else:
            self._stack.push_async_callback(
                await shared.announce(admin, self.port, self._supervisor("apiservers"))
            )
        informers = Informers(admin, self._supervisor("informers"), self.clock)
        access.connect(informers)
        informers.of(table.CUSTOMRESOURCEDEFINITIONS).on_change(self.custom.changed)
        informers.of(table.SERVICECIDRS).on_change(self._services.range_changed)
        keeper = FairnessKeeper(
            admin, informers, api.fairness, self._supervisor("priority and fairness"), self.clock
        )
        informers.start()
        keeper.start()
        await informers.synced()
        self._not_ready = ""
        self.ready.set()
        log.info("ready", version=__version__, port=self.port)
        return informers

    async def _begin_work(
        self,
        clients: Clients,
        informers: Informers,
        certificates: Certificates,
        instance: str,
        engine: "ContainerEngine | None",
        shared: "SharedStore | None",
    ) -> None:
        """Deciders, then nodes. Their modules are loaded aside: the API answers meanwhile."""
        for name in ("deciders", "nodes"):
            await asyncio.to_thread(importlib.import_module, f"orchestrator.assembly.{name}")
        from orchestrator.assembly.deciders import Cluster, Deciders
        from orchestrator.assembly.nodes import Nodes
        from orchestrator.scheduler.configuration import profiles_from

        beside = shared.leader_work() if shared is not None else ()
        cluster = Cluster(
            self.table,
            certificates.ca_pem.decode(),
            self.config.pod_cidr,
            certificates.sign,
            beside,
            await asyncio.to_thread(profiles_from, self.config.scheduler_config),
        )
        deciders = Deciders(clients, informers, self.clock, self._rng, cluster)
        self._supervisors.extend(deciders.supervisors)
        self._stack.push_async_callback(deciders.stop)
        if shared is not None:
            deciders.elect(f"{self.config.node_name}_{instance}_{secrets.token_hex(4)}")
        else:
            deciders.start()
        self._undecided = ""
        prepare = partial(static_pod, self.schemas)
        nodes = Nodes(self.config, instance, self.clock, self._rng, prepare)
        nodes.watch(informers)
        await informers.synced()
        self._supervisor("certificates").serve("renewal", certificates.renew)
        self._stack.push_async_callback(nodes.stop)
        await nodes.start(clients, certificates, engine.runtime if engine is not None else None)
        if engine is not None and engine.runtime is None:
            work = partial(self._await_engine, engine, nodes, clients, certificates)
            self._supervisor("engine").serve("wait", work)

    async def _await_engine(
        self, engine: "ContainerEngine", nodes: "Nodes", clients: Clients, certificates: Certificates
    ) -> None:
        """Ask for the engine until it answers, then be a node."""
        while engine.runtime is None:
            await self.clock.sleep(ENGINE_RETRY_S)
            try:
                await engine.find()
            except StartupError as error:
                log.warning("still no container engine", error=str(error))
        await nodes.start_own(clients, certificates, engine.runtime)

    def _supervisor(self, name: str) -> Supervisor:
        supervisor = Supervisor(name, self.clock)
        self._supervisors.append(supervisor)
        self._stack.push_async_callback(supervisor.stop)
        return supervisor

    async def _startup_check(self) -> None:
        if self._not_ready:
            raise Unhealthy(self._not_ready)


def raise_file_limit() -> None:
    """As many open files as the system lets us have: each watch and each pod costs some."""
    _, hard = limits.getrlimit(limits.RLIMIT_NOFILE)
    limits.setrlimit(limits.RLIMIT_NOFILE, (hard, hard))
