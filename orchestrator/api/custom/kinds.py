"""What one CustomResourceDefinition gives: per version a row of the resource table, a schema and its functions.

`CustomKind.of` reads a definition that is valid and established. The schema of a version is kept as JSON
bytes and decoded, without texts, when the first object needs it. Made anew for every change of a definition;
nothing here changes afterwards but what is filled in when first used. Called by `registry.custom_kinds`.
"""

import hashlib
from functools import cached_property
from typing import Any

import msgspec

from orchestrator.api.conversion import View
from orchestrator.api.custom.cleaning import Cleaner, MetaCleaner
from orchestrator.api.custom.hints import CustomNode
from orchestrator.api.custom.schema import ANYTHING, Definition, Node, may_default, weight_of, without_texts
from orchestrator.api.custom.validation import Validator
from orchestrator.api.errors import InternalError
from orchestrator.api.item import Object, decode, encode
from orchestrator.api.resources import READ_WRITE, STATUS_VERBS, CustomColumn, Resource, Subresource
from orchestrator.api.schema_node import SchemaNode

LARGE_SCHEMA_BYTES = 16 * 1024
_NOT_READ_YET = 1000
_CHECKS_PER_PART = 8
"""How many checks of a schema take as long as all other work on one part of an object."""
_LISTED_WHEN_ENDING = ("delete", "deletecollection", "get", "list", "watch")

_encode = msgspec.json.Encoder().encode


class _Typed(msgspec.Struct):
    apiVersion: str = ""  # the name in JSON


_decode_typed = msgspec.json.Decoder(_Typed).decode


class CustomVersion:
    """One version of a custom kind."""

    def __init__(self, row: Resource, version: Object, deprecation: str) -> None:
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        self.row = row
        self.deprecation = deprecation
        """What clients of this version are told; empty for a version that is not deprecated."""
        self.raw: bytes = _encode(schema)
        """The schema as it was given, descriptions included, for OpenAPI."""
        self.has_status = row.subresource("status") is not None

    @cached_property
    def digest(self) -> str:
        """Tells this schema from every other."""
        return hashlib.sha256(self.raw).hexdigest()[:32]

    @cached_property
    def definition(self) -> Definition:
        found: Definition = without_texts(msgspec.json.decode(self.raw))
        return found or ANYTHING

    @property
    def weight(self) -> int:
        """How much more work a part of an object is than one of a built-in kind, at least 1: for the first object
        of a large schema, that schema is read."""
        if len(self.raw) > LARGE_SCHEMA_BYTES and "_weight" not in self.__dict__:
            return _NOT_READ_YET
        return self._weight

    @cached_property
    def _weight(self) -> int:
        return 1 + weight_of(self.definition) // _CHECKS_PER_PART

    @cached_property
    def node(self) -> Node:
        return Node(self.definition)

    @cached_property
    def validator(self) -> Validator:
        return Validator(self.definition)

    def clean(self, obj: Object, clean_meta: MetaCleaner) -> tuple[Object, list[str]]:
        """`obj` pruned and with defaults, and the paths of what was pruned; the same object if it was clean."""
        _ = self._weight  # With a large schema this is a thread: nobody on the loop has to look through it.
        cleaner = Cleaner(clean_meta)
        obj = cleaner.root(self.node, obj)
        metadata = obj.get("metadata")
        if metadata is not None:
            kept = clean_meta(metadata, "metadata", cleaner.unknown)
            if kept is not metadata:
                obj = {**obj, "metadata": kept}
        return obj, cleaner.unknown

    def restored(self, obj: Object) -> Object:
        """A stored object as the schema of today has it: pruned, with the defaults that came since."""
        return Cleaner(_as_it_is).root(self.node, obj)

    def hints(self, meta: SchemaNode) -> CustomNode:
        """The root of the merge facts; `meta` is the node of `ObjectMeta`."""
        return CustomNode(self.node, meta, whole=True)


def _as_it_is(metadata: Any, path: str, unknown: list[str]) -> Any:
    return metadata


class CustomKind:
    """Every version of one custom kind, and in which of them its objects are kept."""

    def __init__(
        self, name: str, versions: dict[str, CustomVersion], served: tuple[str, ...], storage: str,
        *, generation: int, ending: bool, webhook: bool,
    ) -> None:  # fmt: skip
        self.name = name
        """The definition's, such as `shirts.stable.example.com`."""
        self.versions = versions
        """All, by their names; also those that are not served."""
        self.served = served
        self.storage = storage
        self.generation = generation
        """That of the definition."""
        self.ending = ending
        """Whether the definition is being deleted: then nothing is created any more."""
        self.webhook = webhook
        """Whether versions differ in more than their name."""

    @property
    def rows(self) -> list[Resource]:
        return [self.versions[name].row for name in self.served]

    def version_of(self, obj: Object) -> CustomVersion:
        """The version that an object says it has."""
        return self.versions[obj["apiVersion"].rpartition("/")[2]]

    @classmethod
    def of(cls, crd: Object) -> "CustomKind":
        """From a definition that passed validation and whose names are accepted."""
        spec, status = crd["spec"], crd.get("status") or {}
        names = status.get("acceptedNames") or spec["names"]
        ending = _is_true(status, "Terminating") or bool(crd["metadata"].get("deletionTimestamp"))
        storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
        changed = len(spec["versions"]) > 1 or crd["metadata"].get("generation", 1) > 1
        stored_before = set(status.get("storedVersions") or ()) - {storage}
        versions = {}
        for version in spec["versions"]:
            restores = changed or bool(stored_before) or may_default(_encode(_schema_of(version)))
            row = _row(spec, names, version, (spec["group"], storage) if restores else None, ending)
            versions[version["name"]] = CustomVersion(row, version, _deprecation(row, version))
        served = tuple(version["name"] for version in spec["versions"] if version.get("served"))
        webhook = (spec.get("conversion") or {}).get("strategy") == "Webhook"
        metadata = crd["metadata"]
        generation = metadata.get("generation", 1)
        return cls(
            metadata["name"], versions, served, storage, generation=generation, ending=ending, webhook=webhook
        )


def is_served(crd: Object) -> bool:
    """Whether objects of the definition are served: its names are its own and it is established."""
    return _is_true(crd.get("status") or {}, "Established")


def _is_true(status: Object, kind: str) -> bool:
    return any(
        each.get("type") == kind and each.get("status") == "True" for each in status.get("conditions") or ()
    )


def _schema_of(version: Object) -> Any:
    return (version.get("schema") or {}).get("openAPIV3Schema")


def _deprecation(row: Resource, version: Object) -> str:
    if not version.get("deprecated"):
        return ""
    return version.get("deprecationWarning") or f"{row.api_version} {row.kind} is deprecated"


def _row(
    spec: Object, names: Object, version: Object, stored_as: tuple[str, str] | None, ending: bool
) -> Resource:
    group, plural = spec["group"], names["plural"]
    return Resource(
        group,
        version["name"],
        names["kind"],
        plural,
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=_LISTED_WHEN_ENDING if ending else READ_WRITE,
        subresources=_subresources(names["kind"], version.get("subresources") or {}, ending),
        prefix=f"{group}/{plural}",
        selectable=tuple(each["jsonPath"].lstrip(".") for each in version.get("selectableFields") or ()),
        stored_as=stored_as,
        columns=tuple(_column(each) for each in version.get("additionalPrinterColumns") or ()),
        listed_as=names.get("listKind") or "",
    )


def _subresources(kind: str, wanted: Object, ending: bool) -> tuple[Subresource, ...]:
    verbs = ("get",) if ending else STATUS_VERBS
    found = []
    if wanted.get("status") is not None:
        found.append(Subresource("status", kind, verbs))
    scale = wanted.get("scale")
    if scale is not None:
        paths = scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or ""
        found.append(Subresource("scale", "Scale", verbs, "autoscaling", "v1", paths))
    return tuple(found)


def _column(column: Object) -> CustomColumn:
    return CustomColumn(
        column["name"],
        column["type"],
        column["jsonPath"],
        column.get("format") or "",
        column.get("description") or "",
        column.get("priority") or 0,
    )


class CustomView(View):
    """One version over what is kept: worked in as asked, translated and restored only when read and written.

    Conversion by webhook comes with the extension of the API: until then an object that would need it is refused.
    """

    def __init__(self, kind: CustomKind, version: CustomVersion) -> None:
        super().__init__(version.row, version.row)
        self._kind = kind
        self._version = version
        self._asked = version.row.api_version
        self._kept = f"{version.row.group}/{kind.storage}"

    def opened(self, raw: bytes, revision: int) -> Object:
        return self._version.restored(self._converted(decode(raw, revision), self._asked))

    def closed(self, obj: Object) -> bytes:
        return encode(self._converted(obj, self._kept))

    def current(self, raw: bytes) -> bool:
        return _decode_typed(raw).apiVersion == self._kept

    def presented(self, raw: bytes) -> bytes:
        kept = decode(raw, 0)
        if "kind" not in kept:  # of an event whose object is not known any more
            return raw
        shown = self._version.restored(self._converted(kept, self._asked))
        return raw if shown is kept else encode(shown)

    def _converted(self, obj: Object, api_version: str) -> Object:
        if obj["apiVersion"] == api_version:
            return obj
        if self._kind.webhook:
            what = f"{obj['apiVersion']}, Kind={self._version.row.kind}"
            raise InternalError(
                f"conversion webhook for {what} failed: this server does not convert by webhook yet"
            )
        return {**obj, "apiVersion": api_version}
