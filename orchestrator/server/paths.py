"""What a request asks for, read from method, path and query, as Kubernetes' RequestInfo resolver does.

Pure. The result is what authorization sees, so nothing here may be more generous than the handlers: path
segments that could mean two things (`..`, an encoded slash, an empty segment) are refused.
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from orchestrator.api.access import Attributes, selected_name
from orchestrator.api.errors import BadRequest, NotFound
from orchestrator.server.query import NO_QUERY, Query

VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_PROXY = re.compile(r"(/api/v1/(?:namespaces/[^/]+/(?:pods|services)|nodes)/[^/]+/proxy)(/.*)", re.DOTALL)
"""Behind these a path of somebody else begins, with rules of its own."""


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """One request. `resource` is empty for paths that name no resource; then only verb and path count.

    `selected_name` is the name that a list's field selector demands: authorization may be given for it.
    `rest` is what follows a proxy subresource, as sent.
    """

    verb: str
    path: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""
    selected_name: str = ""
    rest: str = ""

    def attributes(self) -> Attributes:
        """The request as authorization sees it."""
        if not self.resource:
            return Attributes(self.verb, path=self.path)
        return Attributes(
            self.verb,
            self.group,
            self.resource,
            self.subresource,
            self.namespace,
            self.name or self.selected_name,
        )


def parse(method: str, path: str, query: Query = NO_QUERY) -> RequestInfo:
    """Read `path` (as sent, without the query). Raises `BadRequest` for tricks, `NotFound` for empty segments."""
    if "/proxy/" in path and (proxied := _PROXY.fullmatch(path)):
        return replace(parse(method, proxied[1]), path=path, rest=proxied[2])
    parts = _segments(path)
    if parts[0] == "api" and len(parts) > 2:
        group, version, parts = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return RequestInfo(method.lower(), path)
    verb = VERBS.get(method, "")
    watches = parts[0] == "watch"
    if watches:
        if len(parts) == 1:
            raise BadRequest("unable to determine kind and namespace from url: " + path)
        verb, parts = "watch", parts[1:]
    namespace, parts = _namespace(parts)
    return _resource(verb, path, group, version, namespace, parts, query, watches)


def _resource(
    verb: str,
    path: str,
    group: str,
    version: str,
    namespace: str,
    parts: list[str],
    query: Query,
    watches: bool,
) -> RequestInfo:
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    if len(parts) > 3 or (watches and subresource):
        raise NotFound("the server could not find the requested resource")
    selected = ""
    if watches:
        selected, name = name, ""
    elif not name:
        verb, selected = _of_collection(verb, query)
    return RequestInfo(verb, path, group, version, namespace, parts[0], name, subresource, selected)


def _namespace(parts: list[str]) -> tuple[str, list[str]]:
    """`namespaces/x/pods/y` is a pod of x; `namespaces/x` and `namespaces/x/status` are the namespace itself."""
    if parts[0] != "namespaces" or len(parts) == 1:
        return "", parts
    if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
        return parts[1], parts[2:]
    return parts[1], parts


def _of_collection(verb: str, query: Query) -> tuple[str, str]:
    """The verb on a collection and the name its field selector demands."""
    if verb == "delete":
        return "deletecollection", ""
    if verb != "get":
        return verb, ""
    return ("watch" if query.flag("watch") else "list"), selected_name(query.text("fieldSelector"))


def _segments(path: str) -> list[str]:
    parts = path[1:].removesuffix("/").split("/") if path.startswith("/") else [""]
    plain = "%" not in path and path.isascii()
    if not plain:
        parts = [_decoded(part) for part in parts]
    if path != "/":
        for part in parts:
            if not part:
                raise NotFound("the server could not find the requested resource")
            if part == "." or part == "..":
                raise BadRequest(f"path segment {part!r} is not allowed")
    return parts


def _decoded(part: str) -> str:
    try:
        text = unquote(part, errors="strict")
        text.encode()
    except UnicodeError:
        raise BadRequest("path is not valid UTF-8") from None
    if "/" in text or "%" in text or not text.isprintable():
        raise BadRequest("path segments may not contain encoded '/', '%' or control characters")
    return text
