"""The agent's API as the API server meets it: a real TLS listener, client certificates, a simulated engine."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from orchestrator.agent.api.access import Gate
from orchestrator.agent.api.routes import AgentApi
from orchestrator.api.access import Attributes, Identity
from orchestrator.api.access import node as node_identity
from orchestrator.api.errors import Unauthorized
from orchestrator.api.item import Object
from orchestrator.api.resources import SUBJECTACCESSREVIEWS, TOKENREVIEWS, Resource
from orchestrator.auth.authenticator import certificate_identity
from orchestrator.auth.authorizer import AuthorizerChain
from orchestrator.auth.node import NodeAuthorizer
from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.local import LocalClient, Provider
from orchestrator.pki.authority import Authority, CertificateSpec
from orchestrator.pki.tls import client_context, server_context
from orchestrator.server.reviews import Reviews
from orchestrator.store.engine import LogStore
from orchestrator.web.listener import Listener
from tests.unit.agent.conftest import Nobody, World, container

CALLER = "kube-apiserver-kubelet-client"
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3


class Rules:
    """Instead of roles: which user may read which subresources of nodes."""

    def __init__(self) -> None:
        self.granted: dict[str, tuple[str, ...]] = {CALLER: ("*",)}
        self.asked: list[Attributes] = []

    def allows(self, identity: Identity, attributes: Attributes) -> bool:
        self.asked.append(attributes)
        granted = self.granted.get(identity.name, ())
        return attributes.resource == "nodes" and ("*" in granted or attributes.subresource in granted)


class Tokens:
    """One account's token is known."""

    async def identify(self, token: str, audiences: tuple[str, ...] = ()) -> tuple[Identity, tuple[str, ...]]:
        if token != "good":
            raise Unauthorized("Unauthorized")
        return Identity("system:serviceaccount:monitoring:prometheus", ("system:authenticated",)), ()


class Node:
    """An agent behind its listener, and clients for it."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.authority = Authority(directory / "pki", SystemClock())
        self.rules = Rules()
        authorizer = AuthorizerChain(NodeAuthorizer(Nobody()), self.rules)  # type: ignore[arg-type]
        reviews = Reviews(authorizer, Tokens(), world.registry)  # type: ignore[arg-type]

        def provider(resource: Resource) -> Provider:
            async def answer(namespace: str, name: str, obj: Object, identity: Identity) -> Object:
                return await reviews.answer(resource, obj, namespace, identity)

            return answer

        providers = {
            (each.group, each.plural, ""): provider(each) for each in (TOKENREVIEWS, SUBJECTACCESSREVIEWS)
        }
        client = LocalClient(world.registry, authorizer, node_identity("n1"), providers)
        gate = Gate("n1", client, certificate_identity, world.clock)
        self.logs = directory / "var-log"
        self.api = AgentApi(world.clock, gate, self.logs)
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
async def test_who_has_no_permission_may_not_call(node: Node, name: str, status: int) -> None:
    await node.serve()
    async with node.client(name).get("/pods") as response:
        text = await response.text()
    asked = f"Forbidden (user={name}, verb=get, resource=nodes, subresource(s)=[pods proxy])"
    assert (response.status, text) == (status, asked if name else "Unauthorized")


async def test_a_certificate_of_another_ca_does_not_get_through(node: Node, tmp_path: Path) -> None:
    await node.serve()
    with pytest.raises((aiohttp.ClientError, OSError)):
        await node.stranger(tmp_path / "other").get("/pods")


PERMISSIONS = (
    ("/pods", "pods", 200),
    ("/pods", "proxy", 200),
    ("/runningpods/", "pods", 200),
    ("/healthz", "healthz", 200),
    ("/healthz", "configz", 403),
    ("/configz", "configz", 200),
    ("/stats/summary", "stats", 200),
    ("/stats/summary", "proxy", 403),
    ("/metrics", "metrics", 200),
    ("/metrics/resource", "metrics", 200),
    ("/metrics/cadvisor", "metrics", 200),
    ("/metrics/probes", "metrics", 200),
    ("/metrics", "proxy", 403),
    ("/logs/", "log", 200),
    ("/logs/", "proxy", 403),
    ("/containerLogs/default/web/app", "pods", 403),
)


async def test_each_path_belongs_to_a_permission(node: Node) -> None:
    await node.serve()
    node.logs.mkdir()
    found = []
    for number, (path, granted, _) in enumerate(PERMISSIONS):
        node.rules.granted[f"scraper-{number}"] = (granted,)
        async with node.client(f"scraper-{number}").get(path) as response:
            found.append((path, granted, response.status))
    assert tuple(found) == PERMISSIONS


async def test_a_token_is_asked_about_once(node: Node) -> None:
    await node.serve()
    node.rules.granted["system:serviceaccount:monitoring:prometheus"] = ("metrics",)
    for token, status in (("good", 200), ("bad", 401), ("good", 200)):
        headers = {"Authorization": f"Bearer {token}"}
        async with node.client("").get("/metrics/resource", headers=headers) as response:
            assert response.status == status
    assert [each.name for each in node.rules.asked if each.subresource == "metrics"] == ["n1"]
    await node.world.clock.advance(301)
    async with node.client("").get("/metrics", headers={"Authorization": "Bearer good"}) as response:
        assert response.status == 200
    assert [each.name for each in node.rules.asked if each.subresource == "metrics"] == ["n1", "n1"]


async def test_health_and_its_checks(node: Node) -> None:
    await node.serve()
    all_well = b"[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"
    for path, text in (("", b"ok"), ("/ping", b"ok"), ("/syncloop", b"ok"), ("?verbose", all_well)):
        assert await node.get(f"/healthz{path}") == (200, text)
    assert (await node.get("/healthz/other"))[0] == 404


async def test_files_of_the_log_directory(node: Node, tmp_path: Path) -> None:
    await node.serve()
    (node.logs / "pods").mkdir(parents=True)
    (node.logs / "syslog").write_bytes(b"a line\n")
    (tmp_path / "secret").write_bytes(b"not for you")
    (node.logs / "link").symlink_to(tmp_path / "secret")
    assert await node.get("/logs/syslog") == (200, b"a line\n")
    status, page = await node.get("/logs/")
    assert status == 200 and b'<a href="pods/">pods/</a>' in page and b"syslog" in page
    for path in ("/logs/link", "/logs/%2e%2e/secret", "/logs/nothing"):
        assert (await node.get(path))[0] == 404
    node.api._node_logs = None
    assert await node.get("/logs/") == (405, b"logs endpoint is disabled.")


async def test_the_settings_in_force(node: Node) -> None:
    await node.serve()
    status, body = await node.get("/configz")
    found = msgspec.json.decode(body)["kubeletconfig"]
    assert (status, found["kind"], found["clusterDNS"]) == (200, "KubeletConfiguration", ["10.43.0.10"])


async def test_what_the_engine_runs(node: Node) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    status, body = await node.get("/runningpods/")
    (pod,) = msgspec.json.decode(body)["items"]
    assert (status, pod["metadata"]["name"], pod["spec"]["containers"][0]["name"]) == (200, "web", "app")


async def test_a_command_without_streams(node: Node) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    async with node.client().post("/run/default/web/app", params={"cmd": "echo hello"}) as response:
        assert (response.status, await response.read()) == (200, b"hello\n")
    async with node.client().post("/run/default/web/app", params={"cmd": "false"}) as response:
        assert response.status == 500 and b"exited with 1" in await response.read()


async def test_nothing_is_checkpointed(node: Node) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    for path, status in (("/checkpoint/default/web/app", 500), ("/checkpoint/default/web/none", 404)):
        async with node.client().post(path) as response:
            assert response.status == status
    assert (await node.get("/checkpoint/default/web/app"))[0] == 405


async def test_an_agent_that_starts_says_so(node: Node) -> None:
    status, body = await node.get("/pods")
    assert status == 503 and b"starting" in body


REFUSED = (
    ("/", 404),
    ("/nothing", 404),
    ("/exec/default/web", 404),
    ("/containerLogs/default/none/app", 404),
    ("/containerLogs/default/web/none", 404),
    ("/exec/default/web/no-such-uid/app?command=true", 404),
    ("/stats/container", 404),
    ("/metrics/other", 404),
    ("/exec/default/none/app", 404),
    ("/exec/default/web/app", 400),
    ("/portForward/default/none", 404),
)


async def test_what_is_not_there_is_refused(node: Node) -> None:
    await talks(node)
    await phase(node, "web", "Running")
    assert tuple([(path, (await node.get(path))[0]) for path, _ in REFUSED]) == REFUSED


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
    assert (status, body) == (400, b'previous terminated container "app" in pod "web" not found')

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
