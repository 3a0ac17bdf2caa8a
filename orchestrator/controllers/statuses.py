"""Writing a status: only a difference, and noted, so that it is not decided upon again before the cache has it."""

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import Freshness
from orchestrator.controllers.objects import with_value
from orchestrator.informer.cache import Informer

_NONE: Mapping[str, str] = MappingProxyType({})


async def write_status(
    client: Client,
    resource: Resource,
    obj: Object,
    status: Object,
    key: str,
    freshness: Freshness,
    informer: Informer,
    annotations: Mapping[str, str] = _NONE,
) -> Object:
    """Write `status` of `obj`, and `annotations` that it shall have too, unless that is what stands there.

    Annotations that a status repeats go this way because they must not raise the generation. Returns the object as it
    is then. Raises `Conflict` when `obj` changed meanwhile; one that is gone is left alone.
    """
    current = obj["metadata"].get("annotations") or {}
    if status == obj.get("status") and annotations.items() <= current.items():
        return obj
    changed = with_value(obj, ("status",), status)
    if annotations:
        changed = with_value(changed, ("metadata", "annotations"), {**current, **annotations})
    try:
        written = await client.update(resource, changed, subresource="status")
    except NotFound:
        return obj
    freshness.wrote(key, informer, written)
    return written
