"""The API server: from a request to an answer. Its `handle` is what the listener calls.

The order is: identify, read the path, wait for a seat (`server.fairness`), authorize, dispatch. Every refusal is a
`Status` below `/api` and `/apis`, and nothing that went wrong inside is told to a client.
"""

import random
import time
from dataclasses import replace
from functools import partial

import msgspec

from orchestrator.api.access import Identity
from orchestrator.api.errors import ApiError, MethodNotAllowed
from orchestrator.api.resources import PODS, ResourceTable
from orchestrator.base.clock import Clock
from orchestrator.registry.registry import Registry
from orchestrator.server import metrics as measured
from orchestrator.server import paths
from orchestrator.server import query as queries
from orchestrator.server.discovery import Discovery
from orchestrator.server.errors import (
    HEADERS,
    body_answer,
    status_answer,
    unexpected_answer,
    unknown_resource,
)
from orchestrator.server.fairness.fairness import Fairness
from orchestrator.server.fairness.gate import LONG_RUNNING, Gate, marked
from orchestrator.server.fairness.metrics import families
from orchestrator.server.handlers import Call, Handlers
from orchestrator.server.health import Health, version_answer
from orchestrator.server.identify import identify
from orchestrator.server.interfaces import Authenticator, Authorizer, OpenAPI, StoreAdmin, Tokens
from orchestrator.server.media import Messages, error_answer
from orchestrator.server.metrics import Metrics
from orchestrator.server.openapi import openapi_answer
from orchestrator.server.paths import RequestInfo
from orchestrator.server.present import Presenter
from orchestrator.server.proxy import Proxy
from orchestrator.server.query import Query
from orchestrator.server.relay import Relay
from orchestrator.server.reviews import Reviews
from orchestrator.server.store_admin import PREFIX, store_answer
from orchestrator.server.watching import Lines, Watchers
from orchestrator.server.yaml_worker import YamlWorker
from orchestrator.web.answer import Answer, Request, Response, add_headers, header
from orchestrator.web.body import BodyError

_READ_ONLY = frozenset(("get", "list", "watch", "head", "options"))
_CONNECTING = frozenset(("exec", "attach", "portforward"))
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
_PLAIN = RequestInfo("", "")


class ApiServer:
    """Owner of the open watches, the relay's connections and the metrics."""

    def __init__(
        self,
        registry: Registry,
        table: ResourceTable,
        authenticator: Authenticator,
        authorizer: Authorizer,
        tokens: Tokens,
        openapi: OpenAPI,
        relay: Relay,
        health: Health,
        clock: Clock,
        *,
        address: str,
        metrics: Metrics | None = None,
        store_admin: StoreAdmin | None = None,
        fairness: Fairness | None = None,
    ) -> None:
        """`address` is `host:port` as clients reach the API. Without `fairness` the default one is in force."""
        self._table = table
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._openapi = openapi
        self._relay = relay
        self._health = health
        self._store_admin = store_admin
        self._discovery = Discovery(table, address)
        self._explanations = registry.explanations
        self._yaml = YamlWorker()
        messages = Messages()
        self._watchers = Watchers(Lines(clock, messages))
        reviews = Reviews(authorizer, tokens, registry)
        proxies = self._proxies = Proxy(registry, relay, random.Random())
        self._handlers = Handlers(
            registry, Presenter(clock, messages), self._watchers, reviews, relay, proxies
        )
        self.metrics = metrics or Metrics()
        self._inflight = self.metrics.inflight
        self.fairness = fairness or Fairness()
        self._gate = Gate(self.fairness)
        self.metrics.sources.append(lambda: families(self.fairness))

    async def close(self) -> None:
        """End every watch and drop connections to agents; call before the listener closes."""
        self._watchers.stop()
        self._gate.close()
        await self._proxies.close()
        await self._relay.close()
        await self._yaml.close()

    async def handle(self, request: Request) -> Response:
        """Answer one request. Raises only `ConnectionError` (nobody is left to hear) and `CancelledError`."""
        started_s = time.perf_counter()
        info, flow = _PLAIN, None
        try:
            path, _, query_text = _target(request).partition("?")
            public = path.startswith(_PUBLIC)
            identity = await identify(request, self._authenticator, self._authorizer, public=public)
            query = queries.parse(query_text)
            info = paths.parse(request.method, path, query)
            flow = self._gate.flow_of(identity, info)
            serve = partial(self._serve, request, info, query, query_text, identity, public)
            if flow is None:
                answer = await serve()
            else:
                if info.verb == "watch":
                    add_headers(request, flow.headers)
                answer = await self._gate.run(request, identity, info, query, flow, serve)
        except ApiError as error:
            answer = error_answer(request, error)
        except BodyError as error:
            answer = body_answer(error)
        except ConnectionError:
            raise
        except Exception as error:
            answer = unexpected_answer(error, request.method, request.path)
        self.metrics.observe(info, answer.status, time.perf_counter() - started_s)
        return answer if flow is None else marked(answer, flow)

    async def _serve(
        self,
        request: Request,
        info: RequestInfo,
        query: Query,
        query_text: str,
        identity: Identity,
        public: bool,
    ) -> Response:
        """What has its seat: authorize and dispatch."""
        if public:
            return await self._public(request, info.path, query)
        await self._authorizer.authorize(identity, info.attributes())
        if not info.resource:
            return await self._plain(request, info, query)
        if info.verb == "watch" or info.subresource in LONG_RUNNING:
            return await self._resource(request, info, query, query_text, identity)
        kind = "readOnly" if info.verb in _READ_ONLY else "mutating"
        inflight = self._inflight
        inflight[kind] += 1
        try:
            return await self._resource(request, info, query, query_text, identity)
        finally:
            inflight[kind] -= 1

    async def _resource(
        self, request: Request, info: RequestInfo, query: Query, query_text: str, identity: Identity
    ) -> Response:
        resource = self._table.find(info.group, info.version, info.resource)
        if resource is None:
            raise unknown_resource()
        if info.subresource == "why" and info.verb == "get" and resource is PODS:
            found = self._explanations.why(info.namespace, info.name)
            return Answer(200, msgspec.json.encode(found), HEADERS)
        if info.subresource in _CONNECTING and info.verb == "get":
            # A WebSocket comes as GET but does what needs the right to create.
            await self._authorizer.authorize(identity, replace(info, verb="create").attributes())
        call = Call(request, info, query, query_text, identity, resource, self._yaml)
        answer = await self._handlers.answer(call)
        if call.listed:
            self._gate.note_objects(info, call.listed)
        return answer

    # paths that name no resource

    async def _public(self, request: Request, path: str, query: Query) -> Response:
        """Health and version, for anybody; somebody with bad credentials is still refused."""
        if request.method not in ("GET", "HEAD"):
            return _page_not_found()
        if path.rstrip("/") == "/version":
            return version_answer()
        return await self._health.answer(path, query) or _page_not_found()

    async def _plain(self, request: Request, info: RequestInfo, query: Query) -> Response:
        path = info.path
        if path.startswith(PREFIX) and self._store_admin is not None:
            return await store_answer(self._store_admin, info.verb, path)
        if info.verb not in ("get", "head"):
            return self._not_get(info)
        if path in ("/api", "/apis") or path.startswith(("/api/", "/apis/")):
            return self._discovery.answer(request, path)
        if path in ("/openapi/v2", "/openapi/v3") or path.startswith("/openapi/v3/"):
            return await openapi_answer(self._openapi, request, path, query)
        if path == "/metrics":
            return await self._metrics()
        if path == "/":
            return self._index()
        return _page_not_found()

    async def _metrics(self) -> Response:
        self.metrics.watches = self._watchers.count
        body = await self.metrics.render()
        return Answer(200, body, header("Content-Type", measured.CONTENT_TYPE))

    def _not_get(self, info: RequestInfo) -> Answer:
        if info.path in ("/", "/metrics") or info.path.startswith(("/api", "/openapi/")):
            raise MethodNotAllowed("the server does not allow this method on the requested resource")
        return _page_not_found()

    def _index(self) -> Answer:
        """`/`: the paths that are served."""
        known = {"/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3"}
        known |= {"/readyz", "/version"}
        for row in self._table:
            base = f"/apis/{row.group}" if row.group else "/api"
            known |= {base, f"{base}/{row.version}"}
        return Answer(200, msgspec.json.encode({"paths": sorted(known)}), HEADERS)


def _target(request: Request) -> str:
    """Path and query as sent; of a full URL (as to a proxy) only these count."""
    target = request.raw_path
    return target if target.startswith("/") else request.rel_url.raw_path_qs


def _page_not_found() -> Answer:
    return status_answer(unknown_resource())
