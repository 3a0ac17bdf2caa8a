"""Exec and port-forward as real kubectls speak them: SPDY at first, WebSocket for exec from 1.30 on and for
port-forward from 1.31 on.

A throwaway server answers what kubectl asks before, the protocols are ours and the container is simulated.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import ContainerSpec, SandboxSpec
from orchestrator.runtime.simulated import SimulatedRuntime
from orchestrator.web.streams.portforward import serve_port_forward
from orchestrator.web.streams.serve import serve_remote_command

POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "web", "namespace": "default", "uid": "1"},
    "spec": {"containers": [{"name": "main", "image": "busybox"}], "nodeName": "n"},
    "status": {"phase": "Running"},
}
VERBS = ["create", "get", "list"]
RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": VERBS},
        {
            "name": "services",
            "singularName": "service",
            "namespaced": True,
            "kind": "Service",
            "verbs": VERBS,
        },
    ],
}
ANSWERS: dict[str, object] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": RESOURCES,
    "/api/v1/namespaces/default/pods/web": POD,
}


def kubectls() -> list[Path]:
    """The kubectl on PATH and those of other versions beside it."""
    found = shutil.which("kubectl")
    if found is None:
        return []
    binary = Path(os.path.realpath(found))
    return sorted(binary.parent.glob("kubectl.1.*")) or [binary]


pytestmark = pytest.mark.skipif(not kubectls(), reason="no kubectl on PATH")


@pytest.fixture(params=kubectls(), ids=lambda path: path.name)
def kubectl(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


class Server:
    """One pod with one container, behind the paths that kubectl uses."""

    def __init__(self, runtime: SimulatedRuntime, container_id: str, echo_port: int) -> None:
        self.runtime = runtime
        self.container_id = container_id
        self.echo_port = echo_port
        self.upgrades: list[str] = []
        self.url = ""
        self.exec_ended = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/exec"):
            self.upgrades.append(request.headers.get("Upgrade", "").lower())
            return await self._exec(request)
        if request.path.endswith("/portforward"):
            self.upgrades.append(request.headers.get("Upgrade", "").lower())
            return await serve_port_forward(request, self._connect)
        answer = ANSWERS.get(request.path)
        return web.json_response(answer) if answer else web.json_response({"kind": "Status"}, status=404)

    async def _exec(self, request: web.BaseRequest) -> web.StreamResponse:
        flags = {
            name: request.query.get(name) in ("true", "1") for name in ("stdin", "stdout", "stderr", "tty")
        }
        command = request.query.getall("command")

        async def open_process():  # type: ignore[no-untyped-def]
            return await self.runtime.exec(self.container_id, command, stdin=flags["stdin"], tty=flags["tty"])

        try:
            return await serve_remote_command(request, open_process, **flags)
        finally:
            self.exec_ended.set()

    async def _connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if port != 80:
            raise ConnectionRefusedError(f"nothing listens on {port}")
        return await asyncio.open_connection("127.0.0.1", self.echo_port)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    supervisor = Supervisor("test")
    runtime = SimulatedRuntime(SystemClock(), supervisor)
    sandbox = await runtime.create_sandbox(SandboxSpec("1", "web", "default", "web"))
    spec = ContainerSpec(sandbox.id, "1", "web", "default", "main", 0, "busybox")
    container_id = await runtime.create_container(spec)
    await runtime.start_container(container_id)
    echo_server = await asyncio.start_server(echo, "127.0.0.1", 0)
    server = Server(runtime, container_id, echo_server.sockets[0].getsockname()[1])
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()
    echo_server.close()
    await echo_server.wait_closed()
    await supervisor.stop()


class Client:
    """A kubectl of one version, pointed at the server."""

    def __init__(self, path: Path, server: Server, home: Path) -> None:
        self.path = path
        self.minor = int(match.group(1)) if (match := re.search(r"1\.(\d+)$", path.name)) else 99
        self._arguments = ["--server", server.url, "--cache-dir", str(home / "cache"), "-n", "default"]
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"], "KUBECONFIG": "/dev/null"}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self.path,
            *self._arguments,
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, stdin: bytes = b"") -> tuple[int | None, bytes, bytes]:
        process = await self.start(*arguments)
        async with asyncio.timeout(30):
            output, errors = await process.communicate(stdin)
        return process.returncode, output, errors


@pytest.fixture
def client(kubectl: Path, server: Server, tmp_path: Path) -> Client:
    return Client(kubectl, server, tmp_path)


async def test_exec_carries_output_errors_and_exit_code(client: Client, server: Server) -> None:
    code, output, errors = await client.run(
        "exec", "web", "--", "sh", "-c", "echo to stdout; echo to stderr >&2; exit 7"
    )
    assert output == b"to stdout\n"
    assert errors.startswith(b"to stderr\n") and b"exit code 7" in errors
    assert code == 7
    assert server.upgrades[-1] == ("websocket" if client.minor >= 30 else "spdy/3.1")


async def test_exec_that_succeeds_says_nothing_more(client: Client) -> None:
    assert await client.run("exec", "web", "--", "echo", "fine") == (0, b"fine\n", b"")


async def test_exec_reads_stdin_to_its_end(client: Client) -> None:
    data = b"".join(b"line %d\n" % number for number in range(20_000))
    assert await client.run("exec", "-i", "web", "--", "cat", stdin=data) == (0, data, b"")


async def test_exec_in_a_container_that_ended_says_why(client: Client, server: Server) -> None:
    await server.runtime.stop_container(server.container_id, 0)
    code, _, errors = await client.run("exec", "web", "--", "true")
    assert code == 1 and b"is not running" in errors


async def test_exec_ends_its_process_side_when_the_client_goes(client: Client, server: Server) -> None:
    process = await client.start("exec", "-i", "web", "--", "sh", "-c", "echo ready; sleep infinity")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"ready\n"
    process.kill()
    await process.communicate()
    async with asyncio.timeout(10):
        await server.exec_ended.wait()


@asynccontextmanager
async def forwarding(client: Client, port: int) -> AsyncIterator[int]:
    """kubectl port-forward to the pod's port; gives the local port."""
    process = await client.start("port-forward", "pod/web", f":{port}")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        yield int(line.split(b"127.0.0.1:")[1].split()[0])
    finally:
        process.terminate()
        await process.communicate()


async def exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
    writer.close()
    return answer


async def test_port_forward_carries_many_connections(client: Client) -> None:
    data = os.urandom(300_000)
    async with forwarding(client, 80) as port:
        assert await exchange(port, data) == data
        answers = await asyncio.gather(*(exchange(port, b"hello %d" % number) for number in range(8)))
    assert answers == [b"hello %d" % number for number in range(8)]


async def test_port_forward_to_a_closed_port_tells_kubectl(client: Client) -> None:
    process = await client.start("port-forward", "pod/web", ":81")
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(30):
        line = await process.stdout.readline()
        port = int(line.split(b"127.0.0.1:")[1].split()[0])
        assert await exchange(port, b"") == b""
        errors = await process.stderr.readline()
    if process.returncode is None:
        process.terminate()
    await process.communicate()
    assert b"nothing listens on 81" in errors
