"""Everything in etcd at once, in its stored form: for backup, restore, and sealing anew with another key.

Beside the store and its cache: the command line has no server, and a rewrite is about bytes that the cache does
not have. Called by `assembly.backup` and `assembly.encryption`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from orchestrator.base.errors import StartupError
from orchestrator.store.backup import Kept
from orchestrator.store.etcd.api import EtcdApi, Message
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import (
    CompactedError,
    LeaseNotFoundError,
    TooLargeError,
    UnavailableError,
    UnknownOutcomeError,
)
from orchestrator.store.sealing import Sealer

PAGE_KEYS = 1000
BATCH_PUTS = 100
"""etcd takes 128 operations in a transaction unless told otherwise."""
BATCH_BYTES = 1024 * 1024
"""etcd takes requests of 1.5 MiB unless told otherwise."""
FLIGHT = 64
"""Transactions sent before the first is answered."""
MARKS_FLIGHT = 256
"""The same where each only makes a revision: more of them share a sync of etcd's disk."""
MARKS_TOLD = 10_000
"""Revisions between two reports of how far it is."""
PASSES_MAX = 20
LEASE_S = 3600
"""What is left of a lease is not kept: what had one gets an hour, as long as an event has at first."""
COMPACT_EVERY = 50_000
_MOD_REVISION = 2

Tell = Callable[[int, int], None]
"""Is told etcd's revision and the one that is wanted, before anything is written and then again and again."""


async def dump(api: EtcdApi, keys: Keys) -> tuple[int, list[Kept], list[tuple[int, int]]]:
    """One revision: its number, every entry, and the leases (numbered from 1) with their time in seconds."""
    revision = await api.revision(keys.first)
    leases: dict[int, int] = {0: 0}
    entries = [
        Kept(
            _name(keys, kv),
            kv.get("value", b""),
            kv["create_revision"],
            kv["mod_revision"],
            kv["version"],
            leases.setdefault(kv.get("lease", 0), len(leases)),
        )
        async for kv in _all(api, keys, revision)
    ]
    return revision, entries, [(number, LEASE_S) for number in leases.values() if number]


async def _all(api: EtcdApi, keys: Keys, revision: int = 0) -> AsyncIterator[Message]:
    """Every key of the store with its value, in order."""
    start = keys.first
    while True:
        page = await api.range(
            {"key": start, "range_end": keys.end, "limit": PAGE_KEYS, "revision": revision}
        )
        revision = revision or page["header"]["revision"]
        kvs = page.get("kvs", ())
        for kv in kvs:
            if keys.from_etcd(kv["key"]) is not None:
                yield kv
        if not page.get("more"):
            return
        start = kvs[-1]["key"] + b"\0"


def _name(keys: Keys, kv: Message) -> str:
    """Of a key from `_all`, which leaves out what is none of ours."""
    key = keys.from_etcd(kv["key"])
    assert key is not None
    return key


async def is_empty(api: EtcdApi, keys: Keys) -> bool:
    """Whether the store has no key."""
    async for _ in _all(api, keys):
        return False
    return True


async def check_empty(api: EtcdApi, keys: Keys) -> None:
    """Raises `StartupError` where the prefix is not empty."""
    if not await is_empty(api, keys):
        raise StartupError(
            f"etcd holds keys under {keys.prefix}/ already.",
            f"Name an unused etcd, or remove them: etcdctl del --prefix {keys.prefix}/",
        )


async def load(
    api: EtcdApi,
    keys: Keys,
    entries: Iterable[Kept],
    leases: Sequence[tuple[int, int]],
    revision: int,
    tell: Tell = lambda reached, wanted: None,
) -> int:
    """Make revisions until etcd's is `revision`, then write `entries` into the empty prefix; returns the newest.

    etcd counts them itself, one per transaction, and clients must not see one a second time: so this takes a time
    that grows with `revision`, of which `tell` is told; interrupted there it goes on when it is called again. Raises
    `StartupError` where the prefix is not empty; `StoreError`, after which what was written must be removed.
    """
    await check_empty(api, keys)
    entries = list(entries)
    await _check_size(api, keys, entries)
    await _advance(api, keys, revision, tell)
    granted = {number: await api.lease_grant(ttl_s) for number, ttl_s in leases}
    for batch in _batches(entries):
        puts = [_put(keys.to_etcd(e.key), e.value, granted.get(e.lease, 0)) for e in batch]
        await api.txn({"success": puts})
    return await api.revision(keys.first)


async def _check_size(api: EtcdApi, keys: Keys, entries: Sequence[Kept]) -> None:
    """Raises `StartupError` where etcd does not take the largest entry: told by a write that is not made."""
    largest = max(entries, key=lambda entry: len(entry.key) + len(entry.value), default=None)
    if largest is None:
        return
    never = {"target": _MOD_REVISION, "key": keys.marker, "mod_revision": 1 << 62}
    try:
        await api.txn({"compare": [never], "success": [_put(keys.to_etcd(largest.key), largest.value, 0)]})
    except TooLargeError as error:
        raise StartupError(
            f"etcd does not take {largest.key} of {len(largest.value)} bytes: {error}",
            "Start etcd with a higher --max-request-bytes; nothing has been written.",
        ) from error


def _batches(entries: Iterable[Kept]) -> Iterable[list[Kept]]:
    batch: list[Kept] = []
    size = 0
    for entry in entries:
        if batch and (len(batch) == BATCH_PUTS or size + len(entry.value) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += len(entry.key) + len(entry.value)
    if batch:
        yield batch


def _put(key: bytes, value: bytes, lease: int) -> Message:
    return {"put": {"key": key, "value": value, "lease": lease}}


async def _advance(api: EtcdApi, keys: Keys, wanted: int, tell: Tell) -> None:
    revision = compacted = await api.revision(keys.first)
    tell(revision, wanted)
    while revision < wanted:
        await _make_revisions(api, keys, min(MARKS_TOLD, wanted - revision))
        revision = await api.revision(keys.first)
        tell(revision, wanted)
        if revision - compacted >= COMPACT_EVERY:
            await api.compact(revision)
            compacted = revision
    with contextlib.suppress(CompactedError):
        await api.compact(revision)


async def _make_revisions(api: EtcdApi, keys: Keys, count: int) -> None:
    """`count` at most: whoever calls looks how many it were."""
    mark, numbers = {"success": [_put(keys.marker, b"", 0)]}, iter(range(count))

    async def make() -> None:
        for _ in numbers:
            with contextlib.suppress(UnknownOutcomeError):
                await api.txn(mark)

    await asyncio.gather(*(make() for _ in range(min(MARKS_FLIGHT, count))))


async def reseal(api: EtcdApi, keys: Keys, sealer: Sealer) -> int:
    """Write anew every value that is not in the form that `sealer` gives now; how many that were.

    Passes are made until one finds nothing, since writes that were on their way may still land in the old form.
    Raises `StoreError`.
    """
    count = 0
    for _ in range(PASSES_MAX):
        old = [kv async for kv in _all(api, keys) if not _is_current(keys, sealer, kv)]
        if not old:
            return count
        for start in range(0, len(old), FLIGHT):
            done = await asyncio.gather(
                *(_rewrite(api, keys, sealer, kv) for kv in old[start : start + FLIGHT])
            )
            count += sum(done)
    raise UnavailableError("values in the old form keep coming: does another server write with other keys?")


def _is_current(keys: Keys, sealer: Sealer, kv: Message) -> bool:
    return sealer.is_current(_name(keys, kv), kv.get("value", b""))


async def _rewrite(api: EtcdApi, keys: Keys, sealer: Sealer, kv: Message) -> bool:
    """Whether the value was written; one that changed meanwhile is left for the next pass."""
    key = _name(keys, kv)
    value = sealer.seal(key, sealer.unseal(key, kv.get("value", b"")))
    compare = {"target": _MOD_REVISION, "key": kv["key"], "mod_revision": kv["mod_revision"]}
    try:
        answer = await api.txn(
            {"compare": [compare], "success": [_put(kv["key"], value, kv.get("lease", 0))]}
        )
    except (LeaseNotFoundError, UnknownOutcomeError):
        return False
    return bool(answer.get("succeeded"))
