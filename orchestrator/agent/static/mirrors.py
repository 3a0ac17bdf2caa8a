"""Mirror pods: what the API shows of the pods that a node runs from its own files.

1. Each static pod has one pod of its name in the API, marked by its hash, owned by the Node, and with its status.
2. A mirror that is another file's, or that somebody deletes, is removed at once and made anew; the static pod runs on.
3. A mirror without a static pod goes. What is no mirror and has the name is left alone, and told of once.
4. Whatever fails is tried again with back-off; nothing here keeps a static pod from running.

Owner of the mirrors; called by `pods`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import structlog

from orchestrator.agent.static.source import HASH, MIRROR
from orchestrator.api.errors import AlreadyExists, ApiError, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import NODES, PODS
from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.client.interface import Client

log = structlog.get_logger(__name__)

RETRY_S, RETRY_MAX_S = 0.5, 30.0
Name = tuple[str, str]
"""Namespace and name."""


class Mirrors:
    """Brings the API's mirrors to what the static pods are, one after the other."""

    def __init__(
        self, node: str, client: Client, clock: Clock, known: Callable[[], Mapping[Name, Item]]
    ) -> None:
        """`known` are the node's pods that the API has, as an informer shows them."""
        self._node = node
        self._client = client
        self._clock = clock
        self._known = known
        self._pods: dict[Name, Object] = {}
        self._written: dict[Name, Object] = {}
        """The API's last answer; the informer may lag behind it."""
        self._due: set[Name] = set()
        self._wake = asyncio.Event()
        self._told: set[Name] = set()
        self._owner: Object | None = None

    def show(self, pod: Object) -> None:
        """A static pod is there, or its status is another."""
        name = name_of(pod)
        self._pods[name] = pod
        self.look(name)

    def drop(self, name: Name) -> None:
        """A static pod is no more."""
        self._pods.pop(name, None)
        self.look(name)

    def look(self, name: Name) -> None:
        """A mirror may have to be written."""
        self._due.add(name)
        self._wake.set()

    def changed(self, name: Name, old: Item | None, new: Item | None) -> None:
        """The informer shows another state of a mirror: what was written here needs no look."""
        written = self._written.get(name)
        if new is None and old is not None and written and written["metadata"]["uid"] == old.meta.uid:
            self._written.pop(name)
        if new is None or written is None or new.revision > _revision(written):
            self.look(name)

    async def run(self) -> None:
        """For ever: write what is due."""
        backoff = Backoff(RETRY_S, RETRY_MAX_S)
        while True:
            await self._wake.wait()
            self._wake.clear()
            failed: ApiError | None = None
            for name in sorted(self._due):
                self._due.discard(name)
                try:
                    await self._settle(name)
                except ApiError as error:
                    failed = error
                    self._due.add(name)
            if failed is None:
                backoff.reset()
                continue
            delay_s = backoff.next_s()
            log.warning("mirror pod not written", node=self._node, error=failed.message, retry_s=delay_s)
            await self._clock.sleep(delay_s)
            self._wake.set()

    async def _settle(self, name: Name) -> None:
        pod, mirror = self._pods.get(name), self._newest(name)
        if mirror is not None and not is_mirror(mirror):
            if pod is not None and name not in self._told:
                self._told.add(name)
                log.error("a pod of the API has a static pod's name", namespace=name[0], pod=name[1])
            return
        if mirror is not None and (pod is None or not fits(mirror, pod)):
            await self._remove(name, mirror)
            mirror = None
        if pod is None:
            return
        if mirror is None:
            mirror = await self._create(name, pod)
        if (mirror.get("status") or {}) != pod["status"]:
            await self._write_status(name, {**mirror, "status": pod["status"]})

    def _newest(self, name: Name) -> Object | None:
        """What the informer shows, or what was written after that."""
        item, written = self._known().get(name), self._written.get(name)
        if item is not None and (written is None or item.revision >= _revision(written)):
            self._written.pop(name, None)
            return item.object
        return written

    async def _create(self, name: Name, pod: Object) -> Object:
        wanted = mirror_of(pod, await self._node_reference())
        try:
            made = await self._client.create(PODS, wanted, name[0])
        except AlreadyExists:
            # The informer will show which one that is.
            self._written.pop(name, None)
            raise
        self._written[name] = made
        return made

    async def _write_status(self, name: Name, mirror: Object) -> None:
        try:
            self._written[name] = await self._client.update(PODS, mirror, subresource="status")
        except NotFound:
            self._written.pop(name, None)
            raise

    async def _remove(self, name: Name, mirror: Object) -> None:
        options = DeleteOptions(grace_period_s=0, uid=mirror["metadata"]["uid"])
        with contextlib.suppress(NotFound):
            await self._client.delete(PODS, name[1], name[0], options)
        self._written.pop(name, None)

    async def _node_reference(self) -> Object:
        if self._owner is None:
            node = await self._client.get(NODES, self._node)
            self._owner = {
                "apiVersion": "v1",
                "kind": "Node",
                "name": self._node,
                "uid": node["metadata"]["uid"],
                "controller": True,
            }
        return self._owner


def name_of(pod: Object) -> Name:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def is_mirror(pod: Object) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def fits(mirror: Object, pod: Object) -> bool:
    """Whether the mirror is this static pod's, and stays."""
    meta = mirror["metadata"]
    return "deletionTimestamp" not in meta and meta["annotations"][MIRROR] == _hash(pod)


def mirror_of(pod: Object, owner: Object) -> Object:
    """What to create. The API gives it a uid of its own."""
    meta = pod["metadata"]
    metadata = {
        "name": meta["name"],
        "namespace": meta["namespace"],
        "annotations": {**meta["annotations"], MIRROR: _hash(pod)},
        "ownerReferences": [owner],
    }
    if meta.get("labels"):
        metadata["labels"] = meta["labels"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}


def _hash(pod: Object) -> str:
    return str(pod["metadata"]["annotations"][HASH])


def _revision(pod: Object) -> int:
    return int(pod["metadata"].get("resourceVersion") or 0)
