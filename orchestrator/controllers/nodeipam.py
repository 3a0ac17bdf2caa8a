"""Node IPAM: every node gets a pod range of its own out of the cluster's.

1. A node without `spec.podCIDR` gets the next free block (a /24 out of a /16); blocks are handed out in a
   circle, so that the range of a node that just went is not used again at once.
2. A block is taken while a node has it, or while it was handed out and the cache does not show it yet. This
   controller is the only one that hands out, and works on one node at a time: no block twice. Its predecessor in
   another process may have handed out what the cache does not show yet: before its first decision it reads every
   node from the store.
3. A node that brought a range keeps it. When no block is left, an event on the node says so, and it is tried
   again when a node goes.
"""

import asyncio
import ipaddress

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import NODES
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue

RETRY_S = 30.0


class NodeIpamController:
    name = "nodeipam"
    watches = (NODES,)
    writes = (NODES,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, pod_cidr: str) -> None:
        self._client = client
        self._recorder = recorder
        self._pool = Pool(pod_cidr)
        self._turn = asyncio.Lock()
        self._knows_all = False

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._nodes = informers.of(NODES)
        self._nodes.on_change(self._node_changed)

    async def reconcile(self, key: str) -> float | None:
        async with self._turn:
            item = self._nodes.get(key)
            if item is None or item.meta.deletion_timestamp or pod_range(item.object):
                return None
            await self._know_all()
            block = self._pool.take(item.meta.uid)
            if block is None:
                text = f"Node {key} status is now: CIDRNotAvailable"
                self._recorder.event(item.object, "Normal", "CIDRNotAvailable", text)
                return RETRY_S
            patch = {
                "metadata": {"uid": item.meta.uid, "resourceVersion": str(item.revision)},
                "spec": {"podCIDR": block, "podCIDRs": [block]},
            }
            try:
                await self._client.patch(NODES, key, "", patch)
            except NotFound:
                self._pool.give_back(item.meta.uid)
            return None

    async def _know_all(self) -> None:
        """See rule 2. A node whose end the cache shows already is none of them."""
        if self._knows_all:
            return
        for item in (await self._client.list(NODES)).items:
            if block := pod_range(item.object):
                self._pool.occupy(item.meta.uid, block)
        self._knows_all = True

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        if old is not None and (new is None or new.meta.uid != old.meta.uid):
            self._pool.give_back(old.meta.uid)
        if new is None:
            return
        block = pod_range(new.object)
        if block:
            self._pool.occupy(new.meta.uid, block)
        else:
            self._queue.add(new.meta.name)


def pod_range(node: Object) -> str:
    """The node's pod range; empty without one."""
    return (node.get("spec") or {}).get("podCIDR") or ""


class Pool:
    """Equal blocks of one network, held by node uid. A uid that holds a block gets the same one again."""

    def __init__(self, pod_cidr: str, prefix: int = 0) -> None:
        """`prefix` of the blocks; 0 takes /24 (IPv4) or /64 (IPv6), or the half of a smaller network."""
        self._network = ipaddress.ip_network(pod_cidr)
        usual = 24 if self._network.version == 4 else 64
        self._prefix = prefix or max(usual, min(self._network.prefixlen + 1, self._network.max_prefixlen))
        self._size = 1 << (self._network.max_prefixlen - self._prefix)
        self.count = 1 << (self._prefix - self._network.prefixlen)
        self._held: dict[str, frozenset[int]] = {}
        self._users: dict[int, int] = {}
        self._next = 0

    def take(self, uid: str) -> str | None:
        """A free block for `uid`, or None when all are taken."""
        held = self._held.get(uid)
        if held:
            return self._block(min(held))
        for step in range(self.count):
            number = (self._next + step) % self.count
            if number not in self._users:
                self._next = (number + 1) % self.count
                self._hold(uid, frozenset((number,)))
                return self._block(number)
        return None

    def occupy(self, uid: str, block: str) -> None:
        """`uid` has `block`, however it got it; it may cover several of ours, or none."""
        network = ipaddress.ip_network(block, strict=False)
        self.give_back(uid)
        if network.version != self._network.version or not network.overlaps(self._network):
            return
        base = int(self._network.network_address)
        first = max(0, (int(network.network_address) - base) // self._size)
        last = min(self.count - 1, (int(network.broadcast_address) - base) // self._size)
        self._hold(uid, frozenset(range(first, last + 1)))

    def give_back(self, uid: str) -> None:
        """Free what `uid` holds; holding nothing is fine."""
        for number in self._held.pop(uid, ()):
            self._users[number] -= 1
            if not self._users[number]:
                del self._users[number]

    def _hold(self, uid: str, numbers: frozenset[int]) -> None:
        self._held[uid] = numbers
        for number in numbers:
            self._users[number] = self._users.get(number, 0) + 1

    def _block(self, number: int) -> str:
        return f"{self._network.network_address + number * self._size}/{self._prefix}"
