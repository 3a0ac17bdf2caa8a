"""The power goes at every operation of the disk: no acknowledged write is lost, none is half there.

`STORE_TEST_SEED` draws another workload, `STORE_TEST_SHARE` says what part of the crash points is tried.
"""

import os
from pathlib import Path

import pytest

from tests.store.crashes import Recording, Replay, record
from tests.store.memory_disk import Image, MemoryDisk, Rename, Sync, SyncNames, Write

SEED = int(os.environ.get("STORE_TEST_SEED", "1"))
SHARE = float(os.environ.get("STORE_TEST_SHARE", "0.04"))
ROUNDS = 12


class NoSync(MemoryDisk):
    """Says that it synced, and did not."""

    def _log(self, op: object) -> None:
        if not isinstance(op, Sync):
            super()._log(op._replace(durable=False) if isinstance(op, Write) else op)  # type: ignore[arg-type]


class NoNames(MemoryDisk):
    """Forgets to sync directories."""

    def sync_directory(self, path: Path) -> None:
        pass


async def replay(recording: Recording, share: float, nested: float = 0.05) -> Replay:
    replay = Replay(recording, SEED, share, nested, tears=2)
    await replay.run()
    return replay


async def test_no_crash_point_loses_an_acknowledged_write() -> None:
    recording = await record(SEED, ROUNDS, MemoryDisk())
    done = await replay(recording, SHARE)
    if done.wrong:
        raise done.wrong[0]
    kinds = {type(op) for op in recording.journal}
    assert {Write, Sync, SyncNames, Rename} <= kinds, "the workload did not do what it is there for"
    assert done.opened > 20


@pytest.mark.parametrize("disk", [NoSync(), NoNames()], ids=["sync", "directory-sync"])
async def test_disk_that_does_not_sync_is_noticed(disk: MemoryDisk) -> None:
    """The check itself is checked: without these syncs it must fail."""
    recording = await record(SEED, ROUNDS, disk)
    assert (await replay(recording, 1.0, nested=0)).wrong


def test_image_is_not_shared_with_the_disk_that_runs_on_it() -> None:
    disk = MemoryDisk()
    path = Path("/memory/a")
    fd = disk.create(path)
    disk.write(fd, b"one", 0)
    image: Image = disk.image()
    again = MemoryDisk(image)
    again.write(again.open(path), b"two", 0)
    assert image["/memory/a"].data == b"one" and again.image()["/memory/a"].data == b"two"
