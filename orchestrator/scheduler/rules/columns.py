"""Node state as columns: numpy arrays indexed by row, one row per node. Pure; owner: the scheduler.

Rows are reused after a node and the pods on it are gone. `alive` says which rows are nodes; every rule must
ignore the others. Each change notes its row in a journal, so that an evaluation can be repaired instead of
computed again: `since(version)` names the rows that changed. Churn leaves the same state as a rebuild.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.api.item import Object
from orchestrator.scheduler.rules.counts import Counts, LabelColumn
from orchestrator.scheduler.rules.infos import NodeInfo, PodInfo
from orchestrator.scheduler.rules.volumestate import VolumeState

__all__ = ["CPU", "MEMORY", "Columns", "LabelColumn", "Mask", "Rows", "Vector"]

Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]
Vector = NDArray[np.int64]

CPU, MEMORY, STORAGE, PODS = range(4)
_RESOURCES = ("cpu", "memory", "ephemeral-storage", "pods")
ROWS_AT_FIRST = 64
JOURNAL_MAX = 16_384


class Columns:
    """All nodes, and the pods placed on them."""

    def __init__(self) -> None:
        self.resources = {name: number for number, name in enumerate(_RESOURCES)}
        self.capacity = ROWS_AT_FIRST
        self.allocatable = np.zeros((len(_RESOURCES), self.capacity), np.int64)
        self.requested = np.zeros((len(_RESOURCES), self.capacity), np.int64)
        self.scored = np.zeros((2, self.capacity), np.int64)
        """Requested CPU and memory as nodes are compared by."""
        self.alive = np.zeros(self.capacity, np.bool_)
        self.unschedulable = np.zeros(self.capacity, np.bool_)
        self.taint_set = np.zeros(self.capacity, np.int32)
        self.taint_sets: list[tuple[Object, ...]] = [()]
        self.soft_taints = False
        """Whether a taint was ever seen that only costs score."""
        self.nodes: list[NodeInfo | None] = [None] * self.capacity
        self.row_stamps: list[int] = [0] * self.capacity
        """The change that a row had last: equal while nothing of it, or on it, changed."""
        self.placed: dict[str, tuple[int, PodInfo]] = {}
        """Row and pod by uid, assumed ones included."""
        self.ports: dict[tuple[str, int], dict[int, Counter[str]]] = {}
        """Host ports in use: addresses per row by (protocol, port)."""
        self.pods_on: dict[int, dict[str, PodInfo]] = {}
        """Placed pods per row that has any, by uid."""
        self.images: dict[str, dict[int, int]] = {}
        """Bytes per row that has an image, by name."""
        self.image_version = 0
        self.node_count = 0
        self.counts = Counts(self.label)
        self.volumes = VolumeState()
        self.epoch = 0
        """Grows when evaluations can't be repaired: arrays grew, or a taint set is new."""
        self._row_of: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._counts = np.zeros(self.capacity, np.int64)
        self._free = list(range(self.capacity - 1, -1, -1))
        self._taint_numbers: dict[tuple[Any, ...], int] = {(): 0}
        self._labels: dict[str, LabelColumn] = {}
        self._journal: list[int] = []
        self._journal_start = 0

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._journal_start + len(self._journal)

    def since(self, version: int) -> list[int] | None:
        """Changed rows after `version`: `row` for pods, `~row` for the node itself. None: too long ago."""
        if version < self._journal_start:
            return None
        return self._journal[version - self._journal_start :]

    def row(self, node: str) -> int | None:
        return self._row_of.get(node)

    def name(self, row: int) -> str:
        """The node of a row."""
        return self._names[row]

    def set_node(self, node: NodeInfo) -> NodeInfo | None:
        """Add or change a node; answers what was there before."""
        row = self._row_for(node.name)
        before = self.nodes[row]
        if before == node:
            return before
        self.nodes[row] = node
        self.node_count += before is None
        if before is None or before.labels != node.labels or before.taints != node.taints:
            self.counts.version += 1
        self._set_images(row, before.images if before is not None else {}, node.images)
        self.alive[row] = True
        self.unschedulable[row] = node.unschedulable
        self.taint_set[row] = self._taints(node)
        self.allocatable[:, row] = 0
        for name, value in node.allocatable.items():
            number = self._resource(name)  # may replace the array
            self.allocatable[number, row] = value
        for key, column in self._labels.items():
            column.set(row, node.labels.get(key))
        self._note(~row)
        return before

    def remove_node(self, name: str) -> None:
        """The node is gone; pods on it keep the row until they are gone too."""
        row = self._row_of.get(name)
        if row is None or self.nodes[row] is None:
            return
        self._set_images(row, self.nodes[row].images, {})  # type: ignore[union-attr]  # checked above
        self.nodes[row] = None
        self.node_count -= 1
        self.counts.version += 1
        self.alive[row] = False
        self._note(~row)
        self._release(row)

    def place(self, pod: PodInfo, node: str) -> None:
        """Count the pod on `node`, which need not exist (yet). A pod placed elsewhere moves."""
        self.displace(pod.uid)
        row = self._row_for(node)
        self.placed[pod.uid] = (row, pod)
        self.pods_on.setdefault(row, {})[pod.uid] = pod
        self._count(row, pod, 1)

    def displace(self, uid: str) -> bool:
        """Count the pod no more; False when it was not placed."""
        found = self.placed.pop(uid, None)
        if found is None:
            return False
        row, pod = found
        there = self.pods_on[row]
        del there[uid]
        if not there:
            del self.pods_on[row]
        self._count(row, pod, -1)
        self._release(row)
        return True

    def label(self, key: str) -> LabelColumn:
        """The column of a label; built when first asked for, then maintained."""
        column = self._labels.get(key)
        if column is None:
            column = self._labels[key] = LabelColumn(self.capacity)
            for row, node in enumerate(self.nodes):
                if node is not None:
                    column.set(row, node.labels.get(key))
        return column

    def resource(self, name: str) -> int | None:
        """The number of a resource that some node or pod named, or None."""
        return self.resources.get(name)

    def _count(self, row: int, pod: PodInfo, sign: int) -> None:
        for name, value in pod.requests:
            number = self._resource(name)  # may replace the array
            self.requested[number, row] += sign * value
        self.scored[0, row] += sign * pod.scored[0]
        self.scored[1, row] += sign * pod.scored[1]
        self._counts[row] += sign
        for address, protocol, port in pod.host_ports:
            users = self.ports.setdefault((protocol, port), {})
            addresses = users.setdefault(row, Counter())
            addresses[address] += sign
            if not addresses[address]:
                del addresses[address]
            if not addresses:
                del users[row]
        self.counts.place(row, pod, sign)
        if pod.template.claims or pod.template.disks:
            self.volumes.place(row, pod, sign)
        self._note(row)

    def _set_images(self, row: int, before: dict[str, int], after: dict[str, int]) -> None:
        if before == after:
            return
        for name in before:
            holders = self.images[name]
            del holders[row]
            if not holders:
                del self.images[name]
        for name, size in after.items():
            self.images.setdefault(name, {})[row] = size
        self.image_version += 1

    def _resource(self, name: str) -> int:
        number = self.resources.get(name)
        if number is None:
            number = self.resources[name] = len(self.resources)
            empty = np.zeros((1, self.capacity), np.int64)
            self.allocatable = np.vstack((self.allocatable, empty))
            self.requested = np.vstack((self.requested, empty))
        return number

    def _taints(self, node: NodeInfo) -> int:
        number = self._taint_numbers.get(node.taints)
        if number is None:
            number = self._taint_numbers[node.taints] = len(self.taint_sets)
            taints = tuple({"key": k, "value": v, "effect": e} for k, v, e in node.taints)
            self.taint_sets.append(taints)
            self.soft_taints |= any(taint["effect"] == "PreferNoSchedule" for taint in taints)
            self.epoch += 1
        return number

    def _row_for(self, node: str) -> int:
        row = self._row_of.get(node)
        if row is None:
            if not self._free:
                self._grow()
            row = self._row_of[node] = self._free.pop()
            self._names[row] = node
        return row

    def _release(self, row: int) -> None:
        """Reuse a row that has neither node nor pods."""
        if self.nodes[row] is None and not self._counts[row]:
            del self._row_of[self._names.pop(row)]
            self._free.append(row)
            self.allocatable[:, row] = 0
            self.taint_set[row] = 0
            self.unschedulable[row] = False
            for column in self._labels.values():
                column.set(row, None)

    def _grow(self) -> None:
        old, self.capacity = self.capacity, self.capacity * 2
        self.allocatable = _wider(self.allocatable, self.capacity)
        self.requested = _wider(self.requested, self.capacity)
        self.scored = _wider(self.scored, self.capacity)
        self.alive = _wider(self.alive, self.capacity)
        self.unschedulable = _wider(self.unschedulable, self.capacity)
        self.taint_set = _wider(self.taint_set, self.capacity)
        self._counts = _wider(self._counts, self.capacity)
        for column in self._labels.values():
            column.ids = _wider(column.ids, self.capacity, -1)
        self.nodes.extend([None] * old)
        self.row_stamps.extend([0] * old)
        self._free.extend(range(self.capacity - 1, old - 1, -1))
        self.epoch += 1

    def _note(self, change: int) -> None:
        self._journal.append(change)
        self.row_stamps[change if change >= 0 else ~change] = self.version
        if len(self._journal) > JOURNAL_MAX:
            half = JOURNAL_MAX // 2
            del self._journal[:half]
            self._journal_start += half


def _wider(array: NDArray[Any], capacity: int, fill: int = 0) -> NDArray[Any]:
    wide = np.full((*array.shape[:-1], capacity), fill, array.dtype)
    wide[..., : array.shape[-1]] = array
    return wide
