"""Requests and limits as cgroup settings and OOM scores, of containers and of pods. Pure.

The numbers are a kubelet's: shares from CPU requests, quota and memory limit from limits, a pod's cgroup from the sum
of its containers or its own resources, the OOM score from class of service and share of memory. Called by `translate`.
"""

from collections.abc import Callable

from orchestrator.agent import podspec
from orchestrator.api.item import Object
from orchestrator.runtime.interface import PodCgroup, Resources

CPU_PERIOD_US = 100_000
QUOTA_US_MIN = 1000
SHARES_PER_CPU = 1024
SHARES_MIN, SHARES_MAX = 2, 262_144
GUARANTEED_OOM_SCORE_ADJ = -997
BEST_EFFORT_OOM_SCORE_ADJ = 1000
CRITICAL_PRIORITY = 2_000_000_000
QOS_DIRECTORIES = {"Guaranteed": "", "Burstable": "burstable/", "BestEffort": "besteffort/"}
HUGE = "hugepages-"


def resources(pod: Object, container: Object, capacity_bytes: int) -> Resources:
    """One container's. A limit of the pod bounds the containers that have none of their own."""
    asked, limits = podspec.requests(container, "requests"), podspec.requests(container, "limits")
    of_pod = podspec.requests(pod["spec"], "limits")
    limit_milli = podspec.milli(limits.get("cpu", of_pod.get("cpu")))
    return Resources(
        cpu_shares=shares(podspec.milli(asked.get("cpu", limits.get("cpu")))),
        cpu_quota_us=quota_us(limit_milli),
        cpu_period_us=CPU_PERIOD_US,
        memory_limit_bytes=podspec.whole(limits.get("memory", of_pod.get("memory"))),
        oom_score_adj=oom_score_adj(pod, container, capacity_bytes),
    )


def shares(cpu_milli: int) -> int:
    """The weight of that many thousandths of a CPU."""
    return min(max(SHARES_MIN, cpu_milli * SHARES_PER_CPU // 1000), SHARES_MAX)


def quota_us(cpu_milli: int) -> int:
    """Microseconds of CPU in each period; 0 is without a limit."""
    return max(QUOTA_US_MIN, cpu_milli * CPU_PERIOD_US // 1000) if cpu_milli else 0


def pod_cgroup(pod: Object, pids_max: int) -> PodCgroup:
    """The cgroup around all containers of a pod. `pids_max` of 0 leaves processes unbounded."""
    metadata, qos = pod["metadata"], podspec.qos_class(pod)
    limit_milli, memory = podspec.milli(_limit(pod, "cpu")), podspec.whole(_limit(pod, "memory"))
    return PodCgroup(
        path=f"{QOS_DIRECTORIES[qos]}pod{metadata['uid']}",
        cpu_shares=SHARES_MIN if qos == "BestEffort" else shares(_request_milli(pod)),
        cpu_quota_us=quota_us(limit_milli),
        cpu_period_us=CPU_PERIOD_US,
        memory_limit_bytes=memory,
        pids_limit=pids_max,
        hugepage_limits=_huge_pages(pod),
    )


def _request_milli(pod: Object) -> int:
    """CPU that the pod asks for: its own, else what its containers ask for at the busiest time, and its overhead."""
    overhead = podspec.milli((pod["spec"].get("overhead") or {}).get("cpu"))
    own = podspec.requests(pod["spec"], "requests").get(
        "cpu", podspec.requests(pod["spec"], "limits").get("cpu")
    )
    if own is not None:
        return podspec.milli(own) + overhead
    return _at_most(pod, lambda container: podspec.milli(_requested(container, "cpu"))) + overhead


def _requested(container: Object, name: str) -> str | None:
    asked, limits = podspec.requests(container, "requests"), podspec.requests(container, "limits")
    return asked.get(name, limits.get(name))


def _at_most(pod: Object, amount: Callable[[Object], int]) -> int:
    """The largest sum that can be in use at a time: sidecars run beside everything that comes after them."""
    sidecars, largest = 0, 0
    for container in podspec.init_containers(pod):
        if podspec.is_sidecar(container):
            sidecars += amount(container)
            largest = max(largest, sidecars)
        else:
            largest = max(largest, sidecars + amount(container))
    return max(largest, sidecars + sum(amount(container) for container in podspec.containers(pod)))


def _limit(pod: Object, name: str) -> str | int | None:
    """The pod's limit in thousandths or bytes as a quantity; None where one container has no limit."""
    own = podspec.requests(pod["spec"], "limits").get(name)
    overhead = (pod["spec"].get("overhead") or {}).get(name)
    convert = podspec.milli if name == "cpu" else podspec.whole
    if own is None:
        everyone = (*podspec.containers(pod), *podspec.init_containers(pod))
        if not all(podspec.requests(container, "limits").get(name) for container in everyone):
            return None
        total = _at_most(pod, lambda container: convert(podspec.requests(container, "limits").get(name)))
    else:
        total = convert(own)
    total += convert(overhead)
    return f"{total}m" if name == "cpu" else total


def _huge_pages(pod: Object) -> tuple[tuple[int, int], ...]:
    everyone = (*podspec.containers(pod), *podspec.init_containers(pod))
    own = podspec.requests(pod["spec"], "limits")
    names = {name for part in (own, *(podspec.requests(c, "limits") for c in everyone)) for name in part}
    found = []
    for name in sorted(name for name in names if name.startswith(HUGE)):

        def amount(container: Object, name: str = name) -> int:
            return podspec.whole(podspec.requests(container, "limits").get(name))

        limit = podspec.whole(own[name]) if name in own else _at_most(pod, amount)
        found.append((podspec.whole(name.removeprefix(HUGE)), limit))
    return tuple(found)


def oom_score_adj(pod: Object, container: Object, capacity_bytes: int) -> int:
    """By class of service; burstable containers by the share of memory that they ask for."""
    spec = pod["spec"]
    critical = int(spec.get("priority") or 0) >= CRITICAL_PRIORITY
    if critical and spec.get("priorityClassName") == "system-node-critical":
        return GUARANTEED_OOM_SCORE_ADJ
    match podspec.qos_class(pod):
        case "Guaranteed":
            return GUARANTEED_OOM_SCORE_ADJ
        case "BestEffort":
            return BEST_EFFORT_OOM_SCORE_ADJ
    score = _burstable_score(pod, container, capacity_bytes)
    if container in podspec.init_containers(pod) and podspec.is_sidecar(container):
        # A sidecar must not be killed before the containers that it serves.
        others = [_burstable_score(pod, each, capacity_bytes) for each in podspec.containers(pod)]
        score = min(score, max(others, default=score))
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE_ADJ), BEST_EFFORT_OOM_SCORE_ADJ - 1)


def _burstable_score(pod: Object, container: Object, capacity_bytes: int) -> int:
    request = podspec.whole(_requested(container, "memory"))
    of_pod = podspec.requests(pod["spec"], "requests").get("memory")
    if of_pod is not None:
        # What the pod asks for beyond its containers belongs to all of them alike.
        everyone = [*podspec.containers(pod), *filter(podspec.is_sidecar, podspec.init_containers(pod))]
        taken = sum(podspec.whole(_requested(each, "memory")) for each in everyone)
        request += max(0, podspec.whole(of_pod) - taken) // max(1, len(everyone))
    return 1000 - 1000 * request // max(capacity_bytes, 1)
