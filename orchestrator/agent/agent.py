"""One node: its facts, its reporter, its pods, its API. Built by `daemon`, one per node of the process.

Starts in the order of the data: registration, pod network (once the node has its range), pods, heartbeat, API.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog

from orchestrator.agent import podspec
from orchestrator.agent.containers import admit
from orchestrator.agent.containers import settings as containersettings
from orchestrator.agent.containers.podfiles import DnsSettings
from orchestrator.agent.containers.settings import ContainerSettings
from orchestrator.agent.context import BeforeStop, Context, NodeFacts, PodVolumes, Recorder, ServiceSource
from orchestrator.agent.devices.manager import DeviceManager
from orchestrator.agent.eviction.housekeeping import Housekeeping
from orchestrator.agent.images.access import PullRecords
from orchestrator.agent.images.keyring import Credential
from orchestrator.agent.images.preload import Preloaded
from orchestrator.agent.images.pulling import Images
from orchestrator.agent.node import hostfacts
from orchestrator.agent.node.addresses import FollowedAddress
from orchestrator.agent.node.capacity import allocatable, capacity
from orchestrator.agent.node.hostfacts import HostFacts
from orchestrator.agent.node.reporter import NodeReporter, NodeSettings
from orchestrator.agent.node.shutdown import Holder, Shutdown
from orchestrator.agent.node.stages import Stage
from orchestrator.agent.pods.admitting import Rejection
from orchestrator.agent.pods.feed import PodFeed
from orchestrator.agent.pods.manager import PodManager
from orchestrator.agent.pods.probes import Prober, Target
from orchestrator.agent.pods.worker import PodWorker
from orchestrator.agent.settings import KubeletSettings
from orchestrator.agent.simulated import NoVolumes
from orchestrator.agent.static.pods import StaticPods, StaticSettings
from orchestrator.agent.stats.collector import Collector
from orchestrator.agent.stats.metered import metered
from orchestrator.agent.stats.meters import Meters
from orchestrator.agent.volumes import claimed as claimedvolumes
from orchestrator.agent.volumes.images import ImageVolumes
from orchestrator.agent.volumes.podvolumes import Volumes
from orchestrator.agent.volumes.references import References
from orchestrator.agent.volumes.sources import Sources
from orchestrator.agent.volumes.tokens import Tokens
from orchestrator.api.item import Object
from orchestrator.api.resources import NODES, SERVICEACCOUNTS, Resource
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client
from orchestrator.network.dataplane.interface import PodNetwork
from orchestrator.runtime import references
from orchestrator.runtime.interface import Runtime, RuntimeFailure
from orchestrator.runtime.registries import RegistryFile

log = structlog.get_logger(__name__)

CIDR_POLL_S = 0.05

NetworkFactory = Callable[[str], Awaitable[PodNetwork]]
"""Given the node's pod range, the pod network, started."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the operator or the simulation decides about one node."""

    node_name: str
    node_ip: str
    agent_port: int
    directory: Path
    """Where pods' volumes and files lie."""
    dns: DnsSettings
    labels: dict[str, str]
    volumes: Path | None = None
    """Where volumes of the local-path provisioner lie; None offers none."""
    kubelet: KubeletSettings = field(default_factory=KubeletSettings)
    registries: Path | None = None
    """The node's file about image registries; None or an absent one says nothing."""
    images: Path | None = None
    """Directory of image archives to preload."""
    address: FollowedAddress | None = None
    """Follows the host's address; None keeps to `node_ip`."""
    device_plugins: Path | None = None
    """Where device plugins register; None takes none."""
    static: StaticSettings | None = None
    """The node's own pods; None for a node that only has the API's."""
    stages: tuple[Stage, ...] = ()
    holder: Holder | None = None
    """In which order pods stop before the host goes down, and who delays that meanwhile."""
    simulated: bool = False
    """Pods get no files and no probes: there is nothing behind their addresses."""


class Agent:
    """A node of the cluster."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        client: Client,
        feed: PodFeed,
        services: ServiceSource,
        runtime: Runtime,
        network: NetworkFactory,
        recorder: Recorder,
        clock: Clock,
        before_stop: BeforeStop,
    ) -> None:
        self._settings = settings
        self._client = client
        self._feed = feed
        self._services = services
        self.meters = Meters(clock)
        self._runtime = metered(runtime, self.meters)
        self._network = network
        self._recorder = recorder
        self._clock = clock
        self._before_stop = before_stop
        self._supervisor = Supervisor(f"agent/{settings.node_name}", clock)
        self._prober: Prober | None = None
        self._devices: DeviceManager | None = None
        self._housekeeping: Housekeeping | None = None
        self.manager: PodManager | None = None
        self.stats = Collector(self._runtime, self.workers, settings.directory, clock, self._supervisor)
        self.ready = False

    @property
    def settings(self) -> AgentSettings:
        return self._settings

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    async def start(self) -> None:
        """Become a Ready node; returns when pods are being worked on."""
        settings = self._settings
        settings.directory.mkdir(parents=True, exist_ok=True)
        if settings.volumes is not None and not settings.simulated:
            await asyncio.to_thread(claimedvolumes.prepare, settings.volumes)
        host = hostfacts.read(settings.directory)
        facts = NodeFacts(
            settings.node_name,
            settings.node_ip,
            capacity(host, settings.kubelet),
            allocatable(host, settings.kubelet),
            host.memory_bytes,
        )
        reporter = self.reporter = self._reporter(facts, host, await self._handlers())
        node = await reporter.register()
        self._supervisor.serve("lease", reporter.renew)
        network = await self._network(await self._pod_cidr(node))
        await self._start_pods(facts, network)
        await reporter.network_ready()
        self._supervisor.serve("status", reporter.report)
        self.ready = True
        log.info("node ready", node=settings.node_name)

    async def _handlers(self) -> list[str]:
        """What a RuntimeClass may name; an engine that is away is asked at the next start."""
        try:
            return await self._runtime.handlers()
        except RuntimeFailure:
            return [""]

    def _reporter(self, facts: NodeFacts, host: HostFacts, handlers: Sequence[str]) -> NodeReporter:
        settings = self._settings
        presented = NodeSettings(
            settings.agent_port,
            {**settings.kubelet.labels, **settings.labels},
            settings.directory,
            settings.volumes,
            taints=settings.kubelet.taints,
            address=settings.address,
            handlers=tuple(_handler(name) for name in handlers),
            features={"supplementalGroupsPolicy": True},
            simulated=settings.simulated,
        )
        return NodeReporter(facts, host, presented, self._client, self._runtime, self._clock, self._recorder)

    async def _images(self) -> Images:
        wanted, path = self._settings.kubelet.images, self._settings.directory / "pulled-images.json"
        records = PullRecords(
            None if self._settings.simulated else path, wanted.verify, wanted.verify_allowlist
        )
        await records.load()
        return Images(
            self._runtime,
            self._clock,
            self._supervisor,
            self._pulled,
            records=records,
            node_logins=partial(_node_logins, RegistryFile(self._settings.registries)),
            pulls_max=wanted.pulls_max,
        )

    async def _preload(self) -> Callable[[], Sequence[str]]:
        """Images from the node's own directory, here before any pod starts; returns what tells their names."""
        settings = self._settings
        if settings.images is None:
            return list
        found = Preloaded(settings.images, settings.directory / "preloaded.json", self._runtime, self._clock)
        await found.start()
        self._supervisor.serve("preloaded images", found.run)
        return found.names

    async def _start_pods(self, facts: NodeFacts, network: PodNetwork) -> None:
        settings = self._settings
        images = await self._images()
        prober = self._prober = Prober(
            self._runtime,
            self._clock,
            self._probed,
            self._probe_told,
            random.Random(),
            enabled=not settings.simulated,
            tally=self._tally,
        )
        context = Context(
            facts=facts,
            client=self._client,
            runtime=self._runtime,
            network=network,
            images=images,
            prober=prober,
            volumes=self._volumes(),
            fetch=self._fetch,
            services=self._services,
            recorder=self._recorder,
            clock=self._clock,
            supervisor=self._supervisor,
            before_stop=self._before_stop,
            meters=self.meters,
            containers=self._containers(),
        )
        context.admission.append(partial(_settings_refusal, context.containers))
        await self._start_devices(context)
        self.reporter.on_address = partial(_move, context)
        self._follow_shutdown(context)
        self.manager = await self._pods(context)
        if not settings.simulated:
            preloaded = await self._preload()
            self._housekeeping = Housekeeping(
                settings.kubelet,
                settings.directory,
                context,
                self.stats,
                self.reporter,
                self.workers,
                preloaded,
            )
            await self._housekeeping.start()
        await self.manager.start()

    def _follow_shutdown(self, context: Context) -> None:
        holder, stages = self._settings.holder, self._settings.stages
        if holder is None or not stages:
            return
        name = context.facts.name
        shutdown = Shutdown(name, stages, holder, self.reporter, self.workers, self._recorder, self._clock)
        context.admission.append(shutdown.refuse)
        self._supervisor.serve("shutdown", shutdown.run)

    async def _pods(self, context: Context) -> PodManager:
        """The manager of the API's pods and the node's own."""
        static = self._settings.static
        if static is None:
            return PodManager(context, self._feed)
        own = StaticPods(context.facts.name, static, self._feed, self._client, self._clock)
        context.client = own.client
        manager = PodManager(context, own)
        own.runs = lambda uid: manager.worker(uid) is not None
        await own.start(self._supervisor)
        return manager

    async def _start_devices(self, context: Context) -> None:
        """Take device plugins; a directory where that can't be done costs the devices, not the node."""
        directory = self._settings.device_plugins
        if directory is None:
            return
        devices = DeviceManager(directory, self._supervisor, self._holders, self._devices_changed)
        try:
            await devices.start()
        except OSError as error:
            log.warning("no device plugins", directory=str(directory), error=str(error))
            return
        self._devices = context.devices = devices
        context.admission.append(partial(_devices_refusal, devices))
        self.reporter.extended = devices.totals

    def _holders(self) -> set[str]:
        """Pods that keep their devices."""
        return {worker.uid for worker in self.workers() if not podspec.is_finished(worker.pod)}

    def _devices_changed(self, uids: Collection[str]) -> None:
        for uid in uids:
            if self.manager is not None and (worker := self.manager.worker(uid)):
                worker.wake()
        self._supervisor.spawn("devices", self.reporter.report_now())

    def _containers(self) -> ContainerSettings:
        dns = self._settings.dns
        if self._settings.simulated:
            return ContainerSettings(dns.domain)
        kubelet = self._settings.kubelet
        return containersettings.of_host(
            dns, self._settings.directory, kubelet.pod_pids_limit, kubelet.unsafe_sysctls
        )

    def workers(self) -> list[PodWorker]:
        """Of every pod on the node."""
        return self.manager.workers() if self.manager is not None else []

    def _volumes(self) -> PodVolumes:
        if self._settings.simulated:
            return NoVolumes()
        held = References(self._client, self._supervisor, self._clock, self._reference_changed)
        sources = Sources(self._fetch, held, Tokens(self._request_token, self._clock), self._clock)
        images = ImageVolumes(self._runtime)
        return Volumes(self._settings.directory / "pods", sources, self._settings.dns, images)

    async def stop(self) -> None:
        """Stop working; containers, links and mounts stay as they are."""
        self.ready = False
        self._feed.close()
        if self._devices is not None:
            await self._devices.close()
        await self._supervisor.stop()
        if self._housekeeping is not None:
            self._housekeeping.close()
        if self._prober is not None:
            await self._prober.close()

    async def _pod_cidr(self, node: Object) -> str:
        """The range that the node controller gives the node."""
        while not node["spec"].get("podCIDR"):
            await self._clock.sleep(CIDR_POLL_S)
            node = await self._client.get(NODES, self._settings.node_name)
        return str(node["spec"]["podCIDR"])

    async def _fetch(self, resource: Resource, namespace: str, name: str) -> Object:
        return await self._client.get(resource, name, namespace)

    async def _request_token(self, pod: Object, source: Object) -> Object:
        metadata = pod["metadata"]
        audience = source.get("audience")
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": source.get("expirationSeconds", 3600),
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"],
                },
            },
        }  # fmt: skip
        account = pod["spec"].get("serviceAccountName") or "default"
        return await self._client.create(
            SERVICEACCOUNTS, request, metadata["namespace"], subresource="token", name=account
        )

    def _reference_changed(self, uid: str) -> None:
        worker = self.manager.worker(uid) if self.manager is not None else None
        if worker is not None:
            worker.volumes_changed()

    def _pulled(self, uid: str) -> None:
        if self.manager is not None:
            self.manager.pulled(uid)

    def _probed(self, uid: str) -> None:
        if self.manager is not None:
            self.manager.probed(uid)

    def _tally(self, target: Target, kind: str, result: str) -> None:
        facts = target.container
        pod = (facts.pod_namespace, facts.pod_name, facts.pod_uid)
        self.meters.probed(result, kind, facts.name, pod)

    def _probe_told(self, target: Target, reason: str, message: str) -> None:
        worker = self.manager.worker(target.pod_uid) if self.manager is not None else None
        if worker is not None:
            self._recorder.event(worker.pod, "Warning", reason, message)


def _settings_refusal(settings: ContainerSettings, pod: Object) -> Rejection | None:
    found = admit.refusal(pod, settings.abilities)
    return Rejection(found.reason, found.message) if found is not None else None


def _handler(name: str) -> Object:
    """As the node's status gives it: neither engine maps users."""
    return {"name": name, "features": {"recursiveReadOnlyMounts": False, "userNamespaces": False}}


def _devices_refusal(devices: DeviceManager, pod: Object) -> Rejection | None:
    found = devices.refusal(pod)
    return Rejection(*found) if found is not None else None


async def _node_logins(file: RegistryFile, reference: str) -> list[Credential]:
    """The node's own login for an image's registry."""
    auth = (await asyncio.to_thread(file.read)).login(references.parse(reference).registry)
    return [Credential(auth)] if auth is not None else []


def _move(context: Context, address: str) -> None:
    """Pods' status names the node's new address from now on."""
    context.facts = replace(context.facts, ip=address)
