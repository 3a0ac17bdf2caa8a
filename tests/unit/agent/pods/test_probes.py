"""Probes against real servers on the loopback, their pace on a clock that stands still."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest

from orchestrator.agent.pods.checks import USER_AGENT, resolve_port
from orchestrator.agent.pods.plan import Probed
from orchestrator.agent.pods.probes import Prober, Target
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import ContainerSpec, SandboxSpec
from orchestrator.runtime.simulated import SimulatedRuntime
from tests.unit.agent.builders import Json, container, spec_of


class Web:
    """A tiny HTTP server: answers by path, keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self.port = 0
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            if self.silent:
                await asyncio.sleep(5)
            status, location = self.answers.get(head.split()[1], (404, ""))
            extra = f"Location: {location}\r\n" if location else ""
            body = "" if status == 204 else "Content-Length: 2\r\n\r\nok"
            writer.write(f"HTTP/1.1 {status} X\r\n{extra}{body or chr(13) + chr(10)}".encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Node:
    def __init__(self, clock: VirtualClock, runtime: SimulatedRuntime, target: Target) -> None:
        self.clock = clock
        self.runtime = runtime
        self.target = target
        self.changes: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.prober = Prober(runtime, clock, self.changes.append, self._told, random.Random(5))

    def _told(self, target: Target, reason: str, message: str) -> None:
        self.failures.append((message.split()[0].lower(), message))

    def watch(self, adopted: Probed | None = None, **probes: Json) -> None:
        spec = {**self.target.spec, **{f"{kind}Probe": probe for kind, probe in probes.items()}}
        self.prober.watch(replace(self.target, spec=spec), adopted)

    @property
    def verdict(self) -> Probed:
        return self.prober.verdicts([self.target.container.id])[self.target.container.id]

    async def until(self, condition: Callable[[], Any]) -> None:
        """The loop's sockets are real, so this waits on the real clock."""
        for _ in range(2500):
            if condition():
                return
            await asyncio.sleep(0.002)
        raise AssertionError("what was waited for did not happen")

    async def try_once(self, probe: Json) -> tuple[bool, str]:
        found = await self.prober._checker.check(
            self.target.container, self.target.spec, self.target.pod_ip, probe
        )
        return found.ok, found.text


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    made = Web()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    clock = VirtualClock()
    supervisor = Supervisor("t", clock)
    runtime = SimulatedRuntime(clock, supervisor)
    sandbox = await runtime.create_sandbox(SandboxSpec("u1", "web", "default", "web"))
    container_id = await runtime.create_container(
        ContainerSpec(sandbox.id, "u1", "web", "default", "app", 0, "demo:1")
    )
    await runtime.start_container(container_id)
    facts = await runtime.inspect_container(container_id)
    assert facts is not None
    made = Node(clock, runtime, Target("u1", "127.0.0.1", facts, spec_of("app")))
    yield made
    await made.prober.close()
    await supervisor.stop()


def get(port: int, path: str = "/ok", **more: Any) -> Json:
    return {"httpGet": {"port": port, "path": path, **more}}


GOOD, BAD = {"exec": {"command": ["true"]}}, {"exec": {"command": ["false"]}}


@pytest.mark.parametrize(
    ("status", "ok"),
    [(200, True), (204, True), (302, True), (399, True), (400, False), (404, False), (500, False)],
)
async def test_http_statuses(node: Node, web: Web, status: int, ok: bool) -> None:
    web.answers["/ok"] = (status, "")
    assert (await node.try_once(get(web.port)))[0] is ok


async def test_http_requests_look_like_the_kubelets(node: Node, web: Web) -> None:
    web.answers["/a?b=1"] = (200, "")
    headers = [{"name": "Host", "value": "example.com"}, {"name": "X-A", "value": "1"}]
    assert (await node.try_once(get(web.port, "a?b=1", httpHeaders=headers)))[0]
    assert f"User-Agent: {USER_AGENT}" in web.asked[0] and USER_AGENT == "kube-probe/1.36"
    assert "Host: example.com" in web.asked[0] and "X-A: 1" in web.asked[0]


async def test_redirects_on_the_same_host_are_followed_others_are_fine(node: Node, web: Web) -> None:
    web.answers = {
        "/a": (302, "/b"),
        "/b": (500, ""),
        "/away": (302, "http://example.invalid/"),
        "/loop": (302, "/loop"),
    }
    assert await node.try_once(get(web.port, "/a")) == (False, "HTTP probe failed with statuscode: 500")
    assert (await node.try_once(get(web.port, "/away")))[0]
    assert await node.try_once(get(web.port, "/loop")) == (
        False,
        f'Get "http://127.0.0.1:{web.port}/loop": stopped after 10 redirects',
    )


async def test_a_server_that_does_not_answer_is_unwell(node: Node, web: Web) -> None:
    web.silent = True
    assert await node.try_once({**get(web.port), "timeoutSeconds": 0.05}) == (
        False,
        f'Get "http://127.0.0.1:{web.port}/ok": '
        "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
    )


async def test_a_port_without_a_server(node: Node, web: Web) -> None:
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await node.try_once({"tcpSocket": {"port": port}}))[0]
    server.close()
    await server.wait_closed()
    ok, text = await node.try_once({"tcpSocket": {"port": port}})
    assert not ok and text == f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    ok, text = await node.try_once(get(port))
    assert (ok, text) == (
        False,
        f'Get "http://127.0.0.1:{port}/ok": dial tcp 127.0.0.1:{port}: connect: connection refused',
    )


async def test_commands(node: Node) -> None:
    assert (await node.try_once(GOOD))[0]
    assert not (await node.try_once(BAD))[0]
    assert await node.try_once({"exec": {"command": ["sh", "-c", "echo no; exit 3"]}}) == (False, "no\n")


@pytest.mark.parametrize(
    ("state", "ok", "text"),
    [
        (1, True, "service healthy"),
        (2, False, 'service unhealthy (responded with "NOT_SERVING")'),
        (0, False, 'service unhealthy (responded with "UNKNOWN")'),
    ],
)
async def test_grpc_health(node: Node, state: int, ok: bool, text: str) -> None:
    asked: list[bytes] = []

    async def answer(request: bytes, context: Any) -> bytes:
        asked.append(request)
        assert dict(context.invocation_metadata())["user-agent"].startswith("kube-probe/1.")
        return bytes([8, state]) if state else b""

    methods = {"Check": grpc.unary_unary_rpc_method_handler(answer)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await node.try_once({"grpc": {"port": port, "service": "a"}}) == (ok, text)
        assert asked == [b"\n\x01a"]
    finally:
        await server.stop(None)


async def test_grpc_without_a_server_or_without_the_health_protocol(node: Node) -> None:
    ok, text = await node.try_once({"grpc": {"port": 1}})
    assert not ok and text.startswith('timeout: failed to connect service "127.0.0.1:1" within 1s: ')
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        ok, text = await node.try_once({"grpc": {"port": port}})
        assert not ok and text.startswith("error: this server does not implement the grpc health protocol")
    finally:
        await server.stop(None)


async def test_a_redirect_away_is_a_warning_and_counts_as_success(node: Node, web: Web) -> None:
    web.answers = {"/ok": (302, "http://example.invalid/")}
    node.watch(readiness=get(web.port))
    await node.until(lambda: node.verdict.ready)
    assert node.failures[0][1] == "Readiness probe warning: Probe terminated redirects, Response body: ok"


async def test_a_check_that_cannot_be_carried_out_decides_nothing(node: Node) -> None:
    node.watch(liveness={"tcpSocket": {"port": "nameless"}, "failureThreshold": 1})
    await node.until(lambda: node.failures)
    await node.clock.advance(30)
    assert node.verdict == Probed()
    assert node.failures[0][1].startswith(
        "Liveness probe errored and resulted in unknown state: couldn't find"
    )


def test_ports_by_number_and_name() -> None:
    spec = spec_of("app", ports=[{"name": "http", "containerPort": 8080}])
    assert (resolve_port(spec, 80), resolve_port(spec, "http"), resolve_port(spec, "81")) == (80, 8080, 81)
    with pytest.raises(ValueError, match="couldn't find port"):
        resolve_port(spec, "none")


async def test_without_probes_nothing_runs(node: Node) -> None:
    node.watch()
    assert node.prober.verdicts([node.target.container.id]) == {}


async def test_readiness_waits_for_its_delay_and_successes(node: Node) -> None:
    node.watch(readiness={**GOOD, "initialDelaySeconds": 5, "periodSeconds": 2, "successThreshold": 3})
    assert node.verdict == Probed(started=True, ready=False)
    await node.clock.advance(8)
    assert not node.verdict.ready
    await node.clock.advance(2)
    assert node.verdict.ready and node.changes == ["u1"]


async def test_the_delay_counts_from_the_containers_start(node: Node) -> None:
    await node.clock.advance(100)
    node.watch(readiness={**GOOD, "initialDelaySeconds": 30})
    await node.clock.advance(0)
    assert node.verdict.ready


async def test_liveness_gives_up_after_its_failures(node: Node) -> None:
    node.watch(liveness={**BAD, "periodSeconds": 10, "failureThreshold": 3})
    await node.clock.advance(19)
    assert node.verdict == Probed() and len(node.failures) == 2
    await node.clock.advance(1)
    assert node.verdict.failed == "liveness"


async def test_a_startup_probe_holds_the_others_back(node: Node, web: Web) -> None:
    node.watch(startup=get(web.port), liveness={**BAD, "failureThreshold": 1}, readiness=GOOD)
    assert node.verdict == Probed(started=False, ready=False)
    await node.until(lambda: node.failures)
    assert {kind for kind, _ in node.failures} == {"startup"}
    web.answers["/ok"] = (200, "")
    await node.clock.advance(10)
    await node.until(lambda: node.verdict.started)
    await node.clock.advance(0)
    assert node.verdict.ready and "liveness" in node.verdict.failed


async def test_an_adopted_verdict_goes_on_from_where_it_was(node: Node) -> None:
    node.watch(Probed(started=True, ready=True), startup=BAD, readiness={**BAD, "periodSeconds": 5})
    await node.clock.advance(9)
    assert node.verdict == Probed() and node.changes == []
    # The first check of what was adopted comes at any time within a period.
    await node.clock.advance(6)
    assert not node.verdict.ready
    assert {kind for kind, _ in node.failures} == {"readiness"}


async def test_a_container_that_is_to_stop_is_asked_for_readiness_only(node: Node) -> None:
    node.watch(
        liveness={**BAD, "failureThreshold": 1, "initialDelaySeconds": 1},
        readiness={**GOOD, "periodSeconds": 2},
    )
    node.prober.ease(node.target.container.id)
    await node.clock.advance(5)
    assert node.verdict == Probed() and node.failures == []


async def test_a_forgotten_container_is_not_asked_again(node: Node) -> None:
    node.watch(readiness={**BAD, "periodSeconds": 1})
    await node.clock.advance(0)
    asked = len(node.failures)
    await node.prober.forget(node.target.container.id)
    await node.prober.forget("unknown")
    await node.clock.advance(10)
    assert len(node.failures) == asked
    assert node.prober.verdicts([container("app").id]) == {}
