"""Brings objects of a manifest file into the cluster: create, or patch what differs. Called by `orchestrator demo`.

Thin on purpose: `kubectl apply` remembers what it applied; here an object is right when it holds all that the
manifest says.
"""

from pathlib import Path
from typing import Any, Literal

import yaml

from orchestrator.api import resources
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.base.errors import StartupError
from orchestrator.client.interface import Client

Change = Literal["created", "configured", "unchanged"]


def read(path: Path) -> list[Object]:
    """The file's objects, in order. Raises `StartupError` naming what can't be read."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}.", "Give an existing manifest.") from error
    except yaml.YAMLError as error:
        raise StartupError(
            f"{path} is not valid YAML: {error}.", "Correct the line that is named."
        ) from error
    return [document for document in documents if document]


async def apply(client: Client, obj: Object) -> Change:
    """Make the cluster hold `obj`; says what that took."""
    resource = resource_of(obj)
    name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace", "default")
    try:
        found = await client.get(resource, name, namespace)
    except NotFound:
        await client.create(resource, obj, namespace)
        return "created"
    if covers(found, obj):
        return "unchanged"
    await client.patch(resource, name, namespace, obj, type="strategic")
    return "configured"


def resource_of(obj: Object) -> Resource:
    """The built-in resource of the object's kind. Raises `StartupError` for one that we don't serve."""
    wanted = (obj.get("apiVersion"), obj.get("kind"))
    for resource in resources.BUILT_IN:
        if (resource.api_version, resource.kind) == wanted:
            return resource
    raise StartupError(f"There is no kind {wanted[1]} in {wanted[0]}.", "Correct apiVersion and kind.")


def covers(found: Any, wanted: Any) -> bool:
    """Whether `found` holds everything in `wanted`; it may hold more (defaults), but no further list entries."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(covers(found.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return False
        return all(covers(have, want) for have, want in zip(found, wanted, strict=True))
    return bool(found == wanted)
