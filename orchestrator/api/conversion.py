"""Several rows, one stored form: how an object that is kept in one version is shown and taken in another.

A row that names `stored_as` has a `View`. Its three forms: the *asked* one of the row, the *working* one in which
strategy, admission and defaults look at the object, and the *kept* one in the store.

* Built-in kinds work in the kept form; a `Conversion` of `BUILT_IN` translates at the registry's border.
* Custom kinds work in the asked form, as each of their versions has a schema of its own; only what is read from
  and written to the store is translated (`api.custom` makes those views and hands them to `Views.set`).

Rows without `stored_as` have no view and pay nothing. Converted items are cached, so that watchers and lists share
them. Called by the registry; converters are pure and never mutate what they are given.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.api import autoscaling, events
from orchestrator.api.errors import InternalError, NotFound
from orchestrator.api.item import Item, Object, decode, encode
from orchestrator.api.resources import Resource, ResourceTable

Convert = Callable[[Object], Object]

CONVERTED_MAX = 4096
"""Converted items that one view keeps."""
CONVERTED_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of converted items that one view keeps; a custom object may have more than a megabyte."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """Between the form of a row and that in which its objects are kept. Both set `apiVersion` (and `kind`)."""

    outward: Convert
    """From the kept object the one that a client of the row sees."""
    inward: Convert
    """From a client's checked object the one to keep."""


BUILT_IN: dict[tuple[str, str], Conversion] = {
    ("autoscaling/v1", "horizontalpodautoscalers"): Conversion(autoscaling.to_v1, autoscaling.to_v2),
    ("events.k8s.io/v1", "events"): Conversion(events.to_new, events.to_core),
}
"""By `apiVersion` and plural of the row that is not kept itself, such as `("autoscaling/v1",
"horizontalpodautoscalers")`."""


class View:
    """One row as seen through its stored form: nothing differs unless a subclass says so."""

    def __init__(self, row: Resource, working: Resource) -> None:
        self.row = row
        """The row that is asked."""
        self.working = working
        """The row in whose form strategy and admission work."""
        self._items: OrderedDict[int, tuple[Item, Item]] = OrderedDict()
        self._bytes = 0

    def inward(self, obj: Object) -> Object:
        """Asked → working."""
        return obj

    def outward(self, obj: Object) -> Object:
        """Working → asked."""
        return obj

    def opened(self, raw: bytes, revision: int) -> Object:
        """Kept bytes → working, as a fresh dictionary with `resourceVersion`."""
        return decode(raw, revision)

    def closed(self, obj: Object) -> bytes:
        """Working → bytes to keep."""
        return encode(obj)

    def current(self, raw: bytes) -> bool:
        """Whether kept bytes have the form in which they would be kept now."""
        return True

    def presented(self, raw: bytes) -> bytes:
        """Kept bytes → bytes of the asked form; the same bytes when nothing differs."""
        return encode(self.outward(self.opened(raw, 0)))

    def item(self, item: Item) -> Item:
        """A kept item in the asked form; the same item each time, as long as it is remembered."""
        return self.remembered(item) or self.remember(item, self.presented(item.raw))

    def remembered(self, item: Item) -> Item | None:
        """What `item` answers, where it was asked for lately."""
        key = id(item)
        known = self._items.get(key)
        if known is None or known[0] is not item:
            return None
        self._items.move_to_end(key)
        return known[1]

    def remember(self, item: Item, raw: bytes) -> Item:
        """Answer `raw` for a kept item from now on."""
        shown = item if raw is item.raw else Item(raw, item.revision)
        self._forget(id(item))
        self._items[id(item)] = item, shown
        self._bytes += len(raw)
        while len(self._items) > CONVERTED_MAX or self._bytes > CONVERTED_BYTES_MAX:
            self._forget(next(iter(self._items)))
        return shown

    def _forget(self, key: int) -> None:
        known = self._items.pop(key, None)
        if known is not None:
            self._bytes -= len(known[1].raw)


class BuiltInView(View):
    """A row of the table that is kept as another row of it."""

    def __init__(self, row: Resource, working: Resource, conversion: Conversion) -> None:
        super().__init__(row, working)
        self._conversion = conversion

    def inward(self, obj: Object) -> Object:
        return self._conversion.inward(obj)

    def outward(self, obj: Object) -> Object:
        return self._conversion.outward(obj)


class Views:
    """The views of one table's rows. Owner: the registry; custom kinds `set` and `drop` theirs at run time."""

    def __init__(self, table: ResourceTable) -> None:
        self._table = table
        self._views: dict[tuple[str, str, str], View] = {}

    def of(self, row: Resource) -> View | None:
        """The view of `row`; None where it is kept as it is. Raises `NotFound` for a custom kind that has gone
        since the row was found."""
        if row.stored_as is None:
            return None
        key = (row.group, row.version, row.plural)
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = self._built_in(row, row.stored_as)
        return found

    def set(self, row: Resource, view: View) -> None:
        """See `row` through `view` from now on."""
        self._views[row.group, row.version, row.plural] = view

    def drop(self, row: Resource) -> None:
        """Forget a view; one that is not there is fine."""
        self._views.pop((row.group, row.version, row.plural), None)

    def _built_in(self, row: Resource, stored_as: tuple[str, str]) -> View:
        if row.columns is not None:
            raise NotFound("the server could not find the requested resource")
        conversion = BUILT_IN.get((row.api_version, row.plural))
        working = self._table.find(*stored_as, row.plural)
        if conversion is None or working is None:
            raise InternalError(f"{row.api_version} {row.plural} can't be converted from {stored_as}")
        return BuiltInView(row, working, conversion)
