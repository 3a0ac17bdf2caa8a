"""A real etcd for tests: one member on loopback, with data, ports and certificates of its own."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_DEADLINE_S = 40.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Etcd:
    """One process; `stop` and `start` keep its data and ports."""

    def __init__(self, directory: Path, *flags: str, scheme: str = "http") -> None:
        self.port, self.peer_port = free_port(), free_port()
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}"
        self.data = directory / "data"
        self._directory = directory
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self.peer_port}"
        command = [
            "etcd",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--heartbeat-interval=10",  # The shortest time to live of a lease follows from these two.
            "--election-timeout=100",
            "--logger=zap",
            *self._flags,
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        until_s = time.monotonic() + START_DEADLINE_S
        while b"ready to serve client requests" not in self._log.rpartition(b"starting an etcd server")[
            2
        ] and (b"serving client traffic" not in self._log.rpartition(b"starting an etcd server")[2]):
            if self._process.poll() is not None or time.monotonic() > until_s:
                pytest.fail(f"etcd does not start: {self._log[-2000:].decode()}")
            time.sleep(0.05)

    @property
    def _log(self) -> bytes:
        return (self._directory / "log").read_bytes()

    def kill(self) -> None:
        """As a crash does it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def ctl(self, *arguments: str) -> str:
        """`etcdctl`'s output."""
        done = subprocess.run(
            ["etcdctl", f"--endpoints={self.endpoint}", *arguments],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            timeout=30,
            check=True,
        )
        return done.stdout.decode(errors="replace")


def require_etcd() -> None:
    """Skip without etcd; with CI set, fail."""
    if shutil.which("etcd") is not None:
        return
    reason = "etcd is not installed (package etcd-server)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def etcd_running(*flags: str, scheme: str = "http") -> Iterator[Etcd]:
    """A new, empty etcd."""
    require_etcd()
    directory = Path(tempfile.mkdtemp(prefix="orc-etcd-"))
    etcd = Etcd(directory, *flags, scheme=scheme)
    try:
        etcd.start()
        yield etcd
    finally:
        etcd.kill()
        shutil.rmtree(directory, ignore_errors=True)


class Line:
    """A way to etcd that can be held up in one direction, or cut. Carries bytes, knows nothing of them."""

    def __init__(self, target_port: int) -> None:
        self.to_server, self.to_client = asyncio.Event(), asyncio.Event()
        self.port = 0
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_cut = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.mend()

    def mend(self) -> None:
        self._is_cut = False
        self.to_server.set()
        self.to_client.set()

    def cut(self) -> None:
        """End every connection; new ones end at once until `mend`."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        own = asyncio.current_task()
        while tasks := [task for task in self._tasks if not task.done() and task is not own]:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.cut()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        accepting = asyncio.current_task()
        assert accepting is not None
        self._tasks.add(accepting)
        if self._is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers.add(far_writer)
        for source, sink, gate in (
            (reader, far_writer, self.to_server),
            (far_reader, writer, self.to_client),
        ):
            self._tasks.add(asyncio.get_running_loop().create_task(self._carry(source, sink, gate)))

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await gate.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
