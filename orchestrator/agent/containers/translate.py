"""A pod's spec in the engine's terms: sandbox and container specifications. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.agent import podspec
from orchestrator.agent.containers import admit, naming
from orchestrator.agent.containers import resources as amounts
from orchestrator.agent.containers.env import ConfigError, expand
from orchestrator.agent.containers.security import security
from orchestrator.agent.devices.manager import Edits
from orchestrator.agent.pods.observed import HASH, IMAGE
from orchestrator.api.item import Object
from orchestrator.runtime import references
from orchestrator.runtime.interface import ContainerSpec, Device, Image, Mount, SandboxSpec

CLUSTER_DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was worked out for one container before it is created."""

    image: Image
    env: Mapping[str, str]
    mounts: Sequence[Mount]
    memory_capacity_bytes: int
    """The node's memory, for the OOM score of burstable containers."""
    devices: Sequence[Device] = ()
    seccomp_profiles: Path | None = None
    """Where the node keeps seccomp profiles; None has none."""
    pids_max: int = 0
    """Processes of one pod; 0 is without a limit."""
    target_id: str = ""
    """The container whose processes an ephemeral one wants to see."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Kept with the container beside our own."""

    def with_devices(self, edits: Edits) -> "Prepared":
        """With what the container's devices add; its own variables win."""
        return replace(
            self,
            env={**edits.env, **self.env},
            mounts=[*self.mounts, *edits.mounts],
            devices=[*self.devices, *edits.devices],
            annotations={**self.annotations, **edits.annotations},
        )


def sandbox_spec(
    pod: Object, attempt: int, *, domain: str = CLUSTER_DOMAIN, runtime_handler: str = ""
) -> SandboxSpec:
    """The pod's namespaces. `domain` is the cluster's. Raises `ConfigError` for what this node can't give."""
    metadata, spec = pod["metadata"], pod["spec"]
    host_pid, shared = spec.get("hostPID"), spec.get("shareProcessNamespace")
    context = spec.get("securityContext") or {}
    if spec.get("hostUsers") is False:
        raise ConfigError(
            "can't set `spec.hostUsers: false`, "
            f'runtime handler "{runtime_handler}" does not support user namespaces'
        )
    return SandboxSpec(
        pod_uid=metadata["uid"],
        pod_name=metadata["name"],
        pod_namespace=metadata["namespace"],
        hostname=naming.hostname(pod, domain),
        attempt=attempt,
        network="host" if podspec.is_host_network(pod) else "pod",
        pid="host" if host_pid else "pod" if shared else "container",
        ipc="host" if spec.get("hostIPC") else "pod",
        sysctls={admit.sysctl_name(one["name"]): str(one["value"]) for one in context.get("sysctls") or ()},
        cgroup_parent=amounts.pod_cgroup(pod, 0).path,
        runtime_handler=runtime_handler,
    )


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
        devices=prepared.devices,
        cgroup=amounts.pod_cgroup(pod, prepared.pids_max),
        target_id=prepared.target_id,
        resources=amounts.resources(pod, container, prepared.memory_capacity_bytes),
        security=security(pod, container, prepared.image.user, prepared.seccomp_profiles),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal", ""),
        annotations={
            **prepared.annotations,
            HASH: podspec.container_hash(container),
            IMAGE: image_id(container.get("image", ""), prepared.image),
        },
    )


def image_id(reference: str, image: Image) -> str:
    """What users know an image by: the repository of `reference` with the digest it was fetched by, else the
    engine's own id."""
    found = [references.parse(digest) for digest in image.digests]
    if not found or references.is_image_id(reference):
        return image.id
    wanted = references.parse(reference)
    same = [
        each for each in found if (each.registry, each.repository) == (wanted.registry, wanted.repository)
    ]
    best = (same or found)[0]
    return f"{best.registry}/{best.repository}@{best.digest}"
