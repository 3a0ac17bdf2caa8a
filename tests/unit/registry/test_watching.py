"""Watch: what a client sees through its selectors, when it hears of progress, and how a watch ends."""

import asyncio
import random

import pytest

from orchestrator.api.access import ADMIN
from orchestrator.api.errors import BadRequest, Expired, Timeout
from orchestrator.api.options import WriteOptions
from orchestrator.api.resources import CONFIGMAPS, PODS
from orchestrator.registry.watching import BOOKMARK_S


async def _next(batches):
    return await asyncio.wait_for(anext(batches), 5)


async def _collect(api, batches, count):
    """`count` events as (type, name, revision)."""
    seen = []
    while len(seen) < count:
        seen += [(event.type, event.item.meta.name, event.item.revision) for event in await _next(batches)]
    return seen


async def test_a_watch_without_a_revision_starts_with_the_state(api):
    first = (await api.create(CONFIGMAPS, api.config_map("a"))).item
    batches = api.watch(CONFIGMAPS)
    assert await _collect(api, batches, 1) == [("ADDED", "a", first.revision)]
    second = (await api.create(CONFIGMAPS, api.config_map("b"))).item
    assert await _collect(api, batches, 1) == [("ADDED", "b", second.revision)]
    await batches.aclose()


async def test_a_watch_from_a_revision_misses_nothing_and_repeats_nothing(api):
    first = (await api.create(CONFIGMAPS, api.config_map("a"))).item
    changed = (await api.patch(CONFIGMAPS, "a", {"data": {"key": "new"}})).item
    batches = api.watch(CONFIGMAPS, resource_version=str(first.revision))
    gone = (await api.delete(CONFIGMAPS, "a")).item
    assert await _collect(api, batches, 2) == [
        ("MODIFIED", "a", changed.revision),
        ("DELETED", "a", gone.revision),
    ]
    await batches.aclose()


async def test_events_share_the_items_of_the_store(api):
    batches = api.watch(CONFIGMAPS)
    item = (await api.create(CONFIGMAPS, api.config_map("a"))).item
    assert (await _next(batches))[0].item is item
    await batches.aclose()


async def test_watchers_of_a_deletion_share_its_item(api):
    """The server encodes a line once per item, however many clients watch."""
    start = str((await api.create(CONFIGMAPS, api.config_map("a"))).item.revision)
    watches = [api.watch(CONFIGMAPS, namespace, resource_version=start) for namespace in ("default", None)]
    await api.delete(CONFIGMAPS, "a")
    items = [(await _next(batches))[0].item for batches in watches]
    assert items[0] is items[1]
    for batches in watches:
        await batches.aclose()


async def test_entering_and_leaving_a_label_selection(api):
    start = str((await api.create(CONFIGMAPS, api.config_map("a"))).item.revision)
    batches = api.watch(CONFIGMAPS, resource_version=start, label_selector="app=web")
    await api.patch(CONFIGMAPS, "a", {"data": {"key": "unseen"}})
    entered = (await api.patch(CONFIGMAPS, "a", {"metadata": {"labels": {"app": "web"}}})).item
    changed = (await api.patch(CONFIGMAPS, "a", {"data": {"key": "seen"}})).item
    left = (await api.patch(CONFIGMAPS, "a", {"metadata": {"labels": {"app": "db"}}})).item
    await api.delete(CONFIGMAPS, "a")
    events = []
    while len(events) < 3:
        events += await _next(batches)
    assert [(event.type, event.item.revision) for event in events] == [
        ("ADDED", entered.revision),
        ("MODIFIED", changed.revision),
        ("DELETED", left.revision),
    ]
    assert events[2].item.labels == {"app": "web"}, "the last state that matched"
    await batches.aclose()


async def test_a_pod_enters_its_nodes_selection_when_it_is_bound(api):
    start = str((await api.create(PODS, api.pod("a"))).item.revision)
    batches = api.watch(PODS, None, resource_version=start, field_selector="spec.nodeName=n1")
    binding = {"target": {"kind": "Node", "name": "n1"}}
    bound = await api.registry.subresources.bind("default", "a", binding, WriteOptions(), ADMIN)
    assert await _collect(api, batches, 1) == [("ADDED", "a", bound.item.revision)]
    await batches.aclose()


async def test_a_compacted_revision_is_expired(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    await api.create(CONFIGMAPS, api.config_map("b"))
    await api.store.compact(api.store.revision)
    with pytest.raises(Expired, match="too old resource version: 1"):
        await _next(api.watch(CONFIGMAPS, resource_version="1"))


async def test_bad_options_are_refused_before_the_first_event(api):
    with pytest.raises(BadRequest):
        api.watch(CONFIGMAPS, label_selector="a in")
    with pytest.raises(BadRequest):
        api.watch(CONFIGMAPS, resource_version="x")
    with pytest.raises(Timeout):
        api.watch(CONFIGMAPS, resource_version="999")


async def test_initial_events_end_with_an_annotated_bookmark(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    start = api.store.revision
    batches = api.watch(
        CONFIGMAPS, resource_version=str(start), send_initial_events=True, allow_bookmarks=True
    )
    assert (await _next(batches))[0].type == "ADDED"
    bookmark = (await _next(batches))[0]
    assert bookmark.type == "BOOKMARK"
    assert bookmark.item.object == {
        "metadata": {"annotations": {"k8s.io/initial-events-end": "true"}, "resourceVersion": str(start)},
        "kind": "ConfigMap",
        "apiVersion": "v1",
    }
    await batches.aclose()


async def test_bookmarks_tell_an_idle_client_the_stores_revision(api):
    await api.create(PODS, api.pod("before"))
    batches = api.watch(CONFIGMAPS, resource_version=str(api.store.revision), allow_bookmarks=True)
    bookmark = asyncio.ensure_future(_next(batches))
    await asyncio.sleep(0)
    await api.create(PODS, api.pod("elsewhere"))
    await api.clock.advance(BOOKMARK_S * 1.2)
    (event,) = await bookmark
    assert event.type == "BOOKMARK"
    assert event.item.revision == api.store.revision
    item = (await api.create(CONFIGMAPS, api.config_map("a"))).item
    assert await _collect(api, batches, 1) == [("ADDED", "a", item.revision)]
    await batches.aclose()


async def test_a_watch_ends_at_its_timeout_with_a_bookmark(api):
    batches = api.watch(CONFIGMAPS, resource_version="0", allow_bookmarks=True, timeout_s=10)
    (event,) = await _next(batches)
    assert event.item.object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    last = asyncio.ensure_future(_next(batches))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await api.clock.advance(11)
    assert (await last)[0].type == "BOOKMARK"
    with pytest.raises(StopAsyncIteration):
        await _next(batches)


async def test_closing_a_watch_leaves_no_timer(api):
    batches = api.watch(CONFIGMAPS)
    await api.create(CONFIGMAPS, api.config_map("a"))
    await _next(batches)
    await batches.aclose()
    await asyncio.sleep(0)
    assert api.registry._watches._supervisor.names == []


async def test_a_mirror_built_from_list_and_watch_equals_the_store(api):
    """Random writes while timers close and reopen the watch: no gap, no repetition."""
    rng = random.Random(3)
    listed = await api.list(CONFIGMAPS, None)
    mirror = {item.meta.name: item.revision for item in listed.items}
    batches = api.watch(CONFIGMAPS, None, resource_version=str(listed.revision), allow_bookmarks=True)

    async def follow():
        revision = listed.revision
        async for batch in batches:
            for event in batch:
                if event.type == "BOOKMARK":
                    continue
                assert event.item.revision > revision
                revision = event.item.revision
                if event.type == "DELETED":
                    del mirror[event.item.meta.name]
                else:
                    assert (event.item.meta.name in mirror) == (event.type == "MODIFIED")
                    mirror[event.item.meta.name] = revision
            if "end" in mirror:
                return

    task = asyncio.ensure_future(follow())
    for _ in range(40):
        name = f"c{rng.randrange(6)}"
        if name in {item.meta.name for item in (await api.list(CONFIGMAPS)).items}:
            if rng.random() < 0.4:
                await api.delete(CONFIGMAPS, name)
            else:
                await api.patch(CONFIGMAPS, name, {"data": {"n": str(rng.random())}})
        else:
            await api.create(CONFIGMAPS, api.config_map(name))
        if rng.random() < 0.2:
            await api.clock.advance(BOOKMARK_S)
    await api.create(CONFIGMAPS, api.config_map("end"))
    await asyncio.wait_for(task, 10)
    await batches.aclose()
    items = (await api.list(CONFIGMAPS)).items
    assert mirror == {item.meta.name: item.revision for item in items}
