"""List: one consistent revision, in pages that continue at the revision of the first.

Revisions asked for (source: Kubernetes' API concepts, `resourceVersion`): empty or "0" reads the newest;
N reads something not older; `Exact`, or N together with a limit, reads at N. A continue token is base64url
JSON with the revision and the key after which to go on; clients must not look into it.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from orchestrator.api.conversion import View
from orchestrator.api.errors import BadRequest, Expired
from orchestrator.api.item import Item
from orchestrator.api.options import ListOptions
from orchestrator.api.resources import Resource
from orchestrator.api.results import ItemList
from orchestrator.registry.apart import Apart
from orchestrator.registry.indexing import Indexes
from orchestrator.registry.selection import Selection, check_not_future, parse_revision
from orchestrator.registry.storage import Storage
from orchestrator.store.interface import Entry

CHUNK_MIN = 500
"""Entries read at once when a selector leaves an unknown part of them."""
SLICE = 2000
"""Entries matched before other tasks get their turn."""
CONVERT_SLICE = 100
"""The same for items that are shown in another version than they are kept."""

_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
    "the results. Continuing with the provided token results in an inconsistent list - objects that were "
    "created, modified, or deleted between the time the first chunk was returned and now may show up in the list."
)
_TOO_OLD = "The resourceVersion for the provided list is too old."


class _Token(msgspec.Struct):
    """`revision` of -1 goes on at the newest one, giving up consistency."""

    revision: int
    after: str


@dataclass(frozen=True, slots=True)
class _Start:
    """Where and when to read; revision 0 is the newest."""

    revision: int
    after: str = ""


async def list_items(
    storage: Storage,
    resource: Resource,
    namespace: str | None,
    options: ListOptions,
    view: View | None,
    indexes: Indexes,
    apart: Apart,
) -> ItemList:
    """The verb. `view` is how the resource shows what is kept. Raises `BadRequest`, `Expired`, `Timeout`."""
    selection = Selection.parse(resource, options.label_selector, options.field_selector)
    if view is not None:
        found = await _listed(storage, resource, namespace, options, selection.through(view), indexes)
        return replace(found, items=await _shown(found.items, view, apart))
    return await _listed(storage, resource, namespace, options, selection, indexes)


async def _listed(
    storage: Storage,
    resource: Resource,
    namespace: str | None,
    options: ListOptions,
    selection: Selection,
    indexes: Indexes,
) -> ItemList:
    prefix = selection.prefix(resource, namespace)
    start = await _start(storage, options, prefix)
    if start.revision == 0 and not start.after and selection.single(resource, namespace):
        return await _single(storage, prefix, selection)
    base = resource.key_prefix()
    found = await indexes.select(base, prefix, selection, start.revision)
    if found is not None:
        return _page_of(*found, start.after, options.limit)

    def looked_at(count: int) -> None:
        indexes.want(base, selection, count)

    try:
        if options.limit > 0:
            return await _page(storage, prefix, selection, start, options.limit, looked_at)
        return await _whole(storage, prefix, selection, start, looked_at)
    except Expired as error:
        raise _expired(options, start) from error


def _page_of(found: list[tuple[str, Item]], revision: int, after: str, limit: int) -> ItemList:
    """What an index found, from `after` on."""
    if after:
        found = [pair for pair in found if pair[0] > after]
    if not limit or len(found) <= limit:
        return ItemList([item for _, item in found], revision)
    page = found[:limit]
    return ItemList([item for _, item in page], revision, _token(revision, page[-1][0]))


async def _start(storage: Storage, options: ListOptions, prefix: str) -> _Start:
    if options.continue_token:
        return await _continued(storage, options, prefix)
    match = options.resource_version_match
    revision = parse_revision(options.resource_version)
    if match and not options.resource_version:
        raise BadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match not in ("", "Exact", "NotOlderThan"):
        raise BadRequest(
            f'resourceVersionMatch: Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        )
    if match == "Exact" and not revision:
        raise BadRequest('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')
    check_not_future(revision, await storage.newest(revision))
    exact = match == "Exact" or (not match and options.limit > 0)
    return _Start(revision if exact else 0)


async def _continued(storage: Storage, options: ListOptions, prefix: str) -> _Start:
    if options.resource_version not in ("", "0"):
        raise BadRequest("specifying resource version is not allowed when using continue")
    token = _parse_token(options.continue_token)
    if token.revision > await storage.newest(token.revision):
        raise BadRequest(f"continue key is not valid: revision {token.revision} does not exist")
    if not token.after.startswith(prefix):
        raise BadRequest("continue key is not valid: it is of another list")
    return _Start(max(0, token.revision), token.after)


async def _single(storage: Storage, key: str, selection: Selection) -> ItemList:
    revision = storage.revision
    entry = await storage.get(key)
    if entry is None or not selection.matcher(entry.item):
        return ItemList([], revision)
    return ItemList([entry.item], max(revision, entry.revision))


async def _whole(
    storage: Storage, prefix: str, selection: Selection, start: _Start, looked_at: Callable[[int], None]
) -> ItemList:
    result = await storage.range(prefix, start.after, 0, start.revision)
    looked_at(len(result.entries))
    return ItemList(await matching(result.entries, selection), result.revision)


async def _page(
    storage: Storage,
    prefix: str,
    selection: Selection,
    start: _Start,
    limit: int,
    looked_at: Callable[[int], None],
) -> ItemList:
    """At most `limit` matching objects; reads on while a selector leaves too few."""
    items: list[Item] = []
    revision, after = start.revision, start.after
    chunk = limit if selection.everything else max(limit, CHUNK_MIN)
    seen = 0
    while True:
        result = await storage.range(prefix, after, chunk, revision)
        seen += len(result.entries)
        looked_at(seen + result.remaining)
        revision = result.revision
        last = after
        for entry in result.entries:
            last = entry.key
            if selection.everything or selection.matcher(entry.item):
                items.append(entry.item)
                if len(items) == limit:
                    break
        more = result.remaining > 0 or bool(result.entries and last != result.entries[-1].key)
        if len(items) == limit and more:
            remaining = result.remaining if selection.everything else 0
            return ItemList(items, revision, _token(revision, last), remaining)
        if not more:
            return ItemList(items, revision)
        after = last


async def _shown(items: list[Item], view: View, apart: Apart) -> list[Item]:
    shown: list[Item] = []
    for start in range(0, len(items), CONVERT_SLICE):
        if start:
            await asyncio.sleep(0)
        shown += [await apart.shown(view, item) for item in items[start : start + CONVERT_SLICE]]
    return shown


async def matching(entries: list[Entry], selection: Selection) -> list[Item]:
    """Items of those entries that `selection` means, looked at in slices."""
    if selection.everything:
        return [entry.item for entry in entries]
    matches = selection.matcher
    items: list[Item] = []
    for start in range(0, len(entries), SLICE):
        if start:
            await asyncio.sleep(0)
        items += [entry.item for entry in entries[start : start + SLICE] if matches(entry.item)]
    return items


def _token(revision: int, after: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_Token(revision, after))).decode().rstrip("=")


def _parse_token(text: str) -> _Token:
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Token)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise BadRequest(f"continue key is not valid: {error}") from error


def _expired(options: ListOptions, start: _Start) -> Expired:
    if not options.continue_token:
        return Expired(_TOO_OLD)
    expired = Expired(_EXPIRED)
    expired.continue_token = _token(-1, start.after)
    return expired
