"""Keeps the cache equal to etcd: loads what is under the prefix, then follows one watch of it.

Loading begins in the past and the watch brings the rest, so that history is there too. A broken watch resumes
behind the last revision taken over, on the next endpoint if need be; where etcd has forgotten that revision
everything is loaded anew. Events of one revision come together and in order: pieces of a large answer are put
together before they are applied. Owner of the cache and of the watch; run by the store.

A watch tells of changes under our prefix only, while etcd's revision also grows by those of others. To make the
watch say how far it is, `nudge` asks for a progress report where etcd's is right (before 3.4.25 and 3.5.8 it may
overtake events: etcd issue 15220), else it writes a marker key, whose event comes in its order.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import groupby
from typing import Any

import structlog

from orchestrator.api.item import Item
from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.store.etcd.api import CALL_TIMEOUT_S, EtcdApi, Message
from orchestrator.store.etcd.cache import Cache, kept
from orchestrator.store.etcd.failures import store_error
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import CompactedError, Entry, StoreError, UnavailableError
from orchestrator.store.record import DELETE, PUT, Operation, Record
from orchestrator.store.sealing import Sealer
from orchestrator.store.state import State
from orchestrator.wire.grpc import GrpcError, GrpcStream

log = structlog.get_logger(__name__)

PAGE_KEYS = 500
"""Loaded by one request."""
HISTORY_REVISIONS_MAX = 20_000
"""Taken over at the start; a few seconds' work at most."""
PIECES_BYTES_MAX = 256 * 1024 * 1024
"""What the pieces of one answer may add up to."""
_BROADCAST = -1


class Feed:
    """Owner of the cache. `load` once, then serve `run`."""

    def __init__(self, api: EtcdApi, keys: Keys, cache: Cache, clock: Clock, sealer: Sealer | None) -> None:
        self.cache = cache
        self.fault = "not connected yet"
        """Why the cache does not follow etcd at the moment; empty while it does."""
        self.live = False
        """Whether this watch has brought something."""
        self.connects = 0
        """Watches made."""
        self.progress_is_right = False
        self._api = api
        self._keys = keys
        self._clock = clock
        self._sealer = sealer
        self._backoff = Backoff(0.05, 2.0, jitter=0.5)
        self._stream: GrpcStream | None = None
        self._must_load = True

    async def load(self, *, history: bool = True) -> None:
        """Take over what is there, as of some revisions ago, or of now without `history`. Raises `StoreError`."""
        version = (await self._api.status()).get("version", "")
        self.progress_is_right = progress_is_right(version)
        while True:
            try:
                newest = await self._api.revision(self._keys.first)
                revision = await self._oldest(newest) if history else newest
                state = await self._read_all(revision)
                break
            except CompactedError:
                continue  # Reading took longer than etcd kept that revision: take another one.
        self.cache.replace(state, revision)
        self._must_load = False

    async def _oldest(self, newest: int) -> int:
        """Where to begin: with as much of etcd's history as is worth it, so that clients of a server that was
        restarted can go on with their watches."""
        try:
            await self._api.range({"key": self._keys.first, "count_only": True, "revision": 1})
            compacted = 1
        except CompactedError:
            compacted = await self._compacted() or newest
        return max(compacted, newest - HISTORY_REVISIONS_MAX)

    async def _compacted(self) -> int:
        """The oldest revision that etcd has; 0 if it is not told: only a watch that asks for more is."""
        create = {"create": {"key": self._keys.marker, "start_revision": 1}}
        try:
            stream = await self._api.open("Watch/Watch")
            try:
                await stream.send(self._api.encode("WatchRequest", create), CALL_TIMEOUT_S)
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    return await self._compaction_told(stream)
            finally:
                stream.cancel()
        except (GrpcError, TimeoutError) as error:
            log.debug("etcd did not tell how old its history is", error=str(error))
        return 0

    async def _compaction_told(self, stream: GrpcStream) -> int:
        async for answer in self._answers(stream):
            if answer.get("canceled"):
                return int(answer.get("compact_revision", 0))
        return 0

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        while True:
            try:
                if self._must_load:
                    await self.load()
                await self._follow()
            except CompactedError:
                log.warning(
                    "etcd forgot what this server has not seen: loading all", after=self.cache.revision
                )
                self._must_load = True
            except (GrpcError, StoreError) as error:
                await self._broken(error)
            except Exception:
                self._must_load = True  # Whatever it was: what the cache holds is not to be trusted any more.
                raise

    async def nudge(self) -> int:
        """Make the watch tell how far it is. Returns a revision that it is sure to bring, 0 for none.

        Raises `StoreError`.
        """
        if not self.progress_is_right:
            answer = await self._api.txn({"success": [{"put": {"key": self._keys.marker}}]})
            return int(answer["header"]["revision"])
        if self._stream is not None:
            try:
                await self._stream.send(self._api.encode("WatchRequest", {"progress": {}}), CALL_TIMEOUT_S)
            except GrpcError as error:
                raise store_error(error, write=False) from error
        return 0

    async def read(self, key: str, revision: int) -> Entry | None:
        """One key as etcd has it at `revision`. Raises `StoreError`."""
        answer = await self._api.range({"key": self._keys.to_etcd(key), "revision": revision})
        for kv in answer.get("kvs", ()):
            item = Item(self._value(key, kv), kv["mod_revision"])
            return Entry(key, item, kv["create_revision"], kv["version"], kv.get("lease", 0))
        return None

    def restart(self) -> None:
        """The watch tells nothing although it should: try another one."""
        if self._stream is not None:
            self._api.move_on(self._stream.endpoint)
            self._stream.cancel()

    async def _broken(self, error: Exception) -> None:
        if not self.fault:
            log.warning("etcd's watch broke, connecting again", error=str(error))
        self.fault = str(error)
        await self._clock.sleep(self._backoff.next_s())

    async def _read_all(self, revision: int) -> State:
        """Everything at `revision`, taken over page by page."""
        state = self.cache.blank()
        start = self._keys.first
        while True:
            page = await self._api.range(
                {"key": start, "range_end": self._keys.end, "limit": PAGE_KEYS, "revision": revision}
            )
            kvs = page.get("kvs", ())
            for kv in kvs:
                if kv["key"] != self._keys.marker:
                    state.apply(self._kept(kv))
            if not page.get("more"):
                return state
            start = kvs[-1]["key"] + b"\0"
            await asyncio.sleep(0)

    def _kept(self, kv: Message) -> Record:
        key = self._keys.from_etcd(kv["key"])
        value, lease = self._value(key, kv), kv.get("lease", 0)
        return kept(key, value, kv["mod_revision"], kv["create_revision"], kv["version"], lease)

    def _value(self, key: str, kv: Message) -> bytes:
        stored: bytes = kv.get("value", b"")
        return self._sealer.unseal(key, stored) if self._sealer is not None else stored

    async def _follow(self) -> None:
        """One watch, from behind what the cache has until it breaks."""
        stream = self._stream = await self._api.open("Watch/Watch")
        try:
            await stream.send(self._request(), CALL_TIMEOUT_S)
            async for answer in self._answers(stream):
                self._take(answer)
        except GrpcError as error:
            self._api.move_on(stream.endpoint)
            raise store_error(error, write=False) from error
        except UnavailableError:
            self._api.move_on(stream.endpoint)
            raise
        finally:
            self._stream = None
            stream.cancel()
        raise UnavailableError(f"{stream.endpoint} ended the watch")

    def _request(self) -> bytes:
        create = {
            "key": self._keys.first,
            "range_end": self._keys.end,
            "start_revision": self.cache.revision + 1,
            "progress_notify": True,
            "fragment": True,
        }
        return self._api.encode("WatchRequest", {"create": create})

    async def _answers(self, stream: GrpcStream) -> AsyncIterator[Message]:
        """Whole answers: the pieces of one that was cut are joined."""
        events: list[Message] = []
        size_bytes = 0
        while (data := await stream.receive()) is not None:
            answer = self._api.decode("WatchResponse", data)
            events += answer.get("events", ())
            size_bytes += len(data)
            if answer.get("fragment"):
                if size_bytes > PIECES_BYTES_MAX:
                    raise StoreError(f"one revision of etcd has more than {PIECES_BYTES_MAX} bytes")
                continue
            yield {**answer, "events": events}
            events, size_bytes = [], 0

    def _take(self, answer: Message) -> None:
        if answer.get("canceled"):
            raise self._cancelled(answer)
        if answer.get("created"):
            self.connects += 1
            self.fault, self.live = "", False
            self._backoff.reset()
        elif answer["events"]:
            self.live = True
            self.cache.apply(self._records(answer["events"]))
        elif answer.get("watch_id", 0) != _BROADCAST or self.progress_is_right:
            self.cache.advance(answer["header"]["revision"])

    def _cancelled(self, answer: Message) -> StoreError:
        if floor := answer.get("compact_revision", 0):
            return CompactedError(floor)
        reason = answer.get("cancel_reason", "")
        self._api.forget_token()
        return UnavailableError(f"etcd cancelled the watch: {reason or 'no reason given'}")

    def _records(self, events: list[Message]) -> list[Record]:
        """Events in their order, one record per revision; those that the cache has already are left out."""
        have = self.cache.revision
        records = []
        for revision, group in groupby(events, key=_revision_of):
            if revision > have:
                records.append(Record(revision, list(self._operations(group))))
        return records

    def _operations(self, events: Iterable[Message]) -> Iterable[Operation]:
        for event in events:
            kv = event["kv"]
            if kv["key"] == self._keys.marker:
                continue
            key = self._keys.from_etcd(kv["key"])
            if event.get("type"):
                yield Operation(DELETE, 0, key, b"")
            else:
                yield Operation(PUT, kv.get("lease", 0), key, self._value(key, kv))


def _revision_of(event: Message) -> int:
    revision: Any = event["kv"]["mod_revision"]
    return int(revision)


def progress_is_right(version: str) -> bool:
    """Whether this version of etcd never sends a requested progress report before the events that it covers."""
    parts = [int(part) for part in version.split("-")[0].split(".") if part.isdigit()]
    if len(parts) != 3:
        return False
    fixed = {(3, 4): 25, (3, 5): 8}.get((parts[0], parts[1]))
    return parts[2] >= fixed if fixed is not None else parts >= [3, 6, 0]
