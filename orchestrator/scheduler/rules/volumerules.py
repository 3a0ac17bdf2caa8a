"""Volumes as filters: VolumeRestrictions, NodeVolumeLimits, VolumeBinding, VolumeZone.

Asked only for pods that name claims or disks. A claim that is bound ties its pod to where its volume is; one that
waits for its first consumer needs a free volume that a node reaches, or a provisioner that may make one there. What
is decided for the chosen node comes from `plan`; the scheduler writes it. Source: Kubernetes' plugins of these names.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.api import quantity
from orchestrator.api.item import Item, Object
from orchestrator.api.selectors import from_label_selector
from orchestrator.api.volumes import (
    BIND_COMPLETED,
    NO_PROVISIONER,
    SELECTED_NODE,
    annotations,
    class_of,
    requested,
)
from orchestrator.scheduler.rules.affinity import matches
from orchestrator.scheduler.rules.columns import Columns, Mask, Rows
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import ClusterEvent, Rule, Scope
from orchestrator.scheduler.rules.volumes import Place, find_match

BIND_CONFLICT = "node(s) didn't find available persistent volumes to bind"
NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NO_SPACE = "node(s) did not have enough free storage"
GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
NO_DISK = "node(s) had no available disk"
ONE_POD = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
NO_ZONE = "node(s) had no available volume zone"
LIMIT = "node(s) exceed max volume count"
_EVENTS = frozenset(
    (ClusterEvent.VOLUME, ClusterEvent.CLAIM, ClusterEvent.NODE_ADDED, ClusterEvent.NODE_LABELS)
)
_ZONES = (
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
)  # fmt: skip


@dataclass(slots=True)
class Claims:
    """A pod's claims, sorted by what is left to do for them. `problem` refuses every node."""

    problem: str = ""
    bound: list[Object] = field(default_factory=list)
    """The volumes of bound claims."""
    lost: bool = False
    waiting: list[Object] = field(default_factory=list)
    """Claims that wait for their first consumer, smallest first."""


def claims_of(columns: Columns, pod: PodInfo) -> Claims:
    """As things stand."""
    state, found = columns.volumes, Claims()
    for name, ephemeral in pod.claim_names:
        item = state.claims.get(f"{pod.namespace}/{name}")
        found.problem = _claim_problem(pod, name, item, ephemeral)
        if found.problem or item is None:
            return found
        claim = item.object
        volume = state.volumes.get(claim["spec"].get("volumeName") or "")
        if claim["spec"].get("volumeName") and BIND_COMPLETED in annotations(claim):
            if volume is None:
                found.lost = True
            else:
                found.bound.append(volume.object)
        elif not claim["spec"].get("volumeName") and _waits(state.classes.get(class_of(claim))):
            found.waiting.append(claim)
        else:
            found.problem = IMMEDIATE
            return found
    found.waiting.sort(key=requested)
    return found


def _claim_problem(pod: PodInfo, name: str, item: Item | None, ephemeral: bool) -> str:
    if item is None:
        waiting = f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return waiting if ephemeral else f'persistentvolumeclaim "{name}" not found'
    if ephemeral and not any(owner.uid == pod.uid for owner in item.meta.owner_references):
        return f"PVC {pod.namespace}/{name} was not created for pod {pod.key} (pod is not owner)"
    if item.meta.deletion_timestamp:
        return f'persistentvolumeclaim "{name}" is being deleted'
    if (item.object.get("status") or {}).get("phase") == "Lost":
        volume = item.object["spec"].get("volumeName") or ""
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
    return ""


class VolumeRestrictions(Rule):
    name = "VolumeRestrictions"
    scope = Scope.DOMAIN
    helped_by = frozenset((ClusterEvent.POD_REMOVED, ClusterEvent.NODE_ADDED, ClusterEvent.CLAIM))

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(pod.template.disks or pod.template.claims)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        free = np.ones(columns.capacity, np.bool_)
        if self._taken(columns, pod):
            return np.zeros(len(rows), np.bool_)
        for kind, identity, read_only in pod.template.disks:
            for row, (writers, readers) in columns.volumes.disk_rows(kind, identity).items():
                if writers or (readers and not read_only):
                    free[row] = False
        return free[rows]

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        return Counter({ONE_POD if self._taken(columns, pod) else NO_DISK: len(rows)})

    def _taken(self, columns: Columns, pod: PodInfo) -> bool:
        """Whether a claim that only one pod may use is used."""
        for name, _ in pod.claim_names:
            key = f"{pod.namespace}/{name}"
            item = columns.volumes.claims.get(key)
            modes = item.object["spec"].get("accessModes") or () if item is not None else ()
            if "ReadWriteOncePod" in modes and columns.volumes.is_used(key):
                return True
        return False


class NodeVolumeLimits(Rule):
    name = "NodeVolumeLimits"
    scope = Scope.DOMAIN
    helped_by = _EVENTS | {ClusterEvent.POD_REMOVED}

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(pod.template.claims)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        fits = np.ones(len(rows), np.bool_)
        if not columns.volumes.node_limits:
            return fits
        wanted = set(_handles(columns, pod))
        for at, row in enumerate(rows.tolist()):
            limits = columns.volumes.node_limits.get(columns.name(row))
            if limits and wanted:
                fits[at] = self._has_room(columns, row, limits, wanted)
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        return Counter({LIMIT: len(rows)})

    def _has_room(
        self, columns: Columns, row: int, limits: dict[str, int], wanted: set[tuple[str, str]]
    ) -> bool:
        attached = {
            handle
            for pod in columns.pods_on.get(row, {}).values()
            if pod.template.claims
            for handle in _handles(columns, pod)
        }
        used = Counter(driver for driver, _ in attached)
        new = Counter(driver for driver, _ in wanted - attached)
        return all(
            used[driver] + count <= limits.get(driver, used[driver] + count) for driver, count in new.items()
        )


def _handles(columns: Columns, pod: PodInfo) -> Iterable[tuple[str, str]]:
    """(driver, identity) of each CSI volume that the pod has or will get."""
    state = columns.volumes
    for name, _ in pod.claim_names:
        key = f"{pod.namespace}/{name}"
        item = state.claims.get(key)
        if item is None:
            continue
        volume = state.volumes.get(item.object["spec"].get("volumeName") or "")
        if volume is not None:
            csi = volume.object["spec"].get("csi")
            if csi:
                yield csi["driver"], csi.get("volumeHandle") or ""
            continue
        found = state.classes.get(class_of(item.object))
        if found is not None:
            yield found.object["provisioner"], key


class VolumeBinding(Rule):
    name = "VolumeBinding"
    scope = Scope.DOMAIN
    helped_by = _EVENTS

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(pod.template.claims)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        found = claims_of(columns, pod)
        if found.problem or found.lost:
            return np.zeros(len(rows), np.bool_)
        fits = _reached(columns, found, rows)
        if found.waiting:
            for at in np.flatnonzero(fits).tolist():
                fits[at] = plan(columns, found.waiting, int(rows[at])).problem == ""
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        found = claims_of(columns, pod)
        if found.problem or found.lost:
            return Counter({found.problem or GONE: len(rows)})
        near = _reached(columns, found, rows)
        reasons = Counter({NODE_CONFLICT: int((~near).sum())})
        for row in rows.tolist() if found.waiting else ():
            problem = plan(columns, found.waiting, row).problem
            if problem:
                reasons[problem] += 1
        return +reasons


class VolumeZone(Rule):
    name = "VolumeZone"
    scope = Scope.DOMAIN
    helped_by = _EVENTS

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(pod.template.claims)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        fits = np.ones(len(rows), np.bool_)
        wanted = [
            (key, labels[key].split("__"))
            for volume in claims_of(columns, pod).bound
            for labels in [volume["metadata"].get("labels") or {}]
            for key in _ZONES
            if key in labels
        ]
        for at, row in enumerate(rows.tolist()) if wanted else ():
            node = columns.nodes[row]
            if node is not None and any(key in node.labels for key in _ZONES):
                fits[at] = all(node.labels.get(key) in values for key, values in wanted)
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        return Counter({NO_ZONE: len(rows)})


@dataclass(slots=True)
class Bindings:
    """What a node would give the waiting claims; `problem` says why it can't."""

    problem: str = ""
    reserve: list[tuple[Object, Object]] = field(default_factory=list)
    """(volume, claim)."""
    provision: list[Object] = field(default_factory=list)


def plan(columns: Columns, waiting: list[Object], row: int) -> Bindings:
    """A volume for each claim on the node of `row`, or the node's name for its provisioner."""
    node, chosen = columns.nodes[row], Bindings()
    if node is None:
        return Bindings(BIND_CONFLICT)
    place, taken = Place(node.name, node.labels), set[str]()
    for claim in waiting:
        selected = annotations(claim).get(SELECTED_NODE)
        if selected and selected != node.name:
            return Bindings(BIND_CONFLICT)
        free = (v for v in columns.volumes.candidates(claim) if v["metadata"]["name"] not in taken)
        volume = None if selected else find_match(claim, free, place, delayed=True)
        if volume is not None:
            taken.add(volume["metadata"]["name"])
            chosen.reserve.append((volume, claim))
            continue
        problem = _no_provisioning(columns, claim, row)
        if problem:
            return Bindings(problem)
        chosen.provision.append(claim)
    return chosen


def _no_provisioning(columns: Columns, claim: Object, row: int) -> str:
    """Why a volume for the claim can't be made for the node; empty when it may."""
    found = columns.volumes.classes.get(class_of(claim))
    if found is None or found.object["provisioner"] == NO_PROVISIONER:
        return BIND_CONFLICT
    allowed = found.object.get("allowedTopologies") or ()
    if allowed and not any(_term_allows(columns, term, row) for term in allowed):
        return BIND_CONFLICT
    return "" if _has_capacity(columns, claim, found.object, row) else NO_SPACE


def _term_allows(columns: Columns, term: Object, row: int) -> bool:
    node = columns.nodes[row]
    return node is not None and all(
        node.labels.get(each["key"]) in each["values"] for each in term.get("matchLabelExpressions") or ()
    )


def _has_capacity(columns: Columns, claim: Object, storage_class: Object, row: int) -> bool:
    """For drivers that publish their capacity."""
    driver = columns.volumes.drivers.get(storage_class["provisioner"])
    if driver is None or not driver.object["spec"].get("storageCapacity"):
        return True
    node, size = columns.nodes[row], requested(claim)
    for item in columns.volumes.capacities.values():
        entry = item.object
        if entry.get("storageClassName") != storage_class["metadata"]["name"] or node is None:
            continue
        most = entry.get("maximumVolumeSize") or entry.get("capacity")
        near = from_label_selector(entry.get("nodeTopology")).matches(node.labels)
        if most is not None and near and quantity.parse(most) >= size:
            return True
    return False


def _reached(columns: Columns, found: Claims, rows: Rows) -> Mask:
    """Nodes that the volumes of bound claims can be reached from."""
    fits = np.ones(len(rows), np.bool_)
    for volume in found.bound:
        required = (volume["spec"].get("nodeAffinity") or {}).get("required")
        if required is None:
            continue
        any_term = np.zeros(len(rows), np.bool_)
        for term in required.get("nodeSelectorTerms") or ():
            any_term |= matches(columns, term, rows)
        fits &= any_term
    return fits


def _waits(storage_class: Item | None) -> bool:
    return (
        storage_class is not None and storage_class.object.get("volumeBindingMode") == "WaitForFirstConsumer"
    )
