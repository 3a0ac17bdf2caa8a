"""Pod network and Service rules with real packets.

Every scenario runs in a process of its own inside a fresh network namespace, which plays the host; pods and the world
outside are further namespaces. Nothing reaches the machine's own namespace, and all of it goes with the processes.
"""

# Blocking calls are meant: nobody else runs on these loops.
# ruff: noqa: ASYNC221

import asyncio
import collections
import concurrent.futures
import contextlib
import faulthandler
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback

import pytest

from orchestrator.network.dataplane import netns, sysctl
from orchestrator.network.dataplane.interface import Endpoint, ServicePort, ServiceRules
from orchestrator.network.dataplane.nft_renderer import NftRenderer
from orchestrator.network.dataplane.podnet import BridgePodNetwork

SCENARIO_DEADLINE_S = 60
PODS, NODE_PODS, SERVICES = "10.42.0.0/16", "10.42.0.0/24", "10.43.0.0/16"
HOST, WORLD = "192.0.2.2", "192.0.2.1"
PORT = 8080

SERVER = """
import socket, socketserver, sys, threading
name = sys.argv[1]
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(f"{name} {self.client_address[0]}".encode())
class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(f"{name} {self.client_address[0]}".encode(), self.client_address)
class Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128
servers = Threads(("0.0.0.0", 8080), Tcp), socketserver.ThreadingUDPServer(("0.0.0.0", 8080), Udp)
for server in servers:
    threading.Thread(target=server.serve_forever).start()
print("ready", flush=True)
"""


def shell(*commands):
    for command in commands:
        subprocess.run(command, shell=True, check=True, capture_output=True)


def fetch(address, port, protocol="tcp", source=("0.0.0.0", 0)):
    """(server's name, client address that it saw) or the name of the error."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(3)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(source)
        try:
            client.connect((address, port))
            if protocol == "udp":
                client.send(b"?")
            return tuple(client.recv(100).decode().split())
        except OSError as error:
            return type(error).__name__


class Pod:
    def __init__(self, name):
        self.name = name
        self.address = ""
        command = ["unshare", "--net", sys.executable, "-c", SERVER, name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.process.stdout.readline()
        self.netns = f"/proc/{self.process.pid}/ns/net"

    def run(self, work, *arguments):
        """Run `work` on a thread inside the pod's namespace."""

        def inside():
            descriptor = netns.open_namespace(self.netns)
            try:
                with netns.inside(descriptor):
                    return work(*arguments)
            finally:
                os.close(descriptor)

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(inside).result()

    def fetch(self, *arguments, **options):
        return self.run(lambda: fetch(*arguments, **options))

    def stop(self):
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


class Host:
    """The namespace that this process is in, with pod network and renderer, an outside world and some pods."""

    def __init__(self, state_dir):
        self.pods = []
        self.network = BridgePodNetwork("abc123", NODE_PODS, PODS, state_dir, service_cidr=SERVICES)
        self.renderer = NftRenderer("abc123", NODE_PODS)

    async def start(self, bridge_filter):
        shell("ip link set lo up")
        self.world = Pod("world")
        pid = self.world.process.pid
        shell(
            f"ip link add uplink type veth peer name eth0 netns {pid}",
            f"ip addr add {HOST}/24 dev uplink",
            "ip link set uplink up",
            f"nsenter --net={self.world.netns} sh -c 'ip link set lo up; ip link set eth0 up;"
            f" ip addr add {WORLD}/24 dev eth0; ip route add {SERVICES} via {HOST}'",
            f"ip route add default via {WORLD}",
        )
        if bridge_filter is not None and sysctl.read("bridge/bridge-nf-call-iptables") is not None:
            sysctl.write("bridge/bridge-nf-call-iptables", bridge_filter)
        await self.network.start()
        for number in range(3):
            await self.add_pod(f"pod{number}")

    async def add_pod(self, name):
        pod = Pod(name)
        self.pods.append(pod)
        pod.address = await self.network.attach(name, pod.netns)
        return pod

    async def serve(self, *ports):
        await self.renderer.apply(ServiceRules(ports, PODS, SERVICES, ()))

    def endpoints(self, *numbers):
        return tuple(sorted(Endpoint(self.pods[n].address, PORT) for n in numbers))

    async def stop(self):
        await self.renderer.remove()
        await self.network.remove()
        await self.network.close()
        for pod in [*self.pods, self.world]:
            pod.stop()


@contextlib.asynccontextmanager
async def host(bridge_filter=None):
    with tempfile.TemporaryDirectory() as folder:
        made = Host(pathlib.Path(folder))
        try:
            await made.start(bridge_filter)
            yield made
        finally:
            await made.stop()


def service(endpoints, name="default/web:http", address="10.43.0.80", protocol="tcp", **more):
    return ServicePort(name, protocol, (address,), 80, endpoints, **more)


async def pods_reach_each_other_without_translation(bridge_filter):
    async with host(bridge_filter) as h:
        first, second, _ = h.pods
        assert first.fetch(second.address, PORT) == ("pod1", first.address)
        assert fetch(first.address, PORT) == ("pod0", h.network.gateway)
        assert first.fetch(WORLD, PORT) == ("world", HOST)
        await h.network.ensure_local_address("10.43.0.10")
        await h.network.ensure_local_address("10.43.0.10")
        with socket.create_server(("10.43.0.10", 53)) as listener:
            for pod in (first, second):
                peer = pod.run(lambda: socket.create_connection(("10.43.0.10", 53), 3).close() or "connected")
                assert peer == "connected"
                listener.accept()[0].close()


async def a_service_spreads_over_its_endpoints(bridge_filter):
    async with host(bridge_filter) as h:
        await h.serve(service(h.endpoints(1, 2)))
        seen = collections.Counter(h.pods[0].fetch("10.43.0.80", 80) for _ in range(60))
        assert set(seen) == {("pod1", h.pods[0].address), ("pod2", h.pods[0].address)}, seen
        assert min(seen.values()) >= 10, seen
        assert {fetch("10.43.0.80", 80)[0] for _ in range(30)} == {"pod1", "pod2"}
        outside = {h.world.fetch("10.43.0.80", 80) for _ in range(30)}
        assert {name for name, _ in outside} == {"pod1", "pod2"}
        await h.serve(service(h.endpoints(0, 1, 2)))
        assert {fetch("10.43.0.80", 80)[0] for _ in range(60)} == {"pod0", "pod1", "pod2"}


async def a_pod_reaches_itself_through_its_service(bridge_filter):
    async with host(bridge_filter) as h:
        await h.serve(
            service(h.endpoints(0), node_port=30080), service(h.endpoints(0), "d/u", "10.43.0.81", "udp")
        )
        assert h.pods[0].fetch("10.43.0.80", 80) == ("pod0", h.network.gateway)
        assert h.pods[0].fetch("10.43.0.81", 80, "udp") == ("pod0", h.network.gateway)
        assert h.pods[0].fetch(HOST, 30080)[0] == "pod0"
        assert h.pods[1].fetch("10.43.0.80", 80) == ("pod0", h.pods[1].address)


async def a_node_port_answers_outside_inside_and_on_the_host(bridge_filter):
    async with host(bridge_filter) as h:
        await h.serve(service(h.endpoints(1, 2), node_port=30080))
        for place in (h.world.fetch, h.pods[0].fetch, fetch):
            assert {place(HOST, 30080)[0] for _ in range(30)} == {"pod1", "pod2"}
        assert h.pods[0].fetch(h.network.gateway, 30080)[0] in ("pod1", "pod2")


async def no_endpoints_is_refused_at_once(bridge_filter):
    async with host(bridge_filter) as h:
        await h.serve(
            service((), node_port=30080),
            service((), "d/u", "10.43.0.81", "udp"),
            service((), "d/x", "203.0.113.5"),
            service(h.endpoints(1), "d/ok", "10.43.0.82"),
        )
        for place in (h.pods[0].fetch, fetch, h.world.fetch):
            assert place("10.43.0.80", 80) == "ConnectionRefusedError"
            assert place("10.43.0.81", 80, "udp") in ("ConnectionRefusedError", "PermissionError")
            assert place("10.43.0.82", 81) == "ConnectionRefusedError"
            assert place(HOST, 30080) == "ConnectionRefusedError"
        assert h.pods[0].fetch("203.0.113.5", 80) == "ConnectionRefusedError"
        await h.serve(service(h.endpoints(1)))
        assert fetch("10.43.0.80", 80)[0] == "pod1"


async def a_client_sticks_to_its_endpoint(bridge_filter):
    async with host(bridge_filter) as h:
        sticky = service(h.endpoints(0, 1, 2), node_port=30080, affinity_s=60)
        await h.serve(sticky)
        for place in (h.pods[0].fetch, h.pods[1].fetch, fetch):
            assert len({place("10.43.0.80", 80)[0] for _ in range(20)}) == 1
        assert len({h.world.fetch(HOST, 30080)[0] for _ in range(20)}) == 1
        chosen = fetch("10.43.0.80", 80)[0]
        left = [n for n in range(3) if h.pods[n].name != chosen]
        await h.serve(service(h.endpoints(*left), node_port=30080, affinity_s=60))
        moved = {fetch("10.43.0.80", 80)[0] for _ in range(20)}
        assert len(moved) == 1 and chosen not in moved
        h.renderer = NftRenderer("abc123", NODE_PODS)
        await h.serve(sticky)
        assert {fetch("10.43.0.80", 80)[0] for _ in range(20)} == moved, "a restart forgot the clients"


async def a_udp_client_leaves_a_vanished_endpoint(bridge_filter):
    async with host(bridge_filter) as h:
        await h.serve(service(h.endpoints(1, 2), protocol="udp"))
        source = (h.pods[0].address, 5353)
        before = h.pods[0].fetch("10.43.0.80", 80, "udp", source=source)[0]
        assert {h.pods[0].fetch("10.43.0.80", 80, "udp", source=source)[0] for _ in range(5)} == {before}
        left = 1 if before == "pod2" else 2
        await h.serve(service(h.endpoints(left), protocol="udp"))
        assert h.pods[0].fetch("10.43.0.80", 80, "udp", source=source)[0] == h.pods[left].name


async def damaged_rules_are_noticed_and_restored(bridge_filter):
    async with host(bridge_filter) as h:
        rules = ServiceRules((service(h.endpoints(1)),), PODS, SERVICES, ())
        await h.renderer.apply(rules)
        shell("nft add table ip other")
        assert await h.renderer.check()
        for damage in (
            "nft flush ruleset",
            "nft flush chain ip orcabc123 dispatch",
            "nft delete element ip orcabc123 services '{ 10.43.0.80 . tcp . 80 }'",
            "nft delete table ip orcabc123",
        ):
            shell(damage)
            assert not await h.renderer.check(), damage
            await h.renderer.apply(rules)
            assert await h.renderer.check(), damage
            assert h.pods[0].fetch("10.43.0.80", 80)[0] == "pod1", damage


async def forwarding_works_beside_docker(bridge_filter):
    shell("iptables -N DOCKER-USER", "iptables -A FORWARD -j DOCKER-USER", "iptables -P FORWARD DROP")
    async with host(bridge_filter) as h:
        await h.serve(service(h.endpoints(1)))
        assert h.pods[0].fetch(h.pods[1].address, PORT)[0] == "pod1"
        assert h.pods[0].fetch("10.43.0.80", 80)[0] == "pod1"
        assert h.pods[0].fetch(WORLD, PORT) == ("world", HOST)
        shell("iptables -F DOCKER-USER", "nft delete table ip orcabc123pods")
        deadline = asyncio.get_running_loop().time() + 10
        while await asyncio.to_thread(h.pods[0].fetch, WORLD, PORT) != ("world", HOST):
            assert asyncio.get_running_loop().time() < deadline, "rules did not come back"
    assert "ORC-" not in subprocess.run(["iptables", "-S"], capture_output=True, text=True).stdout


async def descriptors_fall_to(count):
    """A netlink socket is closed by its own thread or callback, a moment after its last answer."""
    for _ in range(100):
        names = os.listdir("/proc/self/fd")
        if len(names) <= count:
            return
        await asyncio.sleep(0.05)
    open_files = []
    for name in names:
        with contextlib.suppress(OSError):
            open_files.append(os.readlink(f"/proc/self/fd/{name}"))
    raise AssertionError(f"{len(names)} descriptors instead of {count}: {sorted(open_files)}")


async def pods_are_adopted_and_nothing_stays_behind(bridge_filter):
    forwarding = sysctl.read("ipv4/ip_forward")
    with tempfile.TemporaryDirectory() as folder:
        state_dir = pathlib.Path(folder)
        h = Host(state_dir)
        await h.start(bridge_filter)
        before = [pod.address for pod in h.pods]
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await h.network.detach("pod2")
            assert await h.network.address("pod2") == ""
            h.pods[2].address = await h.network.attach("pod2", h.pods[2].netns)
        await descriptors_fall_to(descriptors)
        assert h.pods[2].address != before[2], "an address was used again at once"
        await h.network.close()
        h.network = BridgePodNetwork("abc123", NODE_PODS, PODS, state_dir, service_cidr=SERVICES)
        await h.network.start()
        assert await h.network.attach("pod0", h.pods[0].netns) == before[0]
        assert h.pods[0].fetch(h.pods[1].address, PORT)[0] == "pod1"
        await h.network.retain(["pod0", "pod1"])
        assert await h.network.address("pod2") == ""
        assert sorted(os.listdir(state_dir / "addresses")) == sorted(before[:2])
        shell("ip link del orcabc123v00002")
        assert await h.network.attach("pod0", h.pods[0].netns) == before[0]
        assert h.pods[0].fetch(h.pods[1].address, PORT)[0] == "pod1"
        shell("ip link del orcabc123br")
        await h.network.start()
        assert h.pods[0].fetch(h.pods[1].address, PORT)[0] == "pod1", "a bridge made anew has no ports"
        await h.stop()
        assert sysctl.read("ipv4/ip_forward") == forwarding
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert "orc" not in links
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "orc" not in tables


SCENARIOS = (
    pods_reach_each_other_without_translation,
    a_service_spreads_over_its_endpoints,
    a_pod_reaches_itself_through_its_service,
    a_node_port_answers_outside_inside_and_on_the_host,
    no_endpoints_is_refused_at_once,
    a_client_sticks_to_its_endpoint,
    a_udp_client_leaves_a_vanished_endpoint,
    damaged_rules_are_noticed_and_restored,
    forwarding_works_beside_docker,
    pods_are_adopted_and_nothing_stays_behind,
)


def missing():
    """Why these tests can't run here; empty when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    programs = [
        p for p in ("unshare", "nsenter", "ip", "nft", "iptables", "conntrack") if not shutil.which(p)
    ]
    return f"not installed: {', '.join(programs)}" if programs else ""


@pytest.mark.e2e
@pytest.mark.parametrize("bridge_filter", ["1", "0"], ids=["bridge-nf", "no-bridge-nf"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_network(scenario, bridge_filter):
    if reason := missing():
        # Where everything can be installed (CI), what is lacking is a fault.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    process = subprocess.Popen(
        ["unshare", "--net", sys.executable, __file__, scenario.__name__, bridge_filter],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
    )
    try:
        output, _ = process.communicate(timeout=SCENARIO_DEADLINE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output


if __name__ == "__main__":
    wanted = {scenario.__name__: scenario for scenario in SCENARIOS}[sys.argv[1]]
    faulthandler.dump_traceback_later(SCENARIO_DEADLINE_S - 10)
    try:
        asyncio.run(wanted(sys.argv[2]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os.killpg(0, signal.SIGKILL)  # Whoever reads our output waits for the processes of the pods, too.
    faulthandler.cancel_dump_traceback_later()
    assert threading.active_count() == 1, threading.enumerate()
