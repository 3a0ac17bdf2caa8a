import asyncio
import ipaddress
import random

import pytest

from orchestrator.api.access import component
from orchestrator.api.resources import NODES
from orchestrator.client.local import LocalClient
from orchestrator.controllers.nodeipam import NodeIpamController, Pool
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue


class AllowAll:
    async def authorize(self, identity, attributes):
        return None


@pytest.mark.parametrize(
    ("cidr", "count", "first"),
    [
        ("10.42.0.0/16", 256, "10.42.0.0/24"),
        ("10.42.0.0/22", 4, "10.42.0.0/24"),
        ("10.42.0.0/26", 2, "10.42.0.0/27"),
        ("fd00::/56", 256, "fd00::/64"),
    ],
)
def test_the_size_of_blocks(cidr, count, first):
    pool = Pool(cidr)
    assert (pool.count, pool.take("a")) == (count, first)


def test_blocks_are_never_handed_out_twice_and_come_back():
    rng, pool, held = random.Random(2), Pool("10.42.0.0/20"), {}
    for number in range(500):
        if held and rng.random() < 0.45:
            uid = rng.choice(sorted(held))
            pool.give_back(uid)
            del held[uid]
            continue
        block = pool.take(str(number))
        if block is None:
            assert len(held) == pool.count
        else:
            assert block not in held.values()
            held[str(number)] = block


def test_a_block_that_was_just_freed_is_not_used_again_at_once():
    pool = Pool("10.42.0.0/22")
    first = pool.take("a")
    pool.give_back("a")
    assert pool.take("b") != first


def test_a_larger_range_of_a_node_takes_every_block_it_covers():
    pool = Pool("10.42.0.0/22")
    pool.occupy("big", "10.42.0.0/23")
    pool.occupy("stranger", "192.168.0.0/24")
    assert {pool.take("a"), pool.take("b"), pool.take("c")} == {"10.42.2.0/24", "10.42.3.0/24", None}
    pool.give_back("big")
    assert pool.take("c") == "10.42.0.0/24"


async def test_nodes_get_ranges_that_do_not_overlap_and_keep_what_they_brought(cluster):
    await cluster.node("own", podCIDR="10.42.1.0/24")
    await cluster.start(
        NodeIpamController(cluster.client, cluster.clock, cluster.recorder, "10.42.0.0/21"), kubelet=False
    )
    await asyncio.gather(*(cluster.node(f"n{number}") for number in range(9)))
    await cluster.settle()
    nodes = await cluster.list(NODES, None)
    blocks = [n["spec"]["podCIDR"] for n in nodes if n["spec"].get("podCIDR")]
    assert len(blocks) == 8  # of the ten nodes, as the range has eight blocks
    networks = [ipaddress.ip_network(block) for block in blocks]
    assert len(list(ipaddress.collapse_addresses(networks))) == 1
    assert len(await cluster.events("CIDRNotAvailable")) == 2
    await cluster.client.delete(NODES, "own")
    await cluster.advance(35.0)
    left = [n for n in await cluster.list(NODES, None) if not n["spec"].get("podCIDR")]
    assert len(left) == 1


class Cut(LocalClient):
    """A client whose watches bring nothing: the cache stays at what it listed."""

    async def watch(self, resource, namespace=None, options=None):
        await asyncio.Event().wait()
        yield []


async def test_a_range_that_a_predecessor_handed_out_unseen_is_not_handed_out_again(cluster):
    await cluster.node("n1")
    await cluster.node("n2")
    blind = Cut(cluster.registry, AllowAll(), component("kube-controller-manager"))
    informers = Informers(blind, cluster.supervisor, cluster.clock, resync_s=0, rng=random.Random(1))
    controller = NodeIpamController(cluster.client, cluster.clock, cluster.recorder, "10.42.0.0/22")
    controller.setup(informers, WorkQueue("nodeipam", cluster.supervisor, cluster.clock))
    informers.start()
    await informers.synced()
    await cluster.patch(NODES, "n1", {"spec": {"podCIDR": "10.42.0.0/24"}}, namespace="")
    await controller.reconcile("n2")
    nodes = {n["metadata"]["name"]: n["spec"]["podCIDR"] for n in await cluster.list(NODES, None)}
    assert nodes == {"n1": "10.42.0.0/24", "n2": "10.42.1.0/24"}
