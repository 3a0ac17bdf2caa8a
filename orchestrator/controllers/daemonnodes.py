"""Which nodes a DaemonSet's pods belong on, and what a pod for one node looks like. Pure; called by `daemonset`.

1. A node is chosen by the template's nodeName, nodeSelector and required node affinity.
2. A taint with NoSchedule or NoExecute that is not tolerated keeps pods off; one that runs already stays unless the
   effect is NoExecute. Daemon pods tolerate what befalls nodes: not ready, unreachable, pressure, cordoned, and on
   the host's network a missing network.
3. A pod names its node in required node affinity, by field, and goes through the scheduler.
"""

from typing import NamedTuple

import msgspec

from orchestrator.api.item import Item, Object
from orchestrator.api.resources import DAEMONSETS
from orchestrator.controllers.objects import with_value
from orchestrator.controllers.pods import new_pod
from orchestrator.controllers.revisions import HASH_LABEL
from orchestrator.scheduler.rules.selection import NAME, NodeChoice
from orchestrator.scheduler.rules.tolerations import (
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    untolerated,
)

GENERATION_LABEL = "pod-template-generation"
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_TERMS = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
_TOLERATED = (
    (NOT_READY, "NoExecute"),
    (UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    (UNSCHEDULABLE, "NoSchedule"),
)
_TOLERATED_ON_HOST = ("node.kubernetes.io/network-unavailable", "NoSchedule")


class NodeFacts(NamedTuple):
    """What of a node matters here; a heartbeat leaves it equal."""

    name: str
    labels: dict[str, str]
    taints: list[Object]


class Fit(NamedTuple):
    """Whether a pod shall be made for a node, and whether one that is there may stay."""

    run: bool
    stay: bool


class _Spec(msgspec.Struct):
    taints: list[Object] | None = None


class _Node(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


_decode_node = msgspec.json.Decoder(_Node).decode


def node_facts(item: Item) -> NodeFacts:
    return NodeFacts(item.meta.name, item.labels, _decode_node(item.raw).spec.taints or [])


class Placement:
    """Rules 1 and 2 for one template; what it found of a node is kept until the node's facts change."""

    def __init__(self, template: Object) -> None:
        spec = template["spec"]
        self._node_name = spec.get("nodeName") or ""
        self._choice = NodeChoice(spec)
        self._tolerations = tolerations(spec)
        self._known: dict[str, tuple[NodeFacts, Fit]] = {}

    def fit(self, node: NodeFacts) -> Fit:
        known = self._known.get(node.name)
        if known is not None and known[0] is node:
            return known[1]
        fit = self.ask(node)
        self._known[node.name] = (node, fit)
        return fit

    def forget(self, node: str) -> None:
        """The node is no more."""
        self._known.pop(node, None)

    def ask(self, node: NodeFacts) -> Fit:
        """The same, without keeping it."""
        if self._node_name and self._node_name != node.name:
            return Fit(False, False)
        if not self._choice.allows(node.name, node.labels):
            return Fit(False, False)
        if untolerated(node.taints, self._tolerations, ("NoSchedule", "NoExecute")) is None:
            return Fit(True, True)
        return Fit(False, untolerated(node.taints, self._tolerations, ("NoExecute",)) is None)


def tolerations(spec: Object) -> list[Object]:
    """Rule 2: the template's own and the automatic ones; one for the same taint gives way."""
    found = list(spec.get("tolerations") or [])
    for key, effect in (*_TOLERATED, *((_TOLERATED_ON_HOST,) if spec.get("hostNetwork") else ())):
        added = {"key": key, "operator": "Exists", "effect": effect}
        place = next((at for at, own in enumerate(found) if _same(own, added)), None)
        if place is None:
            found.append(added)
        else:
            found[place] = added
    return found


def _same(one: Object, other: Object) -> bool:
    return all(
        (one.get(name) or "") == (other.get(name) or "") for name in ("key", "effect", "operator", "value")
    )


def new_daemon_pods(daemon_set: Object, digest: str, nodes: list[str]) -> list[Object]:
    """A pod for each of `nodes`; all share what does not name the node."""
    template = daemon_set["spec"]["template"]
    pod = new_pod(DAEMONSETS, daemon_set, {**template, "spec": {**template["spec"]}})
    pod["spec"]["tolerations"] = tolerations(pod["spec"])
    labels = {**pod["metadata"].get("labels", {}), HASH_LABEL: digest}
    generation = (daemon_set["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION)
    if generation is not None:
        labels[GENERATION_LABEL] = generation
    pod = with_value(pod, ("metadata", "labels"), labels)
    return [with_value(pod, ("spec", *_TERMS), {"nodeSelectorTerms": [_only(node)]}) for node in nodes]


def _only(node: str) -> Object:
    return {"matchFields": [{"key": NAME, "operator": "In", "values": [node]}]}


class _Field(msgspec.Struct):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class _Term(msgspec.Struct, rename="camel"):
    match_fields: list[_Field] | None = None


class _Terms(msgspec.Struct, rename="camel"):
    node_selector_terms: list[_Term] | None = None


class _NodeAffinity(msgspec.Struct):
    required: _Terms | None = msgspec.field(default=None, name=_TERMS[2])


class _Affinity(msgspec.Struct, rename="camel"):
    node_affinity: _NodeAffinity | None = None


class _PodSpec(msgspec.Struct):
    affinity: _Affinity | None = None


class _Pod(msgspec.Struct):
    spec: _PodSpec


_decode_pod = msgspec.json.Decoder(_Pod).decode


def target_of(pod: Item) -> str:
    """Rule 3: the node that a pod names, empty where it names none."""
    affinity = _decode_pod(pod.raw).spec.affinity
    node_affinity = affinity.node_affinity if affinity is not None else None
    required = node_affinity.required if node_affinity is not None else None
    for term in (required.node_selector_terms if required is not None else None) or ():
        for field in term.match_fields or ():
            if field.key == NAME and field.operator == "In" and len(field.values or ()) == 1:
                return (field.values or [""])[0]
    return ""
