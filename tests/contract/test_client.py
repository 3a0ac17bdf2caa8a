"""One suite for both clients: in this process, and over HTTPS against the real API server."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import ADMIN, Identity
from orchestrator.api.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    ServiceUnavailable,
)
from orchestrator.api.openapi import OpenAPI
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions
from orchestrator.api.resources import BINDINGS, CONFIGMAPS, DEPLOYMENTS, NODES, PODS, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.auth.authenticator import Authenticator
from orchestrator.auth.authorizer import AuthorizerChain
from orchestrator.auth.node import NodeAuthorizer
from orchestrator.auth.rbac import Rbac
from orchestrator.auth.tokens import ServiceAccountTokens
from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.https import HttpsClient
from orchestrator.client.interface import Client
from orchestrator.client.local import LocalClient
from orchestrator.pki.authority import Authority, CertificateSpec, ensure_signing_key
from orchestrator.pki.tls import client_context, server_context
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.server.app import ApiServer
from orchestrator.server.health import Health
from orchestrator.server.metrics import Metrics
from orchestrator.server.relay import Relay
from orchestrator.store.engine import LogStore
from orchestrator.web.listener import Listener

schemas = cache(Schemas.load)


class Nothing:
    """No roles, no bindings, no pods: only the administrator may do anything."""

    def list(self):
        return []

    def by_index(self, name, value):
        return []


class Server:
    """Registry and authorizer, and the API server in front of them once it is asked for."""

    def __init__(self, directory: Path, store: LogStore) -> None:
        self.clock = SystemClock()
        self.directory = directory
        self.store = store
        self.table = ResourceTable()
        rng = random.Random(3)
        strategies = built_in("10.43.0.0/24", range(30000, 30100), self.clock, rng)
        self.registry = Registry(store, self.table, schemas(), strategies, AdmissionChain(), self.clock, rng)
        none = Nothing()
        self.authorizer = AuthorizerChain(NodeAuthorizer(none), Rbac(none, none, none, none))
        self.closing = []

    def local(self, identity: Identity) -> Client:
        return LocalClient(self.registry, self.authorizer, identity)

    async def remote(self, identity: Identity) -> Client:
        authority = Authority(self.directory / "pki", self.clock)
        serving, _ = authority.ensure(
            "server", CertificateSpec("server", hosts=("127.0.0.1",), usages=("server",))
        )
        groups = tuple(group for group in identity.groups if group != "system:authenticated")
        pair, _ = authority.ensure("client", CertificateSpec(identity.name, groups))
        trust = client_context(authority.pair.certificate, pair)
        key = ensure_signing_key(self.directory / "pki" / "accounts.key")
        tokens = ServiceAccountTokens(key, self.registry, self.clock)
        app = ApiServer(
            self.registry, self.table, Authenticator(tokens), self.authorizer, tokens,
            OpenAPI(self.table, schemas()), Relay(self.registry, trust), Health(), self.clock,
            address="127.0.0.1:0", metrics=Metrics(),
        )  # fmt: skip
        listener = Listener(app.handle, "127.0.0.1", 0, server_context(serving, authority.pair.certificate))
        client = HttpsClient(f"https://127.0.0.1:{await listener.start()}", trust)
        self.closing += [client.close, app.close, lambda: listener.close(0.1)]
        return client


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    supervisor = Supervisor("test")
    store = await LogStore.open(tmp_path / "store", SystemClock(), supervisor)
    server = Server(tmp_path, store)
    yield server
    for close in server.closing:
        await close()
    await server.registry.close()
    await store.close()
    await supervisor.stop()


@pytest.fixture(params=["local", "https"])
def kind(request) -> str:
    return request.param


async def _as(server: Server, kind: str, identity: Identity) -> Client:
    return server.local(identity) if kind == "local" else await server.remote(identity)


@pytest.fixture
async def client(server: Server, kind: str) -> Client:
    return await _as(server, kind, ADMIN)


def _map(name, **metadata):
    return {"metadata": {"name": name, **metadata}, "data": {"key": "value"}}


async def _events(batches, count):
    seen = []
    while len(seen) < count:
        seen += await asyncio.wait_for(anext(batches), 5)
    return seen


async def test_an_object_is_created_read_changed_and_deleted(client):
    made = await client.create(CONFIGMAPS, _map("a"), "default")
    assert made["kind"] == "ConfigMap" and made["metadata"]["namespace"] == "default"
    assert await client.get(CONFIGMAPS, "a", "default") == made
    changed = await client.update(CONFIGMAPS, {**made, "data": {"key": "new"}})
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await client.update(CONFIGMAPS, {**made, "data": {"key": "stale"}})
    await client.delete(CONFIGMAPS, "a", "default")
    with pytest.raises(NotFound) as caught:
        await client.get(CONFIGMAPS, "a", "default")
    assert (caught.value.kind, caught.value.name) == ("configmaps", "a")


async def test_an_apply_creates_shares_conflicts_and_forces(client):
    def config(value):
        metadata = {"name": "shared", "namespace": "default"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": value}}

    await client.apply(CONFIGMAPS, config("1"), manager="one")
    await client.apply(CONFIGMAPS, config("1"), manager="two")
    with pytest.raises(Conflict) as raised:
        await client.apply(CONFIGMAPS, config("2"), manager="two")
    assert [(cause.message, cause.field) for cause in raised.value.causes] == [
        ('conflict with "one"', ".data.k")
    ]
    changed = await client.apply(CONFIGMAPS, config("2"), manager="two", force=True)
    assert changed["data"] == {"k": "2"}
    assert [entry["manager"] for entry in changed["metadata"]["managedFields"]] == ["two"]


async def test_every_patch_type(client):
    labels = {"app": "web"}
    container = {"name": "main", "image": "a"}
    await client.create(
        DEPLOYMENTS,
        {
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        "default",
    )
    await client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 2}})
    replace = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    await client.patch(DEPLOYMENTS, "web", "default", replace, type="json")
    merged = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "b"}]}}}}
    await client.patch(DEPLOYMENTS, "web", "default", merged, type="strategic")
    status = {"status": {"replicas": 1}}
    changed = await client.patch(DEPLOYMENTS, "web", "default", status, subresource="status")
    assert changed["spec"]["replicas"] == 3
    assert changed["spec"]["template"]["spec"]["containers"][0]["image"] == "b"
    assert changed["spec"]["template"]["spec"]["containers"][0]["terminationMessagePolicy"] == "File"
    assert changed["status"]["replicas"] == 1


async def test_a_list_holds_items_in_stored_form(client, server):
    for n in range(3):
        await client.create(CONFIGMAPS, _map(f"c{n}", labels={"n": str(n)}), "default")
    await client.create(CONFIGMAPS, _map("other"), "team")
    found = await client.list(CONFIGMAPS, "default")
    assert [item.meta.name for item in found.items] == ["c0", "c1", "c2"]
    assert found.revision == server.store.revision
    for item in found.items:
        stored = await server.registry.get(CONFIGMAPS, "default", item.meta.name)
        assert item.revision == stored.revision
        assert item.object == stored.object
        assert item.raw.startswith(b'{"metadata":{') and b"resourceVersion" not in item.raw
    assert len((await client.list(CONFIGMAPS)).items) == 4
    selected = await client.list(CONFIGMAPS, "default", ListOptions(label_selector="n in (0,2)"))
    assert [item.meta.name for item in selected.items] == ["c0", "c2"]
    page = await client.list(CONFIGMAPS, "default", ListOptions(limit=2))
    assert (len(page.items), page.remaining) == (2, 1)
    rest = await client.list(CONFIGMAPS, "default", ListOptions(limit=2, continue_token=page.continue_token))
    assert [item.meta.name for item in rest.items] == ["c2"]


async def test_a_watch_goes_on_from_a_list(client):
    await client.create(CONFIGMAPS, _map("a"), "default")
    found = await client.list(CONFIGMAPS, "default")
    batches = client.watch(CONFIGMAPS, "default", WatchOptions(resource_version=str(found.revision)))
    made = await client.create(CONFIGMAPS, _map("b"), "default")
    await client.patch(CONFIGMAPS, "b", "default", {"data": {"key": "new"}})
    await client.delete(CONFIGMAPS, "b", "default")
    events = await _events(batches, 3)
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[0].item.object == made
    assert events[0].item.revision < events[1].item.revision < events[2].item.revision
    await batches.aclose()


async def test_a_watch_with_initial_events_says_where_they_end(client):
    await client.create(CONFIGMAPS, _map("a"), "default")
    options = WatchOptions(send_initial_events=True, allow_bookmarks=True)
    batches = client.watch(CONFIGMAPS, "default", options)
    added, bookmark = await _events(batches, 2)
    assert (added.type, bookmark.type) == ("ADDED", "BOOKMARK")
    assert bookmark.item.object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    await batches.aclose()


async def test_a_watch_ends_at_its_timeout(client):
    batches = client.watch(CONFIGMAPS, "default", WatchOptions(resource_version="0", timeout_s=1))
    assert [batch async for batch in batches] == []


async def test_a_watch_from_a_compacted_revision_is_expired(client, server):
    for n in range(3):
        await client.create(CONFIGMAPS, _map(f"c{n}"), "default")
    await server.store.compact(server.store.revision)
    batches = client.watch(CONFIGMAPS, "default", WatchOptions(resource_version="1"))
    with pytest.raises(Expired):
        await _events(batches, 1)
    await batches.aclose()


async def test_errors_are_the_same_classes_with_their_causes(client):
    await client.create(CONFIGMAPS, _map("a"), "default")
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        await client.create(CONFIGMAPS, _map("a"), "default")
    with pytest.raises(Invalid) as caught:
        await client.create(CONFIGMAPS, _map("Not_A_Name"), "default")
    assert [cause.field for cause in caught.value.causes] == ["metadata.name"]
    with pytest.raises(BadRequest):
        await client.list(CONFIGMAPS, "default", ListOptions(label_selector="a in"))
    with pytest.raises(BadRequest, match=r"metadata\.name"):
        await client.update(CONFIGMAPS, {"metadata": {}})


async def test_a_pod_is_bound_and_evicted_through_its_subresources(client):
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "main", "image": "b"}]}}
    binding = {
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"},
        "target": {"kind": "Node", "name": "n1"},
    }  # fmt: skip
    await client.create(PODS, pod, "default")
    await client.create(PODS, binding, "default", subresource="binding", name="a")
    assert (await client.get(PODS, "a", "default"))["spec"]["nodeName"] == "n1"
    with pytest.raises(Conflict, match="already assigned"):
        await client.create(BINDINGS, binding, "default")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    await client.create(PODS, eviction, "default", subresource="eviction", name="a")
    assert "deletionTimestamp" in (await client.get(PODS, "a", "default"))["metadata"]
    await client.delete(PODS, "a", "default", DeleteOptions(grace_period_s=0))
    with pytest.raises(NotFound):
        await client.get(PODS, "a", "default")


async def test_deletion_carries_its_options(client):
    made = await client.create(CONFIGMAPS, _map("a"), "default")
    with pytest.raises(Conflict):
        await client.delete(CONFIGMAPS, "a", "default", DeleteOptions(uid="other"))
    await client.delete(CONFIGMAPS, "a", "default", DeleteOptions(propagation_policy="Foreground"))
    left = await client.get(CONFIGMAPS, "a", "default")
    assert left["metadata"]["uid"] == made["metadata"]["uid"]
    assert left["metadata"]["finalizers"] == ["foregroundDeletion"]


async def test_a_collection_is_deleted_by_selector(client):
    for n in range(3):
        await client.create(CONFIGMAPS, _map(f"c{n}", labels={"n": str(n)}), "default")
    await client.delete_collection(CONFIGMAPS, "default", selection=ListOptions(label_selector="n!=1"))
    assert [item.meta.name for item in (await client.list(CONFIGMAPS)).items] == ["c1"]


async def test_cluster_scoped_resources_need_no_namespace(client):
    await client.create(NODES, {"metadata": {"name": "n1"}})
    assert (await client.get(NODES, "n1"))["metadata"]["name"] == "n1"
    assert [item.meta.name for item in (await client.list(NODES)).items] == ["n1"]


async def test_who_may_not_is_told_so(server, kind):
    client = await _as(server, kind, Identity("jane", ("staff", "system:authenticated")))
    with pytest.raises(Forbidden, match='User "jane" cannot create resource "configmaps"'):
        await client.create(CONFIGMAPS, _map("a"), "default")
    for attempt in (client.get(CONFIGMAPS, "a", "default"), client.list(CONFIGMAPS)):
        with pytest.raises(Forbidden):
            await attempt
    with pytest.raises(Forbidden):
        await anext(client.watch(CONFIGMAPS))


async def test_a_long_list_is_read_whole_over_https(server):
    client = await server.remote(ADMIN)
    writer = server.local(ADMIN)
    await asyncio.gather(*(writer.create(CONFIGMAPS, _map(f"c{n:04}"), "default") for n in range(1100)))
    found = await client.list(CONFIGMAPS)
    assert [item.meta.name for item in found.items] == [f"c{n:04}" for n in range(1100)]


async def test_a_server_that_is_away_is_unavailable(server):
    client = await server.remote(ADMIN)
    gone = HttpsClient("https://127.0.0.1:1", client._ssl)  # type: ignore[attr-defined]
    with pytest.raises(ServiceUnavailable, match="can't be reached"):
        await gone.get(CONFIGMAPS, "a", "default")
    with pytest.raises(ServiceUnavailable):
        await anext(gone.watch(CONFIGMAPS))
    await gone.close()
