"""Keeps the cache equal to etcd: loads what is under the prefix, then follows one watch of it.

Loading begins in the past and the watch brings the rest, so that history is there too. A broken watch resumes
behind the last revision taken over, on the next endpoint if need be; where etcd has forgotten that revision, or
has lost what it had, everything is loaded anew. Events of one revision come together and in order: a revision that
is cut by the pieces of a large answer is put together before it is applied. Owner of the cache and of the watch;
run by the store.

A watch tells of changes under our prefix only, while etcd's revision also grows by those of others. To make the
watch say how far it is, `nudge` asks for a progress report where etcd's is right (before 3.4.25 and 3.5.8 it may
overtake events: etcd issue 15220), else it writes a marker key, whose event comes in its order; a full etcd takes
no writes, so then it deletes one of the keys that were written for this purpose.
"""

import asyncio

import structlog

from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.store.etcd.api import CALL_TIMEOUT_S, EtcdApi, Message, changed
from orchestrator.store.etcd.cache import Cache
from orchestrator.store.etcd.failures import LostDataError, store_error
from orchestrator.store.etcd.keys import SPARES, Keys, end_of
from orchestrator.store.etcd.reading import Reader, revision_of, slices
from orchestrator.store.interface import CompactedError, Entry, NoSpaceError, StoreError, UnavailableError
from orchestrator.store.sealing import Sealer, SealError
from orchestrator.wire.grpc import GrpcError, GrpcStream

log = structlog.get_logger(__name__)

HISTORY_REVISIONS_MAX = 20_000
HISTORY_BYTES = 64 * 1024 * 1024
"""Both are taken over at the start at most, about; a few seconds' work."""
REVISION_BYTES_MAX = 256 * 1024 * 1024
"""What the pieces of one revision may add up to."""
_BROADCAST = -1


class Feed:
    """Owner of the cache. `load` once, then serve `run`."""

    def __init__(self, api: EtcdApi, keys: Keys, cache: Cache, clock: Clock, sealer: Sealer | None) -> None:
        self.cache = cache
        self._following = asyncio.Event()
        self.fault = "not connected yet"
        self.live = False
        """Whether this watch has brought something."""
        self.connects = 0
        """Watches made."""
        self.attempts = 0
        """Watches tried."""
        self.arrivals = 0
        """Slices of events, reports of progress and pages that came: while it grows the cache catches up."""
        self.full = False
        """Whether etcd refused the last marker because its database is full."""
        self.progress_is_right = False
        self.in_history = False
        """Whether what the watch brings may be from before the start."""
        self._api = api
        self._keys = keys
        self._clock = clock
        self._reader = Reader(api, keys, sealer)
        self._backoff = Backoff(0.05, 2.0, jitter=0.5)
        self._stream: GrpcStream | None = None
        self._must_load = True
        self._spares_missing = False
        api.on_loss = self._distrust

    @property
    def fault(self) -> str:
        """Why the cache does not follow etcd at the moment; empty while it does."""
        return self._fault

    @fault.setter
    def fault(self, cause: str) -> None:
        self._fault = cause
        if cause:
            self._following.clear()
        else:
            self._following.set()

    async def following(self) -> None:
        """Return once there is a watch."""
        await self._following.wait()

    async def load(self, *, history: bool = True) -> None:
        """Take over what is there, as of some revisions ago, or of now without `history`. Raises `StoreError`."""
        status = await self._api.status()
        self.progress_is_right = progress_is_right(status.get("version", ""))
        size_bytes = status.get("db_size_in_use", 0) or status.get("db_size", 0)
        while True:
            state = self.cache.blank()
            try:
                newest = await self._api.revision(self._keys.first)
                revision = await self._oldest(newest, size_bytes) if history else newest
                await self._reader.fill(state, revision, self._arrived)
                break
            except CompactedError:
                continue  # Reading took longer than etcd kept that revision: take another one.
        self.cache.replace(state, revision)
        self._must_load, self.in_history = False, history

    async def _oldest(self, newest: int, size_bytes: int) -> int:
        """Where to begin: with as much of etcd's history as is worth it, so that clients of a server that was
        restarted can go on with their watches."""
        try:
            await self._api.range({"key": self._keys.first, "count_only": True, "revision": 1})
            compacted = 1
        except CompactedError:
            compacted = await self._compacted() or newest
        per_revision = size_bytes // (newest - compacted + 1)  # At most: what is not history counts too.
        most = min(HISTORY_REVISIONS_MAX, HISTORY_BYTES // (per_revision + 1))
        return max(compacted, newest - most)

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
        while (data := await stream.receive()) is not None:
            answer = self._api.decode("WatchResponse", data)
            if answer.get("canceled"):
                return int(answer.get("compact_revision", 0))
        return 0

    async def run(self) -> None:
        """Follow etcd until cancelled."""
        while True:
            try:
                if self._must_load:  # Without history: whoever watched must list again anyway.
                    await self.load(history=False)
                await self._follow()
            except CompactedError:
                log.warning(
                    "etcd forgot what this server has not seen: loading all", after=self.cache.revision
                )
                self._must_load = True
            except SealError as error:
                # A key that is gone by now may have sealed what is history only: today's values may open.
                self._must_load = self._must_load or self.in_history
                await self._broken(error)
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
            keys = [self._keys.marker, *(self._keys.spares if self._spares_missing else ())]
            try:
                answer = await self._api.txn({"success": [{"put": {"key": key}} for key in keys]})
            except NoSpaceError:
                self.full = True
                return await self._delete_spare()
            self.full = self._spares_missing = False
            return int(answer["header"]["revision"])
        if self._stream is not None:
            try:
                await self._stream.send(self._api.encode("WatchRequest", {"progress": {}}), CALL_TIMEOUT_S)
            except GrpcError as error:
                raise store_error(error, write=False) from error
        return 0

    async def stock_up(self) -> int:
        """As `nudge`, which then works even when etcd takes no writes for a while. Raises `NoSpaceError`."""
        spare = self._keys.spare
        found = await self._api.range({"key": spare, "range_end": end_of(spare), "count_only": True})
        self._spares_missing = found.get("count", 0) < SPARES
        return await self.nudge()

    async def _delete_spare(self) -> int:
        """etcd is full: it refuses writes, but not deletions, and those have a revision as well."""
        spare = self._keys.spare
        request = {"key": spare, "range_end": end_of(spare), "limit": 1, "keys_only": True}
        while kvs := (await self._api.range(request)).get("kvs", ()):
            answer = await self._api.txn({"success": [{"delete": {"key": kvs[0]["key"]}}]})
            if changed(answer):  # Else another server took it.
                self._spares_missing = True
                return int(answer["header"]["revision"])
        raise NoSpaceError("etcd's database is full, and no marker is left to delete")

    async def read(self, key: str, revision: int) -> Entry | None:
        """One key as etcd has it at `revision`. Raises `StoreError`."""
        return await self._reader.entry(key, revision)

    def restart(self) -> None:
        """The watch tells nothing although it should: try another one."""
        if self._stream is not None:
            self._api.move_on(self._stream.endpoint)
            self._stream.cancel()

    def start_over(self, cause: str) -> None:
        """Load everything anew, as of now, and end the watches of before."""
        self._must_load = True
        self.fault = cause
        self.restart()

    def _distrust(self, error: LostDataError) -> None:
        log.error("etcd lost data: loading all, every watch must list again", error=str(error))
        self.cache.lose(error)
        self.start_over(str(error))

    async def _broken(self, error: Exception) -> None:
        if not self.fault:
            log.warning("etcd's watch broke, connecting again", error=str(error))
        self.fault = str(error)
        await self._clock.sleep(self._backoff.next_s())

    async def _follow(self) -> None:
        """One watch, from behind what the cache has until it breaks."""
        self.attempts += 1
        stream = await self._api.open("Watch/Watch")
        try:
            await stream.send(self._request(), CALL_TIMEOUT_S)
            self._stream = stream
            await self._api.revision(self._keys.first)  # An etcd that is behind the cache sends nothing.
            if self._must_load:
                raise UnavailableError("all is to be loaded anew")
            await self._take_all(stream)
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

    async def _take_all(self, stream: GrpcStream) -> None:
        """Take over what the watch brings, in slices of whole revisions, until it ends."""
        held: list[Message] = []
        while (data := await stream.receive()) is not None:
            answer = self._api.decode("WatchPiece", data)
            if not answer.get("events"):
                self._take(answer)
                continue
            self.live = True
            for part in slices(answer["events"]):
                held = self._take_whole(held + self._reader.events(part))
                await asyncio.sleep(0)
            if not answer.get("fragment"):
                self._apply(held)
                held = []
            elif sum(len(event["kv"].get("value", b"")) for event in held) > REVISION_BYTES_MAX:
                raise StoreError(f"one revision of etcd has more than {REVISION_BYTES_MAX} bytes")

    def _take_whole(self, events: list[Message]) -> list[Message]:
        """Take over all but the last revision, which may go on in the next slice or piece; returns its events."""
        last = revision_of(events[-1])
        end = next(at for at, event in enumerate(events) if revision_of(event) == last)
        self._apply(events[:end])
        return events[end:]

    def _apply(self, events: list[Message]) -> None:
        if events:
            self._arrived()
            self.cache.apply(self._reader.records(events, self.cache.revision))
            self._api.saw(self.cache.revision)

    def _take(self, answer: Message) -> None:
        """An answer without events."""
        if answer.get("canceled"):
            raise self._cancelled(answer)
        if answer.get("created"):
            self.connects += 1
            self.fault, self.live = "", False
            self._backoff.reset()
        elif answer.get("watch_id", 0) != _BROADCAST or self.progress_is_right:
            self._arrived()
            self.cache.advance(answer["header"]["revision"])
            self._api.saw(self.cache.revision)

    def _arrived(self) -> None:
        self.arrivals += 1

    def _cancelled(self, answer: Message) -> StoreError:
        if floor := answer.get("compact_revision", 0):
            return CompactedError(floor)
        reason = answer.get("cancel_reason", "")
        self._api.forget_token()
        return UnavailableError(f"etcd cancelled the watch: {reason or 'no reason given'}")


def progress_is_right(version: str) -> bool:
    """Whether this version of etcd never sends a requested progress report before the events that it covers."""
    parts = [int(part) for part in version.split("-")[0].split(".") if part.isdigit()]
    if len(parts) != 3:
        return False
    fixed = {(3, 4): 25, (3, 5): 8}.get((parts[0], parts[1]))
    return parts[2] >= fixed if fixed is not None else parts >= [3, 6, 0]
