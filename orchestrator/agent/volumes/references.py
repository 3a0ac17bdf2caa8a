"""Config maps and secrets that volumes of this node's pods hold: one watch per object, shared by all its pods.

The first time that a pod asks for an object, the API is asked: a pod never starts with what was true before it. After
that its refreshes cost nothing: they read what the watch has brought, and a change wakes the pods that hold the
object. While the API is away, what is known stays. What is immutable is not watched. An object that no pod holds any
more is forgotten. Called by `Sources`; owner of its watches.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.api.errors import ApiError, NotFound
from orchestrator.api.item import Object
from orchestrator.api.options import WatchOptions
from orchestrator.api.resources import Resource
from orchestrator.api.results import WatchEvent
from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
SHORTEST_WATCH_S = 1.0

_Key = tuple[Resource, str, str]


@dataclass(slots=True)
class _Held:
    """One object: None while it does not exist. `pods` are the uids of those that hold it."""

    pods: set[str] = field(default_factory=set)
    object: Object | None = None
    known: bool = False
    """The watch has told the state."""
    task: asyncio.Task[None] | None = None


class References:
    """What the pods of one node refer to."""

    def __init__(
        self, client: Client, supervisor: Supervisor, clock: Clock, changed: Callable[[str], None]
    ) -> None:
        """`changed(pod_uid)` is called when an object that this pod holds has changed, come or gone."""
        self._client = client
        self._supervisor = supervisor
        self._clock = clock
        self._changed = changed
        self._held: dict[_Key, _Held] = {}

    async def get(self, pod_uid: str, resource: Resource, namespace: str, name: str) -> Object:
        """The object as it is, held for the pod from now on. Raises `NotFound` and what else the API says."""
        key = (resource, namespace, name)
        held = self._held.setdefault(key, _Held())
        fresh = pod_uid not in held.pods or not held.known
        held.pods.add(pod_uid)
        if fresh:
            await self._read(key, held)
        if held.object is None:
            raise NotFound(f'{resource.plural} "{name}" not found')
        return held.object

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        for key, held in list(self._held.items()):
            held.pods.discard(pod_uid)
            if not held.pods:
                del self._held[key]
                if held.task is not None:
                    held.task.cancel()

    async def _read(self, key: _Key, held: _Held) -> None:
        resource, namespace, name = key
        try:
            found: Object | None = await self._client.get(resource, name, namespace)
        except NotFound:
            found = None
        if found is None or held.object is None or _revision(found) >= _revision(held.object):
            held.object = found
        if found is not None and found.get("immutable"):
            held.known = True
        elif held.task is None and self._held.get(key) is held:
            label = f"watch {resource.plural} {namespace}/{name}"
            held.task = self._supervisor.spawn(label, self._keep(key, held))

    async def _keep(self, key: _Key, held: _Held) -> None:
        backoff = Backoff(0.5, 30.0, jitter=0.5)
        while True:
            began_s = self._clock.monotonic_s()
            try:
                await self._follow(key, held, backoff)
            except (ApiError, OSError, TimeoutError):
                await self._clock.sleep(backoff.next_s())
                continue
            if self._clock.monotonic_s() - began_s < SHORTEST_WATCH_S:
                await self._clock.sleep(backoff.next_s())

    async def _follow(self, key: _Key, held: _Held, backoff: Backoff) -> None:
        """One watch to its end; what it tells before its first bookmark is the state as a whole."""
        resource, namespace, name = key
        options = WatchOptions(
            field_selector=f"metadata.name={name}", allow_bookmarks=True, send_initial_events=True
        )
        batches = self._client.watch(resource, namespace, options)
        state: Object | None = None
        begun = False
        try:
            async for batch in batches:
                backoff.reset()
                for event in batch:
                    if event.type != "BOOKMARK":
                        state = None if event.type == "DELETED" else event.item.object
                    begun = begun or _ends_initial(event)
                if begun:
                    self._set(held, state)
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    def _set(self, held: _Held, state: Object | None) -> None:
        before, held.object, held.known = held.object, state, True
        if _revision(before) != _revision(state):
            for uid in list(held.pods):
                self._changed(uid)


def _ends_initial(event: WatchEvent) -> bool:
    if event.type != "BOOKMARK":
        return False
    return INITIAL_EVENTS_END in (event.item.object["metadata"].get("annotations") or {})


def _revision(obj: Object | None) -> int:
    """0 for what does not exist."""
    return int(obj["metadata"].get("resourceVersion") or 0) if obj is not None else 0
