"""Which pod goes first when a resource runs out, and in which words. Pure. Called by the manager.

Pods that use more than they asked for come first, then those of lower priority, then by how much they use beyond
their request. Process ids know no request: there priority and number decide. Source: node-pressure eviction of
Kubernetes v1.36.
"""

from collections.abc import Callable, Iterable, Mapping

from orchestrator.agent import podspec
from orchestrator.agent.eviction.thresholds import (
    MEMORY,
    PIDS,
    RESOURCES,
    Observation,
    Threshold,
    amount_text,
)
from orchestrator.agent.stats.usage import ContainerUsage, PodUsage
from orchestrator.api.item import Object

SYSTEM_CRITICAL = 2_000_000_000
_SOURCE, _MIRROR = "kubernetes.io/config.source", "kubernetes.io/config.mirror"
Order = tuple[bool, int, int]


def is_critical(pod: Object) -> bool:
    """Pods that the node needs: static ones and those of the system's priorities."""
    notes = pod["metadata"].get("annotations") or {}
    if notes.get(_SOURCE, "api") != "api" or _MIRROR in notes:
        return True
    return int(pod["spec"].get("priority") or 0) >= SYSTEM_CRITICAL


def rank(signal: str, pods: Iterable[PodUsage]) -> list[PodUsage]:
    """The pods in the order in which to evict them."""
    order = _by_memory if signal == MEMORY else _by_processes if signal == PIDS else _by_disk
    if signal.endswith("inodesFree"):
        order = _by_inodes
    return sorted(pods, key=order)


def _by_memory(usage: PodUsage) -> Order:
    return _order(usage, usage.usage.working_set_bytes, requested(usage.pod, "memory"))


def _by_disk(usage: PodUsage) -> Order:
    used = usage.ephemeral.used_bytes if usage.ephemeral else 0
    return _order(usage, used, requested(usage.pod, "ephemeral-storage"))


def _by_inodes(usage: PodUsage) -> Order:
    return _order(usage, usage.ephemeral.inodes_used if usage.ephemeral else 0, 0)


def _by_processes(usage: PodUsage) -> Order:
    return (False, _priority(usage.pod), -usage.usage.processes)


def _order(usage: PodUsage, used: int, asked: int) -> Order:
    return (used <= asked, _priority(usage.pod), asked - used)


def _priority(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def requested(pod: Object, resource: str, kind: str = "requests") -> int:
    """What a pod asks for as a whole: its own word, else its containers and sidecars together, or the largest step of
    its initialisation."""
    own = ((pod["spec"].get("resources") or {}).get(kind) or {}).get(resource)
    if own is not None:
        return podspec.whole(own)
    running = sum(_of(container, resource, kind) for container in podspec.containers(pod))
    beside = largest = 0
    for container in podspec.init_containers(pod):
        amount = _of(container, resource, kind)
        if podspec.is_sidecar(container):
            beside += amount
        largest = max(largest, beside + (0 if podspec.is_sidecar(container) else amount))
    overhead = podspec.whole((pod["spec"].get("overhead") or {}).get(resource))
    return max(running + beside, largest) + overhead


def _of(container: Object, resource: str, kind: str) -> int:
    return podspec.whole(podspec.requests(container, kind).get(resource))


def message(threshold: Threshold, seen: Mapping[str, Observation], usage: PodUsage) -> str:
    """Why a pod is evicted, as its status says it."""
    resource = RESOURCES[threshold.signal]
    text = f"The node was low on resource: {resource}. "
    found = seen.get(threshold.signal)
    if found is not None:
        wanted = amount_text(threshold.value.of(found.capacity), binary=True)
        text += f"Threshold quantity: {wanted}, available: {amount_text(found.available, binary=True)}. "
    measure = _MEASURES.get(resource)
    for container in usage.containers if measure else ():
        used = measure(container) if measure else None
        spec = podspec.find_container(usage.pod, container.container.name) or {}
        asked = podspec.requests(spec, "requests").get(resource, "0")
        if used is not None and used > podspec.whole(asked):
            text += (
                f"Container {container.container.name} was using {amount_text(used, binary=True)}, "
                f"request is {asked}, has larger consumption of {resource}. "
            )
    return text


def _disk_of(container: ContainerUsage) -> int | None:
    if container.rootfs is None or container.logs is None:
        return None
    return container.rootfs.used_bytes + container.logs.used_bytes


_MEASURES: Mapping[str, Callable[[ContainerUsage], int | None]] = {
    "memory": lambda container: container.usage.working_set_bytes,
    "ephemeral-storage": _disk_of,
}


def over_its_limits(usage: PodUsage, *, own_image_disk: bool) -> str:
    """Which limit of local storage a pod exceeds, in the words of its eviction; empty when none. With
    `own_image_disk` what containers write lies on another disk than the node's and does not count for them."""
    used = {volume.name: volume.disk.used_bytes for volume in usage.volumes}
    for volume in usage.pod["spec"].get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit and 0 < podspec.whole(limit) < used.get(volume["name"], 0):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    total = _storage_limit(usage.pod)
    if total is not None and usage.ephemeral is not None and usage.ephemeral.used_bytes > total:
        text = amount_text(total, binary=True)
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
    for container in usage.containers:
        spec = podspec.find_container(usage.pod, container.container.name) or {}
        limit = podspec.requests(spec, "limits").get("ephemeral-storage")
        parts = [container.logs, *([] if own_image_disk else [container.rootfs])]
        written = sum(part.used_bytes for part in parts if part is not None)
        if limit and 0 < podspec.whole(limit) < written:
            name = container.container.name
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    return ""


def has_storage_limits(pod: Object) -> bool:
    """Whether `over_its_limits` can find anything: else nobody need measure."""
    volumes = pod["spec"].get("volumes") or ()
    return _storage_limit(pod) is not None or any(
        (volume.get("emptyDir") or {}).get("sizeLimit") for volume in volumes
    )


def _storage_limit(pod: Object) -> int | None:
    """The sum of the containers' limits; None when no container has one."""
    everyone = (*podspec.containers(pod), *podspec.init_containers(pod))
    if not any("ephemeral-storage" in podspec.requests(each, "limits") for each in everyone):
        return None
    return requested(pod, "ephemeral-storage", "limits")
