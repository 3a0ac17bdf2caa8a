"""Which zone each ready endpoint is meant for, when a Service asks for topology hints by its annotation. Pure.

1. Each zone is to have its share of the endpoints: its ready nodes' part of all allocatable CPU. Control planes, which
   run no workloads, do not count.
2. An endpoint is meant for its own zone while that has room; the rest for zones that lack some.
3. No endpoint is meant for any zone where nodes do not say their zone or CPU, only one zone has ready nodes, an
   endpoint is in no zone, there are fewer endpoints than zones, or a zone would get a fifth less than its share.

Called by the controller of EndpointSlices. Source: Kubernetes' topology aware hints, whose texts these are.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.api import quantity
from orchestrator.api.item import Item, Object
from orchestrator.controllers.objects import find_condition

OVERLOAD = 0.2
ZONE_LABEL = "topology.kubernetes.io/zone"
ENABLED = "Topology Aware Hints has been enabled"
_ANNOTATIONS = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
_NO_WORKLOADS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_UNKNOWN_NODES = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
_ONE_ZONE = "Nodes only ready in one zone"
_NO_ZONE = "One or more endpoints do not have a zone specified"
_FEW = "Insufficient number of endpoints"
_OVERLOADED = (
    "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
)

Shares = Mapping[str, float]
"""Part of the CPU by zone, 1 in sum; empty where that is not known."""


def is_asked(service: Object) -> bool:
    annotations = service["metadata"].get("annotations") or {}
    return any(annotations.get(name) in ("Auto", "auto") for name in _ANNOTATIONS)


def facts(node: Item | None) -> tuple[str, str] | None:
    """Zone and allocatable CPU of a node that counts, either perhaps empty; None for one that does not."""
    if node is None or any(label in node.labels for label in _NO_WORKLOADS):
        return None
    status = node.object.get("status") or {}
    ready = find_condition(status.get("conditions") or [], "Ready")
    if ready is None or ready["status"] != "True":
        return None
    return node.labels.get(ZONE_LABEL, ""), (status.get("allocatable") or {}).get("cpu") or ""


def shares_of(nodes: Iterable[Item]) -> Shares:
    """Rule 1."""
    cpus: dict[str, float] = {}
    for found in filter(None, map(facts, nodes)):
        zone, cpu = found
        amount = float(quantity.parse(cpu)) if cpu else 0.0
        if not zone or not amount:
            return {}
        cpus[zone] = cpus.get(zone, 0.0) + amount
    total = sum(cpus.values())
    return {zone: amount / total for zone, amount in cpus.items()}


def problem(zones: Sequence[str], shares: Shares) -> str:
    """Rule 3 for endpoints in these zones; empty where hints can be given."""
    if not shares:
        return _UNKNOWN_NODES
    if len(shares) < 2:
        return _ONE_ZONE
    if not all(zones):
        return _NO_ZONE
    if len(zones) < len(shares):
        return f"{_FEW} ({len(zones)} endpoints, {len(shares)} zones)"
    return _OVERLOADED if sum(_least(len(zones), shares).values()) > len(zones) else ""


def meant_for(zones: Sequence[str], shares: Shares) -> list[str]:
    """Rule 2: the zone that each endpoint is meant for, given the one it is in. Only without a `problem`."""
    room = Counter(_amounts(zones, shares))
    found = [""] * len(zones)
    for position, zone in enumerate(zones):
        if room[zone] > 0:
            room[zone] -= 1
            found[position] = zone
    lacking = iter(sorted(room.elements()))
    return [zone or next(lacking) for zone in found]


def _least(count: int, shares: Shares) -> dict[str, int]:
    return {zone: math.ceil(share * count / (1 + OVERLOAD)) for zone, share in shares.items()}


def _amounts(zones: Sequence[str], shares: Shares) -> dict[str, int]:
    """How many of the endpoints each zone gets: at least its least, else as near to its share as may be, and where
    that is even to zones that have them."""
    amounts, present = _least(len(zones), shares), Counter(zones)
    for _ in range(len(zones) - sum(amounts.values())):
        lacks = {zone: round(share * len(zones) - amounts[zone], 9) for zone, share in shares.items()}
        best = max(sorted(shares), key=lambda z: (lacks[z], present[z] - amounts[z]))
        amounts[best] += 1
    return amounts
