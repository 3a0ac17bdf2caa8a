"""Node lifecycle: notices nodes that fell silent and marks them, so that others act.

1. A heartbeat is a renewed lease in kube-node-lease or a new `lastHeartbeatTime`, at the moment it is seen
   here: the node's clock does not matter, and after a restart every node has a full grace period.
2. Without one for 40 s the conditions Ready, MemoryPressure, DiskPressure and PIDPressure become Unknown.
3. Taints follow the conditions: not-ready (Ready False) and unreachable (Ready Unknown) with NoSchedule and
   NoExecute, pressures, missing network and `spec.unschedulable` with NoSchedule. They go when the
   condition does. Other taints are nobody's business here.
4. NoExecute comes one node after the other, as the zone's state allows, and not at all, those present gone, while
   every zone is down (`zones`). After that every node has a full grace period again.
5. Pods of a silent node are marked not ready, so that Services drop them; those of a node that reports itself
   not ready are marked once, because its agent keeps their status itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import LEASES, NODES, PODS
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import find_condition, with_value
from orchestrator.controllers.views import node_index, pod_view
from orchestrator.controllers.zones import Zones
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue
from orchestrator.scheduler.rules.tolerations import NOT_READY, UNREACHABLE, UNSCHEDULABLE

LEASE_NAMESPACE = "kube-node-lease"
GRACE_S = 40.0
_REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_TAINT_OF = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_MANAGED = {(key, "NoSchedule") for key in (*_TAINT_OF.values(), UNSCHEDULABLE)} | {
    (key, "NoExecute") for key in (NOT_READY, UNREACHABLE)
}


class NodeLifecycleController:
    name = "nodelifecycle"
    watches = (NODES, LEASES, PODS)
    writes = (NODES, PODS)

    def __init__(
        self, client: Client, clock: Clock, recorder: EventRecorder, grace_s: float = GRACE_S
    ) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._grace_s = grace_s
        self._freshness = Freshness()
        self._beats: dict[str, float] = {}
        """When each node was last heard of, on the monotonic clock."""
        self._was_ready: set[str] = set()
        self._zones = Zones()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._pods.add_index("node", node_index)
        self._nodes.on_change(self._node_changed)
        informers.of(LEASES).on_change(self._lease_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._nodes.get(key)
        if item is None:
            self._beats.pop(key, None)
            self._was_ready.discard(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        node, now_s = item.object, self._clock.now_s()
        silent_s = self._clock.monotonic_s() - self._beats.setdefault(key, self._clock.monotonic_s())
        steps = plan(node, silent_s, self._grace_s, now_s, self._pace(key))
        node = await self._write(key, node, steps)
        if steps.ready == "True":
            self._was_ready.add(key)
        elif steps.ready == "Unknown" or key in self._was_ready:
            if steps.ready == "False":
                self._tell(node)
            await self._unready_pods(key)
            self._was_ready.discard(key)
        return steps.look_again_s

    def _pace(self, key: str) -> "Pace":
        """Rule 4 for this node."""

        def take() -> float:
            left_s = self._zones.turn(key, self._clock.monotonic_s())
            return self._grace_s if left_s is None else left_s

        return Pace(self._zones.all_down, take)

    def _lease_changed(self, old: Item | None, new: Item | None) -> None:
        if new is None or new.meta.namespace != LEASE_NAMESPACE:
            return
        if old is None or old.revision != new.revision:
            self._beats[new.meta.name] = self._clock.monotonic_s()

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        if item is None:
            return
        if new is not None and (old is None or _heartbeat(old) != _heartbeat(new)):
            self._beats[new.meta.name] = self._clock.monotonic_s()
        self._queue.add(item.meta.name)
        self._note(item.meta.name, new)

    def _note(self, name: str, new: Item | None) -> None:
        """What a change of one node means for the others."""
        before = self._zones.all_down
        if not (self._zones.forget(name) if new is None else self._zones.note(new, _is_ready(new))):
            return
        if before and not self._zones.all_down:
            self._beats = dict.fromkeys(self._beats, self._clock.monotonic_s())
        for node in self._nodes.list():
            self._queue.add(node.meta.name)

    async def _write(self, key: str, node: Object, steps: "Plan") -> Object:
        """Conditions, then taints, each if it changed."""
        try:
            if steps.conditions is not None:
                changed = with_value(node, ("status", "conditions"), steps.conditions)
                node = await self._client.update(NODES, changed, subresource="status")
                self._freshness.wrote(key, self._nodes, node)
                self._tell(node)
            if steps.taints is not None:
                node = await self._client.update(NODES, with_value(node, ("spec", "taints"), steps.taints))
                self._freshness.wrote(key, self._nodes, node)
        except NotFound:
            pass
        return node

    def _tell(self, node: Object) -> None:
        text = f"Node {node['metadata']['name']} status is now: NodeNotReady"
        self._recorder.event(node, "Normal", "NodeNotReady", text)

    async def _unready_pods(self, node: str) -> None:
        """Rule 5. Raises what keeps a pod from being marked, so that the node is looked at again."""
        now = timestamp(self._clock.now_s())
        for item in self._pods.by_index("node", node):
            view = pod_view(item)
            if not view.ready or view.finished:
                continue
            condition = {"type": "Ready", "status": "False", "lastTransitionTime": now}
            patch = {"status": {"conditions": [condition]}}
            try:
                pod = await self._client.patch(
                    PODS, item.meta.name, item.meta.namespace, patch, type="strategic", subresource="status"
                )
            except NotFound:
                continue
            self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _heartbeat(item: Item) -> str:
    return _ready(item).get("lastHeartbeatTime") or ""


def _is_ready(item: Item) -> bool:
    return bool(_ready(item).get("status") == "True")


def _ready(item: Item) -> Object:
    return find_condition((item.object.get("status") or {}).get("conditions") or [], "Ready") or {}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, None for no change. `ready` is the status of the Ready condition, empty without one."""

    conditions: list[Object] | None
    taints: list[Object] | None
    ready: str
    look_again_s: float | None


@dataclass(frozen=True, slots=True)
class Pace:
    """Whether nodes keep their pods whatever happens; seconds until this one may lose them, 0 takes its turn."""

    off: bool = False
    take: Callable[[], float] = lambda: 0.0


def plan(node: Object, silent_s: float, grace_s: float, now_s: float, pace: Pace) -> Plan:
    """Rules 2 to 4 for a node that was last heard of `silent_s` ago."""
    old = (node.get("status") or {}).get("conditions") or []
    now = timestamp(now_s)
    conditions = _unknown(node, old, now) if silent_s >= grace_s else old
    taints_old = (node.get("spec") or {}).get("taints") or []
    wanted, wait_s = _in_turn(wanted_taints(node, conditions), taints_old, pace)
    taints = _merged(wanted, taints_old, now)
    ready = find_condition(conditions, "Ready")
    left_s = grace_s - silent_s if silent_s < grace_s else grace_s
    return Plan(
        conditions if conditions != old else None,
        taints if taints != taints_old else None,
        ready["status"] if ready is not None else "",
        min(left_s, wait_s or left_s),
    )


Place = tuple[str, str]
"""Key and effect of a taint."""


def _in_turn(wanted: list[Place], old: list[Object], pace: Pace) -> tuple[list[Place], float]:
    """Rule 4: what of `wanted` may be there now, and seconds until the rest may, 0 where nothing is to come.

    A node that is being emptied already needs no turn when its taint changes from one to the other.
    """
    others = [place for place in wanted if place[1] != "NoExecute"]
    if others == wanted or pace.off:
        return others, 0.0
    if any(taint["effect"] == "NoExecute" and taint["key"] in (NOT_READY, UNREACHABLE) for taint in old):
        return wanted, 0.0
    wait_s = pace.take()
    return (others, wait_s) if wait_s > 0 else (wanted, 0.0)


def _unknown(node: Object, conditions: list[Object], now: str) -> list[Object]:
    result = list(conditions)
    for kind in _REPORTED:
        old = find_condition(result, kind)
        if old is None:
            entry = {
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": node["metadata"].get("creationTimestamp", now),
                "lastTransitionTime": now,
            }
            result.append(entry)
        elif old["status"] != "Unknown":
            entry = {
                **old,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": now,
            }
            result[result.index(old)] = entry
    return result


def wanted_taints(node: Object, conditions: list[Object]) -> list[Place]:
    """Rule 3."""
    wanted = []
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    for condition in conditions:
        key = _TAINT_OF.get((condition["type"], condition["status"]))
        if key is not None:
            wanted.append((key, "NoSchedule"))
        if key in (NOT_READY, UNREACHABLE):
            wanted.append((key, "NoExecute"))
    return wanted


def _merged(wanted: list[Place], old: list[Object], now: str) -> list[Object]:
    """Taints of others first, as they were; ours keep the time when they were added."""
    present = [(taint["key"], taint["effect"]) for taint in old]
    kept = [
        taint for taint, place in zip(old, present, strict=True) if place in wanted or place not in _MANAGED
    ]
    added = [{"key": key, "effect": effect, "timeAdded": now} for key, effect in wanted
             if (key, effect) not in present]  # fmt: skip
    return kept + added
