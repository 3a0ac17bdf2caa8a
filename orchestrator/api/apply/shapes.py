"""How values of a schema's place merge: one shape per kind of place, each with the walks of server-side apply.

    added(value)         the set of a value that was absent, its own path included
    changes(old, new)    what was added or modified, and the trees that went away (for managers that update)
    owned(value)         the set that an applier owns who gives this value
    merged(live, given)  what the applier gets
    pruned(value, set)   `value` without the members of `set`
    named(set)           `set` with the declared fields on the way as members
    faults(value, path)  what an applier may not give: unknown fields, duplicates, elements without keys

`Leaf` is owned as a whole (scalars, atomic lists and objects), `Map` has free keys, `Deduced` is a place without a
schema, whose objects are maps and whose lists are leaves; structs and roots are in `structs`, lists whose elements
are told apart in `lists`. Shapes hold no values. Walks are spelled out: they run on every write.
"""

from collections.abc import Iterator
from typing import Any

from orchestrator.api.apply import fieldset
from orchestrator.api.apply.fieldset import LEAF, SELF, FieldSet, as_member

_ABSENT: Any = object()


class Shape:
    """A place; by itself one that is owned as a whole. `changes` is asked only about values that differ."""

    __slots__ = ()
    is_leaf = False

    @property
    def stays(self) -> bool:
        """Whether the place never goes away, because it holds what nobody owns."""
        return False

    def added(self, value: Any, bare: bool = False) -> FieldSet:
        """The node of a value that was absent. `bare` leaves out the place itself, as Kubernetes does where its
        own types have an empty value instead of none."""
        return LEAF

    def changes(self, old: Any, new: Any) -> tuple[FieldSet | None, FieldSet | None]:
        """Nodes of what was added or modified and of what was removed, or None; the values are not equal."""
        return LEAF, None

    def owned(self, value: Any) -> FieldSet | None:
        """The node that an applier of `value` owns; None for nothing."""
        return LEAF

    def merged(self, live: Any, given: Any) -> Any:
        return given

    def pruned(self, value: Any, gone: FieldSet) -> Any:
        return value

    def named(self, node: FieldSet) -> FieldSet:
        return node

    def faults(self, value: Any, path: str) -> Iterator[str]:
        return iter(())


class Leaf(Shape):
    """Scalars, atomic lists, atomic objects."""

    __slots__ = ()
    is_leaf = True


LEAF_SHAPE = Leaf()


Field = tuple[str, Shape, bool]
"""A field's key, its shape, and whether it is recorded bare."""


class FreeFields(dict[str, Field | None]):
    """Fields of any name and one shape; keeps none of them."""

    __slots__ = ("_shape",)

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape

    def __missing__(self, name: str) -> Field:
        return "f:" + name, self._shape, False


class Fields(Shape):
    """What structs, maps and places without a schema share: an object of fields."""

    __slots__ = ("fields",)
    fields: dict[str, Field | None]
    """By name, for any name that is asked; None for a field that nobody owns."""

    def declared(self, name: str) -> bool:
        """Whether the schema has the field by name."""
        return False

    def added(self, value: Any, bare: bool = False) -> FieldSet:
        if type(value) is not dict or not value:
            return LEAF
        result: FieldSet = {} if bare else {SELF: LEAF}
        fields = self.fields
        for name, part in value.items():
            found = fields[name]
            if found is not None:
                key, shape, is_bare = found
                node = LEAF if shape is LEAF_SHAPE else shape.added(part, is_bare)
                if node or not is_bare:
                    result[key] = node
        return result

    def changes(self, old: Any, new: Any) -> tuple[FieldSet | None, FieldSet | None]:
        if type(old) is not dict or type(new) is not dict:
            return replaced(self, old, new)
        changed: FieldSet = {}
        removed: FieldSet = {}
        for name, part in new.items():
            before = old.get(name, _ABSENT)
            if before is part or before == part:
                continue
            found = self.fields[name]
            if found is None:
                continue
            key, shape, bare = found
            if before is _ABSENT:
                node = LEAF if shape.is_leaf else shape.added(part, bare)
                if node or not bare:
                    changed[key] = node
            elif shape.is_leaf:
                changed[key] = LEAF
            else:
                put(key, shape.changes(before, part), changed, removed)
        for name in old.keys() - new.keys():
            found = self.fields[name]
            if found is not None:
                removed[found[0]] = LEAF
        return changed or None, removed or None

    def owned(self, value: Any) -> FieldSet | None:
        if type(value) is not dict:
            return LEAF
        result: FieldSet = {}
        for name, part in value.items():
            found = self.fields[name]
            if found is None:
                continue
            key, shape, _ = found
            node = LEAF if part == {} else shape.owned(part)
            if not self.declared(name):
                node = LEAF if node is None else as_member(node)
            if node is not None:
                result[key] = node
        return result or None

    def merged(self, live: Any, given: Any) -> Any:
        if type(live) is not dict or type(given) is not dict:
            return given
        result = dict(live)
        for name, part in given.items():
            if name in live:
                found = self.fields[name]
                result[name] = found[1].merged(live[name], part) if found else part
            else:
                result[name] = part
        return result

    def pruned(self, value: Any, gone: FieldSet) -> Any:
        if type(value) is not dict or not gone:
            return value
        result = {}
        for name, part in value.items():
            found = self.fields[name]
            node = gone.get(found[0]) if found else None
            if found is None or node is None:
                result[name] = part
            elif not fieldset.is_member(node):
                result[name] = found[1].pruned(part, node)
        return result

    def named(self, node: FieldSet) -> FieldSet:
        if not node:
            return node
        result: FieldSet = {}
        for key, below in node.items():
            found = self.fields[key[2:]] if key[:2] == "f:" else None
            if found is not None and below:
                below = found[1].named(below)
                if self.declared(key[2:]) and not found[1].stays:
                    below = as_member(below)
            result[key] = below
        return result


def replaced(shape: Shape, old: Any, new: Any) -> tuple[FieldSet, FieldSet | None]:
    """One kind of value took the place of another."""
    before = shape.added(old, True)
    return as_member(shape.added(new)), {key: LEAF for key in before if key != SELF} or None


def put(
    key: str, found: tuple[FieldSet | None, FieldSet | None], changed: FieldSet, removed: FieldSet
) -> None:
    """Enter what a field's shape found under the field's key."""
    if found[0] is not None:
        changed[key] = found[0]
    if found[1] is not None:
        removed[key] = found[1]


class Map(Fields):
    """An object with free keys, such as labels."""

    __slots__ = ("values",)

    def __init__(self, values: Shape) -> None:
        self.values = values
        self.fields = FreeFields(values)

    def added(self, value: Any, bare: bool = False) -> FieldSet:
        if type(value) is not dict or not value or not self.values.is_leaf:
            return super().added(value, bare)
        result: FieldSet = {} if bare else {SELF: LEAF}
        for name in value:
            result["f:" + name] = LEAF
        return result

    def faults(self, value: Any, path: str) -> Iterator[str]:
        if type(value) is dict and not self.values.is_leaf:
            for name, part in value.items():
                yield from self.values.faults(part, f"{path}.{name}")


class Deduced(Fields):
    """A place without a schema: an object is a map of such places, anything else is a leaf."""

    __slots__ = ()

    def __init__(self) -> None:
        self.fields = FreeFields(self)


DEDUCED = Deduced()
