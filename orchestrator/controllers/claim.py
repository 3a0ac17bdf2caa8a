"""Who manages what: dependents are adopted by selector, and released when they stop matching.

1. What the owner manages and its selector matches is its own.
2. What it manages but no longer matches is released, unless the owner is being deleted.
3. A matching dependent without a manager is adopted, unless either is being deleted; before the first
   adoption the owner is read from the API, because a cached one may have been deleted and made anew.

Used by the controllers that own pods, and by that of Deployments (ReplicaSets).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from orchestrator.api.errors import Conflict, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import Resource
from orchestrator.api.selectors import Selector
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import controller_reference, reference_json

BATCH = 50
"""Patches under way at once: ten thousand orphans share syncs, and others get their turn."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The owner's dependents, and the answers to the patches that were made."""

    owned: list[Item]
    written: list[Object]


async def claim(
    client: Client,
    owner_resource: Resource,
    owner: Object,
    selector: Selector,
    resource: Resource,
    managed: list[Item],
    orphans: list[Item],
    finalizer: str = "",
) -> Claims:
    """Adopt and release; `managed` carry the owner's uid, `orphans` have no manager. What is adopted gets
    `finalizer`, what is released loses it."""
    if "deletionTimestamp" in owner["metadata"]:
        return Claims(managed, [])
    claims = Claims([item for item in managed if selector.matches(item.labels)], [])
    if len(claims.owned) < len(managed):
        strangers = [item for item in managed if not selector.matches(item.labels)]
        await _in_batches(strangers, partial(_release, client, owner, resource, finalizer, claims))
    wanted = [item for item in orphans if not item.meta.deletion_timestamp and selector.matches(item.labels)]
    if not wanted:
        return claims
    live = await client.get(owner_resource, owner["metadata"]["name"], owner["metadata"].get("namespace", ""))
    if live["metadata"]["uid"] != owner["metadata"]["uid"] or "deletionTimestamp" in live["metadata"]:
        raise Conflict(f"{owner_resource.kind} {owner['metadata']['name']} was replaced; it adopts nothing")
    adopt = partial(_adopt, client, owner_resource, owner, resource, finalizer, claims)
    claims.owned.extend(await _in_batches(wanted, adopt))
    return claims


async def _in_batches(items: list[Item], write: Callable[[Item], Awaitable[bool]]) -> list[Item]:
    """`write` each of `items`, many at a time; those that it answered True for. Raises the first failure of a batch."""
    done: list[Item] = []
    for start in range(0, len(items), BATCH):
        batch = items[start : start + BATCH]
        answers = await asyncio.gather(*map(write, batch), return_exceptions=True)
        for item, answer in zip(batch, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer:
                done.append(item)
    return done


async def _adopt(
    client: Client,
    owner_resource: Resource,
    owner: Object,
    resource: Resource,
    finalizer: str,
    claims: Claims,
    item: Item,
) -> bool:
    """Rule 3."""
    references = [
        *map(reference_json, item.meta.owner_references),
        controller_reference(owner_resource, owner),
    ]
    held = [*item.meta.finalizers]
    if finalizer and finalizer not in held:
        held.append(finalizer)
    return await _set_owners(client, resource, item, references, held, claims)


async def _release(
    client: Client, owner: Object, resource: Resource, finalizer: str, claims: Claims, item: Item
) -> bool:
    """Rule 2."""
    kept = [name for name in item.meta.finalizers if name != finalizer]
    return await _set_owners(client, resource, item, _owners_without(item, owner), kept, claims)


def _owners_without(item: Item, owner: Object) -> list[Object]:
    return [
        reference_json(reference)
        for reference in item.meta.owner_references
        if reference.uid != owner["metadata"]["uid"]
    ]


async def _set_owners(
    client: Client,
    resource: Resource,
    item: Item,
    references: list[Object],
    finalizers: list[str],
    claims: Claims,
) -> bool:
    """Write the owners if the object is still at this revision; False when it is gone."""
    metadata: Object = {"resourceVersion": str(item.revision), "ownerReferences": references or None}
    if finalizers != [*item.meta.finalizers]:
        metadata["finalizers"] = finalizers or None
    meta = item.meta
    try:
        claims.written.append(await client.patch(resource, meta.name, meta.namespace, {"metadata": metadata}))
    except NotFound:
        return False
    return True
