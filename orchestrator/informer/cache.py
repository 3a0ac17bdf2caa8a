"""Informer: a list-and-watch mirror of one resource with indexes. Owner of the cache: its own task.

    informers = Informers(client, supervisor)           # one per process
    pods = informers.of(PODS)                           # shared; starts with informers.start()
    pods.add_index("node", lambda item: [...])
    pods.on_change(lambda old, new: ...)                # Item | None each; called after the cache changed
    await informers.synced()                            # every informer has its first list
    pods.get("namespace/name")  -> Item | None          # cluster-scoped: "name"
    pods.list(namespace=None)   -> list[Item]
    pods.by_index("node", "n1") -> list[Item]
    pods.revision               -> int

The cache holds what the client hands out: with a local client these are the very `Item`s of the store. A
broken watch resumes where it ended (bookmarks move that point on); `Expired` lists again and reports only the
differences. Handlers run on the informer's task, must be short, and only wake somebody; one that raises is
logged and the others still run. Every `resync_s` all items are offered again as (item, item).
"""

import asyncio
import builtins
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import structlog

from orchestrator.api.errors import ApiError, Expired
from orchestrator.api.item import Item
from orchestrator.api.options import ListOptions, WatchOptions
from orchestrator.api.resources import Resource
from orchestrator.api.results import WatchEvent
from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock, SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client

log = structlog.get_logger(__name__)

Handler = Callable[[Item | None, Item | None], None]
IndexFunction = Callable[[Item], Iterable[str]]

SLICE = 200
"""Changes applied before other tasks get their turn, so that a large list does not hold the loop."""
RESYNC_S = 600.0
SHORTEST_WATCH_S = 1.0


class _Closeable(Protocol):
    async def aclose(self) -> None: ...


def key_of(item: Item) -> str:
    """`namespace/name`, or `name` where there is no namespace."""
    meta = item.meta
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


class Index:
    """Keys by index value, maintained per change. The values of a key are remembered, not computed again."""

    def __init__(self, function: IndexFunction) -> None:
        self.function = function
        self._keys: dict[str, dict[str, None]] = {}
        self._values: dict[str, tuple[str, ...]] = {}

    def set(self, key: str, item: Item | None) -> None:
        """Replace the values of `key`; None removes it."""
        values = tuple(dict.fromkeys(self.function(item))) if item is not None else ()
        before = self._values.pop(key, ())
        if values:
            self._values[key] = values
        if values == before:
            return
        for value in before:
            keys = self._keys[value]
            del keys[key]
            if not keys:
                del self._keys[value]
        for value in values:
            self._keys.setdefault(value, {})[key] = None

    def keys(self, value: str) -> Iterable[str]:
        return self._keys.get(value, ())

    @property
    def values(self) -> list[str]:
        """Every value that some item has."""
        return list(self._keys)


class Informer:
    """The mirror of one resource, or of the part of it that a selector names."""

    def __init__(self, client: Client, resource: Resource, selection: ListOptions, clock: Clock) -> None:
        self.resource = resource
        self.revision = 0
        """Everything up to this revision is in the cache."""
        self._client = client
        self._selection = selection
        self._clock = clock
        self._backoff = Backoff(0.1, 10.0, jitter=0.5)
        self._items: dict[str, Item] = {}
        self._namespaces = Index(lambda item: (item.meta.namespace,))
        self._indexes: dict[str, Index] = {}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._must_list = True

    def get(self, key: str) -> Item | None:
        return self._items.get(key)

    def list(self, namespace: str | None = None) -> list[Item]:
        """All items, or those of one namespace; no order."""
        if namespace is None:
            return [*self._items.values()]
        return [self._items[key] for key in self._namespaces.keys(namespace)]

    def by_index(self, name: str, value: str) -> builtins.list[Item]:
        """Items that the index function gave `value` for; KeyError for an unknown index."""
        return [self._items[key] for key in self._indexes[name].keys(value)]

    def __len__(self) -> int:
        return len(self._items)

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def synced(self) -> None:
        """Wait for the first list."""
        await self._synced.wait()

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Keep an index; the first function given for a name stays (sharers agree on the name's meaning)."""
        if name in self._indexes:
            return
        index = self._indexes[name] = Index(function)
        for key, item in self._items.items():
            index.set(key, item)

    def on_change(self, handler: Handler) -> None:
        """Call `handler(old, new)` after each change: None is absent. Existing items are reported at once."""
        self._handlers.append(handler)
        for item in list(self._items.values()):
            self._call(handler, None, item)

    def handlers(self) -> builtins.list[Handler]:
        """Those that are called now, in order."""
        return list(self._handlers)

    def forget(self, handler: Handler) -> None:
        """Call `handler` no more; one that is not there is fine."""
        if handler in self._handlers:
            self._handlers.remove(handler)

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                if self._must_list:
                    await self._list()
                started_s = self._clock.monotonic_s()
                await self._watch()
                if self._clock.monotonic_s() - started_s < SHORTEST_WATCH_S:
                    await self._pause()  # a server that ends watches at once must not be asked in a loop
            except Expired as error:
                self._must_list = True
                log.debug("watch expired, listing again", resource=self.resource.qualified, why=error.message)
                await self._pause()
            except (ApiError, OSError, TimeoutError) as error:
                log.warning("informer retries", resource=self.resource.qualified, error=str(error))
                await self._pause()

    async def _pause(self) -> None:
        await self._clock.sleep(self._backoff.next_s())

    async def _list(self) -> None:
        answer = await self._client.list(self.resource, None, self._selection)
        seen = set()
        for position, item in enumerate(answer.items, 1):
            key = key_of(item)
            seen.add(key)
            known = self._items.get(key)
            if known is None or known.revision != item.revision:
                self._apply(key, item)
            if position % SLICE == 0:
                await asyncio.sleep(0)
        for key in [key for key in self._items if key not in seen]:
            self._apply(key, None)
        self.revision = answer.revision
        self._must_list = False
        self._synced.set()

    async def _watch(self) -> None:
        options = WatchOptions(
            label_selector=self._selection.label_selector,
            field_selector=self._selection.field_selector,
            resource_version=str(self.revision),
            allow_bookmarks=True,
        )
        batches: AsyncIterator[builtins.list[WatchEvent]] = self._client.watch(self.resource, None, options)
        try:
            async for batch in batches:
                self._backoff.reset()
                await self._take(batch)
        finally:
            await cast(_Closeable, batches).aclose()

    async def _take(self, batch: builtins.list[WatchEvent]) -> None:
        for position, event in enumerate(batch, 1):
            if event.type != "BOOKMARK":
                self._apply(key_of(event.item), None if event.type == "DELETED" else event.item)
            self.revision = event.item.revision
            if position % SLICE == 0:
                await asyncio.sleep(0)

    def _apply(self, key: str, new: Item | None) -> None:
        """One change: cache and indexes first, then handlers."""
        old = self._items.get(key)
        if new is not None:
            self._items[key] = new
        elif self._items.pop(key, None) is None:
            return
        for index in (self._namespaces, *self._indexes.values()):
            self._set_index(index, key, new)
        for handler in self._handlers:
            self._call(handler, old, new)

    def _set_index(self, index: Index, key: str, item: Item | None) -> None:
        try:
            index.set(key, item)
        except Exception:
            index.set(key, None)
            log.exception("index function failed", resource=self.resource.qualified, key=key)

    def _call(self, handler: Handler, old: Item | None, new: Item | None) -> None:
        try:
            handler(old, new)
        except Exception:
            key = key_of(new or old) if new or old else ""  # type: ignore[arg-type]
            log.exception("change handler failed", resource=self.resource.qualified, key=key)

    async def resync(self) -> None:
        """Offer every item again as (item, item): the full scan beside the notifications."""
        for position, key in enumerate(list(self._items), 1):
            item = self._items.get(key)
            if item is not None:
                for handler in self._handlers:
                    self._call(handler, item, item)
            if position % SLICE == 0:
                await asyncio.sleep(0)


class Subscription:
    """Handlers that were added together, to be taken off together."""

    def __init__(self) -> None:
        self.handlers: list[tuple[Informer, Handler]] = []

    def end(self) -> None:
        """Call none of them any more; ending twice is fine."""
        for informer, handler in self.handlers:
            informer.forget(handler)
        self.handlers.clear()


class Informers:
    """One shared informer per resource and selection. Owner: the daemon, or an agent."""

    def __init__(
        self,
        client: Client,
        supervisor: Supervisor,
        clock: Clock | None = None,
        *,
        resync_s: float = RESYNC_S,
        rng: random.Random | None = None,
    ) -> None:
        """`supervisor` runs the informers' tasks; `resync_s` of 0 turns the periodic full scan off."""
        self._client = client
        self._supervisor = supervisor
        self._clock = clock or SystemClock()
        self._resync_s = resync_s
        self._rng = rng or random.Random()
        self._informers: dict[tuple[Resource, ListOptions], Informer] = {}
        self._tasks: dict[Informer, asyncio.Task[None]] = {}
        self._started = False

    def of(self, resource: Resource, *, field_selector: str = "", label_selector: str = "") -> Informer:
        """The informer of `resource`; with selectors a separate one, shared by those who ask the same."""
        selection = ListOptions(label_selector=label_selector, field_selector=field_selector)
        informer = self._informers.get((resource, selection))
        if informer is None:
            informer = Informer(self._client, resource, selection, self._clock)
            self._informers[resource, selection] = informer
            if self._started:
                self._run(informer)
        return informer

    def drop(self, informer: Informer) -> None:
        """End an informer whose resource is served no more: nobody is told of its objects again."""
        for key in [key for key, known in self._informers.items() if known is informer]:
            del self._informers[key]
        task = self._tasks.pop(informer, None)
        if task is not None:
            task.cancel()

    @contextmanager
    def subscribing(self) -> Iterator[Subscription]:
        """Notes every handler that is added, to whichever informer, until the block ends. No `await` inside."""
        before = {informer: len(informer.handlers()) for informer in self._informers.values()}
        subscription = Subscription()
        try:
            yield subscription
        finally:
            for informer in self._informers.values():
                added = informer.handlers()[before.get(informer, 0) :]
                subscription.handlers += [(informer, handler) for handler in added]

    def start(self) -> None:
        """Run every informer; those asked for later run at once. May be called twice."""
        if self._started:
            return
        self._started = True
        for informer in self._informers.values():
            self._run(informer)
        if self._resync_s:
            self._supervisor.serve("resync", self._resync)

    async def synced(self) -> None:
        """Wait until every informer known now has its first list."""
        for informer in list(self._informers.values()):
            await informer.synced()

    def _run(self, informer: Informer) -> None:
        name = f"informer-{informer.resource.qualified}"
        self._tasks[informer] = self._supervisor.serve(name, informer.run)

    async def _resync(self) -> None:
        while True:
            await self._clock.sleep(self._resync_s * (1 + 0.1 * self._rng.random()))
            for informer in list(self._informers.values()):
                await informer.resync()
