"""OpenAPI v3 paths of one resource, from its row of the table. Pure; called by `openapi`.

kubectl looks here for two things: which kind stands behind a path (`x-kubernetes-group-version-kind` of its
operations, for `explain`), and whether PATCH takes `dryRun` and `fieldValidation` (for `apply`).
"""

from collections.abc import Iterable
from typing import Any

from orchestrator.api.openapi_more import CONNECTIONS, STREAMS, connection_item, connection_path, watch_paths
from orchestrator.api.resources import Resource, Subresource
from orchestrator.api.results import SHOWN_WHEN_DELETED
from orchestrator.wire.kubernetes import MEDIA_TYPE as PROTOBUF
from orchestrator.wire.kubernetes import has_message

Json = dict[str, Any]

_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_PATCH_SCHEMA = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_WATCH_EVENT = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"
_PLAIN_MEDIA = ("application/json", "application/yaml")
_STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"

_QUERY: dict[str, tuple[str, str]] = {
    "pretty": ("string", "Indent the answer if 'true'."),
    "dryRun": ("string", "'All' runs every stage of the request without persisting its result."),
    "fieldManager": ("string", "The name under which changed fields are recorded."),
    "fieldValidation": ("string", "What unknown or duplicate fields lead to: Ignore, Warn or Strict."),
    "force": ("boolean", "Take over fields that another manager owns; for apply patches only."),
    "gracePeriodSeconds": ("integer", "Seconds until the object is deleted; zero deletes at once."),
    "orphanDependents": ("boolean", "Deprecated: use propagationPolicy."),
    "propagationPolicy": ("string", "What becomes of dependents: Orphan, Background or Foreground."),
    "allowWatchBookmarks": ("boolean", "Whether a watch may send events of type BOOKMARK."),
    "continue": ("string", "The token from the last page of a list."),
    "fieldSelector": ("string", "Restricts the answer to objects whose fields match."),
    "labelSelector": ("string", "Restricts the answer to objects whose labels match."),
    "limit": ("integer", "The most objects a page of the list may hold."),
    "resourceVersion": ("string", "How fresh the answer must be, or where a watch starts."),
    "resourceVersionMatch": ("string", "How resourceVersion is meant: Exact or NotOlderThan."),
    "sendInitialEvents": ("boolean", "Whether a watch starts with the objects that exist."),
    "timeoutSeconds": ("integer", "Seconds after which a list or watch ends."),
    "watch": ("boolean", "Answer with a stream of changes instead of a list."),
}
_LIST = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")

# verb of the table: (method, action, start of the operation's id, query parameters)
_VERBS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "get": ("get", "get", "read", ()),
    "list": ("get", "list", "list", _LIST),
    "create": ("post", "post", "create", _WRITE),
    "update": ("put", "put", "replace", _WRITE),
    "patch": ("patch", "patch", "patch", (*_WRITE, "force")),
    "delete": ("delete", "delete", "delete", _DELETE),
    "deletecollection": ("delete", "deletecollection", "delete", (*_LIST[:-1], *_DELETE)),
}


def root(resource: Resource) -> str:
    """`/api/v1` or `/apis/apps/v1`."""
    return f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"


def paths(resource: Resource, schema: str, kinds: dict[str, str]) -> dict[str, Json]:
    """Every path of `resource`. `schema` is its definition, `kinds` those of subresources by their name."""
    inside = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"{root(resource)}{inside}/{resource.plural}"
    scope = ["namespace"] if resource.namespaced else []
    found = {
        collection: _item(resource, ("list", "create", "deletecollection"), schema, scope),
        f"{collection}/{{name}}": _item(
            resource, ("get", "update", "patch", "delete"), schema, ["name", *scope]
        ),
    }
    if resource.namespaced and "list" in resource.verbs:
        everywhere = _item(resource, ("list",), schema, [], "ForAllNamespaces")
        found[f"{root(resource)}/{resource.plural}"] = everywhere
    for sub in resource.subresources:
        if sub.name in CONNECTIONS:
            found |= _connections(resource, sub, collection, ["name", *scope])
        else:
            path = f"{collection}/{{name}}/{sub.name}"
            found[path] = _subresource(resource, sub, kinds.get(sub.name, ""), ["name", *scope])
    if "watch" in resource.verbs:
        found |= _watches(resource)
    return {path: item for path, item in found.items() if item}


def _item(
    resource: Resource, verbs: Iterable[str], schema: str, path_names: list[str], suffix: str = ""
) -> Json:
    out: Json = {}
    gvk = {"group": resource.group, "kind": resource.kind, "version": resource.version}
    scope = "Namespaced" if resource.namespaced and not suffix else ""
    for verb in verbs:
        if verb in resource.verbs:
            method, _, start, _ = _VERBS[verb]
            answer = _answer_of(resource, verb, schema)
            many = "Collection" if verb == "deletecollection" else ""
            name = f"{start}{camel(resource)}{many}{scope}{resource.kind}{suffix}"
            out[method] = _operation(verb, name, gvk, answer, schema, _media(resource, verb))
    return out | {"parameters": _parameters(path_names)} if out else {}


def _subresource(resource: Resource, sub: Subresource, schema: str, path_names: list[str]) -> Json:
    gvk = {
        "group": sub.group if sub.version else resource.group,
        "kind": sub.kind,
        "version": sub.version or resource.version,
    }
    out: Json = {}
    target = (
        ("Namespaced" if resource.namespaced else "") + resource.kind + sub.name[:1].upper() + sub.name[1:]
    )
    for verb in sub.verbs:
        method, _, start, _ = _VERBS[verb]
        name = f"{start}{camel(resource)}{target}"
        out[method] = _operation(verb, name, gvk, schema, schema, _media(resource, verb))
    return out | {"parameters": _parameters(path_names)} if out else {}


def _connections(
    resource: Resource, sub: Subresource, collection: str, path_names: list[str]
) -> dict[str, Json]:
    """Paths whose answers are no objects: exec, attach, portforward, proxy, log."""
    gvk = {"group": resource.group, "kind": sub.kind, "version": resource.version}
    query = [
        {"description": text, "in": "query", "name": name, "schema": _typed(kind)}
        for name, kind, text in CONNECTIONS[sub.name]
    ]
    found = {}
    for path, rest in connection_path(sub, collection).items():
        item = connection_item(resource, sub, camel(resource), gvk, rest)
        names = [*path_names, "path"] if rest else path_names
        found[path] = item | {"parameters": [*_path_parameters(names), *query]}
    return found


def _watches(resource: Resource) -> dict[str, Json]:
    """The deprecated paths of watches, as each list says it better with `watch=true`."""
    gvk = {"group": resource.group, "kind": resource.kind, "version": resource.version}
    found = {}
    for path, names, operation_id, action in watch_paths(resource, root(resource), camel(resource)):
        operation = {
            "description": f"watch {resource.kind}; deprecated: use the watch parameter with a list instead",
            "operationId": operation_id,
            "responses": {
                "200": _content("OK", _WATCH_EVENT, _media(resource, "list")),
                "401": {"description": "Unauthorized"},
            },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
        }
        query = [_query(name) for name in (*_LIST, "pretty")]
        found[path] = {"get": operation, "parameters": [*_path_parameters(names), *query]}
    return found


def _media(resource: Resource, verb: str) -> tuple[str, ...]:
    """Media types of answers; custom kinds have no protobuf."""
    has = has_message(resource.api_version, resource.kind)
    plain = (*_PLAIN_MEDIA, PROTOBUF) if has else _PLAIN_MEDIA
    return plain if verb != "list" else (*plain, *(STREAMS if has else STREAMS[:1]))


def _operation(verb: str, name: str, gvk: Json, answer: str, body: str, media: tuple[str, ...]) -> Json:
    _, action, _, query = _VERBS[verb]
    out: Json = {
        "description": f"{action} {gvk['kind']}",
        "operationId": name,
        "parameters": [_query(key) for key in query],
        "responses": {"200": _content("OK", answer, media), "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
    }
    if verb in ("create", "update"):
        out["requestBody"] = {"content": {"*/*": {"schema": _reference(body)}}, "required": True}
    elif verb == "patch":
        patch = {"schema": _reference(_PATCH_SCHEMA)}
        out["requestBody"] = {"content": dict.fromkeys(_PATCHES, patch), "required": True}
    elif verb in ("delete", "deletecollection"):
        out["requestBody"] = {"content": {"*/*": {"schema": _reference(_DELETE_OPTIONS)}}}
    if verb in ("create", "update", "patch"):
        out["responses"]["201"] = _content("Created", answer, media)
    if verb in ("create", "delete"):
        out["responses"]["202"] = _content("Accepted", answer, media)
    return out


def _answer_of(resource: Resource, verb: str, schema: str) -> str:
    if verb == "list":
        return f"{schema}List"
    if verb == "delete" and (resource.group, resource.plural) in SHOWN_WHEN_DELETED:
        return schema
    return _STATUS if verb.startswith("delete") else schema


def _content(description: str, schema: str, media: tuple[str, ...]) -> Json:
    content = {name: {"schema": _reference(schema)} for name in media}
    return {"description": description, "content": content}


def _reference(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "object"}


def _query(name: str) -> Json:
    kind, description = _QUERY[name]
    return {"description": description, "in": "query", "name": name, "schema": _typed(kind)}


def _parameters(path_names: list[str]) -> list[Json]:
    return [*_path_parameters(path_names), _query("pretty")]


def _path_parameters(path_names: list[str]) -> list[Json]:
    return [
        {"description": _PATH[name], "in": "path", "name": name, "required": True, "schema": _typed("string")}
        for name in path_names
    ]


_PATH = {
    "path": "path to the resource",
    "name": "name of the object",
    "namespace": "object name and auth scope, such as for teams and projects",
}


def _typed(kind: str) -> Json:
    return {"type": kind, "uniqueItems": True}


def camel(resource: Resource) -> str:
    """`CoreV1`, `AppsV1`, `RbacAuthorizationV1`."""
    group = resource.group.removesuffix(".k8s.io") or "core"
    return "".join(part.capitalize() for part in [*group.split("."), resource.version])
