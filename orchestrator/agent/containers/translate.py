"""A pod's spec in the engine's terms: sandbox and container specifications. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.agent import podspec
from orchestrator.agent.containers.env import ConfigError, expand
from orchestrator.agent.pods.observed import HASH
from orchestrator.api.item import Object
from orchestrator.runtime.interface import ContainerSpec, Image, Mount, Resources, SandboxSpec, Security

CPU_PERIOD_US = 100_000
SHARES_PER_CPU = 1024
SHARES_MIN, SHARES_MAX = 2, 262_144
GUARANTEED_OOM_SCORE_ADJ = -997
BEST_EFFORT_OOM_SCORE_ADJ = 1000


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was worked out for one container before it is created."""

    image: Image
    env: Mapping[str, str]
    mounts: Sequence[Mount]
    memory_capacity_bytes: int
    """The node's memory, for the OOM score of burstable containers."""


def sandbox_spec(pod: Object, attempt: int) -> SandboxSpec:
    """The pod's namespaces."""
    metadata, spec = pod["metadata"], pod["spec"]
    host_pid, shared = spec.get("hostPID"), spec.get("shareProcessNamespace")
    context = spec.get("securityContext") or {}
    return SandboxSpec(
        pod_uid=metadata["uid"],
        pod_name=metadata["name"],
        pod_namespace=metadata["namespace"],
        hostname=hostname(pod),
        attempt=attempt,
        network="host" if podspec.is_host_network(pod) else "pod",
        pid="host" if host_pid else "pod" if shared else "container",
        ipc="host" if spec.get("hostIPC") else "pod",
        sysctls={entry["name"]: str(entry["value"]) for entry in context.get("sysctls") or ()},
    )


def hostname(pod: Object) -> str:
    """`spec.hostname` or the pod's name, cut to what Linux takes; empty with the host's network."""
    if podspec.is_host_network(pod):
        return ""
    name = str(pod["spec"].get("hostname") or pod["metadata"]["name"])
    return name[:63].rstrip("-.")


def container_spec(
    pod: Object, container: Object, sandbox_id: str, attempt: int, prepared: Prepared
) -> ContainerSpec:
    """One incarnation of a container."""
    metadata = pod["metadata"]
    values = dict(prepared.env)
    return ContainerSpec(
        sandbox_id=sandbox_id,
        pod_uid=metadata["uid"],
        pod_name=metadata["name"],
        pod_namespace=metadata["namespace"],
        name=container["name"],
        attempt=attempt,
        image=prepared.image.id,
        command=[expand(word, values) for word in container.get("command") or ()],
        args=[expand(word, values) for word in container.get("args") or ()],
        env=list(values.items()),
        working_dir=container.get("workingDir", ""),
        mounts=prepared.mounts,
        resources=resources(pod, container, prepared.memory_capacity_bytes),
        security=security(pod, container, prepared.image.user),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal", ""),
        annotations={HASH: podspec.container_hash(container)},
    )


def resources(pod: Object, container: Object, capacity_bytes: int) -> Resources:
    """Requests become shares, limits quota and memory limit, as the kubelet does it."""
    asked, limits = podspec.requests(container, "requests"), podspec.requests(container, "limits")
    request_milli = podspec.milli(asked.get("cpu", limits.get("cpu")))
    limit_milli = podspec.milli(limits.get("cpu"))
    return Resources(
        cpu_shares=min(max(SHARES_MIN, request_milli * SHARES_PER_CPU // 1000), SHARES_MAX),
        cpu_quota_us=max(1000, limit_milli * CPU_PERIOD_US // 1000) if limit_milli else 0,
        cpu_period_us=CPU_PERIOD_US,
        memory_limit_bytes=podspec.whole(limits.get("memory")),
        oom_score_adj=oom_score_adj(pod, container, capacity_bytes),
    )


def oom_score_adj(pod: Object, container: Object, capacity_bytes: int) -> int:
    """By QoS class; burstable containers by the share of memory that they ask for."""
    if pod["spec"].get("priorityClassName") == "system-node-critical":
        return GUARANTEED_OOM_SCORE_ADJ
    match podspec.qos_class(pod):
        case "Guaranteed":
            return GUARANTEED_OOM_SCORE_ADJ
        case "BestEffort":
            return BEST_EFFORT_OOM_SCORE_ADJ
    request = podspec.whole(podspec.requests(container, "requests").get("memory"))
    score = 1000 - 1000 * request // max(capacity_bytes, 1)
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE_ADJ), BEST_EFFORT_OOM_SCORE_ADJ - 1)


def security(pod: Object, container: Object, image_user: str) -> Security:
    """Container settings over pod settings over the image's. Raises `ConfigError` where they forbid the start."""
    of_pod = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    privileged = bool(own.get("privileged"))
    _refuse_root(own, of_pod, image_user)
    return Security(
        user=_user(own, of_pod, image_user),
        supplemental_groups=_groups(of_pod),
        privileged=privileged,
        read_only_rootfs=bool(own.get("readOnlyRootFilesystem")),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        seccomp=_seccomp(own, of_pod, privileged=privileged),
    )


def _user(own: Object, of_pod: Object, image_user: str) -> str:
    user = own.get("runAsUser", of_pod.get("runAsUser"))
    group = own.get("runAsGroup", of_pod.get("runAsGroup"))
    if user is None:
        return f"{image_user.partition(':')[0] or 0}:{group}" if group is not None else ""
    return f"{user}:{group}" if group is not None else str(user)


def _refuse_root(own: Object, of_pod: Object, image_user: str) -> None:
    """`runAsNonRoot`: refuse uid 0, and a name of which nobody knows the uid."""
    if not own.get("runAsNonRoot", of_pod.get("runAsNonRoot")):
        return
    user = own.get("runAsUser", of_pod.get("runAsUser"))
    if user == 0:
        raise ConfigError("container's runAsUser breaks non-root policy")
    name = image_user.partition(":")[0]
    if user is not None or (name.isdecimal() and int(name) != 0):
        return
    if name.isdecimal() or not name:
        raise ConfigError("container has runAsNonRoot and image will run as root")
    raise ConfigError(
        f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
    )


def _groups(of_pod: Object) -> tuple[int, ...]:
    groups = list(of_pod.get("supplementalGroups") or ())
    if of_pod.get("fsGroup") is not None:
        groups.append(of_pod["fsGroup"])
    return tuple(dict.fromkeys(groups))


def _seccomp(own: Object, of_pod: Object, *, privileged: bool) -> str:
    profile = own.get("seccompProfile") or of_pod.get("seccompProfile") or {}
    if profile.get("type") == "RuntimeDefault" and not privileged:
        return ""
    if profile.get("type") == "Localhost" and not privileged:
        raise ConfigError(f"seccomp profile {profile.get('localhostProfile')!r}: this node keeps no profiles")
    return "unconfined"
