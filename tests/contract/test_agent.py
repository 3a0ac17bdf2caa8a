"""The agent's API as the API server meets it: a real TLS listener, client certificates, a simulated engine."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from orchestrator.agent.api.routes import AgentApi
from orchestrator.auth.authenticator import certificate_identity
from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.pki.authority import Authority, CertificateSpec
from orchestrator.pki.tls import client_context, server_context
from orchestrator.store.engine import LogStore
from orchestrator.web.listener import Listener
from tests.unit.agent.conftest import World, container

CALLER = "kube-apiserver-kubelet-client"
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3


class Node:
    """An agent behind its listener, and clients for it."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.authority = Authority(directory / "pki", SystemClock())
        self.api = AgentApi(world.clock, certificate_identity, CALLER)
        self.sessions: list[aiohttp.ClientSession] = []
        self.port = 0
        self._listener: Listener | None = None

    async def begin(self) -> None:
        spec = CertificateSpec("system:node:n1", ("system:nodes",), ("127.0.0.1",), ("server", "client"))
        pair, _ = self.authority.ensure("agent", spec)
        context = server_context(pair, self.authority.pair.certificate)
        self._listener = Listener(self.api.handle, "127.0.0.1", 0, context)
        self.port = await self._listener.start()

    async def serve(self) -> None:
        self.api.serve(await self.world.agent())

    def client(self, name: str = CALLER) -> aiohttp.ClientSession:
        """One that shows a certificate of the cluster's CA for `name`; none when that is empty."""
        pair = self.authority.ensure(f"client-{name}", CertificateSpec(name))[0] if name else None
        return self._session(client_context(self.authority.pair.certificate, pair))

    def _session(self, context: ssl.SSLContext) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        session = aiohttp.ClientSession(f"https://127.0.0.1:{self.port}", connector=connector)
        self.sessions.append(session)
        return session

    def stranger(self, directory: Path) -> aiohttp.ClientSession:
        """A client with a certificate of another CA that names the right caller."""
        pair, _ = Authority(directory, SystemClock()).ensure("c", CertificateSpec(CALLER))
        return self._session(client_context(self.authority.pair.certificate, pair))

    async def get(self, path: str, **query: str) -> tuple[int, bytes]:
        async with self.client().get(path, params=query) as response:
            return response.status, await response.read()

    async def close(self) -> None:
        for session in self.sessions:
            await session.close()
        if self._listener is not None:
            await self._listener.close(0.1)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    clock = VirtualClock(SystemClock().now_s())
    supervisor = Supervisor("store", clock)
    store = await LogStore.open(tmp_path / "store", clock, supervisor)
    world = World(tmp_path, store, clock)
    await world.begin()
    made = Node(world, tmp_path)
    await made.begin()
    yield made
    await made.close()
    await world.close()
    await store.close()
    await supervisor.stop()


async def talks(node: Node, *command: str, name: str = "web", **spec: Any) -> None:
    """A pod whose container has said what it says."""
    await node.serve()
    await node.world.create(name, container("app", *command), **spec)


async def phase(node: Node, name: str, wanted: str) -> None:
    async def reached() -> bool:
        return (await node.world.status(name)).get("phase") == wanted

    await node.world.until(reached)


@pytest.mark.parametrize(("name", "status"), [("", 401), ("anna", 403), ("system:node:n1", 403)])
async def test_only_the_api_server_may_call(node: Node, name: str, status: int) -> None:
    await node.serve()
    async with node.client(name).get("/pods") as response:
        body = await response.json()
    assert (response.status, body["kind"], body["code"]) == (status, "Status", status)


async def test_a_certificate_of_another_ca_does_not_get_through(node: Node, tmp_path: Path) -> None:
    await node.serve()
    with pytest.raises((aiohttp.ClientError, OSError)):
        await node.stranger(tmp_path / "other").get("/pods")


async def test_health_is_for_everybody(node: Node) -> None:
    async with node.client("").get("/healthz") as response:
        assert (response.status, await response.text()) == (200, "ok")


async def test_an_agent_that_starts_says_so(node: Node) -> None:
    status, body = await node.get("/pods")
    assert status == 503 and b"starting" in body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/nothing", 404),
        ("/exec/default/web", 404),
        ("/containerLogs/default/none/app", 404),
        ("/exec/default/none/app", 404),
        ("/exec/default/web/app", 400),
        ("/portForward/default/none", 404),
    ],
)
async def test_what_is_not_there_is_refused_with_a_status(node: Node, path: str, status: int) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    found, body = await node.get(path)
    assert (found, msgspec.json.decode(body)["code"]) == (status, status)


async def test_the_pods_of_the_node(node: Node) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    status, body = await node.get("/pods")
    (only,) = msgspec.json.decode(body)["items"]
    assert (status, only["metadata"]["name"], only["status"]["phase"]) == (200, "web", "Running")


SAYS = ("sh", "-c", "echo one; echo two >&2; echo three")


async def test_logs_whole_tail_stream_and_limit(node: Node) -> None:
    await talks(node, *SAYS, restartPolicy="Never")
    await phase(node, "web", "Succeeded")
    path = "/containerLogs/default/web/app"
    assert await node.get(path) == (200, b"one\ntwo\nthree\n")
    assert await node.get(path, tailLines="1") == (200, b"three\n")
    assert await node.get(path, tailLines="0") == (200, b"")
    assert await node.get(path, stream="Stderr") == (200, b"two\n")
    assert await node.get(path, limitBytes="6") == (200, b"one\ntw")
    stamped = (await node.get(path, timestamps="true"))[1].splitlines()
    assert all(line.split(b" ")[0].endswith(b"Z") for line in stamped) and len(stamped) == 3


@pytest.mark.parametrize(
    "query", [{"tailLines": "x"}, {"sinceSeconds": "x"}, {"sinceTime": "yesterday"}, {"limitBytes": "x"}]
)
async def test_bad_log_options_are_named(node: Node, query: dict[str, str]) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    status, body = await node.get("/containerLogs/default/web/app", **query)
    assert status == 400 and b"log options" in body


async def test_logs_of_the_incarnation_before(node: Node) -> None:
    await talks(node, "sh", "-c", "echo bye; sleep 3; exit 1")
    await phase(node, "web", "Running")
    path = "/containerLogs/default/web/app"
    status, body = await node.get(path, previous="true")
    assert status == 404 and b"previous terminated container" in body

    async def restarted() -> bool:
        return int((await node.world.state("web")).get("restartCount", 0)) == 1

    await node.world.pass_until(restarted)
    assert await node.get(path, previous="true") == (200, b"bye\n")


async def test_logs_of_a_container_that_waits_say_so(node: Node) -> None:
    node.world.runtime._missing.add("absent:1")
    await node.serve()
    await node.world.create("web", {**container("app"), "image": "absent:1", "imagePullPolicy": "Never"})
    await phase(node, "web", "Pending")

    async def waits() -> bool:
        return bool(await node.world.state("web"))

    await node.world.until(waits)
    status, body = await node.get("/containerLogs/default/web/app")
    assert status == 400 and b"is waiting to start" in body


async def test_followed_logs_come_as_they_are_written(node: Node) -> None:
    await talks(node, "sh", "-c", "echo early; sleep 5; echo late", restartPolicy="Never")
    await phase(node, "web", "Running")
    async with node.client().get("/containerLogs/default/web/app", params={"follow": "true"}) as response:
        async with asyncio.timeout(5):
            assert await response.content.readline() == b"early\n"
            await node.world.clock.advance(6)
            assert await response.content.readline() == b"late\n"
            assert await response.content.read() == b""


async def run(node: Node, *command: str, stdin: bytes = b"", **flags: str) -> tuple[dict[int, bytes], Any]:
    """A command over the WebSocket protocol: output by channel, and the final status."""
    query = [("command", word) for word in command]
    query += [("output", "1"), ("error", "1"), *flags.items(), *([("input", "1")] if stdin else [])]
    output: dict[int, bytes] = {}
    async with node.client().ws_connect(
        "/exec/default/web/app", params=query, protocols=("v5.channel.k8s.io",)
    ) as channel:
        if stdin:
            await channel.send_bytes(bytes([STDIN]) + stdin)
            await channel.send_bytes(bytes([255, STDIN]))
        async with asyncio.timeout(10):
            async for message in channel:
                output[message.data[0]] = output.get(message.data[0], b"") + message.data[1:]
    return output, msgspec.json.decode(output.pop(STATUS))


async def test_exec_carries_output_and_exit_code(node: Node) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    output, status = await run(node, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert {channel: data for channel, data in output.items() if data} == {STDOUT: b"out\n", STDERR: b"err\n"}
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"][0]["message"] == "3"


async def test_exec_reads_its_input_to_the_end(node: Node) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    output, status = await run(node, "cat", stdin=b"through and back")
    assert output[STDOUT] == b"through and back" and status["status"] == "Success"


async def test_exec_goes_to_the_pod_that_has_the_name_now(node: Node) -> None:
    """One that was deleted by force may still be ending beside it."""
    await talks(node)
    await phase(node, "web", "Running")
    old = node.world.containers(await node.world.pod("web"))
    await node.world.delete("web", grace_s=0)
    await node.world.create("web", container("app"))
    await phase(node, "web", "Running")
    output, status = await run(node, "echo", "new")
    assert (output[STDOUT], status["status"]) == (b"new\n", "Success")
    assert old[0].id != node.world.containers(await node.world.pod("web"))[0].id
