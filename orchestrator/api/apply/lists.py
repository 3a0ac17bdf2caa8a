"""Shapes of lists whose elements are told apart: by keys, or by value. See `shapes`.

Elements keep their identity wherever they stand, so an order alone is never a change. Live lists may hold several
elements of one key, left by somebody who updates; what an applier gives may not.
"""

from collections.abc import Iterator
from typing import Any

from orchestrator.api.apply import fieldset
from orchestrator.api.apply.fieldset import LEAF, SELF, FieldSet, as_member, keys_key, single_key, value_key
from orchestrator.api.apply.shapes import Shape, put

_ABSENT: Any = object()


class Many(list[Any]):
    """Elements of one list that share a key."""


class Lists(Shape):
    """What both share."""

    __slots__ = ("element",)

    def __init__(self, element: Shape) -> None:
        self.element = element

    def key(self, element: Any) -> str | None:
        """The key of an element; None for one that has none."""
        raise NotImplementedError

    def index(self, value: Any) -> dict[str, Any]:
        """Elements by key; those that share one stand together in a `Many`."""
        found: dict[str, Any] = {}
        for element in value if type(value) is list else ():
            key = self.key(element)
            if key is None:
                continue
            if key in found:
                held = found[key]
                found[key] = Many([*(held if type(held) is Many else (held,)), element])
            else:
                found[key] = element
        return found

    def added(self, value: Any, bare: bool = False) -> FieldSet:
        if type(value) is not list or not value:
            return LEAF
        result: FieldSet = {} if bare else {SELF: LEAF}
        for element in value:
            key = self.key(element)
            if key is not None:
                result[key] = self.element.added(element)
        return result

    def changes(self, old: Any, new: Any) -> tuple[FieldSet | None, FieldSet | None]:
        if not old and not new:
            return LEAF, None
        before, after = self.index(old), self.index(new)
        changed: FieldSet = {}
        removed: FieldSet = {}
        for key, element in after.items():
            held = before.get(key, _ABSENT)
            if held is _ABSENT:
                changed[key] = LEAF if type(element) is Many else self.element.added(element)
            elif type(held) is Many or type(element) is Many:
                if held != element:
                    changed[key] = LEAF
            elif held != element:
                put(key, self.element.changes(held, element), changed, removed)
        for key in before.keys() - after.keys():
            removed[key] = LEAF
        return changed or None, removed or None

    def owned(self, value: Any) -> FieldSet | None:
        if type(value) is not list:
            return LEAF
        result: FieldSet = {}
        for element in value:
            key = self.key(element)
            if key is not None:
                node = self.element.owned(element)
                result[key] = LEAF if node is None else as_member(node)
        return result or None

    def merged(self, live: Any, given: Any) -> Any:
        if type(live) is not list or type(given) is not list or not live:
            return given
        return _Merge(self, live, given).run() if given else live

    def pruned(self, value: Any, gone: FieldSet) -> Any:
        if type(value) is not list or not gone:
            return value
        result = []
        for element in value:
            key = self.key(element)
            node = gone.get(key) if key is not None else None
            if node is None:
                result.append(element)
            elif not fieldset.is_member(node):
                result.append(self.element.pruned(element, node))
        return result

    def named(self, node: FieldSet) -> FieldSet:
        return {key: self.element.named(below) if below else below for key, below in node.items()}

    def duplicates(self, value: list[Any], path: str) -> Iterator[str]:
        """Faults of elements that share a key; each such key once."""
        for key, element in self.index(value).items():
            if type(element) is Many:
                yield f"{path}: duplicate entries for key {fieldset.text((key,))}"


class Keyed(Lists):
    """A list of objects told apart by some of their fields."""

    __slots__ = ("_defaults", "_keys", "_single")

    def __init__(self, element: Shape, keys: tuple[str, ...], defaults: dict[str, Any]) -> None:
        super().__init__(element)
        self._keys = tuple(sorted(keys))
        self._defaults = defaults
        self._single = keys[0] if len(keys) == 1 and not defaults else ""

    def key(self, element: Any) -> str | None:
        if type(element) is not dict:
            return None
        if self._single:
            value = element.get(self._single)
            return None if value is None else single_key(self._single, value)
        values = {}
        for name in self._keys:
            value = element.get(name, self._defaults.get(name))
            if value is not None:
                values[name] = value
        return keys_key(values) if values else None

    def faults(self, value: Any, path: str) -> Iterator[str]:
        if type(value) is not list:
            return
        for at, element in enumerate(value):
            key = self.key(element)
            if key is None:
                names = " ".join(f'"{name}"' for name in self._keys)
                yield (
                    f"{path}: element {at}: associative list with keys has an element that omits all key "
                    f"fields [{names}] (and doesn't have default values for any key fields)"
                )
            else:
                yield from self.element.faults(element, path + fieldset.text((key,)))
        yield from self.duplicates(value, path)


class Members(Lists):
    """A list that is a set of scalars."""

    __slots__ = ()

    def key(self, element: Any) -> str | None:
        return None if element is None else value_key(element)

    def faults(self, value: Any, path: str) -> Iterator[str]:
        if type(value) is list:
            yield from self.duplicates(value, path)


class _Merge:
    """One merge of two lists: the order of what is given, and elements that only the live one has where they
    stood beside those that both have. Used once."""

    def __init__(self, shape: Lists, live: list[Any], given: list[Any]) -> None:
        self._shape = shape
        self._live = live
        self._held, self._given = shape.index(live), shape.index(given)
        self._live_keys = [shape.key(element) for element in live]
        self._shared = [key for key in self._given if key in self._held]
        self._turn = 0
        self._done: set[str] = set()
        self._result: list[Any] = []

    def run(self) -> list[Any]:
        order = list(self._given)
        mine = theirs = 0
        while mine < len(self._live) or theirs < len(order):
            key = self._live_keys[mine] if mine < len(self._live) else None
            wanted = order[theirs] if theirs < len(order) else None
            if mine < len(self._live):
                if key is None or key not in self._given:
                    self._result.append(self._live[mine])
                    mine += 1
                    continue
                if key == wanted or key in self._done or (wanted and key != self._awaited()):
                    mine += 1  # it is taken now, has been, or comes when its turn is
                    if key != wanted:
                        continue
            if wanted is not None:
                self._take(wanted)
                theirs += 1
        return self._result

    def _awaited(self) -> str | None:
        return self._shared[self._turn] if self._turn < len(self._shared) else None

    def _take(self, key: str) -> None:
        held, given = self._held.get(key, _ABSENT), self._given[key]
        plain = held is _ABSENT or type(held) is Many
        self._result.append(given if plain else self._shape.element.merged(held, given))
        self._done.add(key)
        if key == self._awaited():
            self._turn += 1
