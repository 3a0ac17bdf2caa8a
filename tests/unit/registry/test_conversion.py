"""A second version of a resource: every verb in its own form, one form in the store."""

import pytest

from orchestrator.api.conversion import BuiltInView, Conversion
from orchestrator.api.errors import BadRequest, Conflict, NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS, SERVICES, Resource
from tests.unit.registry.conftest import Api

OLD = Resource(
    "", "v1old", "ConfigMap", "configmaps", stored_as=("", "v1"), selectable=("content.colour",)
)  # fmt: skip
"""Config maps as they might once have been: what is `data` now was `content`."""


def _outward(obj: Object) -> Object:
    rest = {key: value for key, value in obj.items() if key != "data"}
    return {**rest, "apiVersion": "v1old", "content": obj.get("data") or {}}


def _inward(obj: Object) -> Object:
    rest = {key: value for key, value in obj.items() if key != "content"}
    return {**rest, "apiVersion": "v1", "data": obj.get("content") or {}}


@pytest.fixture(autouse=True)
def two_versions(api: Api) -> None:
    api.registry.table.add(OLD)
    api.registry.views.set(OLD, BuiltInView(OLD, CONFIGMAPS, Conversion(_outward, _inward)))


def _old(name: str, **content: str) -> Object:
    return {"apiVersion": "v1old", "kind": "ConfigMap", "metadata": {"name": name}, "content": content}


async def test_every_verb_speaks_the_version_asked_for(api: Api) -> None:
    written = await api.create(OLD, _old("a", colour="red"))
    assert written.created and written.item.object["content"] == {"colour": "red"}
    kept = await api.get(CONFIGMAPS, "a")
    assert (kept["apiVersion"], kept["data"]) == ("v1", {"colour": "red"}) and "content" not in kept
    shown = await api.get(OLD, "a")
    assert shown["apiVersion"] == "v1old" and shown["metadata"] == kept["metadata"]
    await api.update(OLD, {**shown, "content": {"colour": "green"}})
    patched = await api.patch(OLD, "a", {"content": {"size": "1"}})
    assert patched.item.object["content"] == {"colour": "green", "size": "1"}
    assert (await api.get(CONFIGMAPS, "a"))["data"] == {"colour": "green", "size": "1"}
    deleted = await api.delete(OLD, "a")
    assert deleted.gone and deleted.item.object["content"] == {"colour": "green", "size": "1"}
    with pytest.raises(NotFound):
        await api.get(CONFIGMAPS, "a")


async def test_a_body_of_the_other_version_is_refused(api: Api) -> None:
    with pytest.raises(BadRequest, match="does not match the expected API version"):
        await api.create(OLD, {**_old("a"), "apiVersion": "v1"})


async def test_no_write_for_what_is_stored_already_and_conflicts_as_ever(api: Api) -> None:
    first = (await api.create(OLD, _old("a", colour="red"))).item
    again = (await api.update(OLD, first.object)).item
    assert again.revision == first.revision
    await api.update(OLD, {**first.object, "content": {"colour": "blue"}})
    with pytest.raises(Conflict):
        await api.update(OLD, {**first.object, "content": {"colour": "black"}})


async def test_lists_select_by_the_fields_that_are_shown(api: Api) -> None:
    for name, colour in (("a", "red"), ("b", "green"), ("c", "red")):
        await api.create(
            CONFIGMAPS, {"metadata": {"name": name, "labels": {"l": name}}, "data": {"colour": colour}}
        )
    found = await api.list(OLD, field_selector="content.colour=red")
    assert [item.object["content"] for item in found.items] == [{"colour": "red"}] * 2
    assert [item.meta.name for item in (await api.list(OLD, label_selector="l=b")).items] == ["b"]
    page = await api.list(OLD, limit=2)
    rest = await api.list(OLD, limit=2, continue_token=page.continue_token)
    assert [item.object["apiVersion"] for item in [*page.items, *rest.items]] == ["v1old"] * 3
    again = await api.list(OLD)
    assert again.items[0] is (await api.list(OLD)).items[0], "converted once"


async def test_watches_follow_what_is_shown(api: Api) -> None:
    await api.create(CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"colour": "red"}})
    revision = str(api.registry.revision)
    events = api.watch(OLD, resource_version=revision, field_selector="content.colour=red")
    await api.patch(CONFIGMAPS, "a", {"data": {"size": "1"}})
    await api.patch(OLD, "a", {"content": {"colour": "green"}})
    await api.patch(CONFIGMAPS, "a", {"data": {"colour": "red"}})
    await api.delete(CONFIGMAPS, "a")
    seen = []
    async for batch in events:
        seen += [(event.type, event.item.object["content"]["colour"]) for event in batch]
        if len(seen) == 4:
            break
    await events.aclose()
    assert seen == [("MODIFIED", "red"), ("DELETED", "red"), ("ADDED", "red"), ("DELETED", "red")]
    first = api.watch(OLD)
    await api.create(OLD, _old("b", colour="blue"))
    batch = await anext(first)
    assert batch[0].item.object["apiVersion"] == "v1old"
    await first.aclose()


async def test_rows_that_are_kept_as_they_are_have_no_view(api: Api) -> None:
    assert api.registry.views.of(SERVICES) is None


async def test_a_custom_kind_that_went_while_it_was_asked_for_is_not_found(api: Api) -> None:
    names = ("example.com", "v1", "Shirt", "shirts")
    for row in (Resource(*names, columns=()), Resource(*names, columns=(), stored_as=("example.com", "v2"))):
        with pytest.raises(NotFound, match="could not find the requested resource"):
            await api.create(
                row, {"apiVersion": "example.com/v1", "kind": "Shirt", "metadata": {"name": "a"}}
            )
