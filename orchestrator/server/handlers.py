"""The verbs of HTTP onto the verbs of the registry.

A handler has an authorized `Call`, reads options and body, asks the registry and presents the result. Refusals
are `ApiError`s that the server turns into a `Status`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from orchestrator.api.access import Identity
from orchestrator.api.codec import (
    APPLY_PATCH,
    Decoded,
    check_shape,
    decode_body,
    decode_patch,
    is_slow,
    media_type,
)
from orchestrator.api.errors import BadRequest, MethodNotAllowed
from orchestrator.api.item import Item, Object
from orchestrator.api.options import WriteOptions
from orchestrator.api.resources import SCALES, Resource, Subresource
from orchestrator.api.results import SHOWN_WHEN_DELETED, ItemList
from orchestrator.registry.patching import Patch
from orchestrator.registry.registry import Registry
from orchestrator.server import negotiate
from orchestrator.server import query as queries
from orchestrator.server.errors import unknown_resource
from orchestrator.server.media import HEADERS_OF, has_message, plain_answer
from orchestrator.server.paths import RequestInfo
from orchestrator.server.present import Presenter, body_answer, list_answer, warning_headers
from orchestrator.server.proxy import Proxy
from orchestrator.server.query import Query
from orchestrator.server.relay import Relay
from orchestrator.server.reviews import Reviews
from orchestrator.server.watching import Watchers
from orchestrator.server.yaml_worker import YamlWorker, wants_process
from orchestrator.web.answer import Request, Response
from orchestrator.web.body import read_body

TOKEN_REQUEST = ("authentication.k8s.io", "v1", "TokenRequest")

PROTOBUF_ITEMS_MAX = 500
"""Longer lists go as JSON to clients that take both: JSON is put together from what is stored, protobuf is encoded
field by field and takes fifty times as long."""
_OWN_ANSWERS = frozenset(("exec", "attach", "portforward", "log", "proxy"))
"""Subresources whose answers are somebody else's."""


@dataclass(slots=True)
class Call:
    """One authorized request for a resource that exists."""

    request: Request
    info: RequestInfo
    query: Query
    query_text: str
    identity: Identity
    resource: Resource
    yaml: YamlWorker
    listed: int = 0
    """How many objects were listed, for who counts seats."""

    @property
    def namespace(self) -> str:
        """The namespace of the object; a namespace itself is in none."""
        return self.info.namespace if self.resource.namespaced else ""

    @property
    def scope(self) -> str | None:
        """The namespace of a list or watch; None is all of them."""
        return self.namespace or None

    offer: negotiate.Offer = negotiate.OBJECT
    """The form and media type of the answer."""


Verb = Callable[[Call], Awaitable[Response]]


class Handlers:
    """Stateless; owns nothing of what it is handed."""

    def __init__(
        self,
        registry: Registry,
        presenter: Presenter,
        watchers: Watchers,
        reviews: Reviews,
        relay: Relay,
        proxies: Proxy,
    ) -> None:
        self._registry = registry
        self._presenter = presenter
        self._watchers = watchers
        self._reviews = reviews
        self._relay = relay
        self._proxies = proxies
        self._verbs: dict[str, Verb] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        self._below: dict[str, Verb] = {
            "exec": self._connect,
            "attach": self._connect,
            "portforward": self._connect,
            "log": self._log,
            "proxy": self._proxy,
            "binding": self._bind,
            "eviction": self._evict,
            "token": self._token,
        }

    async def answer(self, call: Call) -> Response:
        """Raises `ApiError`."""
        handler = self._handler(call)
        if call.info.subresource not in _OWN_ANSWERS:
            call.offer = _offer(call)
        return await handler(call)

    def _handler(self, call: Call) -> Verb:
        info, resource = call.info, call.resource
        if info.subresource:
            sub = resource.subresource(info.subresource)
            if sub is None or not info.name:
                raise unknown_resource()
            if info.verb or sub.name != "proxy":  # An application may be asked for its OPTIONS, say.
                _check_allowed(info.verb, sub)
            return self._below.get(sub.name) or self._verbs[info.verb]
        _check_place(info, resource)
        if info.verb not in resource.verbs:
            raise _not_allowed()
        return self._verbs[info.verb]

    # reads

    async def _get(self, call: Call) -> Response:
        info, resource = call.info, call.resource
        if call.query.has("resourceVersion"):
            await self._registry.catch_up(call.query.text("resourceVersion"))
        item = await self._registry.get(resource, call.namespace, info.name, info.subresource)
        return await self._one(call, item)

    async def _list(self, call: Call) -> Response:
        found = await self._registry.list(call.resource, call.scope, queries.list_options(call.query))
        call.listed = len(found.items)
        return await self._many(call, found)

    async def _watch(self, call: Call) -> Response:
        _check_get(call)
        options = queries.watch_options(call.query, call.info.selected_name)
        await self._registry.catch_up(options.resource_version)
        events = self._registry.watch(call.resource, call.scope, options)
        return await self._watchers.stream(call.request, call.resource, events, call.offer, call.query)

    # writes

    async def _create(self, call: Call) -> Response:
        options = self._options(call, "CreateOptions")
        obj, options = await _body(call, options)
        if self._reviews.handles(call.resource):
            return await self._review(call, obj, options)
        if call.resource.plural == "bindings" and not call.resource.stored:
            return await self._bound(call, _name_of(obj), obj, options)
        written = await self._registry.create(call.resource, call.namespace, obj, options, call.identity)
        return await self._one(call, written.item, 201, written.warnings)

    async def _update(self, call: Call) -> Response:
        info = call.info
        options = self._options(call, "UpdateOptions")
        obj, options = await _body(call, options)
        _check_name(info.name, obj)
        written = await self._registry.update(
            call.resource, call.namespace, info.name, obj, options, call.identity, info.subresource
        )
        return await self._one(call, written.item, 201 if written.created else 200, written.warnings)

    async def _patch(self, call: Call) -> Response:
        info = call.info
        kind = Patch.of(call.request.headers.get("Content-Type", ""), None).kind
        options = self._options(call, "PatchOptions", apply=kind == "apply")
        decoded = await _decoded(call, decode_patch, options.field_validation != "Ignore")
        if decoded.duplicates:
            options = replace(options, duplicate_fields=decoded.duplicates, repeats=decoded.repeats)
        patch = Patch(kind, decoded.object)
        written = await self._registry.patch(
            call.resource, call.namespace, info.name, patch, options, call.identity, info.subresource
        )
        return await self._one(call, written.item, 201 if written.created else 200, written.warnings)

    async def _delete(self, call: Call) -> Response:
        info, resource = call.info, call.resource
        options = queries.delete_options(call.query, await _optional_body(call))
        deleted = await self._registry.delete(resource, call.namespace, info.name, options, call.identity)
        if deleted.gone and (resource.group, resource.plural) not in SHOWN_WHEN_DELETED:
            return plain_answer(200, _success(resource, deleted.item), call.offer.media)
        code = 202 if not deleted.gone and options.orphan_dependents is False else 200
        return await self._one(call, deleted.item, code)

    async def _delete_collection(self, call: Call) -> Response:
        options = queries.delete_options(call.query, await _optional_body(call))
        selection = queries.list_options(call.query)
        deleted = await self._registry.delete_collection(
            call.resource, call.namespace, options, selection, call.identity
        )
        return await self._many(call, deleted)

    # subresources

    async def _connect(self, call: Call) -> Response:
        info = call.info
        return await self._relay.connect(
            call.request, info.namespace, info.name, info.subresource, call.query
        )

    async def _log(self, call: Call) -> Response:
        _check_get(call)
        return await self._relay.log(call.request, call.info.namespace, call.info.name, call.query)

    async def _proxy(self, call: Call) -> Response:
        return await self._proxies.answer(call.request, call.info, call.query_text)

    async def _bind(self, call: Call) -> Response:
        obj, options = await _body(call, self._options(call, "CreateOptions"))
        return await self._bound(call, call.info.name, obj, options)

    async def _bound(self, call: Call, name: str, obj: Object, options: WriteOptions) -> Response:
        await self._registry.subresources.bind(call.namespace, name, obj, options, call.identity)
        return plain_answer(201, {**_SUCCESS, "code": 201}, call.offer.media)

    async def _evict(self, call: Call) -> Response:
        obj, options = await _body(call, self._options(call, "CreateOptions"))
        await self._registry.subresources.evict(call.namespace, call.info.name, obj, options, call.identity)
        return plain_answer(201, {**_SUCCESS, "code": 201}, call.offer.media)

    async def _token(self, call: Call) -> Response:
        obj, options = await _body(call, self._options(call, "CreateOptions"))
        obj, warnings = self._registry.checked(TOKEN_REQUEST, obj, options)
        answer = await self._reviews.token(call.namespace, call.info.name, obj, call.identity)
        return plain_answer(201, answer, call.offer.media, warning_headers(warnings))

    async def _review(self, call: Call, obj: Object, options: WriteOptions) -> Response:
        resource = call.resource
        obj, warnings = self._registry.checked(
            (resource.group, resource.version, resource.kind), obj, options
        )
        answer = await self._reviews.answer(call.resource, obj, call.namespace, call.identity)
        return plain_answer(201, answer, call.offer.media, warning_headers(warnings))

    # answers

    async def _one(
        self, call: Call, item: Item, status: int = 200, warnings: list[str] | None = None
    ) -> Response:
        offer = call.offer
        shown = SCALES if call.info.subresource == "scale" else call.resource
        body = await self._presenter.one(shown, item, offer, call.query)
        headers = HEADERS_OF[offer.media]
        if warnings:
            headers += warning_headers(warnings)
        return await body_answer(call.request, body, status, headers)

    async def _many(self, call: Call, found: ItemList) -> Response:
        offer = call.offer
        if offer.media == "protobuf" and offer.or_json and len(found.items) > PROTOBUF_ITEMS_MAX:
            offer = negotiate.Offer(offer.form, "json")
        parts = self._presenter.many(call.resource, found, offer, call.query)
        return await list_answer(call.request, parts, HEADERS_OF[offer.media])

    def _options(self, call: Call, kind: str, apply: bool = False) -> WriteOptions:
        agent = call.request.headers.get("User-Agent", "")
        return queries.write_options(call.query, kind, agent, apply=apply)


_SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def _success(resource: Resource, item: Item) -> Object:
    details = {"name": item.meta.name, "kind": resource.plural, "uid": item.meta.uid}
    if resource.group:
        details["group"] = resource.group
    return {**_SUCCESS, "details": details}


def _offer(call: Call) -> negotiate.Offer:
    """What the client gets, decided before anything is written. Raises `NotAcceptable`."""
    accept = call.request.headers.get("Accept", "")
    if not accept or accept == negotiate.JSON_TYPE:
        return negotiate.OBJECT
    if call.info.verb == "watch":
        media = negotiate.STREAMED if has_message(call.resource) else ("json",)
    else:
        media = negotiate.ALL_MEDIA if has_message(call.resource) else negotiate.NO_PROTOBUF
    # What is only answered, such as a review, is no kind of which there could be rows.
    rows = call.info.verb != "create" or (call.resource.stored and not call.info.subresource)
    return negotiate.offer(accept, media, rows)


def _not_allowed() -> MethodNotAllowed:
    return MethodNotAllowed("the server does not allow this method on the requested resource")


def _check_allowed(verb: str, sub: Subresource) -> None:
    if verb not in sub.verbs:
        raise _not_allowed()


def _check_get(call: Call) -> None:
    """Streams have a body whatever was asked, so HEAD can't have them; `/watch/` paths know no other method."""
    if call.request.method != "GET":
        raise _not_allowed()


_OF_ONE = ("update", "patch")
"""Verbs that no collection has."""


def _check_place(info: RequestInfo, resource: Resource) -> None:
    """Whether path and scope fit: one object needs its namespace, and a cluster's has none."""
    if info.verb in _OF_ONE if not info.name else info.verb == "create":
        raise _not_allowed()
    if not resource.namespaced:
        if info.namespace and resource.plural != "namespaces":
            raise unknown_resource()
    elif not info.namespace:
        if info.name:
            raise unknown_resource()
        if info.verb not in ("list", "watch"):
            raise _not_allowed()


def _check_name(name: str, obj: Object) -> None:
    given = _name_of(obj)
    if given != name:
        raise BadRequest(
            f"the name of the object ({given}) does not match the name on the URL ({name})"
            if given
            else f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )


def _name_of(obj: Object) -> str:
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


async def _body(call: Call, options: WriteOptions) -> tuple[Object, WriteOptions]:
    """The decoded body; fields that stood in it twice go into the options."""
    decoded = await _decoded(call, decode_body, options.field_validation != "Ignore")
    if decoded.duplicates:
        options = replace(options, duplicate_fields=decoded.duplicates)
    return decoded.object, options


async def _optional_body(call: Call) -> Object | None:
    """The body of a delete, if there is one."""
    data = await read_body(call.request)
    if not data:
        return None
    obj: Object = (await _decode_here_or_there(call, data, decode_body, False)).object
    return obj


async def _decoded(call: Call, decode: Callable[..., Decoded], find_duplicates: bool) -> Decoded:
    """The body through `decode`, in a thread where that would hold up everybody else."""
    return await _decode_here_or_there(call, await read_body(call.request), decode, find_duplicates)


async def _decode_here_or_there(
    call: Call, data: bytes, decode: Callable[..., Decoded], find_duplicates: bool
) -> Decoded:
    content_type = call.request.headers.get("Content-Type", "")
    applies = media_type(content_type) == APPLY_PATCH
    if applies is (decode is decode_patch) and wants_process(data, content_type):
        decoded = await call.yaml.decode(data)
        check_shape(decoded.object, content_type, decode is decode_patch)
        return decoded
    if is_slow(data, content_type):
        return await asyncio.to_thread(decode, data, content_type, find_duplicates=find_duplicates)
    return decode(data, content_type, find_duplicates=find_duplicates)
