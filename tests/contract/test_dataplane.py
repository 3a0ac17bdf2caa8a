"""The contract of Service renderers and pod networks, against the real kernel in a namespace of the test's own.

A further renderer becomes a row of `RENDERERS` and has to pass the same tests.
"""

# Blocking calls are meant: nobody else runs on these loops.
# ruff: noqa: ASYNC221, ASYNC240

import asyncio
import concurrent.futures
import ctypes
import os
import pathlib
import shutil
import subprocess

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.network.dataplane.interface import Endpoint, NetworkError, ServicePort, ServiceRules
from orchestrator.network.dataplane.nft_renderer import NftRenderer
from orchestrator.network.dataplane.podnet import BridgePodNetwork
from orchestrator.network.dataplane.select import select_renderer

RENDERERS = {"nftables": NftRenderer}
CLONE_NEWNET = 0x40000000

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nftables"),
]


@pytest.fixture
def isolated():
    """Run a coroutine function in a fresh network namespace, on a thread that ends with it."""

    def run(work):
        def inside():
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            return asyncio.run(work())

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(inside).result(timeout=60)

    return run


@pytest.fixture(params=RENDERERS)
def make_renderer(request):
    return lambda: RENDERERS[request.param]("abc123", "10.42.0.0/24")


def port(name, count, **more):
    number = sum(map(ord, name)) % 200 + 1
    endpoints = tuple(Endpoint(f"10.42.0.{n + 2}", 8080) for n in range(count))
    return ServicePort(name, more.pop("protocol", "tcp"), (f"10.43.0.{number}",), 80, endpoints, **more)


def rules(*ports, nodes=()):
    return ServiceRules(ports, "10.42.0.0/16", "10.43.0.0/16", nodes)


STATES = (
    rules(),
    rules(port("d/a:", 2), port("d/b:", 0)),
    rules(port("d/a:", 3), port("d/b:", 1, node_port=30001, affinity_s=30)),
    rules(port("d/b:", 1, node_port=30001, affinity_s=60, protocol="udp"), port("d/c:", 17)),
    rules(port("d/b:", 0, node_port=30001), port("d/c:", 17), nodes=("192.0.2.2",)),
    rules(),
)


def test_every_state_can_follow_every_other(isolated, make_renderer):
    async def work():
        renderer = make_renderer()
        for first in STATES:
            for second in STATES:
                for state in (first, second, second):
                    await renderer.apply(state)
                    assert await renderer.check()

    isolated(work)


def test_a_new_process_takes_over_what_it_finds(isolated, make_renderer):
    async def work():
        await make_renderer().apply(STATES[2])
        successor = make_renderer()
        assert not await successor.check(), "nothing was applied by this one yet"
        await successor.apply(STATES[3])
        assert await successor.check()

    isolated(work)


def test_removing_leaves_nothing_and_may_be_repeated(isolated, make_renderer):
    async def work():
        renderer = make_renderer()
        await renderer.remove()
        await renderer.apply(STATES[1])
        await renderer.remove()
        await renderer.remove()
        assert not await renderer.check()
        left = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
        assert left.stdout == ""
        await renderer.apply(STATES[1])
        assert await renderer.check()

    isolated(work)


def test_changes_of_others_beside_us_are_no_alarm(isolated, make_renderer):
    async def work():
        renderer = make_renderer()
        await renderer.apply(STATES[2])
        subprocess.run(["nft", "add", "table", "ip", "other"], check=True)
        assert await renderer.check()

    isolated(work)


def test_two_instances_live_side_by_side(isolated):
    async def work():
        one, two = NftRenderer("aaaaaa", "10.42.0.0/24"), NftRenderer("bbbbbb", "10.44.0.0/24")
        await one.apply(STATES[1])
        await two.apply(STATES[2])
        await one.remove()
        assert await two.check()

    isolated(work)


def test_a_host_that_can_run_the_rules_is_recognised(isolated, monkeypatch):
    async def work():
        assert isinstance(await select_renderer("abc123", "10.42.0.0/24"), NftRenderer)
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        with pytest.raises(StartupError, match="nft is not installed"):
            await select_renderer("abc123", "10.42.0.0/24")

    isolated(work)


def make_network(folder, pod_cidr="10.42.0.0/24"):
    return BridgePodNetwork("abc123", pod_cidr, "10.42.0.0/16", folder, service_cidr="10.43.0.0/16")


def test_a_sandbox_that_can_not_be_reached_keeps_no_address(isolated, tmp_path: pathlib.Path):
    async def work():
        network = make_network(tmp_path)
        await network.start()
        with pytest.raises(NetworkError, match="/proc/self/nothing"):
            await network.attach("s", "/proc/self/nothing")
        with pytest.raises(NetworkError):
            await network.attach("s", "/dev/null")
        assert await network.address("s") == ""
        assert list((tmp_path / "addresses").iterdir()) == []
        await network.detach("s")
        await network.remove()
        await network.close()

    isolated(work)


def test_settings_of_the_host_come_back(isolated, tmp_path: pathlib.Path):
    async def work():
        network = make_network(tmp_path)
        forwarding = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
        forwarding.write_text("0")
        await network.start()
        assert forwarding.read_text().strip() == "1"
        again = make_network(tmp_path)
        await again.start()
        await again.close()
        await network.remove()
        await network.close()
        assert forwarding.read_text().strip() == "0"

    isolated(work)
