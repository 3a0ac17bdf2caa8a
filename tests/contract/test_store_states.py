"""What clients, probes and metrics are told when the store has no space, is stopped, or dropped a torn tail."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.store.disk import Disk
from tests.contract.api_support import Cluster, served
from tests.contract.conftest import load_schemas

MAPS = "/api/v1/namespaces/default/configmaps"


class BadDisk(Disk):
    """Fails allocations or durable writes from a moment on, with an errno."""

    allocations = 0
    writes = 0

    def allocate(self, fd: int, offset: int, size: int) -> None:
        if self.allocations:
            raise OSError(self.allocations, os.strerror(self.allocations))
        super().allocate(fd, offset, size)

    def write_durably(self, fd: int, data: bytes, offset: int) -> None:
        if self.writes:
            raise OSError(self.writes, os.strerror(self.writes))
        super().write_durably(fd, data, offset)


@pytest.fixture
def disk() -> BadDisk:
    return BadDisk()


@pytest.fixture
async def server(tmp_path: Path, disk: BadDisk) -> AsyncIterator[Cluster]:
    async with served(tmp_path, load_schemas(), disk) as cluster:
        assert (await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}}))[0] == 201
        assert (await put(cluster, "before"))[0] == 201
        yield cluster


async def put(cluster: Cluster, name: str, size: int = 1) -> tuple[int, dict[str, object]]:
    body = {"metadata": {"name": name}, "data": {"v": "x" * size}}
    code, answer, _ = await cluster.call("POST", MAPS, body)
    return code, answer


async def text(cluster: Cluster, path: str) -> tuple[int, str]:
    code, body, _ = await cluster.call("GET", path, session=cluster.anybody)
    return code, body


async def metric(cluster: Cluster, name: str) -> float:
    _, body, _ = await cluster.call("GET", "/metrics")
    return float(next(line for line in body.splitlines() if line.startswith(f"{name} ")).split()[1])


async def fill(cluster: Cluster) -> dict[str, object]:
    """Write until an allocation is due; the refusal."""
    for number in range(100):
        code, answer = await put(cluster, f"big-{number}", 900_000)
        if code != 201:
            return answer
    raise AssertionError("the disk never filled")


async def test_no_space_is_507_and_everything_else_goes_on(server: Cluster, disk: BadDisk) -> None:
    disk.allocations = errno.ENOSPC
    refused = await fill(server)
    assert (refused["code"], refused["reason"]) == (507, "InsufficientStorage")
    assert "no space" in str(refused["message"])
    assert (await server.call("GET", f"{MAPS}/before"))[0] == 200
    code, lines = await text(server, "/readyz?verbose")
    assert code == 200 and "[+]store ok: no space left on disk" in lines
    assert (await text(server, "/livez"))[0] == 200
    assert await metric(server, "orchestrator_store_no_space") == 1
    disk.allocations = 0
    assert (await put(server, "after", 900_000))[0] == 201
    assert "[+]store ok\n" in (await text(server, "/readyz?verbose"))[1]
    assert await metric(server, "orchestrator_store_no_space") == 0


async def test_a_stopped_store_says_why_and_still_reads(server: Cluster, disk: BadDisk) -> None:
    disk.writes = errno.EIO
    assert (await put(server, "lost"))[0] == 503
    disk.writes = 0
    code, answer = await put(server, "later")
    assert (code, answer["reason"]) == (503, "ServiceUnavailable")
    assert "until a restart" in str(answer["message"]) and "Input/output error" in str(answer["message"])
    assert (await server.call("GET", f"{MAPS}/before"))[0] == 200
    for path in ("/readyz?verbose", "/livez?verbose"):
        code, lines = await text(server, path)
        assert code == 500
        assert (
            "[-]store failed: writes are stopped until a restart" in lines and "Input/output error" in lines
        )
    assert await metric(server, "orchestrator_store_stopped") == 1


async def test_a_dropped_tail_is_told_but_no_fault(tmp_path: Path) -> None:
    async with served(tmp_path, load_schemas()) as cluster:
        await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}})
    newest = max((tmp_path / "store").glob("*.[ls]*g*"))
    with newest.open("r+b") as file:
        data = file.read()
        file.seek(len(data.rstrip(b"\0")))
        file.write(b"OBAT then nothing that makes sense")
    async with served(tmp_path, load_schemas()) as cluster:
        code, lines = await text(cluster, "/readyz?verbose")
        assert code == 200
        assert f"of {newest.name} were dropped, an unfinished write" in lines
        assert await metric(cluster, "orchestrator_store_dropped_bytes") > 0
