"""OpenAPI of what the resource table serves: an index and one v3 document per group and version, and v2.

Documents are rendered when asked for, from the schema bundle and its descriptions, and kept compressed only: a
client asks once, and the core group's is 1.5 MB. A document's hash comes from what it is rendered from, so the
index renders nothing. Called by the server; rendering takes tens of milliseconds, so call it in a thread.
"""

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from orchestrator.api import openapi_gnostic
from orchestrator.api.custom.openapi import REFERRED, component_name, components, simplified
from orchestrator.api.errors import NotFound
from orchestrator.api.openapi_more import discovery_item, discovery_paths
from orchestrator.api.openapi_paths import camel, paths, root
from orchestrator.api.openapi_v2 import swagger
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.api.schema_bundle import Bundle, Definition
from orchestrator.api.schema_fast import INT_OR_STRING, QUANTITY
from orchestrator.api.schema_node import KEY_DEFAULTS

_REVISION = 2
"""Counts changes to the rendering below, so that clients' caches notice them."""
_KEPT_MAX = 64
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_ALWAYS = (f"{_META}DeleteOptions", f"{_META}Status", f"{_META}Patch", f"{_META}WatchEvent")
_PREFIX = "#/components/schemas/"
_VERSION = {
    "type": "object",
    "properties": {
        name: {"type": "string"}
        for name in ("major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion",
                     "compiler", "platform")
    },
}  # fmt: skip
_DISCOVERY_MEDIA = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")

Json = dict[str, Any]


_Rows = dict[str, list[Resource]]
"""By a document's path."""


class OpenAPI:
    """Documents for `table`. Safe to call from several threads: the worst is a document rendered twice."""

    def __init__(self, table: ResourceTable, schemas: Schemas) -> None:
        self._table = table
        self._schemas = schemas
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def index(self) -> bytes:
        """Body of `/openapi/v3`: where each document is, with its hash."""
        found = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path, rows)}"}
            for path, rows in sorted({**self._groups(), **self._discovered()}.items())
        }
        return msgspec.json.encode({"paths": found})

    def document(self, path: str) -> tuple[bytes, str]:
        """Body and ETag of `/openapi/v3/<path>`, path being `api/v1` or `apis/apps/v1`. Raises `NotFound`."""
        rows = self._groups().get(path, self._discovered().get(path))
        if rows is None:
            raise NotFound("the server could not find the requested resource")
        etag = self._hash(path, rows)
        return self._keep(etag, lambda: msgspec.json.encode(self.render(path))), etag

    def swagger(self) -> tuple[bytes, str]:
        """Body and ETag of `/openapi/v2` as JSON."""
        etag = self._swagger_hash("json")
        return self._keep(etag, lambda: msgspec.json.encode(self._swagger())), etag

    def swagger_protobuf(self) -> tuple[bytes, str]:
        """Body and ETag of `/openapi/v2` as `openapi_gnostic.MEDIA_TYPE`, for kubectl before 1.29."""
        etag = self._swagger_hash("protobuf")
        return self._keep(etag, lambda: openapi_gnostic.encode(self._swagger())), etag

    def render(self, path: str) -> Json:
        """The document as a dictionary of the caller's own. Raises `NotFound`."""
        return self._render(path, self._groups(), self._discovered())

    def _render(self, path: str, groups: _Rows, discovered: _Rows) -> Json:
        rows = groups.get(path, [])
        if path not in groups and path not in discovered:  # Its last kind has gone since.
            raise NotFound("the server could not find the requested resource")
        found, wanted = self._discovery_of(path, rows, discovered)
        extra: Json = {}
        for row in rows:
            schema = self._schemas.name(row) or self._custom(row, extra)
            subs = {
                sub.name: self._sub_schema(row, sub.group, sub.version, sub.kind) for sub in row.subresources
            }
            found.update(paths(row, schema, subs))
            wanted += [schema, f"{schema}List", *subs.values()]
        wanted += REFERRED if extra else ()
        known = _Components(self._schemas.bundle).closure([name for name in wanted if name not in extra])
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self._schemas.bundle.version},
            "paths": dict(sorted(found.items())),
            "components": {"schemas": dict(sorted((known | extra).items()))},
        }

    def _swagger(self) -> Json:
        groups, discovered = (
            self._groups(),
            self._discovered(),
        )  # Once: this runs in a thread, and kinds come and go.
        documents = [self._render(path, groups, discovered) for path in sorted({**groups, **discovered})]
        custom = {component_name(row) for row in self._table if row.columns is not None}
        for document in documents:
            schemas = document["components"]["schemas"]
            for name in custom & schemas.keys():
                schemas[name] = simplified(schemas[name])
        return swagger(documents, self._schemas.bundle.version)

    def _swagger_hash(self, form: str) -> str:
        joined = "".join(self._hash(path, rows) for path, rows in sorted(self._groups().items()))
        return hashlib.sha256(f"{form} {joined}".encode()).hexdigest()[:32].upper()

    def _keep(self, etag: str, render: Callable[[], bytes]) -> bytes:
        kept = self._kept.get(etag)
        if kept is not None:
            return zlib.decompress(kept)
        body = render()
        self._kept[etag] = zlib.compress(body, 6)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return body

    def _groups(self) -> dict[str, list[Resource]]:
        found: dict[str, list[Resource]] = {}
        for row in self._table:
            found.setdefault(root(row).lstrip("/"), []).append(row)
        return found

    def _hash(self, path: str, rows: list[Resource]) -> str:
        facts = (
            f"{_REVISION} {self._schemas.bundle.version} {path} {sorted(rows, key=lambda row: row.plural)}"
        )
        for row in rows:
            version = self._schemas.custom.get((row.group, row.version, row.kind))
            if row.columns is not None and version is not None:
                facts += version.digest
        return hashlib.sha256(facts.encode()).hexdigest()[:32].upper()

    def _discovered(self) -> dict[str, list[Resource]]:
        """Paths of documents that describe discovery, with the rows that they stand for."""
        found: dict[str, list[Resource]] = {"apis": [], "version": []}
        for row in self._table:
            found.setdefault(f"apis/{row.group}" if row.group else "api", []).append(row)
        return found

    def _discovery_of(self, path: str, rows: list[Resource], discovered: _Rows) -> tuple[Json, list[str]]:
        """The path of a discovery document, and the definitions that it and every document need."""
        if path == "version":
            return {
                "/version/": discovery_item("getCodeVersion", "Info", _VERSION, ("application/json",))
            }, []
        of = rows or discovered[path]
        group = of[0].group if of else None
        name = camel(of[0]) if rows else camel(of[0]).removesuffix(of[0].version.capitalize()) if of else ""
        at, operation_id, kind = discovery_paths(group, name, bool(rows))
        schema = f"{_META}{kind}"
        item = discovery_item(operation_id, kind, {"$ref": _PREFIX + schema}, _DISCOVERY_MEDIA)
        return {at or f"/{path}/": item}, [schema, *(_ALWAYS if rows else ())]

    def _sub_schema(self, row: Resource, group: str, version: str, kind: str) -> str:
        return self._schemas.name((group, version, kind) if version else (row.group, row.version, kind)) or ""

    def _custom(self, row: Resource, extra: Json) -> str:
        """The components of a custom kind; of any other without a schema, an object of which anything is said."""
        name, version = component_name(row), self._schemas.custom.get((row.group, row.version, row.kind))
        if version is not None:
            extra.update(components(version))
            return name
        gvk = {"group": row.group, "kind": row.kind, "version": row.version}
        for suffix in ("", "List"):
            extra[name + suffix] = {
                "type": "object",
                "x-kubernetes-group-version-kind": [{**gvk, "kind": row.kind + suffix}],
                "x-kubernetes-preserve-unknown-fields": True,
            }
        return name


class _Components:
    """Gathers definitions with descriptions, and what they refer to. Lives for one rendering."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._packages: dict[str, tuple[dict[str, Definition], dict[str, dict[str, str]]]] = {}

    def closure(self, names: list[str]) -> Json:
        found: Json = {}
        waiting = [name for name in names if name]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            package = name.rpartition(".")[0]
            schemas, texts = self._package(package)
            if name in schemas:
                found[name] = _render(name, schemas[name], texts.get(name.rpartition(".")[2], {}), waiting)
        return found

    def _package(self, name: str) -> tuple[dict[str, Definition], dict[str, dict[str, str]]]:
        if name not in self._packages:
            known = name in self._bundle.packages()
            self._packages[name] = (self._bundle.fresh(name), self._bundle.texts(name)) if known else ({}, {})
        return self._packages[name]


def _render(name: str, schema: Definition, texts: dict[str, str], refers_to: list[str]) -> Json:
    """One component in v3 form. Adds what it refers to to `refers_to`."""
    own = {"description": texts[""]} if "" in texts else {}
    if name == INT_OR_STRING:
        return {**own, "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
    if name == QUANTITY:
        return {**own, "oneOf": [{"type": "string"}, {"type": "number"}]}
    out = {**own, **schema}
    if "properties" in schema:
        defaults = KEY_DEFAULTS.get(name, {})
        out["properties"] = {
            field: _field(part, texts.get(field), defaults.get(field), refers_to)
            for field, part in schema["properties"].items()
        }
    return out


def _field(part: Definition, text: str | None, default: Any, refers_to: list[str]) -> Json:
    out = _linked(part, refers_to)
    if text is not None:
        out["description"] = text
    if default is not None:
        out["default"] = default
    if "$ref" in out and len(out) > 1:
        out["allOf"] = [{"$ref": out.pop("$ref")}]
    return out


def _linked(part: Definition, refers_to: list[str]) -> Json:
    """A copy with references in v3 form, at any depth of lists and maps."""
    out = dict(part)
    if "$ref" in out:
        refers_to.append(out["$ref"])
        out["$ref"] = _PREFIX + out["$ref"]
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = _linked(out[key], refers_to)
    return out
