"""What scheduling needs to know of volumes: claims, volumes, classes, drivers, and which placed pods use which.

Holds the informers' own items, decoded on demand. `assumed` are volumes promised to claims of pods that are being
bound; they stay promised until the promise is seen in the volume or taken back. Pure; owned by `Columns`.
"""

from collections import Counter
from collections.abc import Iterator

from orchestrator.api.item import Item, Object
from orchestrator.api.volumes import class_of, key_of_reference
from orchestrator.scheduler.rules.infos import PodInfo

Use = tuple[str, str]
"""Kind and identity of a disk that a pod names itself."""


class VolumeState:
    """All of it, by key."""

    def __init__(self) -> None:
        self.claims: dict[str, Item] = {}
        self.volumes: dict[str, Item] = {}
        self.classes: dict[str, Item] = {}
        self.drivers: dict[str, Item] = {}
        self.capacities: dict[str, Item] = {}
        self.node_limits: dict[str, dict[str, int]] = {}
        """Volumes that a driver can attach to a node, by node and driver."""
        self.assumed: dict[str, str] = {}
        """Key of the claim by name of the volume promised to it."""
        self.version = 0
        self._users: dict[str, Counter[int]] = {}
        self._disks: dict[Use, dict[int, list[int]]] = {}
        self._free: dict[str, dict[str, None]] = {}
        self._reserved: dict[str, dict[str, None]] = {}
        """Volumes that name a claim, by key of the claim."""

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────

    def set(self, kind: str, key: str, item: Item | None) -> None:
        """`kind` is `claims`, `volumes`, `classes`, `drivers` or `capacities`; None: it is gone."""
        self.version += 1
        if kind == "volumes":
            self._index_volume(key, item)
        held: dict[str, Item] = getattr(self, kind)
        if item is None:
            held.pop(key, None)
        else:
            held[key] = item

    def set_limits(self, node: str, csi_node: Object | None) -> bool:
        """A node's drivers and how much they can attach; False when nothing differs."""
        drivers = ((csi_node or {}).get("spec") or {}).get("drivers") or ()
        limits = {
            driver["name"]: int(driver["allocatable"]["count"])
            for driver in drivers
            if (driver.get("allocatable") or {}).get("count") is not None
        }
        if self.node_limits.get(node, {}) == limits:
            return False
        self.version += 1
        if limits:
            self.node_limits[node] = limits
        else:
            self.node_limits.pop(node, None)
        return True

    def place(self, row: int, pod: PodInfo, sign: int) -> None:
        """A pod that names claims or disks is on `row` (1), or no more (-1)."""
        for name, _ in pod.claim_names:
            users = self._users.setdefault(f"{pod.namespace}/{name}", Counter())
            users[row] += sign
            if not users[row]:
                del users[row]
            if not users:
                del self._users[f"{pod.namespace}/{name}"]
        for kind, identity, read_only in pod.template.disks:
            rows = self._disks.setdefault((kind, identity), {})
            counts = rows.setdefault(row, [0, 0])
            counts[read_only] += sign
            if not any(counts):
                del rows[row]
            if not rows:
                del self._disks[kind, identity]

    def promise(self, volume: str, claim: str) -> None:
        self.assumed[volume] = claim

    def take_back(self, claim: str) -> None:
        """The promises to a claim are void."""
        for volume in [name for name, key in self.assumed.items() if key == claim]:
            del self.assumed[volume]

    # ── questions ───────────────────────────────────────────────────────────────────────────────────────

    def is_used(self, claim: str) -> bool:
        """Whether a placed pod uses the claim."""
        return claim in self._users

    def disk_rows(self, kind: str, identity: str) -> dict[int, list[int]]:
        """Rows with pods that use a disk: [writers, readers]."""
        return self._disks.get((kind, identity), {})

    def candidates(self, claim: Object) -> Iterator[Object]:
        """Volumes that the claim may get: those reserved for it, and free ones of its class not promised to another."""
        metadata = claim["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        for name in self._reserved.get(key, ()):
            yield self.volumes[name].object
        for name in self._free.get(class_of(claim), ()):
            if self.assumed.get(name, key) == key:
                yield self.volumes[name].object

    def _index_volume(self, name: str, item: Item | None) -> None:
        before = self.volumes.get(name)
        if before is not None:
            _drop(self._reserved, _reserved_for(before.object), name)
            _drop(self._free, class_of(before.object), name)
        if item is None:
            self.assumed.pop(name, None)
            return
        claim = _reserved_for(item.object)
        if claim:
            self._reserved.setdefault(claim, {})[name] = None
            self.assumed.pop(name, None)
        else:
            self._free.setdefault(class_of(item.object), {})[name] = None


def _reserved_for(volume: Object) -> str:
    """The key of the claim that the volume names; empty where it is free."""
    reference = volume["spec"].get("claimRef")
    return key_of_reference(reference) if reference else ""


def _drop(index: dict[str, dict[str, None]], key: str, name: str) -> None:
    names = index.get(key, {})
    names.pop(name, None)
    if not names:
        index.pop(key, None)
