"""OpenAPI paths beside the verbs: deprecated watches, connections (exec, proxy …), logs, and what discovery serves.

Operations carry what clients look at: an id, an action and a kind. Pure; called by `openapi_paths` and `openapi`.
"""

from typing import Any

from orchestrator.api.resources import Resource, Subresource

Json = dict[str, Any]

METHODS = ("delete", "get", "head", "options", "patch", "post", "put")
STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")

_CONTAINER = ("container", "string", "The container; only one of several needs to be named.")
_STREAMS = (
    _CONTAINER,
    ("stderr", "boolean", "Pass the container's standard error on."),
    ("stdin", "boolean", "Pass standard input to the container."),
    ("stdout", "boolean", "Pass the container's standard output on."),
    ("tty", "boolean", "The streams belong to a terminal."),
)
_PATH = (("path", "string", "The rest of the address to ask for."),)
CONNECTIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "exec": (
        ("command", "string", "The program and its arguments, each in a parameter of its own."),
        *_STREAMS,
    ),
    "attach": _STREAMS,
    "portforward": (("ports", "integer", "Ports that will be forwarded; needed for WebSockets only."),),
    "proxy": _PATH,
    "log": (
        _CONTAINER,
        ("follow", "boolean", "Go on with what the container writes from now on."),
        ("insecureSkipTLSVerifyBackend", "boolean", "Trust the node whatever certificate it shows."),
        ("limitBytes", "integer", "At most so many bytes of the log."),
        ("pretty", "string", "Indent the answer if 'true'."),
        ("previous", "boolean", "The log of the container's instance before this one."),
        ("sinceSeconds", "integer", "Only what was written in the last so many seconds."),
        ("stream", "string", "One stream only: All, Stdout or Stderr."),
        ("tailLines", "integer", "Only so many lines from the end."),
        ("timestamps", "boolean", "Begin each line with its time."),
    ),
}
"""Query parameters of subresources whose answers are no objects: name, type, what it is for."""


def connection_path(sub: Subresource, collection: str) -> dict[str, bool]:
    """Paths of a connecting subresource, and whether a path of somebody else follows."""
    path = f"{collection}/{{name}}/{sub.name}"
    return {path: False, f"{path}/{{path}}": True} if sub.name == "proxy" else {path: False}


def connection_item(resource: Resource, sub: Subresource, camel: str, gvk: Json, rest: bool) -> Json:
    """Operations of one such path, without parameters."""
    target = ("Namespaced" if resource.namespaced else "") + resource.kind + sub.name.capitalize()
    methods = METHODS if sub.name == "proxy" else ("get", "post") if "create" in sub.verbs else ("get",)
    suffix = "WithPath" if rest else ""
    if sub.name == "log":
        return {"get": _text(f"read{camel}{target}", "read the log of", gvk, "get", "text/plain")}
    return {
        method: _text(
            f"connect{camel}{method.capitalize()}{target}{suffix}", "connect to", gvk, "connect", "*/*"
        )
        for method in methods
    }


def _text(operation_id: str, what: str, gvk: Json, action: str, media: str) -> Json:
    return {
        "description": f"{what} {gvk['kind'].removesuffix('Options')}",
        "operationId": operation_id,
        "responses": {
            "200": {"description": "OK", "content": {media: {"schema": {"type": "string"}}}},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
    }


def watch_paths(resource: Resource, root: str, camel: str) -> list[tuple[str, list[str], str, str]]:
    """Deprecated paths of watches: path, names in it, operation id, action."""
    kind, plural = resource.kind, resource.plural
    if not resource.namespaced:
        base = f"{root}/watch/{plural}"
        return [
            (base, [], f"watch{camel}{kind}List", "watchlist"),
            (f"{base}/{{name}}", ["name"], f"watch{camel}{kind}", "watch"),
        ]
    base = f"{root}/watch/namespaces/{{namespace}}/{plural}"
    return [
        (f"{root}/watch/{plural}", [], f"watch{camel}{kind}ListForAllNamespaces", "watchlist"),
        (base, ["namespace"], f"watch{camel}Namespaced{kind}List", "watchlist"),
        (f"{base}/{{name}}", ["name", "namespace"], f"watch{camel}Namespaced{kind}", "watch"),
    ]


def discovery_paths(group: str | None, camel: str, versioned: bool) -> tuple[str, str, str]:
    """Path, operation id and kind of a discovery document: of a group, or of one of its versions."""
    if versioned:
        return "", f"get{camel}APIResources", "APIResourceList"
    if group is None:
        return "/apis/", "getAPIVersions", "APIGroupList"
    if not group:
        return "/api/", "getCoreAPIVersions", "APIVersions"
    return f"/apis/{group}/", f"get{camel}APIGroup", "APIGroup"


def discovery_item(operation_id: str, kind: str, reference: Json, media: tuple[str, ...]) -> Json:
    """GET of a discovery document."""
    return {
        "get": {
            "description": f"get {kind}",
            "operationId": operation_id,
            "parameters": [],
            "responses": {
                "200": {"description": "OK", "content": {name: {"schema": reference} for name in media}},
                "401": {"description": "Unauthorized"},
            },
        },
        "parameters": [],
    }
