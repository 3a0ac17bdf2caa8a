"""Informers over a real registry: mirror, indexes, handlers, and recovery from whatever ends a watch."""

import random
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import ADMIN
from orchestrator.api.errors import Expired, ServiceUnavailable
from orchestrator.api.item import Item
from orchestrator.api.options import ListOptions
from orchestrator.api.resources import CONFIGMAPS, NAMESPACES, PODS, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.local import LocalClient
from orchestrator.informer.cache import Index, Informers, key_of
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.store.engine import LogStore

schemas = cache(Schemas.load)


class Everybody:
    """An authorizer that says yes."""

    async def authorize(self, identity, attributes):
        return


class Unsteady(LocalClient):
    """A local client whose connection can be made to fail, like one to another host."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.faults = []
        self.lists = 0
        self.open = set()

    async def list(self, resource, namespace=None, options=ListOptions()):  # noqa: B008
        self.lists += 1
        if self.faults and self.faults[0][0] == "list":
            raise self.faults.pop(0)[1]
        return await super().list(resource, namespace, options)

    async def watch(self, resource, namespace=None, options=None):
        if self.faults and self.faults[0][0] == "watch":
            raise self.faults.pop(0)[1]
        batches = super().watch(resource, namespace, options)
        self.open.add(batches)
        try:
            async for batch in batches:
                yield batch
                if self.faults and self.faults[0][0] == "stream":
                    raise self.faults.pop(0)[1]
        finally:
            await batches.aclose()
            self.open.discard(batches)


class World:
    """A registry, a client and informers, on one virtual clock."""

    def __init__(self, registry, store, clock, supervisor) -> None:
        self.registry, self.store, self.clock, self.supervisor = registry, store, clock, supervisor
        self.client = Unsteady(registry, Everybody(), ADMIN)
        self.informers = Informers(self.client, supervisor, clock, rng=random.Random(1))
        self.seen = []

    def note(self, old: Item | None, new: Item | None) -> None:
        self.seen.append((key_of(old) if old else None, key_of(new) if new else None))

    async def create(self, name, namespace="default", **metadata):
        obj = {"metadata": {"name": name, **metadata}, "data": {"k": "v"}}
        return await self.client.create(CONFIGMAPS, obj, namespace)

    async def label(self, name, namespace="default", **labels):
        await self.client.patch(CONFIGMAPS, name, namespace, {"metadata": {"labels": labels}})

    async def settle(self):
        await self.clock.advance(0)
        await self.clock.advance(0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = VirtualClock()
    supervisor = Supervisor("test", clock)
    store = await LogStore.open(tmp_path / "store", clock, supervisor)
    rng = random.Random(5)
    strategies = built_in("10.43.0.0/24", range(30000, 30010), clock, rng)
    registry = Registry(store, ResourceTable(), schemas(), strategies, AdmissionChain(), clock, rng)
    yield World(registry, store, clock, supervisor)
    await supervisor.stop()
    await registry.close()
    await store.close()


async def test_an_informer_mirrors_what_was_there_and_what_comes(world):
    await world.create("a")
    informer = world.informers.of(CONFIGMAPS)
    informer.on_change(world.note)
    world.informers.start()
    await world.informers.synced()
    await world.create("b", "other")
    await world.client.delete(CONFIGMAPS, "a", "default")
    await world.settle()
    assert informer.get("default/a") is None
    assert [key_of(item) for item in informer.list()] == ["other/b"]
    assert informer.list("default") == []
    assert world.seen == [(None, "default/a"), (None, "other/b"), ("default/a", None)]
    assert informer.revision == world.store.revision


async def test_items_are_shared_with_the_store(world):
    await world.create("a")
    informer = world.informers.of(CONFIGMAPS)
    world.informers.start()
    await world.informers.synced()
    await world.create("b")
    await world.settle()
    for name in ("a", "b"):
        assert informer.get(f"default/{name}") is await world.registry.get(CONFIGMAPS, "default", name)


async def test_informers_are_shared_per_resource_and_selection(world):
    all_pods = world.informers.of(PODS)
    assert world.informers.of(PODS) is all_pods
    on_n1 = world.informers.of(PODS, field_selector="spec.nodeName=n1")
    assert on_n1 is not all_pods
    assert world.informers.of(PODS, field_selector="spec.nodeName=n1") is on_n1


async def test_a_selective_informer_drops_what_leaves_its_selection(world):
    informer = world.informers.of(CONFIGMAPS, label_selector="app=web")
    world.informers.start()
    await world.create("a", labels={"app": "web"})
    await world.settle()
    assert len(informer) == 1
    await world.label("a", app="db")
    await world.settle()
    assert len(informer) == 0


async def test_indexes_follow_every_change(world):
    informer = world.informers.of(CONFIGMAPS)
    informer.add_index("app", lambda item: [item.labels["app"]] if "app" in item.labels else [])
    world.informers.start()
    await world.create("a", labels={"app": "web"})
    await world.create("b", labels={"app": "web"})
    await world.settle()
    assert {key_of(item) for item in informer.by_index("app", "web")} == {"default/a", "default/b"}
    await world.label("a", app="db")
    await world.client.delete(CONFIGMAPS, "b", "default")
    await world.settle()
    assert informer.by_index("app", "web") == []
    assert [key_of(item) for item in informer.by_index("app", "db")] == ["default/a"]
    with pytest.raises(KeyError):
        informer.by_index("unknown", "x")


async def test_a_late_handler_and_a_late_index_see_what_is_there(world):
    await world.create("a", labels={"app": "web"})
    informer = world.informers.of(CONFIGMAPS)
    world.informers.start()
    await world.informers.synced()
    informer.on_change(world.note)
    informer.add_index("app", lambda item: [item.labels["app"]])
    assert world.seen == [(None, "default/a")]
    assert len(informer.by_index("app", "web")) == 1


async def test_handlers_see_the_changed_cache_and_do_not_disturb_each_other(world):
    informer = world.informers.of(CONFIGMAPS)
    cached = []

    def breaks(old, new):
        raise ValueError("bug")

    informer.on_change(breaks)
    informer.on_change(lambda old, new: cached.append(informer.get(key_of(new)) is new))
    world.informers.start()
    await world.create("a")
    await world.create("b")
    await world.settle()
    assert cached == [True, True]


async def test_a_broken_watch_resumes_without_listing(world):
    informer = world.informers.of(CONFIGMAPS)
    informer.on_change(world.note)
    world.informers.start()
    await world.informers.synced()
    world.client.faults = [
        ("stream", ServiceUnavailable("cut")),
        ("watch", ServiceUnavailable("away")),
        ("watch", OSError("refused")),
    ]
    await world.create("a")
    await world.settle()
    await world.create("b")
    await world.clock.advance(30)
    assert world.seen == [(None, "default/a"), (None, "default/b")]
    assert world.client.lists == 1
    assert world.client.faults == []


async def test_an_expired_watch_lists_again_and_reports_only_differences(world):
    for name in ("a", "b", "c"):
        await world.create(name)
    informer = world.informers.of(CONFIGMAPS)
    world.informers.start()
    await world.informers.synced()
    await world.settle()
    informer.on_change(world.note)
    world.seen.clear()
    world.client.faults = [("stream", ServiceUnavailable("cut")), ("watch", Expired("too old"))]
    await world.create("trigger")
    await world.settle()
    await world.client.delete(CONFIGMAPS, "a", "default")
    await world.label("b", x="y")
    await world.create("d")
    await world.clock.advance(30)
    assert world.client.lists == 2
    assert sorted(world.seen, key=str) == sorted(
        [
            (None, "default/trigger"),
            ("default/a", None),
            ("default/b", "default/b"),
            (None, "default/d"),
        ],
        key=str,
    )


async def test_a_compacted_store_makes_the_informer_list_again(world):
    informer = world.informers.of(CONFIGMAPS)
    world.informers.start()
    await world.informers.synced()
    await world.settle()
    world.client.faults = [("stream", ServiceUnavailable("cut")), ("watch", ServiceUnavailable("away"))]
    await world.create("a")
    await world.settle()
    await world.create("b")
    await world.create("c")
    await world.store.compact(world.store.revision)
    await world.clock.advance(30)
    assert {key_of(item) for item in informer.list()} == {"default/a", "default/b", "default/c"}
    assert world.client.lists == 2


async def test_a_list_that_fails_is_tried_again(world):
    world.client.faults = [("list", ServiceUnavailable("starting")), ("list", OSError("refused"))]
    informer = world.informers.of(CONFIGMAPS)
    world.informers.start()
    await world.clock.advance(0)
    assert not informer.has_synced
    await world.clock.advance(5)
    assert informer.has_synced


async def test_bookmarks_move_an_idle_informer_on(world):
    informer = world.informers.of(NAMESPACES)
    world.informers.start()
    await world.informers.synced()
    await world.settle()
    await world.create("elsewhere")
    assert informer.revision < world.store.revision
    await world.clock.advance(70)
    assert informer.revision == world.store.revision


async def test_a_resync_offers_everything_again(world):
    await world.create("a")
    informer = world.informers.of(CONFIGMAPS)
    informer.on_change(world.note)
    world.informers.start()
    await world.informers.synced()
    await world.clock.advance(700)
    assert world.seen[:2] == [(None, "default/a"), ("default/a", "default/a")]


async def test_stopping_closes_the_watch(world):
    world.informers.of(CONFIGMAPS)
    world.informers.start()
    await world.informers.synced()
    await world.settle()
    assert len(world.client.open) == 1
    await world.supervisor.stop()
    assert not world.client.open


def test_an_index_forgets_values_nobody_has():
    index = Index(lambda item: item.labels.values())
    item = Item(b'{"metadata":{"name":"a","labels":{"x":"1","y":"2","z":"1"}}}', 1)
    index.set("a", item)
    assert index.values == ["1", "2"]
    index.set("a", None)
    index.set("a", None)
    assert index.values == []


async def test_handlers_that_were_added_together_end_together(world):
    informer = world.informers.of(CONFIGMAPS)
    before, seen = [], []
    informer.on_change(lambda old, new: before.append(new))
    with world.informers.subscribing() as subscription:
        informer.on_change(lambda old, new: seen.append(new))
        world.informers.of(NAMESPACES).on_change(lambda old, new: seen.append(new))
    world.informers.start()
    await world.informers.synced()
    await world.create("a")
    await world.settle()
    assert (len(before), len(seen)) == (1, 1)
    subscription.end()
    subscription.end()
    await world.create("b")
    await world.settle()
    assert (len(before), len(seen)) == (2, 1)
