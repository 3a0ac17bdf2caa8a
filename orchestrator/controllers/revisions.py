"""History of the templates of one owner: `ControllerRevision`s, for StatefulSets and DaemonSets.

1. A revision belongs to the owner that its controller reference names; a matching one without is adopted.
2. Its data is the patch that brings the template back; `kubectl rollout undo` applies it as it stands.
3. A template is called after a hash of its data; a count of collisions makes another hash of the same data.
4. Revisions are ordered by their number, then by age; a template used again gets the highest number.

An owner is woken when one of its revisions goes, to make it again if it is needed. Others wake nobody: a second
revision of one template, made by hand, stays until its owner reconciles anyway.
"""

from collections.abc import Callable, Collection
from typing import Any

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import CONTROLLERREVISIONS, Resource
from orchestrator.client.interface import Client
from orchestrator.controllers.claim import claim
from orchestrator.controllers.freshness import Freshness
from orchestrator.controllers.objects import (
    controller_index,
    controller_of,
    controller_reference,
    with_value,
    without,
)
from orchestrator.controllers.selecting import orphan_index, orphans_for, selector_of
from orchestrator.controllers.templates import template_hash
from orchestrator.informer.cache import Informers

HASH_LABEL = "controller-revision-hash"
"""On pods: which revision they were made from."""
NAME_MAX = 223
"""Of the owner's name that goes into a revision's."""
_DIRECTIVE = "$patch"


class History:
    """Reads and writes the revisions of one kind of owner. Owner: its controller."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        freshness: Freshness,
        informers: Informers,
        wake: Callable[[str], None],
    ) -> None:
        """`wake` is called with an owner's key."""
        self._wake = wake
        self._client = client
        self._resource = resource
        self._freshness = freshness
        self._informer = informers.of(CONTROLLERREVISIONS)
        self._informer.add_index("controller", controller_index)
        self._informer.add_index("orphan", orphan_index)
        self._informer.on_change(self._changed)

    async def revisions(self, key: str, item: Item) -> list[Object]:
        """Rules 1 and 4: those of the owner `item`, oldest first."""
        selector = selector_of(item)
        claims = await claim(
            self._client,
            self._resource,
            item.object,
            selector,
            CONTROLLERREVISIONS,
            self._informer.by_index("controller", item.meta.uid),
            orphans_for(self._informer, item.meta.namespace, selector),
        )
        for written in claims.written:
            self._freshness.wrote(key, self._informer, written)
        return sorted((item.object for item in claims.owned), key=order)

    def _changed(self, old: Item | None, new: Item | None) -> None:
        owner = controller_of(old.meta) if old is not None and new is None else None
        if old is not None and owner is not None and owner.kind == self._resource.kind:
            self._wake(f"{old.meta.namespace}/{owner.name}")

    async def create(self, key: str, revision: Object) -> Object:
        """Raises `AlreadyExists` when somebody has the name."""
        made = await self._client.create(CONTROLLERREVISIONS, revision, revision["metadata"]["namespace"])
        self._freshness.wrote(key, self._informer, made)
        return made

    async def existing(self, revision: Object) -> Object:
        """What has the name of `revision`."""
        meta = revision["metadata"]
        return await self._client.get(CONTROLLERREVISIONS, meta["name"], meta["namespace"])

    async def renumber(self, key: str, revision: Object, number: int) -> Object:
        """Rule 4: the revision under another number."""
        written = await self._client.update(CONTROLLERREVISIONS, {**revision, "revision": number})
        self._freshness.wrote(key, self._informer, written)
        return written

    async def labelled(self, key: str, revision: Object) -> Object:
        """The revision, with its name as the hash that pods carry if somebody took that label away."""
        labels = revision["metadata"].get("labels") or {}
        if HASH_LABEL in labels:
            return revision
        new = with_value(
            revision, ("metadata", "labels"), {**labels, HASH_LABEL: revision["metadata"]["name"]}
        )
        written = await self._client.update(CONTROLLERREVISIONS, new)
        self._freshness.wrote(key, self._informer, written)
        return written

    async def delete(self, revision: Object) -> None:
        meta = revision["metadata"]
        try:
            await self._client.delete(
                CONTROLLERREVISIONS, meta["name"], meta["namespace"], DeleteOptions(uid=meta["uid"])
            )
        except NotFound:
            return


def data_of(template: Object) -> Object:
    """Rule 2."""
    return {"spec": {"template": {_DIRECTIVE: "replace", **template}}}


def template_of(revision: Object) -> Object:
    """The template that a revision brings back."""
    return without(((revision.get("data") or {}).get("spec") or {}).get("template") or {}, _DIRECTIVE)


def new_revision(resource: Resource, owner: Object, number: int, collisions: int, hash_label: str) -> Object:
    """Rule 3: the revision of the owner's template now; `hash_label` shall carry its hash."""
    meta, template = owner["metadata"], owner["spec"]["template"]
    digest = template_hash(template, collisions)
    labels = (template.get("metadata") or {}).get("labels") or {}
    metadata: Object = {
        "name": f"{meta['name'][:NAME_MAX]}-{digest}",
        "namespace": meta["namespace"],
        "labels": {**labels, hash_label: digest},
        "ownerReferences": [controller_reference(resource, owner)],
    }
    if meta.get("annotations"):
        metadata["annotations"] = meta["annotations"]
    return {
        "apiVersion": CONTROLLERREVISIONS.api_version,
        "kind": CONTROLLERREVISIONS.kind,
        "metadata": metadata,
        "data": _sorted(data_of(template)),
        "revision": number,
    }


def same(revision: Object, template: Object) -> bool:
    """Whether the revision is of this template."""
    return bool(revision.get("data") == data_of(template))


def number_of(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def order(revision: Object) -> tuple[int, str, str]:
    """Sorts the oldest first."""
    meta = revision["metadata"]
    return number_of(revision), meta.get("creationTimestamp") or "", meta["name"]


def surplus(old: list[Object], live: Collection[str], limit: int, *, live_count: bool) -> list[Object]:
    """Revisions to delete, oldest first, so that `limit` remain; those that `live` names stay.

    With `live_count` those count towards the limit. A limit below 0 keeps everything.
    """
    dead = [revision for revision in old if revision["metadata"]["name"] not in live]
    excess = len(old if live_count else dead) - limit
    return dead[:excess] if limit >= 0 and excess > 0 else []


def _sorted(value: Any) -> Any:
    """Keys in order at every depth: kubectl compares data with its own encoding byte by byte."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value
