"""A file system that is really full: writes are refused and told so, reads go on, and space brings writes back.

On a small tmpfs of our own; needs the right to mount.
"""

import asyncio
import contextlib
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Compare, Delete, NoSpaceError, Put, Txn, TxnResult
from orchestrator.store.settings import KIB, MIB, LogSettings
from tests.e2e.cluster import ROOT, Answer, Api, free_port, wait_for

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
VALUE_BYTES = 3000


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size_bytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(self.path)], check=True)

    def fill(self, spare_bytes: int) -> Path:
        """A file of somebody else's that leaves so much space."""
        free = os.statvfs(self.path)
        filler = self.path / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize - spare_bytes)
        return filler


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={4 * MIB}", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"this test needs to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def put(number: int, keys: int) -> Txn:
    return Txn((), (Put(f"/{number % keys}", (b"%d." % number).ljust(VALUE_BYTES, b"x")),))


async def open_small(path: Path, clock: VirtualClock) -> LogStore:
    settings = LogSettings(
        segment_bytes=128 * KIB, history_s=60, history_bytes=256 * KIB, snapshot_bytes=256 * KIB
    )
    return await LogStore.open(path, clock, settings=settings)


async def write_until_full(store: LogStore, clock: VirtualClock, keys: int = 1 << 30) -> int:
    """How many writes there was room for."""
    for number in range(10_000):
        try:
            await store.transact(put(number, keys))
        except NoSpaceError:
            return number
        if number % 20 == 0:
            await clock.advance(1)
    raise AssertionError("the disk does not get full")


async def test_removing_somebody_elses_file_brings_writes_back(small_disk: SmallDisk) -> None:
    clock = VirtualClock()
    store = await open_small(small_disk.path / "store", clock)
    filler = small_disk.fill(MIB)
    written = await write_until_full(store, clock)
    assert written > 50 and store.healthy and store.no_space
    found = (await store.range("/")).entries
    assert len(found) == written == store.revision
    with pytest.raises(NoSpaceError):
        await store.transact(put(written, 1 << 30))
    filler.unlink()
    assert (await store.transact(put(written, 1 << 30))).revision == written + 1
    assert not store.no_space
    await store.close()
    again = await open_small(small_disk.path / "store", clock)
    assert len((await again.range("/")).entries) == again.revision == written + 1
    assert again.dropped is None
    await again.close()


async def test_deletions_and_lease_ends_are_taken_on_a_full_disk(small_disk: SmallDisk) -> None:
    """Also those that came together with puts, and share no batch with them."""
    clock = VirtualClock()
    store = await open_small(small_disk.path / "store", clock)
    lease = await store.lease_grant(3600)
    await store.transact(Txn((), (Put("/leased", b"1", lease),)))
    filler = small_disk.fill(MIB)
    written = await write_until_full(store, clock)
    for number in range(50):
        deleting = store.transact(Txn((Compare(f"/{number}", number + 2),), (Delete(f"/{number}"),)))
        refused, deleted = await asyncio.gather(
            store.transact(put(written, 1 << 30)), deleting, return_exceptions=True
        )
        assert isinstance(refused, NoSpaceError) and store.no_space and store.healthy
        assert isinstance(deleted, TxnResult) and deleted.succeeded
    await store.lease_revoke(lease)
    await store.compact(store.revision)
    expected = [entry.key for entry in (await store.range("/")).entries]
    assert len(expected) == written - 50 and store.no_space
    filler.unlink()
    await store.close()
    again = await open_small(small_disk.path / "store", clock)
    assert [entry.key for entry in (await again.range("/")).entries] == expected
    await again.close()


async def test_store_that_only_overwrites_never_fills_its_disk(small_disk: SmallDisk) -> None:
    """Disk use is bounded: six megabytes of changes through a disk of four."""
    clock = VirtualClock()
    store = await open_small(small_disk.path / "store", clock)
    for number in range(2000):
        await store.transact(put(number, 20))
        if number % 20 == 0:
            await clock.advance(1)
    assert store.stats()["disk_bytes"] < 2 * MIB
    await store.close()


class Server:
    """`orchestrator server` whose data lie on the small disk."""

    def __init__(self, directory: Path, data: Path) -> None:
        self.kubeconfig = directory / "kubeconfig"
        self._log = (directory / "log").open("wb")
        command = [
            *(sys.executable, "-m", "orchestrator", "server", "--no-agent"),
            *("--data-dir", str(data), "--run-dir", str(directory / "run")),
            *("--port", str(free_port()), "--write-kubeconfig", str(self.kubeconfig)),
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self._log, stderr=self._log)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, (
            "the server has ended: " + Path(self._log.name).read_text()[-3000:]
        )
        if self.kubeconfig.exists():
            with contextlib.suppress(OSError, http.client.HTTPException):
                return Api(self.kubeconfig).call("GET", "/readyz").code == 200
        return False

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait(20)
            self._log.close()


@pytest.fixture
def server(tmp_path: Path, small_disk: SmallDisk) -> Iterator[Server]:
    small_disk.resize(24 * MIB)
    server = Server(tmp_path, small_disk.path / "data")
    try:
        wait_for(server.is_ready, "the server is ready")
        yield server
    finally:
        server.stop()


def test_api_answers_507_while_the_disk_is_full_and_goes_on_later(
    small_disk: SmallDisk, server: Server
) -> None:
    api = Api(server.kubeconfig)

    def create(number: int) -> Answer:
        body = {"metadata": {"name": f"c{number}"}, "data": {"x": "x" * 900_000}}
        return api.call("POST", CONFIGMAPS, body)

    small_disk.fill(64 * KIB)
    for number in range(40):
        answer = create(number)
        if answer.code != 201:
            break
    assert answer.code == 507, answer.text
    assert answer.body["kind"] == "Status" and answer.body["reason"] == "InsufficientStorage"
    assert "space" in answer.body["message"]
    names = [item["metadata"]["name"] for item in api.items(CONFIGMAPS)]
    assert sorted(name for name in names if name[0] == "c") == sorted(f"c{n}" for n in range(number))
    assert api.call("GET", "/readyz").code == 200

    def told() -> bool:
        """A small write of the server's own may still find room in between, and takes the words back."""
        return create(number).code == 507 and "no space" in api.call("GET", "/readyz?verbose").text

    wait_for(told, "/readyz says that there is no space")
    small_disk.resize(64 * MIB)
    assert create(number).code == 201
    assert "no space" not in api.call("GET", "/readyz?verbose").text
