"""Watch: the store's events of one resource as a client sees them through its selectors.

An object that starts to match is ADDED, one that stops is DELETED with its last matching state at the
revision of the change. Bookmarks tell an idle client how far it is, about once a minute and at the end.

The store's watch has no timeout of its own, so a timer closes it when a bookmark or the end is due, and the
next one opens at the progress reached: nothing is lost, and no pending read is ever cancelled.
"""

import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from orchestrator.api.conversion import View
from orchestrator.api.errors import Expired
from orchestrator.api.item import Item, encode
from orchestrator.api.options import WatchOptions
from orchestrator.api.resources import Resource
from orchestrator.api.results import WatchEvent
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.registry.apart import Apart
from orchestrator.registry.indexing import Indexes
from orchestrator.registry.listing import matching
from orchestrator.registry.selection import Selection, check_not_future, parse_revision
from orchestrator.registry.storage import Storage, api_error
from orchestrator.store.interface import Event, StoreError, Watch

BOOKMARK_S = 60.0
TIMEOUT_MIN_S = 1800.0
"""A watch without a timeout ends after this long, or up to twice that, so that clients spread."""
BATCH = 500
"""Initial objects per batch."""
CONVERTED_BATCH = 100
"""The same where each is converted first."""
LEFT_MAX = 512
INITIAL_EVENTS_END = "k8s.io/initial-events-end"

Batches = AsyncGenerator[list[WatchEvent], None]


@dataclass(frozen=True, slots=True)
class _Request:
    resource: Resource
    prefix: str
    selection: Selection
    options: WatchOptions
    revision: int
    view: View | None


class Watches:
    """Every watch of the process. Owner of their timers."""

    def __init__(
        self, storage: Storage, indexes: Indexes, clock: Clock, rng: random.Random, apart: Apart
    ) -> None:
        self._storage = storage
        self._indexes = indexes
        self._clock = clock
        self._rng = rng
        self._apart = apart
        self._supervisor = Supervisor("watches", clock)

    def open(
        self, resource: Resource, namespace: str | None, options: WatchOptions, view: View | None = None
    ) -> Batches:
        """Checks the options at once (`BadRequest`, `Timeout`); `Expired` comes on iteration.

        `view` is how the resource shows what is kept.
        """
        selection = Selection.parse(resource, options.label_selector, options.field_selector)
        if view is not None:
            selection = selection.through(view)
        revision = parse_revision(options.resource_version)
        check_not_future(revision, self._storage.revision)
        prefix = selection.prefix(resource, namespace)
        return self._run(_Request(resource, prefix, selection, options, revision, view))

    async def stop(self) -> None:
        await self._supervisor.stop()

    async def _run(self, request: _Request) -> Batches:
        revision, initial = request.revision, request.options.send_initial_events
        if initial or (initial is None and not revision):
            items, revision = await self._state(request)
            step = BATCH if request.view is None else CONVERTED_BATCH
            for start in range(0, len(items), step):
                added = [WatchEvent("ADDED", item) for item in items[start : start + step]]
                yield await self._shown(added, request.view)
            del items
            if request.options.allow_bookmarks:
                yield [_bookmark(request.resource, revision, {INITIAL_EVENTS_END: "true"})]
        live = self._live(request, revision or self._storage.revision)
        try:
            async for batch in live:
                yield batch
        finally:
            await live.aclose()

    async def _state(self, request: _Request) -> tuple[list[Item], int]:
        """What matches now, and at which revision."""
        selection, base = request.selection, request.resource.key_prefix()
        found = await self._indexes.select(base, request.prefix, selection)
        if found is not None:
            return [item for _, item in found[0]], found[1]
        state = await self._storage.range(request.prefix)
        self._indexes.want(base, selection, len(state.entries))
        return await matching(state.entries, selection), state.revision

    async def _live(self, request: _Request, revision: int) -> Batches:
        timeout_s = request.options.timeout_s or TIMEOUT_MIN_S * (1 + self._rng.random())
        end_s = self._clock.monotonic_s() + timeout_s
        translate = _translator(request.selection)
        while True:
            due_s = self._next_due_s(request, end_s)
            watch = self._storage.open_watch(request.prefix, revision)
            timer = self._supervisor.spawn("timer", self._close_at(watch, due_s))
            try:
                async for events in watch:
                    batch = await self._shown(translate(events), request.view)
                    revision = max(revision, events[-1].revision)
                    if batch:
                        yield batch
            except StoreError as error:
                raise _watch_error(error, revision) from error
            finally:
                rang = timer.done()
                timer.cancel()
                watch.close()
            if not rang:
                return  # the store ended it
            revision = max(revision, timer.result())
            if request.options.allow_bookmarks:
                yield [_bookmark(request.resource, revision)]
            if self._clock.monotonic_s() >= end_s:
                return

    async def _shown(self, batch: list[WatchEvent], view: View | None) -> list[WatchEvent]:
        """Events as the version that is asked shows their objects."""
        if view is None:
            return batch
        return [WatchEvent(event.type, await self._apart.shown(view, event.item)) for event in batch]

    def _next_due_s(self, request: _Request, end_s: float) -> float:
        if not request.options.allow_bookmarks:
            return end_s
        bookmark_s = BOOKMARK_S * (0.9 + 0.2 * self._rng.random())
        return min(end_s, self._clock.monotonic_s() + bookmark_s)

    async def _close_at(self, watch: Watch, due_s: float) -> int:
        """Returns the progress reached; a closed watch no longer follows the store."""
        while (left_s := due_s - self._clock.monotonic_s()) > 0:
            await self._clock.sleep(left_s)
        reached = watch.progress
        watch.close()
        return reached


def _watch_error(error: StoreError, revision: int) -> Exception:
    answer = api_error(error)
    return (
        Expired(f"too old resource version: {revision} ({error})") if isinstance(answer, Expired) else answer
    )


def _bookmark(resource: Resource, revision: int, annotations: dict[str, str] | None = None) -> WatchEvent:
    metadata = {"annotations": annotations} if annotations else {}
    obj = {"metadata": metadata, "kind": resource.kind, "apiVersion": resource.api_version}
    return WatchEvent("BOOKMARK", Item(encode(obj), revision))


Translate = Callable[[list[Event]], list[WatchEvent]]


def _translator(selection: Selection) -> Translate:
    if selection.everything:
        return lambda events: [_plain(event) for event in events]
    matches = selection.matcher
    return lambda events: [seen for event in events if (seen := _selected(event, matches)) is not None]


_left: OrderedDict[tuple[int, str], Item] = OrderedDict()
"""Items of recent DELETED events, so that all watchers of one share it (and what is encoded from it)."""


def _plain(event: Event) -> WatchEvent:
    if event.entry is not None:
        return WatchEvent("MODIFIED" if event.previous is not None else "ADDED", event.entry.item)
    return _gone(event)


def _gone(event: Event) -> WatchEvent:
    """The last state, at the revision of the change that took it from this client's view."""
    key = (event.revision, event.key)
    item = _left.get(key)
    if item is None or event.previous is None or item.raw is not event.previous.value:
        raw = event.previous.value if event.previous is not None else b'{"metadata":{}}'
        item = _left[key] = Item(raw, event.revision)
        if len(_left) > LEFT_MAX:
            _left.popitem(last=False)
    return WatchEvent("DELETED", item)


def _selected(event: Event, matches: Callable[[Item], bool]) -> WatchEvent | None:
    before = event.previous is not None and matches(event.previous.item)
    if event.entry is not None and matches(event.entry.item):
        return WatchEvent("MODIFIED" if before else "ADDED", event.entry.item)
    return _gone(event) if before else None
