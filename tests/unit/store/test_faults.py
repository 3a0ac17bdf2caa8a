"""Every call to the disk fails once, or from then on: the store refuses or goes on, and loses nothing it acknowledged.

`STORE_TEST_SEED` draws another workload, `STORE_TEST_FAULTS` says how many calls of each kind are made to fail.
"""

import errno
import os
import random

import pytest

from orchestrator.store.interface import Put, StoppedError, Txn
from tests.store.faults import FailingDisk, Fault, Trial, campaign, every_fault, some_of_each
from tests.store.ledger import reopen
from tests.store.memory_disk import MemoryDisk, Spoiled, Sync, Write

SEED = int(os.environ.get("STORE_TEST_SEED", "1"))
FAULTS = int(os.environ.get("STORE_TEST_FAULTS", "2"))
ROUNDS = 8


async def test_whichever_call_fails_nothing_acknowledged_is_lost() -> None:
    faults = some_of_each(await every_fault(SEED, ROUNDS), random.Random(SEED), FAULTS)
    tally = await campaign(faults, ROUNDS)
    assert not tally.wrong
    assert tally.outcomes.total() == len(faults) and len(tally.verbs) > 3


@pytest.mark.parametrize(
    ("verb", "at", "code", "lasting", "again", "outcome"),
    [
        ("lock", 1, errno.EIO, False, False, "refused to open"),
        ("read", 1, errno.EIO, False, True, "refused to open"),
        ("write_some", 6, errno.EIO, True, False, "stopped"),
        ("create", 2, errno.ENOSPC, False, False, "went on"),
    ],
)
async def test_a_failing_call_has_the_outcome_that_is_documented(
    verb: str, at: int, code: int, lasting: bool, again: bool, outcome: str
) -> None:
    trial = Trial(Fault(verb, at, code, lasting, SEED, again), ROUNDS)
    assert await trial.run() == outcome
    assert trial.disk.failed[0] == verb


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
async def test_failed_sync_is_never_taken_for_a_success_later(code: int) -> None:
    """The next sync of such a file succeeds, as Linux lets it, and has written nothing."""
    disk = FailingDisk(code, False, random.Random(SEED))
    store = await reopen(disk)
    kept = await store.transact(Txn((), (Put("/a", b"1"),)))
    disk.begin(1, "write_some")
    with pytest.raises(StoppedError):
        await store.transact(Txn((), (Put("/a", b"2"),)))
    assert disk.failed == ["write_some"] and not store.healthy
    spoiled = next(n for n, op in enumerate(disk.journal) if isinstance(op, Spoiled))
    with pytest.raises(StoppedError):
        await store.transact(Txn((), (Put("/a", b"3"),)))
    await store.close()
    assert not [op for op in disk.journal[spoiled + 1 :] if isinstance(op, Write | Sync)]
    again = await reopen(MemoryDisk(disk.image()))
    entry = await again.get("/a")
    assert entry and (entry.revision == kept.revision or entry.value == b"2")
    await again.close()
