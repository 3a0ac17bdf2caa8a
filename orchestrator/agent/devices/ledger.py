"""Which container has which devices of which resource: counting, choosing, and the file that keeps it.

The ledger is all that must outlive the agent: a container that runs keeps its devices, whatever its plugin does
meanwhile. Devices of init containers are used again by the containers after them. Pure but for `load` and `save`.
Owner: `DeviceManager`.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from orchestrator.agent import podspec
from orchestrator.api.item import Object

Holder = tuple[str, str, str]
"""Pod's uid, container's name, resource."""


class Entry(msgspec.Struct):
    """What one container has of one resource. `answer` is the plugin's, empty before it was asked."""

    pod: str
    container: str
    resource: str
    ids: list[str]
    answer: Object = {}


class Kept(msgspec.Struct):
    """The file. `plugged` are resources that plugins ever offered."""

    entries: list[Entry] = []
    plugged: list[str] = []


class Ledger:
    """Entries by holder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[Holder, Entry] = {}
        self.plugged: set[str] = set()

    def load(self) -> None:
        """Read what an agent before us wrote; a file that can't be read holds nothing. Blocking."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
            self.plugged.update(kept.plugged)
            for entry in kept.entries:
                self.put(entry)

    def encoded(self) -> bytes:
        """What `save` writes."""
        return msgspec.json.encode(Kept(list(self.entries.values()), sorted(self.plugged)))

    def save(self, data: bytes) -> None:
        """Write whole, or not at all. Blocking."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._path)

    def put(self, entry: Entry) -> None:
        self.entries[entry.pod, entry.container, entry.resource] = entry

    def of(self, pod_uid: str, container: str) -> list[Entry]:
        """What one container has."""
        return [each for each in self.entries.values() if (each.pod, each.container) == (pod_uid, container)]

    def resources(self) -> set[str]:
        """Those that belong to plugins, whether one is there or not."""
        return self.plugged | {entry.resource for entry in self.entries.values()}

    def used(self, resource: str) -> set[str]:
        """Ids that somebody has."""
        return {each for entry in self.entries.values() if entry.resource == resource for each in entry.ids}

    def retain(self, pod_uids: Collection[str]) -> bool:
        """Let go of what other pods had; whether there was anything."""
        gone = [holder for holder in self.entries if holder[0] not in pod_uids]
        for holder in gone:
            del self.entries[holder]
        return bool(gone)

    def reusable(self, pod: Object, container: Object, resource: str) -> list[str]:
        """What init containers before this one had and give back; sidecars keep theirs."""
        uid, found, kept = pod["metadata"]["uid"], dict[str, None](), set[str]()
        for each in (*podspec.init_containers(pod), *podspec.containers(pod)):
            if each["name"] == container["name"]:
                break
            entry = self.entries.get((uid, each["name"], resource))
            ids = entry.ids if entry is not None else []
            if podspec.is_init(pod, each["name"]) and not podspec.is_sidecar(each):
                found.update(dict.fromkeys(ids))
            else:
                kept.update(ids)
        return [each for each in found if each not in kept]


def wanted(container: Object, resources: Collection[str]) -> dict[str, int]:
    """How many devices of each of `resources` a container asks for."""
    limits = podspec.requests(container, "limits")
    found = {name: podspec.whole(limits[name]) for name in limits if name in resources}
    return {name: count for name, count in found.items() if count > 0}


def choose(count: int, reusable: Iterable[str], free: Iterable[str]) -> list[str] | None:
    """`count` devices, those used before first; None where there are fewer."""
    candidates = list(dict.fromkeys([*reusable, *free]))
    return candidates[:count] if len(candidates) >= count else None


def preferred(
    count: int, offered: Iterable[str], available: Collection[str], must: Collection[str]
) -> list[str]:
    """A plugin's preference as far as it may be followed: what must be in it, and nothing that is not available."""
    chosen = list(dict.fromkeys([*must, *(each for each in offered if each in available)]))[:count]
    rest = [each for each in sorted(available) if each not in chosen]
    return [*chosen, *rest[: count - len(chosen)]]


def merged(answers: Iterable[Mapping[str, Object]]) -> Object:
    """Answers of several plugins as one: the first that names a variable wins, as with a kubelet."""
    result: Object = {"envs": {}, "annotations": {}, "mounts": [], "devices": [], "cdiDevices": []}
    for answer in answers:
        for field in ("envs", "annotations"):
            result[field] = {**(answer.get(field) or {}), **result[field]}
        for field in ("mounts", "devices", "cdiDevices"):
            result[field] += [each for each in answer.get(field) or () if each not in result[field]]
    return result
