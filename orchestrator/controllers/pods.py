"""The pods that a controller makes and deletes: in growing batches, with events, and remembered.

1. Pods are created in batches of 1, 2, 4 …; the first batch with a failure ends the attempt, so that a refused
   template costs one request and not a thousand.
2. A pod that was deleted here counts as gone, although the cache does not show it yet.
3. What was created is noted in the controller's `Freshness`: nothing is decided from a cache that lacks it.
4. Each of it is told in an event on the owner; a refusal because the namespace goes away or the name is taken is not.

Used by every controller that owns pods.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from orchestrator.api.errors import AlreadyExists, ApiError, Forbidden, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import PODS, Resource
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import Freshness
from orchestrator.controllers.objects import controller_reference
from orchestrator.informer.cache import Informer

BURST_MAX = 500
"""Pods created or deleted by one reconcile."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with creating or deleting pods; `reason` stands in the owner's condition."""

    reason: str
    error: ApiError

    @property
    def final(self) -> bool:
        """Whether trying again is pointless: the namespace is going away."""
        return isinstance(self.error, Forbidden) and any(
            cause.reason == "NamespaceTerminating" for cause in self.error.causes
        )


class Texts(NamedTuple):
    """Messages of the events; `{pod}`, `{owner}` are names."""

    created: str = "Created pod: {pod}"
    deleted: str = "Deleted pod: {pod}"
    not_created: str = "Error creating: {error}"
    not_deleted: str = "Error deleting: {error}"


async def slow_start(attempts: Sequence[Callable[[], Awaitable[ApiError | None]]]) -> ApiError | None:
    """Rule 1 for whatever can fail: the first failure; what follows its batch is not tried."""
    done, batch = 0, 1
    while done < len(attempts):
        results = await asyncio.gather(*(attempt() for attempt in attempts[done : done + batch]))
        errors = [error for error in results if error is not None]
        if errors:
            return errors[0]
        done += batch
        batch *= 2
    return None


class PodControl:
    """Owner of what a controller knows about its own creations and deletions of pods."""

    def __init__(
        self,
        client: Client,
        recorder: EventRecorder,
        freshness: Freshness,
        informer: Informer,
        texts: Texts = Texts(),  # noqa: B008 - immutable
    ) -> None:
        """`informer` mirrors pods; its controller asks `freshness` before it decides."""
        self._texts = texts
        self._client = client
        self._recorder = recorder
        self._freshness = freshness
        self._informer = informer
        self._deleted: dict[str, set[str]] = {}
        """Uids of pods deleted here, per key, until the cache shows it."""

    async def create(self, key: str, owner: Object, pods: Sequence[Object]) -> Failure | None:
        """Create `pods`, made with `new_pod`, in order. Returns the first failure; what follows it is not tried."""
        error = await slow_start([partial(self.create_one, key, owner, pod) for pod in pods])
        return Failure("FailedCreate", error) if error is not None else None

    async def delete(self, key: str, owner: Object, pods: Iterable[Item]) -> Failure | None:
        """Delete `pods` at once, each only if it is still the same one. Returns the first failure."""
        results = await asyncio.gather(*(self._delete(key, owner, pod) for pod in pods))
        return next((Failure("FailedDelete", error) for error in results if error is not None), None)

    def gone(self, key: str, pods: Iterable[Item]) -> set[str]:
        """Uids among `pods`, all that `key` has, that were deleted here though the cache does not show it."""
        deleted = self._deleted.get(key)
        if not deleted:
            return set()
        deleted &= {pod.meta.uid for pod in pods if not pod.meta.deletion_timestamp}
        return deleted

    def forget(self, key: str) -> None:
        """The owner is no more."""
        self._deleted.pop(key, None)

    async def create_one(self, key: str, owner: Object, pod: Object) -> ApiError | None:
        """Create `pod`; returns why it was refused."""
        try:
            made = await self._client.create(PODS, pod, owner["metadata"]["namespace"])
        except ApiError as error:
            if not Failure("", error).final and not isinstance(error, AlreadyExists):
                name = pod["metadata"].get("name", "")
                self._tell(owner, "Warning", "FailedCreate", self._texts.not_created, name, error.message)
            return error
        self._freshness.wrote(key, self._informer, made)
        self._tell(owner, "Normal", "SuccessfulCreate", self._texts.created, made["metadata"]["name"])
        return None

    async def _delete(self, key: str, owner: Object, pod: Item) -> ApiError | None:
        meta = pod.meta
        gone = self._deleted.setdefault(key, set())
        gone.add(meta.uid)
        try:
            await self._client.delete(PODS, meta.name, meta.namespace, DeleteOptions(uid=meta.uid))
        except NotFound:
            return None
        except ApiError as error:
            gone.discard(meta.uid)
            text = self._texts.not_deleted
            self._tell(owner, "Warning", "FailedDelete", text, meta.name, error.message)
            return error
        self._tell(owner, "Normal", "SuccessfulDelete", self._texts.deleted, meta.name)
        return None

    def _tell(self, owner: Object, kind: str, reason: str, text: str, pod: str, error: str = "") -> None:
        message = text.format(pod=pod, owner=owner["metadata"]["name"], error=error)
        self._recorder.event(owner, kind, reason, message)


def new_pod(resource: Resource, owner: Object, template: Object) -> Object:
    """A pod of `template` that `owner`, of the kind `resource`, manages; the API names it after the owner."""
    meta, wanted = owner["metadata"], template.get("metadata") or {}
    metadata = {key: wanted[key] for key in ("labels", "annotations", "finalizers") if wanted.get(key)}
    metadata["generateName"] = f"{meta['name']}-"
    metadata["namespace"] = meta["namespace"]
    metadata["ownerReferences"] = [controller_reference(resource, owner)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
