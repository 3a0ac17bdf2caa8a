"""Slotted projections of pods and nodes for the scheduler, decoded once per revision from stored bytes.

Pods of one template share a `Template`, found by the encoded part of their spec that decisions read: a thousand pods
of one Deployment cost one parse. Units: CPU in thousandths, memory and storage in bytes, everything else whole.
"""

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from orchestrator.api.item import Item, Object
from orchestrator.api.times import seconds
from orchestrator.scheduler.rules.requests import (
    DEFAULT_SCHEDULER,
    Spec,
    amount,
    pod_requests,
    scored_requests,
)
from orchestrator.scheduler.rules.terms import Terms, terms_of

__all__ = ["DEFAULT_SCHEDULER", "HostPort", "NodeInfo", "PodInfo", "amount", "demands", "pod_place"]

FINISHED = ("Succeeded", "Failed")
TEMPLATES_MAX = 4096
HostPort = tuple[str, str, int]
"""Address (`0.0.0.0` for every one), protocol, port."""


class _Status(msgspec.Struct, rename="camel"):
    phase: str = "Pending"
    nominated_node_name: str = ""
    start_time: str = ""


class _Metadata(msgspec.Struct, rename="camel"):
    creation_timestamp: str = ""


class _Pod(msgspec.Struct):
    metadata: _Metadata
    spec: Spec
    status: _Status = msgspec.field(default_factory=_Status)


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


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that a pod uses; `ephemeral` ones are named after the pod and its volume."""

    name: str
    ephemeral: bool = False


class Template:
    """What pods with the same spec have in common. Immutable."""

    __slots__ = (
        "affinity", "claims", "disks", "host_ports", "images", "node_selector", "pod_affinity", "requests",
        "resource_claims", "scored", "signature", "spread", "tolerations",
    )  # fmt: skip

    def __init__(self, spec: Spec, signature: bytes) -> None:
        self.signature = signature
        affinity = spec.affinity or {}
        self.node_selector = spec.node_selector or {}
        self.affinity: Object = affinity.get("nodeAffinity") or {}
        self.pod_affinity: Object = {
            key: affinity[key] for key in ("podAffinity", "podAntiAffinity") if affinity.get(key)
        }
        self.spread: list[Object] = spec.topology_spread_constraints or []
        self.tolerations: list[Object] = spec.tolerations or []
        self.requests = pod_requests(spec)
        self.scored = scored_requests(spec, dict(self.requests))
        self.host_ports = _host_ports(spec)
        self.images = tuple(c.image for c in (*(spec.init_containers or ()), *spec.containers))
        self.claims = _claims(spec)
        self.disks = _disks(spec)
        self.resource_claims = bool(spec.resource_claims)


_templates: OrderedDict[bytes, Template] = OrderedDict()


def _template(spec: Spec) -> Template:
    """The shared template; who the pod is and how urgent is no part of it."""
    spec = msgspec.structs.replace(
        spec, node_name="", priority=0, preemption_policy="", scheduler_name="", scheduling_gates=None
    )
    signature = _encode(spec)
    found = _templates.get(signature)
    if found is None:
        found = _templates[signature] = Template(spec, signature)
        if len(_templates) > TEMPLATES_MAX:
            _templates.popitem(last=False)
    return found


class PodInfo:
    """What a decision needs to know of a pod. Immutable."""

    __slots__ = (
        "_terms",
        "gated",
        "generation",
        "key",
        "labels",
        "name",
        "namespace",
        "node_name",
        "nominated",
        "owner",
        "preempts",
        "priority",
        "revision",
        "scheduler_name",
        "started",
        "template",
        "terminating",
        "uid",
    )  # fmt: skip

    def __init__(self, item: Item) -> None:
        meta, pod = item.meta, _decode(item.raw)
        spec = pod.spec
        self.key = f"{meta.namespace}/{meta.name}"
        self.namespace = meta.namespace
        self.name = meta.name
        self.uid = meta.uid
        self.labels: dict[str, str] = item.labels
        self.revision = item.revision
        self.generation = meta.generation
        self.terminating = meta.deletion_timestamp is not None
        self.owner = next(((o.kind, o.name) for o in meta.owner_references if o.controller), None)
        """Kind and name of the controller."""
        self.priority = spec.priority
        self.preempts = spec.preemption_policy != "Never"
        self.scheduler_name = spec.scheduler_name
        self.gated = bool(spec.scheduling_gates)
        self.node_name = spec.node_name
        self.nominated = pod.status.nominated_node_name
        self.started = pod.status.start_time or pod.metadata.creation_timestamp
        """When it began to run, or was made; the same before and after the scheduler starts anew."""
        self.template = _template(spec)
        self._terms: Terms | None = None

    @property
    def started_s(self) -> int:
        """Whole seconds since the epoch; 0 where nothing is known."""
        return int(seconds(self.started)) if self.started else 0

    @property
    def signature(self) -> bytes:
        """Pods of one signature fit the same nodes and score them the same, as far as their specs say."""
        return self.template.signature

    @property
    def requests(self) -> tuple[tuple[str, int], ...]:
        """Sorted (resource, amount), `pods` = 1 included."""
        return self.template.requests

    @property
    def scored(self) -> tuple[int, int]:
        """CPU and memory as nodes are compared by."""
        return self.template.scored

    @property
    def host_ports(self) -> frozenset[HostPort]:
        return self.template.host_ports

    @property
    def node_selector(self) -> dict[str, str]:
        return self.template.node_selector

    @property
    def affinity(self) -> Object:
        """Node affinity."""
        return self.template.affinity

    @property
    def tolerations(self) -> list[Object]:
        return self.template.tolerations

    @property
    def terms(self) -> Terms:
        """What it asks of other pods. Raises `BadRequest` for selectors that can't be read."""
        if self._terms is None:
            template = self.template
            self._terms = terms_of(self.namespace, self.labels, template.pod_affinity, template.spread)
        return self._terms

    @property
    def claim_names(self) -> list[tuple[str, bool]]:
        """(name of the claim, whether it is made for this pod)."""
        return [
            (f"{self.name}-{claim.name}" if claim.ephemeral else claim.name, claim.ephemeral)
            for claim in self.template.claims
        ]

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

    __slots__ = ("allocatable", "images", "labels", "name", "taints", "unschedulable")

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
        self.images: dict[str, int] = {
            name: int(image.get("sizeBytes") or 0)
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeInfo) and all(
            getattr(self, slot) == getattr(other, slot) for slot in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]


def demands(spec: Object) -> tuple[dict[str, int], frozenset[HostPort]]:
    """What a pod with this spec takes of a node: (amount per resource, host ports)."""
    found = msgspec.convert(spec, Spec)
    return dict(pod_requests(found)), _host_ports(found)


def _host_ports(spec: Spec) -> frozenset[HostPort]:
    sidecars = [c for c in spec.init_containers or () if c.restart_policy == "Always"]
    return frozenset(
        (port.host_ip or "0.0.0.0", port.protocol, port.host_port)
        for container in (*spec.containers, *sidecars)
        for port in container.ports or ()
        if port.host_port
    )


def _claims(spec: Spec) -> tuple[Claim, ...]:
    found = []
    for volume in spec.volumes or ():
        if volume.persistent_volume_claim:
            found.append(Claim(volume.persistent_volume_claim.get("claimName") or ""))
        elif volume.ephemeral:
            found.append(Claim(volume.name, ephemeral=True))
    return tuple(found)


def _disks(spec: Spec) -> tuple[tuple[str, str, bool], ...]:
    """Disks named in the pod that only one node, or one writer, can have: (kind, identity, read only)."""
    found: list[tuple[str, str, bool]] = []
    for volume in spec.volumes or ():
        if volume.gce_persistent_disk:
            disk = volume.gce_persistent_disk
            found.append(("gce", disk.get("pdName") or "", bool(disk.get("readOnly"))))
        if volume.aws_elastic_block_store:
            found.append(("aws", volume.aws_elastic_block_store.get("volumeID") or "", False))
        if volume.iscsi:
            found.append(("iscsi", volume.iscsi.get("iqn") or "", bool(volume.iscsi.get("readOnly"))))
        if volume.rbd:
            disk = volume.rbd
            read_only = bool(disk.get("readOnly"))
            place = f"{disk.get('pool') or 'rbd'}/{disk.get('image') or ''}"
            found += [("rbd", f"{monitor}/{place}", read_only) for monitor in disk.get("monitors") or ()]
    return tuple(found)
