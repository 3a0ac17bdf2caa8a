"""Indexes: what a selector finds with one is what it finds without, at every moment and revision."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.item import Item, encode
from orchestrator.api.resources import CONFIGMAPS, PODS
from orchestrator.registry import indexing
from orchestrator.registry.indexing import Index
from orchestrator.registry.selection import Selection
from orchestrator.store.interface import Entry, Event

PREFIX = "/registry/pods/"


def _pod(name: str, labels: dict[str, str], node: str, revision: int) -> Item:
    metadata = {"name": name, "namespace": "d", **({"labels": labels} if labels else {})}
    return Item(encode({"metadata": metadata, "spec": {"nodeName": node} if node else {}}), revision)


_labels = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["", "x", "y", "7", "12"]), max_size=2)
_changes = st.lists(
    st.tuples(st.sampled_from("pqrst"), st.one_of(st.none(), st.tuples(_labels, st.sampled_from(["", "n1", "n2"])))),
    max_size=30,
)  # fmt: skip
_SELECTORS = [
    ("a=x", ""), ("a", ""), ("a in (x,7),b!=y", ""), ("a>5", ""), ("a<10,b", ""), ("a=", ""), ("c=x", ""),
    ("", "spec.nodeName=n1"), ("a=x", "spec.nodeName!=n1"), ("b notin (x)", "spec.nodeName="),
    ("", "metadata.name=q"), ("!a", "spec.nodeName=n2"), ("!a", ""), ("a notin (x)", ""),
]  # fmt: skip


@given(_changes)
def test_candidates_hold_everything_that_matches(changes):
    index, state = Index(PREFIX, ("metadata.name", "spec.nodeName")), {}
    for revision, (name, content) in enumerate(changes, 1):
        key = f"{PREFIX}d/{name}"
        item = _pod(name, *content, revision) if content else None
        index.apply(Event(revision, key, Entry(key, item, 1, 1) if item else None, None))
        state[key] = item
    state = {key: item for key, item in state.items() if item is not None}
    assert index.items == state
    for labels, fields in _SELECTORS:
        selection = Selection.parse(PODS, labels, fields)
        wanted = {key for key, item in state.items() if selection.matcher(item)}
        parts = index.candidates(selection)
        assert parts is None or selection.narrows
        if parts is not None:
            assert wanted <= {key for part in parts for key in part} <= state.keys()


async def _indexed(api, **options):
    """Lists until an index answers."""
    await api.list(CONFIGMAPS, **options)
    indexes = api.registry._indexes
    for _ in range(100):
        await asyncio.sleep(0)
        if all(index.ready for index in indexes._indexes.values()):
            break
    assert indexes._indexes
    return indexes


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(indexing, "INDEX_MIN", 2)


async def _fill(api, count=6):
    for n in range(count):
        await api.create(CONFIGMAPS, api.config_map(f"c{n}", labels={"odd": str(n % 2), "n": str(n)}))


async def test_an_index_sees_what_was_just_written(api, few):
    await _fill(api)
    await _indexed(api, label_selector="odd=1")
    await api.create(CONFIGMAPS, api.config_map("c7", labels={"odd": "1"}))
    await api.delete(CONFIGMAPS, "c1")
    await api.patch(CONFIGMAPS, "c2", {"metadata": {"labels": {"odd": "1"}}})
    found = await api.list(CONFIGMAPS, label_selector="odd=1")
    assert api.names(found.items) == ["c2", "c3", "c5", "c7"]
    assert found.revision == api.store.revision


async def test_pages_from_an_index_go_on_at_their_revision(api, few):
    await _fill(api)
    await _indexed(api, label_selector="odd=0")
    first = await api.list(CONFIGMAPS, label_selector="odd=0", limit=2)
    assert api.names(first.items) == ["c0", "c2"] and first.remaining == 0
    await api.delete(CONFIGMAPS, "c4")
    rest = await api.list(CONFIGMAPS, label_selector="odd=0", limit=2, continue_token=first.continue_token)
    assert api.names(rest.items) == ["c4"] and rest.revision == first.revision and not rest.continue_token


async def test_the_past_is_not_read_from_an_index(api, few):
    await _fill(api)
    past = str(api.store.revision)
    await _indexed(api, label_selector="odd=0")
    exact = {"label_selector": "odd=0", "resource_version": past, "resource_version_match": "Exact"}
    assert api.names((await api.list(CONFIGMAPS, **exact)).items) == ["c0", "c2", "c4"]
    await api.delete(CONFIGMAPS, "c0")
    assert api.names((await api.list(CONFIGMAPS, **exact)).items) == ["c0", "c2", "c4"]


async def test_a_field_asked_later_joins_the_index(api, few):
    await _fill(api)
    indexes = await _indexed(api, label_selector="n=1")
    await _indexed(api, namespace=None, field_selector="metadata.name=c3")
    (index,) = indexes._indexes.values()
    assert index.fields == ("metadata.name",) and len(index) == 6
    assert api.names((await api.list(CONFIGMAPS, None, field_selector="metadata.name=c3")).items) == ["c3"]
    assert api.names((await api.list(CONFIGMAPS, label_selector="n in (1,2)")).items) == ["c1", "c2"]


async def test_few_resources_keep_an_index(api, few, monkeypatch):
    monkeypatch.setattr(indexing, "INDEXES_MAX", 1)
    await _fill(api)
    indexes = await _indexed(api, label_selector="n=1")
    for n in range(3):
        await api.create(PODS, api.pod(f"p{n}"))
    await api.list(PODS, label_selector="n=1")
    assert list(indexes._indexes) == ["/registry/pods/"]
    assert api.names((await api.list(CONFIGMAPS, label_selector="n=1")).items) == ["c1"]


async def test_a_watch_with_a_selector_starts_from_the_index(api, few):
    await _fill(api)
    await _indexed(api, label_selector="odd=1")
    watch = api.watch(CONFIGMAPS, label_selector="odd=1")
    assert api.names([event.item for event in await anext(watch)]) == ["c1", "c3", "c5"]
    await watch.aclose()
