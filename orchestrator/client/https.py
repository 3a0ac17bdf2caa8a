"""The client of components on other hosts: the same verbs over HTTPS.

Owner of its connections; `close` ends them. A `Status` comes back as the `ApiError` class that it was at the
server; a server that can't be reached is `ServiceUnavailable`, one that does not answer in time `Timeout`.
Objects that arrive are put into stored form, so that informers hold the same shape everywhere.
"""

import builtins
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
import msgspec

from orchestrator.api.errors import ApiError, BadRequest, Expired, ServiceUnavailable, Timeout
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions
from orchestrator.api.resources import Resource
from orchestrator.api.results import ItemList, WatchEvent
from orchestrator.client.interface import PatchType
from orchestrator.client.status import error_of

DEADLINE_S = 30.0
CONNECT_S = 10.0
PAGE = 500
"""Objects per request of a list that is read whole."""
WATCH_MIN_S = 300.0
"""A watch is renewed after this long, or up to twice that."""
LINE_BYTES_MAX = 16 * 1024 * 1024

_LIST, _WATCH, _DELETE = ListOptions(), WatchOptions(), DeleteOptions()
_MEDIA_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}

_APPLY = "application/apply-patch+yaml"

TokenSource = Callable[[], str]


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int = 0


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[Object] | None = None


class _Line(msgspec.Struct):
    type: str
    object: Object


_decode_list = msgspec.json.Decoder(_List).decode
_decode_line = msgspec.json.Decoder(_Line).decode


class HttpsClient:
    """`client.interface.Client` over HTTPS."""

    def __init__(
        self,
        url: str,
        ssl_context: ssl.SSLContext,
        *,
        token: TokenSource | None = None,
        user_agent: str = "orchestrator",
        rng: random.Random | None = None,
    ) -> None:
        """`url` is `https://host:port`; a client certificate lies in `ssl_context`; `token` is asked for each
        request, so that it may be renewed."""
        self._url = url.rstrip("/")
        self._ssl = ssl_context
        self._token = token
        self._user_agent = user_agent
        self._manager = user_agent.partition("/")[0]
        self._rng = rng or random.Random()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return await self._object("GET", path_of(resource, namespace, name))

    async def list(
        self, resource: Resource, namespace: str | None = None, options: ListOptions = _LIST
    ) -> ItemList:
        path = path_of(resource, namespace or "")
        if options.limit or options.continue_token:
            return await self._page(resource, path, options)
        page = await self._page(resource, path, replace(options, limit=PAGE))
        items, first = page.items, page
        while page.continue_token:
            following = ListOptions(options.label_selector, options.field_selector, PAGE, page.continue_token)
            try:
                page = await self._page(resource, path, following)
            except Expired:
                return await self._page(resource, path, options)
            items += page.items
        return ItemList(items, first.revision)

    async def watch(
        self, resource: Resource, namespace: str | None = None, options: WatchOptions = _WATCH
    ) -> AsyncGenerator[builtins.list[WatchEvent], None]:
        timeout_s = options.timeout_s or WATCH_MIN_S * (1 + self._rng.random())
        query = {
            "watch": "true",
            "labelSelector": options.label_selector,
            "fieldSelector": options.field_selector,
            "resourceVersion": options.resource_version,
            "timeoutSeconds": str(int(timeout_s) or 1),
            "allowWatchBookmarks": "true" if options.allow_bookmarks else "",
        }
        if options.send_initial_events is not None:
            initial = "true" if options.send_initial_events else "false"
            query |= {"sendInitialEvents": initial, "resourceVersionMatch": "NotOlderThan"}
        deadline = aiohttp.ClientTimeout(total=timeout_s + DEADLINE_S, connect=CONNECT_S)
        path = path_of(resource, namespace or "")
        try:
            async with self._open("GET", path, query, deadline=deadline) as response:
                await _check(response)
                async for lines in _lines(response.content):
                    yield [_event(resource, line) for line in lines]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "", name: str = ""
    ) -> Object:
        return await self._object("POST", path_of(resource, namespace, name, subresource), body=obj)

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        metadata = obj["metadata"]
        name = metadata.get("name") or ""
        if not name:
            raise BadRequest("metadata.name: Required value")
        path = path_of(resource, metadata.get("namespace") or "", name, subresource)
        return await self._object("PUT", path, body=obj)

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Object | builtins.list[Object],
        *,
        type: PatchType = "merge",
        subresource: str = "",
    ) -> Object:
        path = path_of(resource, namespace, name, subresource)
        return await self._object("PATCH", path, body=patch, content_type=_MEDIA_TYPES[type])

    async def apply(
        self,
        resource: Resource,
        obj: Object,
        *,
        manager: str = "",
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        metadata = obj["metadata"]
        name = metadata.get("name") or ""
        if not name:
            raise BadRequest("metadata.name: Required value")
        path = path_of(resource, metadata.get("namespace") or "", name, subresource)
        query = {"fieldManager": manager or self._manager, "force": "true" if force else ""}
        data = msgspec.json.encode(obj)
        answer = await self._request("PATCH", path, query, data=data, content_type=_APPLY)
        return cast(Object, msgspec.json.decode(answer))  # Whole: who applies may ask who has what.

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", options: DeleteOptions = _DELETE
    ) -> None:
        await self._object("DELETE", path_of(resource, namespace, name), body=_delete_body(options))

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str,
        options: DeleteOptions = _DELETE,
        selection: ListOptions = _LIST,
    ) -> None:
        await self._object(
            "DELETE", path_of(resource, namespace), _list_query(selection), body=_delete_body(options)
        )

    async def call(self, method: str, path: str, *, deadline_s: float = DEADLINE_S) -> Object:
        """A path that names no resource, answered with a JSON object."""
        answer = await self._request(method, path, deadline_s=deadline_s)
        return cast(Object, msgspec.json.decode(answer))

    async def _page(self, resource: Resource, path: str, options: ListOptions) -> ItemList:
        answer = _decode_list(await self._request("GET", path, _list_query(options)))
        items = [_item(resource, obj) for obj in answer.items or ()]
        meta = answer.metadata
        revision = int(meta.resource_version or 0)
        return ItemList(items, revision, meta.continue_, meta.remaining_item_count)

    async def _object(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        data = msgspec.json.encode(body) if body is not None else None
        answer = await self._request(method, path, query, data=data, content_type=content_type)
        obj = cast(Object, msgspec.json.decode(answer))
        # As the local client's objects: components have no use for who set which field, which is half of a pod.
        obj.get("metadata", {}).pop("managedFields", None)
        return obj

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        data: bytes | None = None,
        content_type: str = "application/json",
        deadline_s: float = DEADLINE_S,
    ) -> bytes:
        deadline = aiohttp.ClientTimeout(total=deadline_s, connect=CONNECT_S)
        try:
            async with self._open(
                method, path, query, data=data, content_type=content_type, deadline=deadline
            ) as response:
                await _check(response)
                return await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _open(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None,
        *,
        deadline: aiohttp.ClientTimeout,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> "aiohttp.client._RequestContextManager":
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._ssl, limit=256))
        headers = {"Accept": "application/json", "User-Agent": self._user_agent}
        if data is not None:
            headers["Content-Type"] = content_type
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token()}"
        given = {key: value for key, value in (query or {}).items() if value}
        url = f"{self._url}{path}?{urlencode(given)}" if given else f"{self._url}{path}"
        return self._session.request(method, url, data=data, headers=headers, timeout=deadline)

    def _unreachable(self, error: Exception) -> ApiError:
        if isinstance(error, TimeoutError):
            return Timeout(f"{self._url} did not answer in time")
        return ServiceUnavailable(f"{self._url} can't be reached: {error}")


def path_of(resource: Resource, namespace: str, name: str = "", subresource: str = "") -> str:
    """The URL path of a collection, an object or a subresource."""
    base = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
    parts = [base]
    if resource.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts += [part for part in (resource.plural, name, subresource) if part]
    return "/".join(parts)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise error_of(response.status, await response.read())


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[builtins.list[bytes]]:
    """Whole lines as they arrive, those of one read together."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise BadRequest("a line of the watch is too long")
        if lines:
            yield [line for line in lines if line]


def _event(resource: Resource, line: bytes) -> WatchEvent:
    event = _decode_line(line)
    if event.type == "ERROR":
        raise error_of(event.object.get("code") or 500, msgspec.json.encode(event.object))
    if event.type not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise BadRequest(f"unknown watch event {event.type!r}")
    return WatchEvent(event.type, _item(resource, event.object))  # type: ignore[arg-type]


def _item(resource: Resource, obj: Object) -> Item:
    """Stored form of an object from the wire; other servers leave the kind out of lists."""
    revision = int(obj["metadata"].get("resourceVersion") or 0)
    obj.setdefault("kind", resource.kind)
    obj.setdefault("apiVersion", resource.api_version)
    return Item(encode(obj), revision)


def _list_query(options: ListOptions) -> dict[str, str]:
    return {
        "labelSelector": options.label_selector,
        "fieldSelector": options.field_selector,
        "limit": str(options.limit or ""),
        "continue": options.continue_token,
        "resourceVersion": options.resource_version,
        "resourceVersionMatch": options.resource_version_match,
    }


def _delete_body(options: DeleteOptions) -> Object:
    preconditions = {"uid": options.uid, "resourceVersion": options.resource_version}
    body = {
        "gracePeriodSeconds": options.grace_period_s,
        "propagationPolicy": options.propagation_policy or None,
        "orphanDependents": options.orphan_dependents,
        "preconditions": {key: value for key, value in preconditions.items() if value} or None,
        "dryRun": ["All"] if options.dry_run else None,
    }
    given = {key: value for key, value in body.items() if value is not None}
    return {"kind": "DeleteOptions", "apiVersion": "v1", **given}
