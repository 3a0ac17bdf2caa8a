"""Shapes made from a schema: structs with their declared fields, the root of a kind, and its metadata.

Fields are looked up in the schema when first seen, since most objects use few of a kind's. `Shapes` keeps the roots
by kind, for as long as the kind's schema is the same; what a struct that several kinds share (metadata, pod
templates) needs is made once.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from orchestrator.api.apply.lists import Keyed, Members
from orchestrator.api.apply.shapes import DEDUCED, LEAF_SHAPE, Field, Fields, FreeFields, Map, Shape

Gvk = tuple[str, str, str]

UNOWNED_META = frozenset({
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
    "resourceVersion",
})  # fmt: skip
"""Metadata that no manager owns, as in Kubernetes."""
_UNOWNED_ROOT = frozenset({"apiVersion", "kind"})

_VALUES = frozenset({
    "metadata", "spec", "status", "template", "strategy", "updateStrategy", "jobTemplate", "resources", "state",
    "lastState", "loadBalancer", "daemonEndpoints", "nodeInfo", "kubeletEndpoint", "involvedObject", "source",
    "backend", "resource", "target", "current", "scaleTargetRef", "names", "acceptedNames", "clientConfig",
})  # fmt: skip
"""Fields whose struct is a value and no pointer in Kubernetes' types: an empty one is there before anybody sets a
field of it, so nobody comes to own the struct itself. The definitions do not tell."""


class Place(Protocol):
    """What is needed of a schema's place: `api.schema_node.SchemaNode`, or that of a custom kind."""

    @property
    def definition(self) -> dict[str, Any]: ...
    @property
    def preserves_unknown(self) -> bool: ...
    @property
    def type(self) -> str: ...
    @property
    def is_map(self) -> bool: ...
    @property
    def list_type(self) -> str: ...
    @property
    def map_keys(self) -> tuple[str, ...]: ...
    @property
    def map_key_defaults(self) -> dict[str, Any]: ...
    @property
    def map_type(self) -> str: ...
    def child(self, field: str) -> "Place": ...
    def item(self) -> "Place": ...
    def has(self, field: str) -> bool: ...
    def is_required(self, field: str) -> bool: ...


class Schemas(Protocol):
    """What is needed of `orchestrator.api.schema.Schemas`."""

    def merge_hints(self, kind: Gvk, /) -> Any: ...


class _Found(dict[str, Field | None]):
    """A struct's fields, looked up in the schema when first asked for; unknown ones are not kept."""

    __slots__ = ("struct",)
    struct: "Struct"

    def __missing__(self, name: str) -> Field | None:
        return self.struct.look_up(name)


class Struct(Fields):
    """An object with declared fields."""

    __slots__ = ("_built", "_node", "_unowned")

    def __init__(
        self, node: Place, built: dict[int, "Struct"], unowned: frozenset[str] = frozenset()
    ) -> None:
        self._node = node
        self._built = built
        self._unowned = unowned
        self.fields = found = _Found(dict.fromkeys(unowned))
        found.struct = self

    def look_up(self, name: str) -> Field | None:
        """A field that is asked for the first time."""
        node = self._node
        place = node.child(name)
        if node.preserves_unknown and place.type == "":
            return f"f:{name}", DEDUCED, False
        if not node.has(name):
            return None
        shape = shape_of(place, self._built)
        bare = name in _VALUES if isinstance(shape, Struct) else node.is_required(name) and not shape.is_leaf
        found = self.fields[name] = f"f:{name}", shape, bare
        return found

    @property
    def stays(self) -> bool:
        return bool(self._unowned)

    def declared(self, name: str) -> bool:
        found = self.fields[name]
        return found is not None and not (found[1] is DEDUCED and self._node.preserves_unknown)

    def faults(self, value: Any, path: str) -> Iterator[str]:
        if type(value) is not dict:
            return
        for name, part in value.items():
            if name in self._unowned:
                continue
            found = self.fields[name]
            if found is None:
                yield f"{path}.{name}: field not declared in schema"
            elif not found[1].is_leaf:
                yield from found[1].faults(part, f"{path}.{name}")


class FreeRoot(Fields):
    """The root of a kind without a schema: metadata as everywhere, the rest deduced."""

    __slots__ = ()

    def __init__(self, metadata: Struct) -> None:
        self.fields = FreeFields(DEDUCED)
        self.fields.update(dict.fromkeys(_UNOWNED_ROOT))
        self.fields["metadata"] = "f:metadata", metadata, True

    def declared(self, name: str) -> bool:
        return name == "metadata"


def shape_of(node: Place, built: dict[int, Struct]) -> Shape:
    """The shape of a place. `built` holds the structs that were made, by the identity of their definition."""
    kind = node.type
    if kind == "array":
        return _list_shape(node, built)
    if kind == "":
        return DEDUCED if node.preserves_unknown else LEAF_SHAPE
    if kind != "object" or node.map_type == "atomic":
        return LEAF_SHAPE
    if node.is_map:
        return Map(shape_of(node.child(""), built))
    found = built.get(id(node.definition))
    if found is None:
        found = built[id(node.definition)] = Struct(node, built)
    return found


def _list_shape(node: Place, built: dict[int, Struct]) -> Shape:
    if node.list_type == "map" and node.map_keys:
        return Keyed(shape_of(node.item(), built), node.map_keys, node.map_key_defaults)
    return Members(shape_of(node.item(), built)) if node.list_type == "set" else LEAF_SHAPE


class Root(Struct):
    """The object of a kind that has a schema."""

    __slots__ = ()

    def __init__(self, node: Place, built: dict[int, Struct], metadata: Struct) -> None:
        super().__init__(node, built, _UNOWNED_ROOT)
        self.fields["metadata"] = "f:metadata", metadata, True


class Shapes:
    """Roots by kind. One per registry; only fills caches."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._built: dict[int, Struct] = {}
        self._roots: dict[Gvk, tuple[Any, Fields]] = {}
        self._metadata: Struct | None = None

    def root(self, kind: Gvk) -> Fields:
        """The shape of a kind's objects; made anew when its schema has changed."""
        node = self._schemas.merge_hints(kind)
        known = self._roots.get(kind)
        if known is not None and known[0] is node.definition:
            return known[1]
        metadata = self._meta()
        if node.type == "object" and node.has("metadata"):
            # Structs of a schema that may be replaced are not shared: they would outlive it.
            built = self._built if "." not in kind[0] or kind[0].endswith(".k8s.io") else {}
            root: Fields = Root(node, built, metadata)
        else:
            root = FreeRoot(metadata)
        self._roots[kind] = node.definition, root
        return root

    def forget(self, kind: Gvk) -> None:
        """What was kept for a kind that is not served any more."""
        self._roots.pop(kind, None)

    def _meta(self) -> Struct:
        """The shape of metadata, taken from a kind that always has a schema."""
        if self._metadata is None:
            node = self._schemas.merge_hints(("", "v1", "ConfigMap")).child("metadata")
            self._metadata = Struct(node, self._built, UNOWNED_META)
        return self._metadata
