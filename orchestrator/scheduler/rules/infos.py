"""Slotted projections of pods and nodes for the scheduler, decoded once per revision from stored bytes.

Units: CPU in thousandths, memory and storage in bytes, everything else in whole units.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from orchestrator.api.item import Item, Object
from orchestrator.api.quantity import as_int, as_milli

DEFAULT_SCHEDULER = "default-scheduler"
FINISHED = ("Succeeded", "Failed")
SCORED_CPU_MILLI = 100
SCORED_MEMORY_BYTES = 200 * 1024 * 1024
"""What a container without a request counts as when nodes are compared (not when they are filtered)."""

HostPort = tuple[str, str, int]
"""Address (`0.0.0.0` for every one), protocol, port."""


class _Resources(msgspec.Struct):
    requests: dict[str, str | int | float] | None = None


class _Port(msgspec.Struct, rename="camel"):
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")
    protocol: str = "TCP"


class _Container(msgspec.Struct, rename="camel"):
    resources: _Resources | None = None
    ports: list[_Port] | None = None
    restart_policy: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    scheduler_name: str = DEFAULT_SCHEDULER
    priority: int = 0
    node_selector: dict[str, str] | None = None
    affinity: dict[str, Any] | None = None
    tolerations: list[dict[str, Any]] | None = None
    containers: list[_Container] = []
    init_containers: list[_Container] | None = None
    overhead: dict[str, str | int | float] | None = None
    resources: _Resources | None = None
    scheduling_gates: list[Any] | None = None


class _Status(msgspec.Struct):
    phase: str = "Pending"


class _Pod(msgspec.Struct):
    spec: _Spec
    status: _Status | None = None


class _HeadSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _Head(msgspec.Struct):
    spec: _HeadSpec
    status: _Status | None = None


_decode = msgspec.json.Decoder(_Pod).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def pod_place(item: Item) -> tuple[str, bool]:
    """(node or empty, finished) of a pod, without decoding the rest."""
    head = _decode_head(item.raw)
    return head.spec.node_name, head.status is not None and head.status.phase in FINISHED


class PodInfo:
    """What a decision needs to know of a pod. Immutable."""

    __slots__ = (
        "affinity", "gated", "generation", "host_ports", "key", "name", "namespace", "node_name",
        "node_selector", "priority", "requests", "revision", "scheduler_name", "scored", "signature",
        "tolerations", "uid",
    )  # fmt: skip

    def __init__(self, item: Item) -> None:
        meta, pod = item.meta, _decode(item.raw)
        spec = pod.spec
        self.key = f"{meta.namespace}/{meta.name}"
        self.namespace = meta.namespace
        self.name = meta.name
        self.uid = meta.uid
        self.revision = item.revision
        self.generation = meta.generation
        self.priority = spec.priority
        self.scheduler_name = spec.scheduler_name
        self.gated = bool(spec.scheduling_gates)
        self.node_name = spec.node_name
        self.node_selector = spec.node_selector or {}
        self.affinity: Object = (spec.affinity or {}).get("nodeAffinity") or {}
        self.tolerations: list[Object] = spec.tolerations or []
        self.requests = pod_requests(spec)
        """Sorted (resource, amount), `pods` = 1 included."""
        self.scored = scored_requests(spec, dict(self.requests))
        """CPU and memory as nodes are compared by."""
        self.host_ports = _host_ports(spec)
        self.signature = _encode(
            (
                self.node_name, self.node_selector, self.affinity, self.tolerations,
                self.requests, self.scored, sorted(self.host_ports),
            )
        )  # fmt: skip
        """Pods of one signature fit the same nodes and score them the same."""

    @property
    def reference(self) -> Object:
        """As much of the pod as an event needs."""
        metadata = {
            "namespace": self.namespace, "name": self.name, "uid": self.uid,
            "resourceVersion": str(self.revision),
        }  # fmt: skip
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}

    def __repr__(self) -> str:
        return f"PodInfo({self.key})"


class NodeInfo:
    """What a decision needs to know of a node. Immutable; equal when no decision could differ."""

    __slots__ = ("allocatable", "labels", "name", "taints", "unschedulable")

    def __init__(self, node: Object) -> None:
        spec, status = node.get("spec") or {}, node.get("status") or {}
        self.name: str = node["metadata"]["name"]
        self.labels: dict[str, str] = node["metadata"].get("labels") or {}
        self.unschedulable = bool(spec.get("unschedulable"))
        self.taints = tuple(
            (taint["key"], taint.get("value", ""), taint["effect"]) for taint in spec.get("taints") or ()
        )
        amounts = status.get("allocatable") or status.get("capacity") or {}
        self.allocatable = {name: amount(name, value) for name, value in amounts.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeInfo) and all(
            getattr(self, slot) == getattr(other, slot) for slot in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]


@lru_cache(maxsize=8192)
def amount(resource: str, quantity: str | int | float) -> int:
    """A quantity in the unit of its resource, rounded up."""
    return as_milli(quantity) if resource == "cpu" else as_int(quantity)


def pod_requests(spec: _Spec) -> tuple[tuple[str, int], ...]:
    """What the pod takes from a node: all containers and sidecars, or an init container with the sidecars
    started before it, whichever is more; pod-level requests replace that; overhead is added."""
    total = _effective(spec, lambda container: _amounts(container.resources))
    if spec.resources is not None:
        total |= _amounts(spec.resources)
    for name, value in (spec.overhead or {}).items():
        total[name] = total.get(name, 0) + amount(name, value)
    total["pods"] = 1
    return tuple(sorted((name, value) for name, value in total.items() if value))


def demands(spec: Object) -> tuple[dict[str, int], frozenset[HostPort]]:
    """What a pod with this spec takes of a node: (amount per resource, host ports)."""
    found = msgspec.convert(spec, _Spec)
    return dict(pod_requests(found)), _host_ports(found)


def scored_requests(spec: _Spec, requests: Mapping[str, int]) -> tuple[int, int]:
    """CPU and memory with defaults for containers that request none."""
    total = _effective(spec, _with_defaults)
    pod_level = _amounts(spec.resources)
    total |= {name: value for name, value in pod_level.items() if name in ("cpu", "memory")}
    for name in ("cpu", "memory"):
        extra = (spec.overhead or {}).get(name)
        total[name] = total.get(name, 0) + (amount(name, extra) if extra is not None else 0)
    return max(total["cpu"], requests.get("cpu", 0)), max(total["memory"], requests.get("memory", 0))


def _with_defaults(container: _Container) -> dict[str, int]:
    found = _amounts(container.resources)
    return {
        "cpu": found.get("cpu", SCORED_CPU_MILLI),
        "memory": found.get("memory", SCORED_MEMORY_BYTES),
    }


def _effective(spec: _Spec, of: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for container in spec.containers:
        _add(total, of(container))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.init_containers or ():
        wanted = of(container)
        if container.restart_policy == "Always":
            _add(sidecars, wanted)
            _add(total, wanted)
            wanted = {}
        for name in sidecars.keys() | wanted.keys():
            peak[name] = max(peak.get(name, 0), sidecars.get(name, 0) + wanted.get(name, 0))
    for name, value in peak.items():
        total[name] = max(total.get(name, 0), value)
    return total


def _add(total: dict[str, int], amounts: dict[str, int]) -> None:
    for name, value in amounts.items():
        total[name] = total.get(name, 0) + value


def _amounts(resources: _Resources | None) -> dict[str, int]:
    if resources is None or not resources.requests:
        return {}
    return {name: amount(name, value) for name, value in resources.requests.items()}


def _host_ports(spec: _Spec) -> frozenset[HostPort]:
    sidecars = [c for c in spec.init_containers or () if c.restart_policy == "Always"]
    return frozenset(
        (port.host_ip or "0.0.0.0", port.protocol, port.host_port)
        for container in (*spec.containers, *sidecars)
        for port in container.ports or ()
        if port.host_port
    )
