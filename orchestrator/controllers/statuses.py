"""Writing a status: only a difference, and noted, so that it is not decided upon again before the cache has it."""

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import Freshness
from orchestrator.controllers.objects import with_value
from orchestrator.informer.cache import Informer


async def write_status(
    client: Client,
    resource: Resource,
    obj: Object,
    status: Object,
    key: str,
    freshness: Freshness,
    informer: Informer,
) -> Object:
    """Write `status` of `obj` unless it is what stands there. Returns the object as it is then.

    Raises `Conflict` when `obj` changed meanwhile; one that is gone is left alone.
    """
    if status == obj.get("status"):
        return obj
    try:
        written = await client.update(resource, with_value(obj, ("status",), status), subresource="status")
    except NotFound:
        return obj
    freshness.wrote(key, informer, written)
    return written
