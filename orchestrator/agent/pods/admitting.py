"""Whom the node takes, in order of arrival: requests against what is allocatable, host ports, the node's own rules.

A pod counts from its arrival until nothing of it runs any more; what the agent adopts counts without being
asked. A resize that does not fit now waits here and gets the room that others leave, by priority. `Room` is
pure bookkeeping; owner: `PodManager`. Source of reasons and texts: a kubelet's admission in Kubernetes v1.36.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from orchestrator.agent import podspec
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object
from orchestrator.api.resources import NODES
from orchestrator.base.clock import Clock
from orchestrator.client.interface import Client
from orchestrator.scheduler.rules.infos import HostPort, amount, demands
from orchestrator.scheduler.rules.selection import NodeChoice
from orchestrator.scheduler.rules.tolerations import untolerated

OS = "linux"
OS_LABEL = "kubernetes.io/os"
SOURCE = "kubernetes.io/config.source"
NODE_AGE_S = 10.0
"""How old the node object may be that a pod is judged by."""
_EVERY = "0.0.0.0"
_NATIVE = ("pods", "cpu", "memory", "ephemeral-storage")
_QOS = ("Guaranteed", "Burstable", "BestEffort")
Want = tuple[int, int, float]
"""Whose turn it is, lowest first: priority (negated), QoS class, since when it waits."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a pod or a resize is refused."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Held:
    """What one pod takes."""

    requests: Mapping[str, int]
    ports: frozenset[HostPort]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A resize that waits for room."""

    rank: Want
    requests: Mapping[str, int]
    granted: Callable[[], None]


class Room:
    """What the pods of one node take of it."""

    def __init__(self, allocatable: Callable[[], Object]) -> None:
        self._allocatable = allocatable
        self._held: dict[str, _Held] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._awaited: dict[str, tuple[set[str], Callable[[], None]]] = {}
        """Whose end a pod waits for before it starts, and what wakes it, by its uid."""

    def admit(self, pod: Object, spec: Object, *, adopted: bool = False) -> Rejection | None:
        """Count the pod with the resources of `spec`, unless it does not fit. One that is counted stays so."""
        uid = pod["metadata"]["uid"]
        if uid in self._held:
            return None
        requests, ports = demands(spec)
        held = _Held({**requests, "pods": 1}, ports)
        refusal = None if adopted else _wrong_os(pod) or self._too_much(held) or self._port_taken(held)
        if refusal is None:
            self._held[uid] = held
        return refusal

    def release(self, uid: str) -> None:
        """Nothing of the pod runs any more."""
        self._waiting.pop(uid, None)
        self._awaited.pop(uid, None)
        if self._held.pop(uid, None) is not None:
            self._serve()
            for others, wake in self._awaited.values():
                if uid in others:
                    wake()

    def admit_beyond(
        self, pod: Object, spec: Object, leaving: Collection[str], wake: Callable[[], None]
    ) -> Rejection | None:
        """Count the pod, which fits once those that are leaving have left; `wake` is called at each one's end."""
        requests, ports = demands(spec)
        held = _Held({**requests, "pods": 1}, ports)
        uid, others = pod["metadata"]["uid"], set(leaving)
        if refusal := self._port_taken(held):
            return refusal
        self._held[uid] = held
        self._awaited[uid] = (others, wake)
        return None

    def waits(self, uid: str) -> bool:
        """Whether the pod's room is still taken by others."""
        others, _ = self._awaited.get(uid, ((), None))
        return any(other in self._held for other in others)

    def requests(self, uid: str) -> Mapping[str, int]:
        """What a pod takes."""
        held = self._held.get(uid)
        return held.requests if held is not None else {}

    def lacking(self, spec: Object) -> dict[str, int]:
        """How much is missing for a pod, by resource."""
        wanted = {**demands(spec)[0], "pods": 1}
        missing = {
            name: self._used(name) + need - capacity
            for name, need in wanted.items()
            if need and (capacity := self._capacity(name)) is not None
        }
        return {name: amount for name, amount in missing.items() if amount > 0}

    def resize(
        self, pod: Object, spec: Object, now_s: float, granted: Callable[[], None]
    ) -> Rejection | None:
        """Count the pod with the resources of `spec` from now on, or say what they fail for.

        A `Deferred` one waits: `granted` is called once room was made and is counted for it.
        """
        uid = pod["metadata"]["uid"]
        held, wanted = self._held.get(uid), demands(spec)[0]
        waits = self._waiting.pop(uid, None)
        if held is None:
            return None
        if infeasible := self._beyond_capacity(wanted):
            return infeasible
        if deferred := self._does_not_grow(uid, held, wanted):
            since_s = waits.rank[2] if waits is not None and waits.requests == wanted else now_s
            rank = (-int(pod["spec"].get("priority") or 0), _QOS.index(podspec.qos_class(pod)), since_s)
            self._waiting[uid] = _Waiting(rank, wanted, granted)
            return deferred
        self._take(uid, held, wanted)
        return None

    def forget_resize(self, uid: str) -> None:
        """The pod asks for nothing else any more."""
        self._waiting.pop(uid, None)

    def _take(self, uid: str, held: _Held, wanted: Mapping[str, int]) -> None:
        less = any(held.requests.get(name, 0) > value for name, value in wanted.items())
        self._held[uid] = _Held({**wanted, "pods": 1}, held.ports)
        if less:
            self._serve()

    def _serve(self) -> None:
        """Give the room that has become free to the resizes that wait for it."""
        for uid in sorted(self._waiting, key=lambda uid: self._waiting[uid].rank):
            waiting, held = self._waiting[uid], self._held[uid]
            if self._does_not_grow(uid, held, waiting.requests) is None:
                del self._waiting[uid]
                self._held[uid] = _Held({**waiting.requests, "pods": 1}, held.ports)
                waiting.granted()

    def _used(self, name: str, without: str = "") -> int:
        return sum(held.requests.get(name, 0) for uid, held in self._held.items() if uid != without)

    def _capacity(self, name: str) -> int | None:
        quantity = self._allocatable().get(name)
        return amount(name, quantity) if quantity is not None else None

    def _too_much(self, wanted: _Held) -> Rejection | None:
        names = [*_NATIVE, *sorted(wanted.requests.keys() - set(_NATIVE))]
        for name in names:
            if requested := wanted.requests.get(name, 0):
                refusal = self._short_of(name, requested, self._used(name))
                if refusal is not None:
                    return refusal
        return None

    def _short_of(self, name: str, requested: int, used: int) -> Rejection | None:
        """A resource that the node does not know at all belongs to the cluster."""
        capacity = self._capacity(name)
        if capacity is None or used + requested <= capacity:
            return None
        text = f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}"
        return Rejection(f"OutOf{name}", f"{text}, capacity: {capacity}")

    def _port_taken(self, wanted: _Held) -> Rejection | None:
        for address, protocol, port in wanted.ports:
            for held in self._held.values():
                for other, other_protocol, other_port in held.ports:
                    same = other_port == port and other_protocol == protocol
                    if same and (other == address or _EVERY in (other, address)):
                        return _failed(
                            "NodePorts", "node(s) didn't have free ports for the requested pod ports"
                        )
        return None

    def _beyond_capacity(self, wanted: Mapping[str, int]) -> Rejection | None:
        for name in ("cpu", "memory"):
            capacity, requested = self._capacity(name), wanted.get(name, 0)
            if capacity is not None and requested > capacity:
                text = (
                    f"Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
                )
                return Rejection("Infeasible", text)
        return None

    def _does_not_grow(self, uid: str, held: _Held, wanted: Mapping[str, int]) -> Rejection | None:
        for name in ("cpu", "memory"):
            requested = wanted.get(name, 0)
            if requested > held.requests.get(name, 0):
                refusal = self._short_of(name, requested, self._used(name, uid))
                if refusal is not None:
                    return Rejection("Deferred", refusal.message)
        return None


class NodeRules:
    """What the node object says about a pod: labels that it must match, taints that it must bear."""

    def __init__(self, client: Client, node: str, clock: Clock) -> None:
        self._client = client
        self._name = node
        self._clock = clock
        self._node: Object | None = None
        self._read_s = float("-inf")

    async def refuse(self, pod: Object) -> Rejection | None:
        """Why the pod may not run here. While the API does not answer, nothing speaks against it."""
        choice = NodeChoice(pod["spec"])
        node = await self._get(NODE_AGE_S)
        if node is None:
            return None
        labels = node["metadata"].get("labels") or {}
        if not choice.allows(self._name, labels):
            # The labels may have been changed since.
            node = await self._get(0.0) or node
            if not choice.allows(self._name, node["metadata"].get("labels") or {}):
                return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
        if (pod["metadata"].get("annotations") or {}).get(SOURCE, "api") != "api":
            return None
        taints, tolerations = node["spec"].get("taints") or (), pod["spec"].get("tolerations") or ()
        if untolerated(taints, tolerations, ("NoExecute",)) is not None:
            return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
        return None

    async def _get(self, age_s: float) -> Object | None:
        now_s = self._clock.monotonic_s()
        if self._node is None or now_s - self._read_s > age_s:
            with contextlib.suppress(ApiError, OSError, TimeoutError):
                self._node = await self._client.get(NODES, self._name)
                self._read_s = now_s
        return self._node


def _wrong_os(pod: Object) -> Rejection | None:
    if (pod["metadata"].get("labels") or {}).get(OS_LABEL, OS) != OS:
        text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return Rejection("PodOSSelectorNodeLabelDoesNotMatch", text)
    if (pod["spec"].get("os") or {}).get("name", OS) != OS:
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    return None


def _failed(rule: str, text: str) -> Rejection:
    return Rejection(rule, f"Predicate {rule} failed: {text}")
