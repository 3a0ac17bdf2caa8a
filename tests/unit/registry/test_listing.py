"""List: pages, selectors, and the revisions that a client may ask for."""

import pytest

from orchestrator.api.errors import BadRequest, Expired, Timeout
from orchestrator.api.resources import CONFIGMAPS, PODS


async def _fill(api, count: int = 7):
    for n in range(count):
        await api.create(CONFIGMAPS, api.config_map(f"c{n}", labels={"odd": str(n % 2)}))


async def _pages(api, **options):
    pages, token = [], ""
    while True:
        page = await api.list(CONFIGMAPS, continue_token=token, **options)
        pages.append(page)
        token = page.continue_token
        if not token:
            return pages


async def test_pages_cover_everything_once_and_count_what_remains(api):
    await _fill(api)
    pages = await _pages(api, limit=3)
    assert [api.names(page.items) for page in pages] == [["c0", "c1", "c2"], ["c3", "c4", "c5"], ["c6"]]
    assert [page.remaining for page in pages] == [4, 1, 0]


async def test_pages_stay_at_the_revision_of_the_first(api):
    await _fill(api)
    first = await api.list(CONFIGMAPS, limit=3)
    await api.delete(CONFIGMAPS, "c4")
    await api.create(CONFIGMAPS, api.config_map("c40"))
    rest = await api.list(CONFIGMAPS, limit=100, continue_token=first.continue_token)
    assert api.names(rest.items) == ["c3", "c4", "c5", "c6"]
    assert rest.revision == first.revision


async def test_pages_with_a_selector_are_full_and_do_not_count(api):
    await _fill(api)
    pages = await _pages(api, limit=2, label_selector="odd=0")
    assert [api.names(page.items) for page in pages] == [["c0", "c2"], ["c4", "c6"]]
    assert all(page.remaining == 0 for page in pages)
    assert (await api.list(CONFIGMAPS, limit=2, label_selector="odd=none")).items == []


async def test_a_page_that_ends_with_the_last_object_has_no_continuation(api):
    await _fill(api, 4)
    assert [len(page.items) for page in await _pages(api, limit=2)] == [2, 2]


async def test_a_compacted_continuation_says_where_to_go_on(api):
    await _fill(api)
    first = await api.list(CONFIGMAPS, limit=3)
    await api.create(CONFIGMAPS, api.config_map("c9"))
    await api.store.compact(api.store.revision)
    with pytest.raises(Expired, match="continue parameter is too old") as caught:
        await api.list(CONFIGMAPS, limit=3, continue_token=first.continue_token)
    token = caught.value.status()["metadata"]["continue"]
    rest = await api.list(CONFIGMAPS, limit=3, continue_token=token)
    assert api.names(rest.items) == ["c3", "c4", "c5"]
    assert rest.revision == api.store.revision


@pytest.mark.parametrize("token", ["!!", "e30", "bm90IGpzb24", "eyJyZXZpc2lvbiI6IngifQ", "ä"])
async def test_a_broken_continuation_is_a_bad_request(api, token):
    with pytest.raises(BadRequest, match="continue key is not valid"):
        await api.list(CONFIGMAPS, limit=3, continue_token=token)


async def test_exact_reads_the_past_and_not_older_than_reads_the_newest(api):
    await _fill(api, 2)
    past = str(api.store.revision)
    await api.create(CONFIGMAPS, api.config_map("c9"))
    exact = await api.list(CONFIGMAPS, resource_version=past, resource_version_match="Exact")
    assert api.names(exact.items) == ["c0", "c1"] and str(exact.revision) == past
    newest = await api.list(CONFIGMAPS, resource_version=past, resource_version_match="NotOlderThan")
    assert len(newest.items) == 3
    assert len((await api.list(CONFIGMAPS, resource_version=past)).items) == 3
    assert len((await api.list(CONFIGMAPS, resource_version=past, limit=10)).items) == 2
    assert len((await api.list(CONFIGMAPS, resource_version="0")).items) == 3


async def test_a_future_revision_times_out_with_the_cause_that_clients_test_for(api):
    with pytest.raises(Timeout, match="Too large resource version: 999, current: ") as caught:
        await api.list(CONFIGMAPS, resource_version="999")
    assert caught.value.causes[0].reason == "ResourceVersionTooLarge"


async def test_a_compacted_exact_revision_is_expired(api):
    await _fill(api, 3)
    await api.store.compact(api.store.revision)
    with pytest.raises(Expired, match="too old"):
        await api.list(CONFIGMAPS, resource_version="1", resource_version_match="Exact")


@pytest.mark.parametrize(
    "options",
    [
        {"resource_version": "x"},
        {"resource_version": "-1"},
        {"resource_version_match": "Exact"},
        {"resource_version": "1", "resource_version_match": "Nearly"},
        {"resource_version": "0", "resource_version_match": "Exact"},
        {"label_selector": "a in"},
        {"field_selector": "data.key=1"},
    ],
)
async def test_bad_options_are_bad_requests(api, options):
    with pytest.raises(BadRequest):
        await api.list(CONFIGMAPS, **options)


async def test_a_name_in_the_field_selector_finds_one_object_only(api):
    await api.create(PODS, api.pod("web"))
    await api.create(PODS, api.pod("web-1", nodeName="n1"))
    assert api.names((await api.list(PODS, field_selector="metadata.name=web")).items) == ["web"]
    assert (await api.list(PODS, field_selector="metadata.name=web,spec.nodeName=n1")).items == []
    both = await api.list(PODS, None, field_selector="metadata.name=web-1,metadata.namespace=default")
    assert api.names(both.items) == ["web-1"]
    everywhere = await api.list(PODS, None, field_selector="metadata.name=web")
    assert api.names(everywhere.items) == ["web"]
    assert (await api.list(PODS, field_selector="metadata.name=we")).items == []


async def test_a_namespace_is_not_mistaken_for_one_that_starts_alike(api):
    await api.create(CONFIGMAPS, api.config_map("a"), namespace="team")
    await api.create(CONFIGMAPS, api.config_map("b"), namespace="team-2")
    assert api.names((await api.list(CONFIGMAPS, "team")).items) == ["a"]
    assert sorted(api.names((await api.list(CONFIGMAPS, None)).items)) == ["a", "b"]


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "９", "9" * 21, "9" * 5000])
async def test_what_is_no_revision_is_refused(api, text):
    with pytest.raises(BadRequest, match="resourceVersion"):
        await api.list(CONFIGMAPS, resource_version=text)
