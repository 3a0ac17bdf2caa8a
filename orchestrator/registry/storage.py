"""The registry's side of the store: keys of resources, errors turned into API errors, leases for rows with a
time to live. The only module of the registry that calls the store."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from orchestrator.api import errors
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Item
from orchestrator.api.resources import Resource
from orchestrator.base.clock import Clock
from orchestrator.store.interface import (
    CompactedError,
    Entry,
    Event,
    FutureRevisionError,
    LeaseNotFoundError,
    NoSpaceError,
    RangeResult,
    SlowWatcherError,
    Store,
    StoreError,
    TooLargeError,
    Txn,
    TxnResult,
    UnknownOutcomeError,
    Watch,
)
from orchestrator.store.sealing import SealError

LEASE_BUCKET_S = 60.0
"""Objects written within this time share a lease, so they may live this much longer than their row says."""


def api_error(error: StoreError) -> ApiError:
    """What a client is told about a failure of the store."""
    match error:
        case CompactedError():
            return errors.Expired(f"The resourceVersion is too old: {error}")
        case SlowWatcherError():
            return errors.Expired(str(error))
        case FutureRevisionError():
            return errors.Timeout("Too large resource version", retry_after_s=1)
        case NoSpaceError():
            return errors.InsufficientStorage(f"the store has no space: {error}")
        case TooLargeError():
            return errors.RequestEntityTooLarge(str(error))
        case UnknownOutcomeError():
            return errors.Timeout(str(error), retry_after_s=1)
        case SealError():
            return errors.InternalError(str(error))
    return errors.ServiceUnavailable(f"the store does not take requests: {error}", retry_after_s=1)


class Storage:
    """Reads and transactions over one store. Shares `Item`s with everybody."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._leases: dict[int, tuple[int, float]] = {}  # ttl_s -> lease, granted at
        self._granting = asyncio.Lock()

    @property
    def revision(self) -> int:
        return self._store.revision

    async def newest(self, wanted: int) -> int:
        """The newest revision; one that only another server has seen yet is waited for, by reading once."""
        if wanted > self._store.revision:
            await self.get("/registry/")
        return self._store.revision

    async def get(self, key: str) -> Entry | None:
        try:
            return await self._store.get(key)
        except StoreError as error:
            raise api_error(error) from error

    async def find(self, resource: Resource, namespace: str, name: str) -> Item | None:
        """The object, or None: admission's `Reader`."""
        entry = await self.get(resource.key(namespace, name))
        return entry.item if entry is not None else None

    async def all(self, resource: Resource) -> list[Item]:
        """Every object of a resource that has a handful of them: admission's `Lister`."""
        return [entry.item for entry in (await self.range(resource.key_prefix())).entries]

    async def within(self, resource: Resource, namespace: str) -> list[Item]:
        """Those of one namespace; for resources that have a handful there."""
        entries = (await self.range(resource.key_prefix(namespace))).entries
        return [entry.item for entry in entries]

    async def range(
        self, prefix: str, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """Raises `Expired` when `revision` is compacted, `Timeout` when it is in the future."""
        try:
            return await self._store.range(prefix, start_after=start_after, limit=limit, revision=revision)
        except StoreError as error:
            raise api_error(error) from error

    async def transact(self, txn: Txn) -> TxnResult:
        try:
            return await self._store.transact(txn)
        except LeaseNotFoundError as error:
            self._leases.clear()
            raise api_error(error) from error
        except StoreError as error:
            raise api_error(error) from error

    async def transact_many(self, txns: Sequence[Txn]) -> list[TxnResult]:
        """See `Store.transact_many`."""
        try:
            return await self._store.transact_many(txns)
        except LeaseNotFoundError as error:
            self._leases.clear()
            raise api_error(error) from error
        except StoreError as error:
            raise api_error(error) from error

    def open_watch(self, prefix: str, after_revision: int) -> Watch:
        return self._store.watch(prefix, after_revision)

    async def lease_for(self, ttl_s: int) -> int:
        """A lease that ends between `ttl_s` and `ttl_s + LEASE_BUCKET_S` from now; 0 for no time to live."""
        if not ttl_s:
            return 0
        known = self._leases.get(ttl_s)
        if known is not None and self._clock.monotonic_s() - known[1] < LEASE_BUCKET_S:
            return known[0]
        async with self._granting:
            known = self._leases.get(ttl_s)
            now_s = self._clock.monotonic_s()
            if known is None or now_s - known[1] >= LEASE_BUCKET_S:
                known = self._leases[ttl_s] = (await self._grant(ttl_s), now_s)
        return known[0]

    async def _grant(self, ttl_s: int) -> int:
        try:
            return await self._store.lease_grant(ttl_s + int(LEASE_BUCKET_S))
        except StoreError as error:
            raise api_error(error) from error


async def batches(watch: Watch) -> AsyncIterator[list[Event]]:
    """The watch's events with the store's errors turned into API errors."""
    try:
        async for events in watch:
            yield events
    except StoreError as error:
        raise api_error(error) from error
