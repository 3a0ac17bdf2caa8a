"""The nodes of this process: the host's own, with its network, and simulated ones. Called by `daemon`."""

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import structlog

from orchestrator.agent.agent import Agent, AgentSettings
from orchestrator.agent.api.access import Gate
from orchestrator.agent.api.routes import AgentApi
from orchestrator.agent.containers.podfiles import DnsSettings
from orchestrator.agent.node.addresses import FollowedAddress, source_of_default_route
from orchestrator.agent.node.logind import Logind
from orchestrator.agent.pods.feed import NODE_INDEX, PodFeeds, node_index
from orchestrator.agent.simulated import AddressesOnly
from orchestrator.agent.static.pods import StaticSettings
from orchestrator.agent.static.source import Prepare
from orchestrator.agent.volumes.local import Home, LocalVolumes
from orchestrator.api.access import node
from orchestrator.api.resources import PODS, SERVICES
from orchestrator.assembly.certificates import Certificates
from orchestrator.assembly.clients import Clients, recorder_of
from orchestrator.auth.authenticator import certificate_identity
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config
from orchestrator.informer.cache import Informers
from orchestrator.informer.controller import Runner
from orchestrator.network.dataplane.interface import PodNetwork
from orchestrator.network.dataplane.podnet import BridgePodNetwork
from orchestrator.network.dataplane.select import select_renderer
from orchestrator.network.dns.cluster import ClusterDNS
from orchestrator.network.proxy import ServiceProxy
from orchestrator.runtime.interface import Runtime
from orchestrator.runtime.simulated import SimulatedRuntime
from orchestrator.web.listener import Listener

log = structlog.get_logger(__name__)

DRAIN_S = 1.0
"""How long a stopping container waits at most until no Service rule leads to it."""
DNS_PORT = 53
STARTED_AT_ONCE = 50
"""Simulated nodes that register side by side."""
SIMULATED_IP = "10.255.{}.{}"


class Nodes:
    """Owner of the agents, the node network and the DNS server of this process."""

    def __init__(
        self, config: Config, instance: str, clock: Clock, rng: random.Random, prepare: Prepare
    ) -> None:
        """`prepare` completes and checks a static pod."""
        self._config = config
        self._prepare = prepare
        self._instance = instance
        self._clock = clock
        self._rng = rng
        self._stack = AsyncExitStack()
        self._proxy: ServiceProxy | None = None

    def watch(self, informers: Informers) -> None:
        """Say which objects the nodes look at; before the informers start."""
        self._informers = informers
        pods = informers.of(PODS)
        pods.add_index(NODE_INDEX, node_index)
        self._feeds = PodFeeds(pods)
        self._services = informers.of(SERVICES)
        self._volumes = LocalVolumes()
        self._keeping = Supervisor("volumes", self._clock)
        self._keeper = Runner(self._volumes, informers, self._keeping, self._clock, workers=2)

    async def start(self, clients: Clients, certificates: Certificates, runtime: Runtime | None) -> None:
        """Start every node; returns when all are Ready. Without `runtime` the host is none (yet)."""
        self._stack.push_async_callback(self._keeping.stop)
        self._keeper.start()
        if runtime is not None:
            await self.start_own(clients, certificates, runtime)
        numbers = range(1, self._config.simulated_nodes + 1)
        for first in range(0, len(numbers), STARTED_AT_ONCE):
            batch = numbers[first : first + STARTED_AT_ONCE]
            await asyncio.gather(*(self._start_simulated(clients, number) for number in batch))

    async def stop(self) -> None:
        """Stop working; containers, links and rules stay."""
        await self._stack.aclose()

    async def start_own(self, clients: Clients, certificates: Certificates, runtime: Runtime) -> None:
        """Make this host a node. What a start that fails has begun is ended: it can be tried again."""
        before, self._stack = self._stack, AsyncExitStack()
        try:
            await self._start_own(clients, certificates, runtime)
        except BaseException:
            self._proxy = None
            await self._stack.aclose()
            raise
        else:
            before.push_async_callback(self._stack.aclose)
        finally:
            self._stack = before

    async def _start_own(self, clients: Clients, certificates: Certificates, runtime: Runtime) -> None:
        config = self._config
        real = config.runtime != "simulated"
        followed = real and config.node_ip == source_of_default_route(ip_address(config.node_ip).version)
        settings = AgentSettings(
            config.node_name,
            config.node_ip,
            config.agent_port,
            config.data_dir / "agent",
            DnsSettings(config.dns_address, config.cluster_domain),
            {"node-role.kubernetes.io/control-plane": ""},
            volumes=config.volumes_dir(),
            kubelet=config.kubelet_settings(),
            registries=Path(config.registries),
            images=Path(config.images_dir or config.data_dir / "images") if real else None,
            device_plugins=config.device_plugins() if real else None,
            address=FollowedAddress(config.node_ip, source_of_default_route if followed else None),
            static=self._static_pods(),
            stages=config.shutdown_stages(),
            holder=self._logind(),
            simulated=not real,
        )
        gate = Gate(
            config.node_name, clients.as_identity(node(config.node_name)), certificate_identity, self._clock
        )
        api = AgentApi(self._clock, gate)
        listener = Listener(api.handle, config.node_ip, config.agent_port, certificates.agent_context())
        agent = self._agent(clients, replace(settings, agent_port=await listener.start()), runtime)
        api.serve(agent)
        self._stack.push_async_callback(listener.close)
        self._stack.push_async_callback(agent.stop)
        await agent.start()

    def _logind(self) -> Logind | None:
        if not self._config.shutdown_stages():
            return None
        if not Logind.present():
            log.warning("no systemd-logind here: a shutdown of the host will not wait for pods")
            return None
        logind = Logind(self._instance, self._clock)
        self._stack.push_async_callback(logind.close)
        return logind

    def _static_pods(self) -> StaticSettings:
        path = self._config.static_pod_path
        return StaticSettings(Path(path) if path else None, self._prepare)

    async def _start_simulated(self, clients: Clients, number: int) -> None:
        config = self._config
        # Several servers share the nodes of one etcd.
        name = f"sim-{number}" if config.store == "log" else f"sim-{self._instance}-{number}"
        settings = AgentSettings(
            name,
            SIMULATED_IP.format(number // 250, number % 250 + 1),
            0,
            config.run_dir / "simulated",
            DnsSettings(config.dns_address, config.cluster_domain),
            {"orchestrator.internal/simulated": "true"},
            volumes=config.volumes_dir(),
            simulated=True,
        )
        supervisor = Supervisor(f"engine/{name}", self._clock)
        runtime = SimulatedRuntime(self._clock, supervisor)
        await runtime.connect()
        agent = self._agent(clients, settings, runtime)
        self._stack.push_async_callback(supervisor.stop)
        self._stack.push_async_callback(runtime.close)
        self._stack.push_async_callback(agent.stop)
        await agent.start()

    def _agent(self, clients: Clients, settings: AgentSettings, runtime: Runtime) -> Agent:
        client = clients.as_identity(node(settings.node_name))
        supervisor = Supervisor(f"events/{settings.node_name}", self._clock)
        self._stack.push_async_callback(supervisor.stop)
        recorder = recorder_of(client, "kubelet", settings.node_name, supervisor, self._clock)
        disk = (settings.directory / "pods", settings.volumes) if not settings.simulated else (None, None)
        self._volumes.add(Home(settings.node_name, client, recorder, *disk))
        return Agent(
            settings,
            client=client,
            feed=self._feeds.of(settings.node_name),
            services=self._services,
            runtime=runtime,
            network=self._addresses_only if settings.simulated else self._real_network,
            recorder=recorder,
            clock=self._clock,
            before_stop=self._drained,
        )

    async def _addresses_only(self, pod_cidr: str) -> PodNetwork:
        return AddressesOnly(pod_cidr)

    async def _real_network(self, pod_cidr: str) -> PodNetwork:
        """Links first, then the rules of Services, then names."""
        config = self._config
        network = BridgePodNetwork(
            self._instance,
            pod_cidr,
            config.pod_cidr,
            config.run_dir / "network",
            service_cidr=config.service_cidr,
            clock=self._clock,
        )
        await network.start()
        self._stack.push_async_callback(network.close)
        await network.ensure_local_address(config.dns_address)
        self._proxy = ServiceProxy(
            self._informers,
            await select_renderer(self._instance, pod_cidr),
            pod_cidr=config.pod_cidr,
            service_cidr=config.service_cidr,
            local_addresses=(config.dns_address,),
            clock=self._clock,
        )
        self._proxy.start()
        self._stack.push_async_callback(self._proxy.stop)
        await self._serve_names()
        await self._proxy.synced.wait()
        return network

    async def _serve_names(self) -> None:
        config = self._config
        dns = ClusterDNS(
            self._informers,
            domain=config.cluster_domain,
            dns_address=config.dns_address,
            addresses=((config.dns_address, DNS_PORT),),
            cluster_cidrs=(config.pod_cidr, config.service_cidr),
            clock=self._clock,
            rng=self._rng,
        )
        await dns.start()
        self._stack.push_async_callback(dns.stop)

    async def _drained(self, address: str) -> None:
        if self._proxy is not None:
            await self._proxy.wait_without(address, DRAIN_S)
