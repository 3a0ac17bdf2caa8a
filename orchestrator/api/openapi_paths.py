"""OpenAPI v3 paths of one resource, from its row of the table. Pure; called by `openapi`.

kubectl looks here for two things: which kind stands behind a path (`x-kubernetes-group-version-kind` of its
operations, for `explain`), and whether PATCH takes `dryRun` and `fieldValidation` (for `apply`).
"""

from collections.abc import Iterable
from typing import Any

from orchestrator.api.resources import Resource, Subresource

Json = dict[str, Any]

_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_PATCH_SCHEMA = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
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
        path = f"{collection}/{{name}}/{sub.name}"
        found[path] = _subresource(resource, sub, kinds.get(sub.name, ""), ["name", *scope])
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
            answer = _answer_of(verb, schema)
            many = "Collection" if verb == "deletecollection" else ""
            name = f"{start}{_camel(resource)}{many}{scope}{resource.kind}{suffix}"
            out[method] = _operation(verb, name, gvk, answer, schema)
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
        if sub.kind.endswith("Options"):
            out[method] = _connect(f"connect{_camel(resource)}{method.capitalize()}{target}", gvk)
        else:
            out[method] = _operation(verb, f"{start}{_camel(resource)}{target}", gvk, schema, schema)
    return out | {"parameters": _parameters(path_names)} if out else {}


def _operation(verb: str, name: str, gvk: Json, answer: str, body: str) -> Json:
    _, action, _, query = _VERBS[verb]
    out: Json = {
        "description": f"{action} {gvk['kind']}",
        "operationId": name,
        "parameters": [_query(key) for key in query],
        "responses": {"200": _content("OK", answer), "401": {"description": "Unauthorized"}},
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
        out["responses"]["201"] = _content("Created", answer)
    return out


def _connect(name: str, gvk: Json) -> Json:
    return {
        "description": f"connect to {gvk['kind'].removesuffix('Options')}",
        "operationId": name,
        "responses": {
            "200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": "connect",
        "x-kubernetes-group-version-kind": gvk,
    }


def _answer_of(verb: str, schema: str) -> str:
    if verb == "list":
        return f"{schema}List"
    return _STATUS if verb.startswith("delete") else schema


def _content(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _reference(schema)}}}


def _reference(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "object"}


def _query(name: str) -> Json:
    kind, description = _QUERY[name]
    return {"description": description, "in": "query", "name": name, "schema": _typed(kind)}


def _parameters(path_names: list[str]) -> list[Json]:
    found = [
        {"description": _PATH[name], "in": "path", "name": name, "required": True, "schema": _typed("string")}
        for name in path_names
    ]
    return [*found, _query("pretty")]


_PATH = {
    "name": "name of the object",
    "namespace": "object name and auth scope, such as for teams and projects",
}


def _typed(kind: str) -> Json:
    return {"type": kind, "uniqueItems": True}


def _camel(resource: Resource) -> str:
    """`CoreV1`, `AppsV1`, `RbacAuthorizationV1`."""
    group = resource.group.removesuffix(".k8s.io") or "core"
    return "".join(part.capitalize() for part in [*group.split("."), resource.version])
