"""A real etcd for tests: one member on loopback, with data, ports and certificates of its own."""

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
        self._directory = directory
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self.peer_port}"
        command = [
            "etcd",
            f"--data-dir={self._directory}/data",
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
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout


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
