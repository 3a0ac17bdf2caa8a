"""In-place resize of one pod: what the node granted, what is in force, and what the pod's conditions say of it.

Rules, in order:
1. Desired resources that differ from the granted ones are granted if the node has the room; else they are
   `Infeasible` (never fit here) or `Deferred` (granted when others leave room).
2. A running container whose resources in force differ from the granted ones is changed in place, or restarted
   where its resize policy says so.
3. Every other incarnation starts with the granted resources.
The status in the API is the checkpoint: after a restart of the agent all of this is read back from it.
Owner: the pod's worker. Source: resizing of containers in Kubernetes v1.36.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from orchestrator.agent import podspec
from orchestrator.agent.containers import resources as amounts
from orchestrator.agent.context import Context
from orchestrator.agent.pods.admitting import SOURCE, Rejection, Room
from orchestrator.agent.pods.conditions import Verdict
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.plan import Adjust
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container, PodCgroup, RuntimeFailure

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
KINDS = (PENDING, IN_PROGRESS)
RESIZABLE = ("cpu", "memory")
_STATIC = Rejection("Infeasible", "In-place resize of static-pods is not supported")


@dataclass(frozen=True, slots=True)
class Told:
    """An event to be written."""

    type: str
    reason: str
    message: str


class Resizing:
    """The resize of one pod. `wake` is called when room was found for one that waited."""

    def __init__(self, pod: Object, room: Room, wake: Callable[[], None]) -> None:
        self._room = room
        self._wake = wake
        self.granted = _read_back(pod)
        """Resources per name of container, regular ones and sidecars."""
        self.in_force: dict[str, Object] = {}
        """Resources per id of a running container."""
        self._names: dict[str, str] = {}
        """Name of the container per id, of those."""
        self._refused: Rejection | None = None
        self._error = ""
        self._under_way = IN_PROGRESS in _conditions(pod)
        self.cgroup_behind = self._under_way
        """The pod's cgroup may not fit what a container that is restarted for a resize gets."""

    def granted_pod(self, pod: Object) -> Object:
        """The pod with the resources that it was granted: what containers start with."""
        return pod if self.granted == _wanted(pod) else _with(pod, self.granted)

    def pod_in_force(self, pod: Object, changed: Container | None = None) -> Object:
        """The pod with the resources that its running containers have, `changed` with what it was granted."""
        held = dict(self.granted)
        for container_id, resources in self.in_force.items():
            name = self._names.get(container_id, "")
            if changed is None or container_id != changed.id:
                held[name] = resources
        return _with(pod, held)

    def ask(self, pod: Object, now_s: float) -> Told | None:
        """Have granted what the pod desires, if possible. The event that this calls for."""
        wanted, uid = _wanted(pod), pod["metadata"]["uid"]
        if _same_all(wanted, self.granted):
            self._refused = None
            self.granted = wanted
            self._room.forget_resize(uid)
            return None
        static = (pod["metadata"].get("annotations") or {}).get(SOURCE, "api") != "api"
        refused = _STATIC if static else self._room.resize(pod, pod["spec"], now_s, self._wake)
        if refused is None:
            self._refused, self.granted, self._under_way, self._error = None, wanted, True, ""
            return Told("Normal", "ResizeStarted", _summary(pod, "Pod resize started"))
        known, self._refused = self._refused, refused
        if known is None:
            known = _refused_before(pod)
        if known is not None and known.reason == refused.reason:
            return None
        text = _summary(pod, f"Pod resize {refused.reason}", refused.message)
        return Told("Warning", f"Resize{refused.reason}", text)

    def adopt(self, pod: Object, seen: Observed) -> None:
        """Know what containers have in force that run already, and forget those that do not."""
        running = seen.running()
        for container in running:
            if container.id not in self.in_force and container.name in self.granted:
                self.in_force[container.id] = self._adopted(pod, container)
                self._names[container.id] = container.name
        if len(self.in_force) > len(running):
            ids = {container.id for container in running}
            self.in_force = {cid: found for cid, found in self.in_force.items() if cid in ids}
            self._names = {cid: name for cid, name in self._names.items() if cid in ids}

    def _adopted(self, pod: Object, container: Container) -> Object:
        written = podspec.written_status(pod, container.name)
        if written.get("containerID", "").endswith(f"://{container.id}"):
            found: Object = written.get("resources") or self.granted[container.name]
            return found
        return self.granted[container.name]

    def done(self, container: Container) -> None:
        """A container has what it was granted."""
        self.in_force[container.id] = self.granted[container.name]
        self._error = ""

    def failed(self, pod: Object, problem: str) -> Told:
        """A container could not be changed; it is tried again."""
        self._error = problem
        return Told("Warning", "ResizeError", _summary(pod, "Pod resize error", problem))

    def settle(self, pod: Object, seen: Observed) -> Told | None:
        """The event of the end, once everything that runs has what it was granted."""
        if not self._under_way or any(self.differs(container) for container in seen.running()):
            return None
        self._under_way, self._error = False, ""
        return Told("Normal", "ResizeCompleted", _summary(pod, "Pod resize completed"))

    def adjust(self, spec: Object, container: Container) -> Adjust:
        """What is to be done about a running container."""
        if not self.differs(container):
            return ""
        granted, in_force = self.granted[container.name], self.in_force[container.id]
        if not _restart_wanted(spec, granted, in_force):
            return "update"
        self.cgroup_behind = True
        return "restart"

    def differs(self, container: Container) -> bool:
        """Whether a running container has other resources than it was granted."""
        granted, in_force = self.granted.get(container.name), self.in_force.get(container.id)
        return granted is not None and in_force is not None and not _same(granted, in_force)

    def conditions(self) -> tuple[tuple[str, Verdict], ...]:
        found = []
        if self._refused is not None:
            found.append((PENDING, Verdict("True", self._refused.reason, self._refused.message)))
        if self._under_way:
            verdict = Verdict("True", "Error", self._error) if self._error else Verdict("True")
            found.append((IN_PROGRESS, verdict))
        return tuple(found)


async def actuate(context: Context, pod: Object, resizing: Resizing, container: Container) -> None:
    """Give a running container of `pod` what it was granted. Raises `RuntimeFailure`, `OSError`.

    The pod's cgroup is never narrower than what is in it: it grows before the container and shrinks after it.
    """
    spec = podspec.find_container(resizing.granted_pod(pod), container.name) or {}
    limit_bytes = _lowered_memory(spec.get("resources") or {}, resizing.in_force[container.id])
    stats = await context.runtime.stats(container.id) if limit_bytes else None
    if stats is not None and stats.memory_working_set_bytes > limit_bytes:
        text = f"attempting to set memory limit ({limit_bytes}) below current usage"
        raise RuntimeFailure(f"{text} ({stats.memory_working_set_bytes})")
    pids_max = context.containers.pids_max
    before = amounts.pod_cgroup(resizing.pod_in_force(pod), pids_max)
    after = amounts.pod_cgroup(resizing.pod_in_force(pod, container), pids_max)
    await context.runtime.update_pod(_wider(before, after))
    wanted = amounts.resources(resizing.granted_pod(pod), spec, context.facts.memory_bytes)
    await context.runtime.update_resources(container.id, wanted)
    await context.runtime.update_pod(after)


async def make_room(context: Context, pod: Object, resizing: Resizing) -> None:
    """Fit the pod's cgroup to a container that a resize restarts, before it starts. Raises `RuntimeFailure`."""
    if resizing.cgroup_behind:
        after = amounts.pod_cgroup(resizing.pod_in_force(pod), context.containers.pids_max)
        await context.runtime.update_pod(after)
        resizing.cgroup_behind = False


def _wider(one: PodCgroup, other: PodCgroup) -> PodCgroup:
    """Limits that both fit into; 0 is none."""
    quota, memory = (one.cpu_quota_us, other.cpu_quota_us), (one.memory_limit_bytes, other.memory_limit_bytes)
    return replace(
        other,
        cpu_shares=max(one.cpu_shares, other.cpu_shares),
        cpu_quota_us=max(quota) if all(quota) else 0,
        memory_limit_bytes=max(memory) if all(memory) else 0,
    )


def _restart_wanted(spec: Object, granted: Object, in_force: Object) -> bool:
    """Whether the resize policy of the container asks for a restart for what changes."""
    policies = {p["resourceName"]: p.get("restartPolicy") for p in spec.get("resizePolicy") or ()}
    return any(
        policies.get(name) == "RestartContainer" and _amounts(granted, name) != _amounts(in_force, name)
        for name in RESIZABLE
    )


def _lowered_memory(granted: Object, in_force: Object) -> int:
    """The new memory limit in bytes if it is lower than the one in force, else 0."""
    new, old = _amounts(granted, "memory")[1], _amounts(in_force, "memory")[1]
    return new if new and (not old or new < old) else 0


def _resizable(pod: Object) -> Iterator[Object]:
    yield from podspec.containers(pod)
    yield from (spec for spec in podspec.init_containers(pod) if podspec.is_sidecar(spec))


def _with(pod: Object, resources: Mapping[str, Object]) -> Object:
    """The pod with other resources of the containers that are named."""
    spec = dict(pod["spec"])
    for field in ("initContainers", "containers"):
        if field in spec:
            spec[field] = [
                {**container, "resources": resources[container["name"]]}
                if container["name"] in resources
                else container
                for container in spec[field]
            ]
    return {**pod, "spec": spec}


def _wanted(pod: Object) -> dict[str, Object]:
    return {spec["name"]: spec.get("resources") or {} for spec in _resizable(pod)}


def _conditions(pod: Object) -> dict[str, Object]:
    return {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}


def _refused_before(pod: Object) -> Rejection | None:
    """What the status already says of a resize that waits."""
    written = _conditions(pod).get(PENDING)
    return Rejection(written.get("reason", ""), written.get("message", "")) if written is not None else None


def _read_back(pod: Object) -> dict[str, Object]:
    """What the pod was granted by an earlier agent: what it desires, unless the status says otherwise."""
    wanted, conditions = _wanted(pod), _conditions(pod)
    if IN_PROGRESS in conditions and PENDING not in conditions:
        return wanted
    return {name: _granted_before(pod, name, desired) for name, desired in wanted.items()}


def _granted_before(pod: Object, name: str, desired: Object) -> Object:
    written = podspec.written_status(pod, name)
    if "resources" not in written:
        return desired
    found = {**desired, **written["resources"]}
    if "allocatedResources" in written:
        found["requests"] = written["allocatedResources"]
    return desired if _same(found, desired) else found


def _amounts(resources: Object, name: str) -> tuple[int, int]:
    """(request, limit) of `cpu` in thousandths or `memory` in bytes."""
    of = podspec.milli if name == "cpu" else podspec.whole
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    return of(requests.get(name)), of(limits.get(name))


def _same(one: Object, other: Object) -> bool:
    return all(_amounts(one, name) == _amounts(other, name) for name in RESIZABLE)


def _same_all(one: dict[str, Object], other: dict[str, Object]) -> bool:
    return one == other or all(_same(resources, other.get(name, {})) for name, resources in one.items())


def _summary(pod: Object, prefix: str, error: str = "") -> str:
    fields: Object = {}
    for field in ("initContainers", "containers"):
        entries = [
            {"name": spec["name"], "resources": spec.get("resources") or {}}
            for spec in pod["spec"].get(field) or ()
        ]
        if entries:
            fields[field] = entries
    fields["generation"] = pod["metadata"].get("generation", 1)
    if error:
        fields["error"] = error
    return f"{prefix}: {msgspec.json.encode(fields).decode()}"
