"""etcd's keys and events as the store's records, some at a time so that others get their turn. Called by the feed.

A page and a piece of a watch's answer are taken apart first, their keys and events decoded in slices.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from orchestrator.api.item import Item
from orchestrator.store.etcd.api import EtcdApi, Message
from orchestrator.store.etcd.cache import kept
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import Entry
from orchestrator.store.record import DELETE, PUT, Operation, Record
from orchestrator.store.sealing import Sealer
from orchestrator.store.state import State

SLICE = 50
"""Keys or events decoded and taken over before others get their turn: a few ms."""
PAGE_KEYS_MIN, PAGE_KEYS_MAX = 16, 500
PAGE_BYTES = 1024 * 1024
"""Wanted of one answer; etcd bounds an answer by its number of keys only, so that follows from the page before."""


class Reader:
    """Reads what is under the prefix. Stateless."""

    def __init__(self, api: EtcdApi, keys: Keys, sealer: Sealer | None) -> None:
        self._api = api
        self._keys = keys
        self._sealer = sealer

    async def fill(self, state: State, revision: int, arrived: Callable[[], None]) -> None:
        """Put everything at `revision` into `state`, calling `arrived` per page. Raises `StoreError`."""
        request: Message = {"key": self._keys.first, "range_end": self._keys.end, "revision": revision}
        limit = PAGE_KEYS_MIN
        while True:
            page = await self._api.page({**request, "limit": limit})
            arrived()
            raw: Sequence[bytes] = page.get("kvs", ())
            last = b""
            for part in slices(raw):
                for data in part:
                    kv = self._api.decode("KeyValue", data)
                    last = kv["key"]
                    if (record := self._kept(kv)) is not None:
                        state.apply(record)
                await asyncio.sleep(0)
            if not page.get("more"):
                return
            request["key"] = last + b"\0"
            limit = next_limit(len(raw), sum(map(len, raw)))

    async def entry(self, key: str, revision: int) -> Entry | None:
        """One key as etcd has it at `revision`. Raises `StoreError`."""
        answer = await self._api.range({"key": self._keys.to_etcd(key), "revision": revision})
        for kv in answer.get("kvs", ()):
            item = Item(self._value(key, kv), kv["mod_revision"])
            return Entry(key, item, kv["create_revision"], kv["version"], kv.get("lease", 0))
        return None

    def events(self, raw: Sequence[bytes]) -> list[Message]:
        return [self._api.decode("Event", data) for data in raw]

    def records(self, events: Sequence[Message], have: int) -> list[Record]:
        """Events in their order, one record per revision; those up to the revision `have` are left out."""
        return [
            Record(revision, list(self._operations(group)))
            for revision, group in groupby(events, key=revision_of)
            if revision > have
        ]

    def _operations(self, events: Iterator[Message]) -> Iterator[Operation]:
        for event in events:
            kv = event["kv"]
            key = self._keys.from_etcd(kv["key"])
            if key is None:
                continue
            if event.get("type"):
                yield Operation(DELETE, 0, key, b"")
            else:
                yield Operation(PUT, kv.get("lease", 0), key, self._value(key, kv))

    def _kept(self, kv: Message) -> Record | None:
        key = self._keys.from_etcd(kv["key"])
        if key is None:
            return None
        value, lease = self._value(key, kv), kv.get("lease", 0)
        return kept(key, value, kv["mod_revision"], kv["create_revision"], kv["version"], lease)

    def _value(self, key: str, kv: Message) -> bytes:
        stored: bytes = kv.get("value", b"")
        return self._sealer.unseal(key, stored) if self._sealer is not None else stored


def slices(raw: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """What may be decoded at once; by bytes as well, since unsealing takes time by the byte."""
    start = size = 0
    for at, data in enumerate(raw):
        size += len(data)
        if at + 1 - start == SLICE or size >= PAGE_BYTES // 2:
            yield raw[start : at + 1]
            start, size = at + 1, 0
    if start < len(raw):
        yield raw[start:]


def next_limit(count: int, size_bytes: int) -> int:
    """How many keys the next page should have after one of `count` keys and this size."""
    fitting = PAGE_BYTES * count // max(1, size_bytes)
    return max(1, min(fitting, 2 * max(count, PAGE_KEYS_MIN), PAGE_KEYS_MAX))


def revision_of(event: Message) -> int:
    return int(event["kv"]["mod_revision"])
