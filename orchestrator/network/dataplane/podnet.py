"""The built-in pod network of one node: a bridge, a veth pair per pod, routed and masqueraded by the host.

Pods have /32 addresses and send everything through the bridge's address, so that the host sees (and translates
back) every packet, also between two pods on it. Everything is named with the instance, may be made twice, and is
adopted after a restart. All netlink and address bookkeeping happens on one worker thread, which is also the owner
of the address pool; the event loop only waits for it.

Callers: the daemon builds it, the agent attaches and detaches pods.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from orchestrator.base.clock import Clock, SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.network.dataplane import netns, nfnetlink, nft, sysctl
from orchestrator.network.dataplane.forward import ForwardAcceptance
from orchestrator.network.dataplane.interface import NetworkError
from orchestrator.network.dataplane.ipam import AddressPool

if TYPE_CHECKING:
    from orchestrator.network.dataplane.links import HostLinks, PodLink

log = structlog.get_logger(__name__)

GUARD_PERIOD_S = 1.0
FORWARD_PERIOD_S = 15.0
INDEX_DIGITS = 5

T = TypeVar("T")


class BridgePodNetwork:
    """`PodNetwork` on a Linux bridge.

    `pod_cidr` is this node's range, `cluster_pod_cidr` that of all nodes; `state_dir` holds addresses in use and
    former kernel settings (the run directory, or a folder below it). An `mtu` of 0 takes that of the default route.
    """

    def __init__(
        self,
        instance: str,
        pod_cidr: str,
        cluster_pod_cidr: str,
        state_dir: Path,
        *,
        service_cidr: str,
        mtu: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.bridge = f"orc{instance}br"
        self.table = f"orc{instance}pods"
        self._instance = instance
        self._cluster_pod_cidr = cluster_pod_cidr
        self._service_cidr = service_cidr
        self._notes = state_dir / "sysctl"
        self._mtu = mtu
        self._clock = clock or SystemClock()
        self._pool = AddressPool(pod_cidr, state_dir / "addresses", self._clock.monotonic_s)
        self._forward = ForwardAcceptance(instance, pod_cidr)
        self._guard = nft.TableGuard(self.table)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="podnet")
        self._supervisor = Supervisor("podnet", self._clock)
        self._links: HostLinks | None = None
        self._bridge_index = 0
        self._local_addresses: set[str] = set()

    @property
    def gateway(self) -> str:
        """The bridge's address: the pods' default gateway."""
        return self._pool.gateway

    async def start(self) -> None:
        await self._call(self._prepare)
        await self._ensure_rules()
        self._supervisor.serve("guard", self._keep)

    async def attach(self, sandbox_id: str, netns_path: str) -> str:
        return await self._call(self._attach, sandbox_id, netns_path)

    async def detach(self, sandbox_id: str) -> None:
        await self._call(self._detach, sandbox_id)

    async def address(self, sandbox_id: str) -> str:
        found = await self._call(self._pool.find, sandbox_id)
        return found[0] if found else ""

    async def retain(self, sandbox_ids: Iterable[str]) -> None:
        await self._call(self._retain, tuple(sandbox_ids))

    async def ensure_local_address(self, address: str) -> None:
        """Let this node answer at `address` (the cluster DNS), for its pods and itself. Raises `NetworkError`."""
        await self._call(self._local_address, address)

    async def close(self) -> None:
        await self._supervisor.stop()
        await self._call(self._release_sockets)
        self._worker.shutdown()

    async def remove(self) -> None:
        """Undo everything on this host: links, tables, rules, settings. Pods lose their network."""
        await self._supervisor.stop()
        await self._forward.remove()
        self._guard.forget()
        await nft.delete_table(self.table)
        await self._call(self._remove_links)

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run `work` on the worker thread; what it began is finished even if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.shield(loop.run_in_executor(self._worker, work, *arguments))
        except netns.NamespaceLost as error:
            self._worker.shutdown(wait=False)
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="podnet")
            self._links = None
            raise NetworkError(f"{error}; using a new thread from now on.") from error

    async def _keep(self) -> None:
        """Put back what others removed: our table within a second, the labelled rules when Docker restarts."""
        seen, looked_s = -1, 0.0
        while True:
            await self._clock.sleep(GUARD_PERIOD_S)
            generation = nfnetlink.generation()
            due = self._clock.monotonic_s() - looked_s >= FORWARD_PERIOD_S
            if generation == seen and not due:
                continue
            if await self._ensure_rules():
                log.warning("pod network rules were missing and have been put back", instance=self._instance)
            await self._call(self._prepare)
            # The generation from before the look: what others changed meanwhile is looked at in the next round.
            seen, looked_s = generation, self._clock.monotonic_s()

    async def _ensure_rules(self) -> bool:
        """Whether anything was missing."""
        intact = await self._guard.intact()
        if not intact:
            script = masquerade_script(self.table, self._cluster_pod_cidr, self._service_cidr)
            if not await self._guard.commit(script):
                self._guard.forget()
        return await self._forward.ensure() or not intact

    # On the worker thread from here on.

    def _prepare(self) -> None:
        if self._links is None:
            self._links = _links().HostLinks()
            self._pool.load()
        sysctl.write_noted("ipv4/ip_forward", "1", self._notes)
        mac = _links().mac_of(self.gateway)
        self._mtu = self._mtu or self._links.uplink_mtu()
        index = self._links.ensure_bridge(self.bridge, mac, self._mtu)
        if index != self._bridge_index:
            for port in self._links.names(f"orc{self._instance}v").values():
                self._links.join(port, index)
        self._bridge_index = index
        # Redirects to pods would be wrong, and use up the kernel's budget for telling them that a port is closed.
        # A link sends them when it or `all` says so; the other links keep their own setting.
        sysctl.write_noted("ipv4/conf/all/send_redirects", "0", self._notes)
        sysctl.write(f"ipv4/conf/{self.bridge}/send_redirects", "0")
        self._links.ensure_address(self._bridge_index, self.gateway, self._pool.network.prefixlen)
        for address in self._local_addresses:
            self._links.ensure_address(index, address, 32, local=True)
        self._links.ensure_route(self._service_cidr, self._bridge_index, self.gateway)

    def _attach(self, sandbox_id: str, netns_path: str) -> str:
        namespace = netns.open_namespace(netns_path)
        try:
            known = self._pool.find(sandbox_id) is not None
            address, index = self._pool.assign(sandbox_id)
            try:
                self._connect(self._pod_link(address, index), namespace, known)
            except BaseException:
                self._detach(sandbox_id)
                raise
            return address
        finally:
            os.close(namespace)

    def _connect(self, pod: "PodLink", namespace: int, known: bool) -> None:
        """Make the pair; one that is left from before is kept if it works, else replaced."""
        links = self._host()
        if known and links.index(pod.host_name) and _links().is_configured(pod, namespace):
            return
        if known or not links.create_pair(pod, namespace):
            links.delete(pod.host_name)
            if not links.create_pair(pod, namespace):
                raise NetworkError(f"{pod.host_name} is being made by somebody else.")
        _links().configure_pod(pod, namespace)

    def _detach(self, sandbox_id: str) -> None:
        found = self._pool.find(sandbox_id)
        if found is not None:
            self._host().delete(self._link_name(found[1]))
            self._pool.release(sandbox_id)

    def _retain(self, sandbox_ids: tuple[str, ...]) -> None:
        for sandbox_id in self._pool.strangers(sandbox_ids):
            log.info("releasing the address of a pod that is gone", sandbox=sandbox_id)
            self._detach(sandbox_id)
        wanted = {self._link_name(index) for index in self._pool.owners().values()}
        for name in self._host().names(f"orc{self._instance}v"):
            if name not in wanted:
                self._host().delete(name)

    def _local_address(self, address: str) -> None:
        self._host().ensure_address(self._bridge_index, address, 32, local=True)
        self._local_addresses.add(address)

    def _remove_links(self) -> None:
        for name in self._host().names(f"orc{self._instance}"):
            self._host().delete(name)
        sysctl.restore(self._notes)

    def _release_sockets(self) -> None:
        if self._links is not None:
            self._links.close()
            self._links = None

    def _host(self) -> "HostLinks":
        if self._links is None:
            self._links = _links().HostLinks()
            self._pool.load()
        return self._links

    def _pod_link(self, address: str, index: int) -> "PodLink":
        if not self._bridge_index:
            raise NetworkError(f"the pod network {self.bridge} is not started.")
        name = self._link_name(index)
        pod: PodLink = _links().PodLink(name, address, self.gateway, self._bridge_index, self._mtu)
        return pod

    def _link_name(self, index: int) -> str:
        return f"orc{self._instance}v{index:0{INDEX_DIGITS}x}"


def masquerade_script(table: str, cluster_pod_cidr: str, service_cidr: str) -> str:
    """Rules for pods that talk to the world: they get the host's address only where the traffic leaves the cluster."""
    inside = f"{{ {cluster_pod_cidr}, {service_cidr}, 224.0.0.0/4 }}"
    return (
        f"add table ip {table}\n"
        f"delete table ip {table}\n"
        f"table ip {table} {{\n"
        f"  chain postrouting {{\n"
        f"    type nat hook postrouting priority 100; policy accept;\n"
        f"    ip saddr {cluster_pod_cidr} ip daddr != {inside} masquerade\n"
        f"  }}\n"
        f"}}\n"
    )


def _links() -> Any:
    """The links module, loaded when the first pod network is made: pyroute2 takes 10 MiB."""
    from orchestrator.network.dataplane import links

    return links
