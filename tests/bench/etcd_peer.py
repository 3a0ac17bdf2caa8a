"""A real etcd beside the measured store: started on the same disk, loaded by nghttp2's `h2load`.

etcd's own load generator is in no Debian package; `h2load` speaks the same HTTP/2 frames from C, so that the
client takes as little of the machine as can be. Every request puts the same gRPC body: a key and 1 KB.
"""

import contextlib
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PUT = "/etcdserverpb.KV/Put"
STREAMS_MAX = 64
"""Requests in flight on one connection; more clients than that share several connections."""


def available() -> bool:
    """Whether both programs are on PATH."""
    return bool(shutil.which("etcd") and shutil.which("h2load"))


class EtcdPeer:
    """A running etcd with its data in one directory."""

    def __init__(self, directory: Path, version: str, port: int, pid: int) -> None:
        self.name = f"etcd {version}"
        self._directory = directory
        self._url = f"http://127.0.0.1:{port}"
        self._pid = pid

    @property
    def cpu_s(self) -> float:
        """CPU time that etcd has taken so far, without that of its clients."""
        spent = 0
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                spent += int((task / "schedstat").read_text().split()[0])
        return spent / 1e9

    def puts(self, clients: int, seconds: float, value: bytes) -> tuple[float, list[float]]:
        """Requests per second and the latency of each (s), by so many clients each one after the other."""
        connections = -(-clients // STREAMS_MAX)
        body, log = self._directory / "body", self._directory / "latencies"
        body.write_bytes(_put_body(b"/registry/bench/1", value))
        log.unlink(missing_ok=True)
        command = ["h2load", "-t", "1", "-c", str(connections), "-m", str(clients // connections)]
        command += ["-D", f"{seconds * 1000:.0f}ms", "-d", str(body), f"--log-file={log}", self._url + PUT]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        subprocess.run(command, check=True, capture_output=True, timeout=seconds + 30)
        lines = [line.split() for line in log.read_text().splitlines()]
        assert all(fields[1] == "200" for fields in lines), "etcd refused a put"
        return len(lines) / seconds, [int(fields[2]) / 1e6 for fields in lines]


@contextlib.contextmanager
def running(directory: Path) -> Iterator[EtcdPeer]:
    """Start etcd in `directory` on free loopback ports and stop it at the end."""
    directory.mkdir()
    client, peer = _free_port(), _free_port()
    url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    command = ["etcd", "--data-dir", str(directory / "data"), "--log-level", "error", "--logger", "zap"]
    command += ["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer_url]
    command += ["--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}"]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_for(client)
        yield EtcdPeer(directory, _version(), client, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _version() -> str:
    first = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True).stdout
    return first.split("\n", 1)[0].removeprefix("etcd Version: ")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(1)  # Elected within its first second.
            return
        time.sleep(0.05)
    raise RuntimeError("etcd did not start")


def _put_body(key: bytes, value: bytes) -> bytes:
    """A gRPC frame with a PutRequest: field 1 is the key, field 2 the value."""
    message = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return b"\0" + struct.pack(">I", len(message)) + message


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])
