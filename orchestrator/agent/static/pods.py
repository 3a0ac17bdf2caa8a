"""Static pods beside those of the API: one feed for the pod manager, in which each looks like any other pod.

1. The files are looked at every second (their names, times and sizes), and read when something changed.
2. A pod whose file went, changed or got bad is ended; what has its name waits until nothing of it is left.
3. Two files that say the same pod: the first by path counts.
4. Mirrors of this node are no pods to run; they only show what runs (`mirrors`).

Owner of the static pods; made by `Agent` for the host's own node.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.agent.pods.feed import Handler, PodFeed
from orchestrator.agent.static.client import StaticClient
from orchestrator.agent.static.mirrors import Mirrors, Name, is_mirror, name_of
from orchestrator.agent.static.source import (
    MIRROR,
    BadFile,
    Files,
    Prepare,
    Signature,
    parse,
    read,
    signature,
)
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client

log = structlog.get_logger(__name__)

LOOK_S = 1.0
WAIT_S = 0.1
"""Between looks while a pod waits for the end of the one before it."""


@dataclass(frozen=True, slots=True)
class StaticSettings:
    """Where the files lie, None for nowhere, and how a pod is completed and checked."""

    path: Path | None
    prepare: Prepare


class StaticPods:
    """A `PodFeed`. Without a path there are only strange mirrors to remove."""

    def __init__(
        self, node: str, settings: StaticSettings, feed: PodFeed, client: Client, clock: Clock
    ) -> None:
        self.client = StaticClient(client, self._report)
        """For the pod workers."""
        self.runs: Callable[[str], bool] = lambda uid: False
        """Whether something of the pod with this uid is left."""
        self._node = node
        self._path = settings.path
        self._prepare = settings.prepare
        self._feed = feed
        self._clock = clock
        self._mirrors = Mirrors(node, client, clock, self._shown)
        self._handler: Handler = lambda old, new: None
        self._signature: Signature | None = None
        self._contents: dict[str, bytes] = {}
        self._items: dict[str, Item] = {}
        """By path: what runs, or shall once its place is free."""
        self._begun: dict[str, Item] = {}
        """By uid: what the manager was told of."""
        self._ending: dict[Name, set[str]] = {}
        """Uids of pods that were ended, by name."""
        self._revision = 0

    # ── The feed ────────────────────────────────────────────────────────────────────────────────────────

    def list(self) -> list[Item]:
        return [*self._begun.values(), *(item for item in self._feed.list() if not _mirrors(item))]

    def on_change(self, handler: Handler) -> None:
        self._handler = handler
        self._feed.on_change(self._changed)

    def close(self) -> None:
        self._feed.close()

    def _changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        assert item is not None
        if _mirrors(item):
            self._mirrors.changed((item.meta.namespace, item.meta.name), old, new)
        else:
            self._handler(old, new)

    def _shown(self) -> Mapping[Name, Item]:
        """All pods of the node that the API has."""
        return {(item.meta.namespace, item.meta.name): item for item in self._feed.list()}

    # ── Files ───────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, supervisor: Supervisor) -> None:
        """Read the files; from now on they are looked at. To be called before the manager lists."""
        if self._path is not None:
            await self._look(self._path)
            supervisor.serve("static pods", self._watch)
        for name, item in self._shown().items():
            if _mirrors(item):
                self._mirrors.look(name)
        supervisor.serve("mirror pods", self._mirrors.run)

    async def _watch(self) -> None:
        assert self._path is not None
        while True:
            waits = len(self._begun) < len(self._items)
            await self._clock.sleep(WAIT_S if waits else LOOK_S)
            await self._look(self._path)

    async def _look(self, path: Path) -> None:
        try:
            if await asyncio.to_thread(signature, path) != self._signature:
                self._take(await asyncio.to_thread(read, path))
        except OSError as error:
            if self._signature != ():
                log.error("static pods can't be read", path=str(path), error=str(error))
            self._take(Files((), {}, {}))
        self._begin()

    def _take(self, files: Files) -> None:
        self._signature = files.signature
        for path, error in files.errors.items():
            log.error("no static pod in the file", path=path, error=error)
        for path, item in list(self._items.items()):
            if files.contents.get(path) != self._contents[path]:
                self._end(path, item)
        names = {name_of(item.object) for item in self._items.values()}
        for path, content in files.contents.items():
            if content != self._contents.get(path):
                pod = self._parsed(path, content, names)
                if pod is not None:
                    self._items[path] = self._item(pod)
        self._contents = dict(files.contents)

    def _parsed(self, path: str, content: bytes, taken: set[Name]) -> Object | None:
        try:
            pod = parse(path, content, self._node, timestamp(self._clock.now_s()), self._prepare)
            if name_of(pod) in taken:
                raise BadFile(f"another file has the pod {'/'.join(name_of(pod))}")
        except BadFile as error:
            log.error("no static pod in the file", path=path, error=str(error))
            return None
        taken.add(name_of(pod))
        mirror = self._shown().get(name_of(pod))
        if mirror is not None and _mirrors(mirror):
            before = mirror.object
            same = before["metadata"]["annotations"][MIRROR] == pod["metadata"]["uid"]
            # One that a shutdown ended begins anew; one that ended by itself is known by its containers.
            if same and (before.get("status") or {}).get("phase") in ("Pending", "Running"):
                return {**pod, "status": before["status"]}
        return pod

    def _item(self, pod: Object) -> Item:
        self._revision += 1
        return Item(encode(pod), self._revision)

    def _end(self, path: str, item: Item) -> None:
        del self._items[path]
        name, uid = name_of(item.object), item.meta.uid
        known = self._begun.pop(uid, None)
        if known is not None:
            self._ending.setdefault(name, set()).add(uid)
            self._mirrors.drop(name)
            self._handler(known, None)

    def _begin(self) -> None:
        """Tell of the pods whose place is free."""
        for name in list(self._ending):
            self._ending[name] = {uid for uid in self._ending[name] if self.runs(uid)}
            if not self._ending[name]:
                del self._ending[name]
        for item in self._items.values():
            pod = item.object
            if item.meta.uid not in self._begun and name_of(pod) not in self._ending:
                self._begun[item.meta.uid] = item
                self._mirrors.show(pod)
                self._handler(None, item)

    def _report(self, pod: Object) -> bool:
        """A worker's status of a pod; False for one of the API."""
        if pod["metadata"]["uid"] not in self._begun:
            return False
        self._mirrors.show(pod)
        return True


def _mirrors(item: Item) -> bool:
    """Only a pod that may be a mirror is decoded."""
    return MIRROR.encode() in item.raw and is_mirror(item.object)
