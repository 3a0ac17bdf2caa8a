"""Discovery, legacy and aggregated, made from the resource table and kept as bytes until the table changes.

Aggregated documents carry an ETag, so that a client that has them gets 304.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from orchestrator.api.resources import Resource, ResourceTable, Subresource
from orchestrator.api.versions import priority
from orchestrator.server.errors import NO_CACHE, status_answer, unknown_resource
from orchestrator.server.media import HEADERS_OF
from orchestrator.server.negotiate import media_ranges, offer
from orchestrator.web.answer import Answer, Request, header
from orchestrator.wire.kubernetes import encode_object

_AGGREGATED = ("v2", "v2beta1")

_encode = msgspec.json.Encoder().encode


class Discovery:
    """Answers `/api`, `/apis` and what is below them down to a version. Owner of the cached documents."""

    def __init__(self, table: ResourceTable, server_address: str) -> None:
        """`server_address` is `host:port` as clients reach it."""
        self._table = table
        self._address = server_address
        self._rows: tuple[Resource, ...] = ()
        self._plain: dict[str, bytes] = {}
        self._aggregated: dict[tuple[str, str], tuple[bytes, str]] = {}

    def answer(self, request: Request, path: str) -> Answer:
        """The document at `path` (`/api`, `/apis/apps/v1` …) in the form the client prefers, or 404."""
        self._refresh()
        path = path.rstrip("/")
        if path in ("/api", "/apis"):
            version = _aggregated_version(request.headers.get("Accept", ""))
            if version:
                return self._aggregated_answer(request, path, version)
        body = self._plain.get(path)
        if body is None:
            return status_answer(unknown_resource())
        body, headers = _in_media(request.headers.get("Accept", ""), body)
        return Answer(200, body, headers + _VARY if path in ("/api", "/apis") else headers)

    def _aggregated_answer(self, request: Request, path: str, version: str) -> Answer:
        body, etag = self._aggregated[path, version]
        kind = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        headers = header("Content-Type", kind) + header("ETag", etag) + _VARY + NO_CACHE
        if request.headers.get("If-None-Match") == etag:
            return Answer(304, b"", headers)
        return Answer(200, body, headers)

    def _refresh(self) -> None:
        rows = tuple(self._table)
        if rows == self._rows:
            return
        self._rows = rows
        self._plain = {path: _encode(document) for path, document in _legacy(rows, self._address)}
        self._aggregated = {}
        for version in _AGGREGATED:
            for path, core in (("/api", True), ("/apis", False)):
                body = _encode(_group_list(rows, core, version))
                digest = hashlib.sha256(body).hexdigest().upper()
                self._aggregated[path, version] = body, f'"{digest}"'


_VARY = b"Vary: Accept\r\n"


def _in_media(accept: str, body: bytes) -> tuple[bytes, bytes]:
    """A legacy document as the client prefers it, and its headers. Raises `NotAcceptable`."""
    media = offer(accept).media
    if media == "protobuf":
        document = msgspec.json.decode(body)
        return encode_object({"apiVersion": "v1", **document}), HEADERS_OF[media]
    return body, HEADERS_OF[media]  # JSON is YAML.


def _aggregated_version(accept: str) -> str:
    """`v2` or `v2beta1` when the client prefers an aggregated document that we have, else empty."""
    for candidate in media_ranges(accept):
        parameters = candidate.parameters
        if candidate.type != "application/json":
            continue
        if not parameters:
            return ""
        if (
            parameters.get("g") == "apidiscovery.k8s.io"
            and parameters.get("as") == "APIGroupDiscoveryList"
            and parameters.get("v") in _AGGREGATED
        ):
            return parameters["v"]
    return ""


def _groups(rows: Iterable[Resource]) -> dict[str, dict[str, list[Resource]]]:
    """Group → version, preferred first → rows; groups and rows in the table's order."""
    groups: dict[str, dict[str, list[Resource]]] = {}
    for row in rows:
        groups.setdefault(row.group, {}).setdefault(row.version, []).append(row)
    return {
        name: {version: versions[version] for version in sorted(versions, key=priority)}
        for name, versions in groups.items()
    }


# legacy


def _legacy(rows: tuple[Resource, ...], address: str) -> Iterable[tuple[str, dict[str, Any]]]:
    groups = _groups(rows)
    yield (
        "/api",
        {
            "kind": "APIVersions",
            "versions": list(groups.get("", {})),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        },
    )
    named = [_api_group(name, list(versions)) for name, versions in groups.items() if name]
    yield "/apis", {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
    for group in named:
        yield f"/apis/{group['name']}", {"kind": "APIGroup", "apiVersion": "v1", **group}
    for name, versions in groups.items():
        for version, resources in versions.items():
            group_version = f"{name}/{version}" if name else version
            path = f"/apis/{group_version}" if name else f"/api/{version}"
            yield (
                path,
                {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": group_version,
                    "resources": [entry for row in resources for entry in _api_resources(row)],
                },
            )


def _api_group(name: str, versions: list[str]) -> dict[str, Any]:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _api_resources(row: Resource) -> Iterable[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": row.plural,
        "singularName": row.singular_name,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    yield entry
    for sub in row.subresources:
        below: dict[str, Any] = {
            "name": f"{row.plural}/{sub.name}",
            "singularName": "",
            "namespaced": row.namespaced,
            "kind": sub.kind,
            "verbs": list(sub.verbs),
        }
        if sub.version:
            below |= {"group": sub.group, "version": sub.version}
        yield below


# aggregated


def _group_list(rows: tuple[Resource, ...], core: bool, version: str) -> dict[str, Any]:
    items = [
        {
            "metadata": {"name": name} if name else {},
            "versions": [
                {
                    "version": group_version,
                    "resources": [_discovered(row) for row in resources],
                    "freshness": "Current",
                }
                for group_version, resources in versions.items()
            ],
        }
        for name, versions in _groups(rows).items()
        if core is (name == "")
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _discovered(row: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular_name,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if row.subresources:
        entry["subresources"] = [_discovered_below(row, sub) for sub in row.subresources]
    return entry


def _discovered_below(row: Resource, sub: Subresource) -> dict[str, Any]:
    foreign = bool(sub.version)
    return {
        "subresource": sub.name,
        "responseKind": {
            "group": sub.group if foreign else row.group,
            "version": sub.version if foreign else row.version,
            "kind": sub.kind,
        },
        "verbs": list(sub.verbs),
    }
