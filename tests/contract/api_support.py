"""A whole API server for contract tests: real listener, real registry, real log store, clients of another make."""

import json
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.item import Item
from orchestrator.api.openapi import OpenAPI
from orchestrator.api.resources import ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.assembly.health import check_store
from orchestrator.assembly.metrics import StoreCollector
from orchestrator.auth.authenticator import Authenticator
from orchestrator.auth.authorizer import AuthorizerChain
from orchestrator.auth.node import NodeAuthorizer
from orchestrator.auth.rbac import Rbac
from orchestrator.auth.tokens import ServiceAccountTokens
from orchestrator.base.clock import SystemClock
from orchestrator.pki.authority import Authority, CertificateSpec, ensure_signing_key
from orchestrator.pki.tls import client_context, server_context
from orchestrator.registry.custom_kinds import CustomKinds
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.server.app import ApiServer
from orchestrator.server.health import Health
from orchestrator.server.metrics import Metrics
from orchestrator.server.relay import Relay
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.web.listener import Listener

Json = dict[str, Any]


class Held:
    """Objects of one resource, as an informer would hold them."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def by_index(self, name: str, value: str) -> list[Item]:
        return []

    def list(self) -> list[Item]:
        return self.items


@dataclass
class Cluster:
    base: str
    port: int
    registry: Registry
    app: ApiServer
    admin: aiohttp.ClientSession
    user: aiohttp.ClientSession
    anybody: aiohttp.ClientSession
    authority: Authority
    roles: Held
    bindings: Held
    admin_tls: ssl.SSLContext
    rbac: Rbac
    custom: CustomKinds

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        session: aiohttp.ClientSession | None = None,
        **kwargs: Any,
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        headers = kwargs.pop("headers", {})
        data = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        if data is not None:
            headers = {"Content-Type": "application/json", **headers}
        request = (session or self.admin).request(
            method, self.base + path, data=data, headers=headers, **kwargs
        )
        async with request as answer:
            raw = await answer.read()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer.status, json.loads(raw) if is_json and raw else raw.decode(), answer

    async def allow(self, user: str, *rules: Json) -> None:
        """Grant a user cluster-wide rules."""
        role = {"metadata": {"name": "r"}, "rules": list(rules)}
        binding = {
            "metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "name": user}],
        }
        self.roles.items = [Item(json.dumps(role, separators=(",", ":")).encode(), 1)]
        self.bindings.items = [Item(json.dumps(binding, separators=(",", ":")).encode(), 1)]
        self.rbac.invalidate()


@asynccontextmanager
async def served(
    directory: Path,
    schemas: Schemas,
    disk: Disk | None = None,
    service_cidr: str = "10.43.0.0/16",
    node_ports: range = range(30000, 32768),
) -> AsyncIterator[Cluster]:
    """A server on a free port, with its data in `directory`; Services get addresses and ports of these ranges."""
    clock, rng, table = SystemClock(), random.Random(7), ResourceTable()
    store = await LogStore.open(directory / "store", clock, disk=disk)
    metrics = Metrics()
    metrics.registry.register(StoreCollector(store.stats))
    strategies = built_in(service_cidr, node_ports, clock, rng)
    registry = Registry(store, table, schemas, strategies, AdmissionChain([]), clock, rng)
    ca = Authority(directory / "pki", clock)
    server, _ = ca.ensure("server", CertificateSpec("api", (), ("127.0.0.1",), ("server",)))
    admin, _ = ca.ensure("admin", CertificateSpec("admin", ("system:masters",)))
    user, _ = ca.ensure("user", CertificateSpec("jane", ("devs",)))
    roles, bindings, none = Held(), Held(), Held()
    rbac = Rbac(none, roles, none, bindings)
    authorizer = AuthorizerChain(NodeAuthorizer(none), rbac)
    tokens = ServiceAccountTokens(ensure_signing_key(directory / "sa.key"), registry, clock)
    trusted = ca.pair.certificate
    app = ApiServer(
        registry,
        table,
        Authenticator(tokens),
        authorizer,
        tokens,
        OpenAPI(table, schemas),
        Relay(registry, client_context(trusted, admin)),
        Health(live={"store": lambda: check_store(store)}),
        clock,
        address="127.0.0.1:6443",
        metrics=metrics,
    )
    listener = Listener(app.handle, "127.0.0.1", 0, server_context(server, trusted))
    port = await listener.start()
    sessions = [
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context(trusted, pair)))
        for pair in (admin, user, None)
    ]
    yield Cluster(
        f"https://127.0.0.1:{port}", port, registry, app, *sessions, ca, roles, bindings,
        client_context(trusted, admin), rbac, CustomKinds(table, schemas, strategies, registry.views),
    )  # fmt: skip
    for session in sessions:
        await session.close()
    await app.close()
    await listener.close(grace_s=1.0)
    await registry.close()
    await store.close()
