"""EventRecorder: what a component did, as Event objects, without ever getting in its way.

`event` only notes; `run` (served by the component's supervisor) writes. The same event again raises the
count of the object that is there; many similar ones are combined into one; an object about which too much
is said is limited. Every buffer is bounded and overflowing means that an event is lost, never that the caller
waits or fails. Source of the rules: client-go's event correlator.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from orchestrator.api.errors import ApiError, NotFound, ServiceUnavailable, Timeout
from orchestrator.api.item import Object
from orchestrator.api.resources import EVENTS
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.interface import Client

log = structlog.get_logger(__name__)

PENDING_MAX = 1000
KNOWN_MAX = 4096
SIMILAR_MAX = 10
"""Of different messages of one kind of event about one object within `SIMILAR_S` this one is the first combined."""
SIMILAR_S = 600.0
BURST = 25
REFILL_S = 300.0
"""An object may have `BURST` events at once, and one more per `REFILL_S`."""
MESSAGE_MAX = 1024
PAUSE_S = 5.0
KEEP_S = 300.0
"""While the server is away: how long to wait between tries, and how old an event may become."""
COMBINED = "(combined from similar events)"

_Subject = tuple[str, str, str, str, str, str]
_Key = tuple[_Subject, str, str, str]


@dataclass(slots=True)
class _Note:
    """An event waiting to be written; `count` of them happened since `first_s`."""

    reference: Object
    first_s: float
    last_s: float
    count: int = 1


@dataclass(slots=True)
class _Written:
    """An Event object that exists."""

    namespace: str
    name: str
    count: int


@dataclass(slots=True)
class _Similar:
    """Messages seen lately of one kind of event about one object."""

    messages: set[str]
    last_s: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class EventRecorder:
    """One component's events. `run` must be served once, by the component's supervisor."""

    def __init__(self, client: Client, component: str, host: str, clock: Clock) -> None:
        """`host` is the node's name for an agent, empty for others."""
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock
        self._pending: OrderedDict[_Key, _Note] = OrderedDict()
        self._wake = asyncio.Event()
        self._written: OrderedDict[_Key, _Written] = OrderedDict()
        self._similar: OrderedDict[tuple[_Subject, str, str], _Similar] = OrderedDict()
        self._buckets: OrderedDict[_Subject, _Bucket] = OrderedDict()
        self._serial = 0
        self.lost = 0
        """Events dropped for lack of room or by the limit, for metrics."""

    def event(
        self, obj: Mapping[str, Any], type: str, reason: str, message: str, field_path: str = ""
    ) -> None:
        """Note `type` (`Normal` or `Warning`), `reason` and `message` about `obj`. Never blocks or raises."""
        reference = _reference(obj, field_path)
        subject = _subject(reference)
        key = (subject, type, reason, message[:MESSAGE_MAX])
        now_s = self._clock.now_s()
        note = self._pending.get(key)
        if note is not None:
            note.count += 1
            note.last_s = now_s
        elif len(self._pending) >= PENDING_MAX or not self._allowed(subject):
            self.lost += 1
        else:
            self._pending[key] = _Note(reference, now_s, now_s)
            self._wake.set()

    async def run(self) -> None:
        """Write what was noted, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                key, note = self._pending.popitem(last=False)
                await self._write(key, note)

    async def _write(self, key: _Key, note: _Note) -> None:
        noted = key
        key = self._combined(key, note.last_s)
        message = noted[3] if key == noted else f"{COMBINED}: {noted[3]}"
        try:
            known = self._written.get(key)
            if known is None or not await self._count(known, note, message):
                await self._create(key, note, message)
        except (ServiceUnavailable, Timeout) as error:
            log.debug("events wait for the server", error=error.message)
            await self._clock.sleep(PAUSE_S)
            if len(self._pending) < PENDING_MAX and note.last_s + KEEP_S > self._clock.now_s():
                self._pending.setdefault(noted, note)
            else:
                self.lost += 1
        except ApiError as error:
            self.lost += 1
            log.debug("event not written", reason=key[2], error=error.message)
        except Exception:
            self.lost += 1
            log.exception("event not written", reason=key[2])

    async def _count(self, known: _Written, note: _Note, message: str) -> bool:
        """Raise the count of the object, which says what happened last; False when it is gone."""
        last = timestamp(note.last_s)
        patch = {"count": known.count + note.count, "lastTimestamp": last, "message": message}
        try:
            await self._client.patch(EVENTS, known.name, known.namespace, patch)
        except NotFound:
            return False
        known.count += note.count
        return True

    async def _create(self, key: _Key, note: _Note, message: str) -> None:
        subject, type_, reason, _ = key
        namespace = subject[2] or "default"
        self._serial += 1
        name = f"{subject[3][:230]}.{int(note.last_s * 1e9) + self._serial:x}"
        obj = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": note.reference,
            "reason": reason,
            "message": message,
            "source": {"component": self._component, **({"host": self._host} if self._host else {})},
            "firstTimestamp": timestamp(note.first_s),
            "lastTimestamp": timestamp(note.last_s),
            "count": note.count,
            "type": type_,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        await self._client.create(EVENTS, obj, namespace)
        self._written[key] = _Written(namespace, name, note.count)
        self._written.move_to_end(key)
        _bound(self._written)

    def _combined(self, key: _Key, now_s: float) -> _Key:
        """The key under which the event is written: many messages of one kind share one."""
        subject, type_, reason, message = key
        similar = self._similar.get((subject, type_, reason))
        if similar is None or now_s - similar.last_s > SIMILAR_S:
            similar = self._similar[subject, type_, reason] = _Similar(set(), now_s)
            _bound(self._similar)
        similar.last_s = now_s
        if message in similar.messages:
            return key
        if len(similar.messages) < SIMILAR_MAX - 1:
            similar.messages.add(message)
            return key
        return subject, type_, reason, COMBINED

    def _allowed(self, subject: _Subject) -> bool:
        """Token bucket per object."""
        now_s = self._clock.monotonic_s()
        about = (*subject[:5], "")  # Whichever of its containers it is about.
        bucket = self._buckets.get(about)
        if bucket is None:
            bucket = self._buckets[about] = _Bucket(BURST, now_s)
            _bound(self._buckets)
        bucket.tokens = min(BURST, bucket.tokens + (now_s - bucket.at_s) / REFILL_S)
        bucket.at_s = now_s
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _bound(kept: OrderedDict[Any, Any]) -> None:
    while len(kept) > KNOWN_MAX:
        kept.popitem(last=False)


def _reference(obj: Mapping[str, Any], field_path: str) -> Object:
    metadata = obj.get("metadata") or {}
    reference = {
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
        "apiVersion": obj.get("apiVersion"),
        "resourceVersion": metadata.get("resourceVersion"),
        "fieldPath": field_path,
    }
    return {key: value for key, value in reference.items() if value}


def _subject(reference: Object) -> _Subject:
    fields = ("apiVersion", "kind", "namespace", "name", "uid", "fieldPath")
    api_version, kind, namespace, name, uid, path = (str(reference.get(field, "")) for field in fields)
    return api_version, kind, namespace, name, uid, path
