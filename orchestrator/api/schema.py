"""Schemas of the built-in kinds: check an incoming object as kube-apiserver's decoder would, and merge hints.

Two looks: compiled checkers (`schema_fast`) accept a clean object in one pass; only if they are not content does
`schema_decode` walk it again with paths to prune, rewrite or refuse. Everything is read lazily from the bundle
that `hatch_build.py` generates. Called by the registry for every write, by patches, and by OpenAPI.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from orchestrator.api.custom.hints import CustomNode
from orchestrator.api.custom.kinds import CustomVersion
from orchestrator.api.errors import BadRequest
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.api.schema_bundle import PATH, Bundle
from orchestrator.api.schema_decode import FAULTS_MAX, Walk, WrongType
from orchestrator.api.schema_fast import Compiler
from orchestrator.api.schema_node import SchemaNode

Gvk = tuple[str, str, str]
"""Group (empty for core), version, kind."""

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_OBJECT_META = f"{_META}.ObjectMeta"


class Schemas:
    """All schemas of the process. One per process; safe to share since it only fills caches."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._compiler = Compiler(bundle)
        self.custom: dict[Gvk, CustomVersion] = {}
        """Custom kinds that are served; `registry.custom_kinds` keeps it."""

    @classmethod
    def load(cls, path: Path = PATH) -> "Schemas":
        """From the generated bundle; reads its index only. Raises `StartupError` when it is missing."""
        return cls(Bundle(path))

    def known(self, resource: Resource | Gvk) -> bool:
        """Whether there is a schema for the kind; objects of other kinds pass unchecked."""
        return self.name(resource) is not None

    def name(self, resource: Resource | Gvk) -> str | None:
        """Full name of the kind's definition. Options such as DeleteOptions have one in every group."""
        group, version, kind = _gvk(resource)
        kinds = self.bundle.kinds
        found = kinds.get(f"{group}/{version}/{kind}")
        if found is None:
            shared = kinds.get(f"/v1/{kind}", "")
            found = shared if shared.startswith(_META) else None
        return found

    def check(
        self, resource: Resource | Gvk, obj: Object, field_validation: str, duplicates: Iterable[str] = ()
    ) -> tuple[Object, list[str]]:
        """The object as it would be decoded, and warnings; the same object when nothing needs to change.

        Unknown fields are pruned and, as `field_validation` says, ignored, warned of (`Warn`) or refused
        (`Strict`), as are `duplicates`, the paths of fields that stood twice in the body. Nulls are dropped.
        Raises `BadRequest` naming the field for a wrong type, and for what `Strict` refuses.
        """
        name = self.name(resource)
        unknown: list[str] = []
        if name is not None and not self._compiler.definition(name)(obj):
            walk = Walk(self.bundle)
            try:
                obj = walk.definition(name, obj)
            except WrongType as error:
                raise _refused(resource, str(error)) from None
            unknown = walk.unknown
        elif name is None:
            obj, unknown = self._check_custom(resource, obj)
        return obj, _faults(resource, field_validation, unknown, duplicates)

    def _check_custom(self, resource: Resource | Gvk, obj: Object) -> tuple[Object, list[str]]:
        """Pruned and with defaults by the kind's own schema, and the paths of what was pruned."""
        custom = self.custom.get(_gvk(resource))
        if custom is None:
            return obj, []
        try:
            return custom.clean(obj, self._clean_meta)
        except WrongType as error:
            raise _refused(resource, str(error)) from None

    def _clean_meta(self, metadata: Any, path: str, unknown: list[str]) -> Any:
        """Metadata as `ObjectMeta` decodes it; the same if that changes nothing. Raises `WrongType`."""
        if self._compiler.definition(_OBJECT_META)(metadata):
            return metadata
        walk = Walk(self.bundle)
        cleaned = walk.definition(_OBJECT_META, metadata, path)
        unknown += walk.unknown
        return cleaned

    def merge_hints(self, resource: Resource | Gvk) -> SchemaNode | CustomNode:
        """The root of the kind's merge facts; an empty node for kinds without a schema."""
        name = self.name(resource)
        if name is None and (custom := self.custom.get(_gvk(resource))) is not None:
            return custom.hints(SchemaNode(self.bundle, {"$ref": _OBJECT_META}))
        return SchemaNode(self.bundle, {"$ref": name} if name else {})

    def weight(self, resource: Resource | Gvk) -> int:
        """How much more work a part of an object is than one of a built-in kind; at least 1."""
        custom = self.custom.get(_gvk(resource))
        return 1 if custom is None else custom.weight


def _faults(
    resource: Resource | Gvk, field_validation: str, unknown: list[str], duplicates: Iterable[str]
) -> list[str]:
    """Warnings for `Warn`; raises for `Strict`."""
    faults = [f'unknown field "{path}"' for path in unknown]
    faults += [f'duplicate field "{path}"' for path in duplicates]
    if not faults or field_validation == "Ignore":
        return []
    if field_validation == "Strict":
        raise _refused(resource, "strict decoding error: " + ", ".join(faults[:FAULTS_MAX]))
    return faults[:FAULTS_MAX]


def _gvk(resource: Resource | Gvk) -> Gvk:
    if isinstance(resource, Resource):
        return resource.group, resource.version, resource.kind
    return resource


def _refused(resource: Resource | Gvk, why: str) -> BadRequest:
    _, version, kind = _gvk(resource)
    return BadRequest(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')
