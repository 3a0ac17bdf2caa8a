"""Which objects have which label or field value: what makes a list with a selector cheap among thousands.

An index is a mirror of one resource's keys, kept by a watch on the store: it shares the store's `Item`s and has,
per value, the keys that have it. It is made when a list with a selector had to look at `INDEX_MIN` objects, and
goes when `INDEXES_MAX` others were used since. Until it is ready, or where it does not help, lists scan.

An answer is exact: it is given only once the index has seen every event up to the store's revision, and every
candidate is matched again. Memory per object: a dictionary's place for the item (about 100 bytes) and about 60
for each label and each selected field, whatever the values are. Owner of tasks and indexes: `Indexes`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from itertools import chain

import structlog

from orchestrator.api.errors import ApiError
from orchestrator.api.item import Item
from orchestrator.api.selectors import FieldRequirement, Requirement, field_values
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.registry.selection import Selection
from orchestrator.registry.storage import Storage
from orchestrator.store.interface import Event, StoreError, Watch

log = structlog.get_logger(__name__)

INDEX_MIN = 500
"""Fewer objects are looked at one by one; an index would cost more than it saves."""
INDEXES_MAX = 12
CANDIDATES_MAX = 8000
WORTH = 4
"""More candidates than this, or than one in so many objects, cost more to sort than a scan in slices takes."""
CATCH_UP_TURNS = 64
"""Turns of the loop that an index has to take in what was just written, before the list scans."""
SLICE = 500
"""Objects taken in before other tasks get their turn."""

Fields = tuple[str, ...]


class Postings:
    """Keys by value. A value that one object has keeps the bare key: a set would take 200 bytes."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[str, str | set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, value: str, key: str) -> None:
        known = self._keys.get(value)
        if known is None:
            self._keys[value] = key
        elif type(known) is set:
            known.add(key)
        else:
            self._keys[value] = {str(known), key}

    def remove(self, value: str, key: str) -> None:
        known = self._keys.get(value)
        if type(known) is set:
            known.discard(key)
            if not known:
                del self._keys[value]
        elif known == key:
            del self._keys[value]

    def of(self, value: str) -> Collection[str]:
        known = self._keys.get(value)
        return () if known is None else known if type(known) is set else (known,)  # type: ignore[return-value]

    def values(self) -> Iterator[str]:
        return iter(self._keys)


class Index:
    """The mirror of one resource. Owner: the task that follows the store."""

    def __init__(self, prefix: str, fields: Fields) -> None:
        self.prefix = prefix
        self.fields = fields
        self.items: dict[str, Item] = {}
        self.changed = 0
        """Revision of the last change of any object."""
        self.ready = False
        self.closed = False
        self.watch: Watch | None = None
        self._labels: dict[str, Postings] = {}
        self._fields = [Postings() for _ in fields]
        self._read: Callable[[Item], Fields] | None = field_values(fields) if fields else None
        self._values: dict[str, Fields] = {}

    def __len__(self) -> int:
        return len(self.items)

    @property
    def progress(self) -> int:
        """The objects are those of this revision."""
        return self.watch.progress if self.ready and self.watch is not None else 0

    def apply(self, event: Event) -> None:
        self.changed = max(self.changed, event.revision)
        self.set(event.key, event.entry.item if event.entry is not None else None)

    def set(self, key: str, item: Item | None) -> None:
        """Replace the object at `key`; None removes it."""
        old = self.items.get(key)
        if item is not None:
            self.items[key] = item
        elif old is not None:
            del self.items[key]
        before = old.labels if old is not None else {}
        after = item.labels if item is not None else {}
        if before != after:
            self._relabel(key, before, after)
        if self._read is not None:
            self._reread(key, item)

    def _relabel(self, key: str, before: dict[str, str], after: dict[str, str]) -> None:
        for label, value in before.items():
            if after.get(label) != value:
                postings = self._labels[label]
                postings.remove(value, key)
                if not postings:
                    del self._labels[label]
        for label, value in after.items():
            if before.get(label) != value:
                self._labels.setdefault(label, Postings()).add(value, key)

    def _reread(self, key: str, item: Item | None) -> None:
        assert self._read is not None
        before = self._values.pop(key, None)
        after = self._read(item) if item is not None else None
        if after is not None:
            self._values[key] = after
        if before == after:
            return
        for at, postings in enumerate(self._fields):
            if before is not None:
                postings.remove(before[at], key)
            if after is not None:
                postings.add(after[at], key)

    def candidates(self, selection: Selection) -> list[Collection[str]] | None:
        """Keys among which everything that matches is, in parts; None where nothing narrows it down enough."""
        best: list[Collection[str]] | None = None
        least = min(CANDIDATES_MAX, len(self.items) // WORTH + WORTH) + 1
        found = chain(map(self._having, selection.labels.requirements), map(self._equal, selection.compared))
        for parts in found:
            size = sum(map(len, parts)) if parts is not None else least
            if size < least:
                best, least = parts, size
        return best

    def _having(self, requirement: Requirement) -> list[Collection[str]] | None:
        """Keys of objects whose label satisfies `requirement`; None when its absence may do so too."""
        if requirement.operator in ("notin", "!"):
            return None
        postings = self._labels.get(requirement.key)
        if postings is None:
            return []
        if requirement.operator == "in":
            return [postings.of(value) for value in requirement.values]
        if requirement.operator == "exists":
            return [postings.of(value) for value in postings.values()]
        return [
            postings.of(value) for value in postings.values() if requirement.matches({requirement.key: value})
        ]

    def _equal(self, requirement: FieldRequirement) -> list[Collection[str]] | None:
        if requirement.negated or requirement.field not in self.fields:
            return None
        return [self._fields[self.fields.index(requirement.field)].of(requirement.value)]


class Indexes:
    """The indexes of one store. Owner of the tasks that keep them."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._supervisor = Supervisor("indexes", clock)
        self._indexes: OrderedDict[str, Index] = OrderedDict()

    async def stop(self) -> None:
        await self._supervisor.stop()

    def want(self, base: str, selection: Selection, seen: int) -> None:
        """A list looked at `seen` objects under a resource's prefix; an index would have spared it most of them."""
        if seen < INDEX_MIN or not selection.narrows:
            return
        known = self._indexes.get(base)
        fields = tuple(sorted({r.field for r in selection.compared} | set(known.fields if known else ())))
        if known is not None and (not known.ready or known.fields == fields):
            return
        index = self._indexes[base] = Index(base, fields)
        if known is not None:
            _close(known)
        while len(self._indexes) > INDEXES_MAX:
            _close(self._indexes.popitem(last=False)[1])
        self._supervisor.spawn(base, self._follow(index))

    async def select(
        self, base: str, prefix: str, selection: Selection, revision: int = 0
    ) -> tuple[list[tuple[str, Item]], int] | None:
        """What matches under `prefix`, in the order of keys, and the revision; None where a scan must tell.

        `revision` of 0 reads the newest.
        """
        index = self._indexes.get(base)
        if index is None or not index.ready or not selection.narrows:
            return None
        self._indexes.move_to_end(base)
        if not await self._caught_up(index):
            return None
        if revision and not index.changed <= revision <= index.progress:
            return None
        parts = index.candidates(selection)
        if parts is None:
            return None
        matches, items = selection.matcher, index.items
        keys = sorted(key for part in parts for key in part if key.startswith(prefix))
        return [(key, items[key]) for key in keys if matches(items[key])], revision or index.progress

    async def _caught_up(self, index: Index) -> bool:
        """Whether the index has everything that was acknowledged before this call."""
        await self._storage.get(index.prefix)  # An engine that others write to as well catches up by reading.
        wanted = self._storage.revision
        for _ in range(CATCH_UP_TURNS):
            if index.progress >= wanted:
                return True
            await asyncio.sleep(0)
        return False

    async def _follow(self, index: Index) -> None:
        """Take in what there is, then every change. Whatever ends that drops the index; the next list makes it anew."""
        try:
            state = await self._storage.range(index.prefix)
            for start in range(0, len(state.entries), SLICE):
                for entry in state.entries[start : start + SLICE]:
                    index.set(entry.key, entry.item)
                await asyncio.sleep(0)
            if index.closed:
                return
            index.changed = state.revision
            watch = index.watch = self._storage.open_watch(index.prefix, state.revision)
            del state
            index.ready = True
            async for events in watch:
                for event in events:
                    index.apply(event)
        except (ApiError, StoreError) as error:
            log.debug("index ends", prefix=index.prefix, error=str(error))
        finally:
            _close(index)
            if self._indexes.get(index.prefix) is index:
                del self._indexes[index.prefix]


def _close(index: Index) -> None:
    index.ready, index.closed = False, True
    if index.watch is not None:
        index.watch.close()
