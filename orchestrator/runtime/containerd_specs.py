"""Our specs as OCI runtime specs and containerd's records, and its records as our facts. Pure.

Labels are the only memory: everything that a restarted daemon must know of a container is on its record, in a
containerd namespace that is the instance's own. How a container ended is a label too, written before its task is
deleted, so that no shim stays for the dead.
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from orchestrator.runtime import containerd_defaults as defaults
from orchestrator.runtime.containerd_api import seconds
from orchestrator.runtime.containerd_devices import rule
from orchestrator.runtime.containerd_namespaces import kinds
from orchestrator.runtime.containerd_seccomp import default_profile
from orchestrator.runtime.containerd_users import Accounts, resolve
from orchestrator.runtime.interface import (
    Container,
    ContainerSpec,
    Mount,
    Resources,
    Sandbox,
    SandboxSpec,
    Security,
)
from orchestrator.runtime.oom import OomScores
from orchestrator.runtime.podcgroups import absolute

KIND: Final = "orchestrator.internal/kind"
ATTEMPT: Final = "orchestrator.internal/attempt"
IMAGE: Final = "orchestrator.internal/image"
IMAGE_ID: Final = "orchestrator.internal/image-id"
NETWORK: Final = "orchestrator.internal/network"
PID: Final = "orchestrator.internal/pid"
IPC: Final = "orchestrator.internal/ipc"
CGROUP: Final = "orchestrator.internal/cgroup"
HANDLER: Final = "orchestrator.internal/runtime-handler"
HOSTNAME: Final = "orchestrator.internal/hostname"
LOG: Final = "orchestrator.internal/log"
STOP_SIGNAL: Final = "orchestrator.internal/stop-signal"
STREAMS: Final = "orchestrator.internal/streams"
ENDED: Final = "orchestrator.internal/ended"
POD_NAME: Final = "io.kubernetes.pod.name"
POD_NAMESPACE: Final = "io.kubernetes.pod.namespace"
POD_UID: Final = "io.kubernetes.pod.uid"
CONTAINER_NAME: Final = "io.kubernetes.container.name"
SANDBOX_ID: Final = "io.kubernetes.sandbox.id"
ANNOTATION: Final = "annotation."
SANDBOX_KIND: Final = "sandbox"
CONTAINER_KIND: Final = "container"

MESSAGE_CHARS_MAX = 3000
"""A label holds at most 4096 bytes."""
SANDBOX_OOM_SCORE_ADJ: Final = -998
CREATED, RUNNING, STOPPED = 1, 2, 3
"""containerd's task states; paused and pausing ones count as running."""
PROPAGATIONS: Final = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}
ROOT_PROPAGATIONS: Final = {"HostToContainer": "rslave", "Bidirectional": "rshared"}

Labels = Mapping[str, str]
Oci = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What of the host goes into specs. `capabilities` are those that the engine may hand out."""

    instance: str
    architecture: str
    capabilities: frozenset[str]
    swap_counted: bool
    cgroup_v2: bool
    oom: OomScores
    apparmor: str = ""
    """The profile of containers that name none; empty where the kernel has no AppArmor."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about its containers."""

    user: str = ""
    env: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    working_dir: str = ""
    stop_signal: str = ""


class Ended(msgspec.Struct, frozen=True):
    """How a container ended, as kept on its record."""

    code: int
    finished_s: float
    started_s: float = 0.0
    reason: str = ""
    message: str = ""


def sandbox_labels(instance: str, spec: SandboxSpec) -> dict[str, str]:
    return {
        KIND: SANDBOX_KIND,
        POD_NAME: spec.pod_name,
        POD_NAMESPACE: spec.pod_namespace,
        POD_UID: spec.pod_uid,
        ATTEMPT: str(spec.attempt),
        NETWORK: spec.network,
        PID: spec.pid,
        IPC: spec.ipc,
        HOSTNAME: spec.hostname,
        CGROUP: absolute(instance, spec.cgroup_parent or f"pod{spec.pod_uid}"),
        HANDLER: spec.runtime_handler,
        **{f"{ANNOTATION}{key}": value for key, value in spec.annotations.items()},
    }


def container_labels(spec: ContainerSpec, image_id: str, cgroup: str, log: str, stop_signal: str) -> Oci:
    streams = {"stdin": spec.stdin, "stdin_once": spec.stdin_once, "tty": spec.tty}
    return {
        KIND: CONTAINER_KIND,
        POD_NAME: spec.pod_name,
        POD_NAMESPACE: spec.pod_namespace,
        POD_UID: spec.pod_uid,
        CONTAINER_NAME: spec.name,
        SANDBOX_ID: spec.sandbox_id,
        ATTEMPT: str(spec.attempt),
        IMAGE: spec.image,
        IMAGE_ID: image_id,
        CGROUP: cgroup,
        LOG: log,
        STOP_SIGNAL: stop_signal,
        STREAMS: " ".join(name for name, given in streams.items() if given),
        **{f"{ANNOTATION}{key}": value for key, value in spec.annotations.items()},
    }


def pause_spec(facts: HostFacts, labels: Labels, directory: Path, root: Path, cgroup: str) -> Oci:
    """The process that holds a shared process namespace and reaps in it; it may do nothing else."""
    process = {
        "user": {"uid": 0, "gid": 0},
        "args": ["/pause"],
        "cwd": "/",
        "capabilities": {},
        "noNewPrivileges": True,
        "oomScoreAdj": facts.oom.clamp(SANDBOX_OOM_SCORE_ADJ),
    }
    namespaces = [*_namespaces(facts, labels, directory), {"type": "pid"}]
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(root), "readonly": True},
        "mounts": defaults.mounts(privileged=False)[:2],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": cgroup,
            "resources": {"cpu": {"shares": 2}, "devices": [defaults.DENY_DEVICES]},
            "maskedPaths": list(defaults.MASKED_PATHS),
            "readonlyPaths": list(defaults.READ_ONLY_PATHS),
        },
    }


def container_spec(
    facts: HostFacts,
    spec: ContainerSpec,
    image: ImageConfig,
    accounts: Accounts,
    sandbox: Labels,
    directory: Path,
    pause_pid: int,
    devices: Sequence[tuple[Oci, str]],
    cgroup: str,
) -> Oci:
    """The OCI spec. `sandbox` are its sandbox's labels, `directory` is where that one's namespaces lie.

    `pause_pid` is the process whose process namespace it joins, 0 for one of its own; `devices` are those that it
    sees, each with what it may do with it.
    """
    security, privileged = spec.security, spec.security.privileged
    capabilities = _capabilities(facts, spec)
    namespaces = [*_namespaces(facts, sandbox, directory), *_pid_namespace(sandbox, pause_pid)]
    linux: Oci = {
        "namespaces": namespaces,
        "cgroupsPath": cgroup,
        "resources": _resources(facts, spec, devices),
        "devices": [device for device, _ in devices],
    }
    if not privileged and not security.unmasked:
        linux["maskedPaths"] = list(defaults.MASKED_PATHS)
        linux["readonlyPaths"] = list(defaults.READ_ONLY_PATHS)
    if not privileged and security.seccomp != "unconfined":
        linux["seccomp"] = (
            msgspec.json.decode(security.seccomp)
            if security.seccomp
            else default_profile(capabilities, facts.architecture)
        )
    propagation = max((mount.propagation for mount in spec.mounts), key=_reach, default="None")
    if propagation in ROOT_PROPAGATIONS:
        linux["rootfsPropagation"] = ROOT_PROPAGATIONS[propagation]
    return {
        "ociVersion": "1.0.2",
        "process": _process(facts, spec, image, accounts, sandbox, capabilities),
        "root": {"path": "rootfs", "readonly": security.read_only_rootfs},
        "mounts": _mounts(spec, sandbox, directory),
        "linux": linux,
    }


def _process(
    facts: HostFacts,
    spec: ContainerSpec,
    image: ImageConfig,
    accounts: Accounts,
    sandbox: Labels,
    capabilities: Sequence[str],
) -> Oci:
    security = spec.security
    user, groups = security.user or image.user, security.supplemental_groups
    who = resolve(user, groups, accounts, strict=security.strict_groups)
    profile = _apparmor(facts, security)
    held = [f"CAP_{name}" for name in capabilities]
    return {
        "terminal": spec.tty,
        "user": {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups)},
        "args": arguments(spec, image),
        "env": _env(spec, image, sandbox),
        "cwd": spec.working_dir or image.working_dir or "/",
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": facts.oom.clamp(spec.resources.oom_score_adj),
        **({"apparmorProfile": profile} if profile else {}),
    }


def _apparmor(facts: HostFacts, security: Security) -> str:
    """An empty profile is not confined."""
    wanted = security.apparmor or facts.apparmor
    return "" if wanted == "unconfined" else wanted


def exec_process(spec: Oci, command: Sequence[str], *, tty: bool) -> Oci:
    """The process of an exec: as the container's main one, but for what it runs."""
    process = {**spec["process"], "args": list(command), "terminal": tty}
    if tty and not any(entry.startswith("TERM=") for entry in process["env"]):
        process["env"] = [*process["env"], "TERM=xterm"]
    return process


def arguments(spec: ContainerSpec, image: ImageConfig) -> list[str]:
    """Kubernetes' rule: a command replaces entrypoint and cmd, arguments replace cmd."""
    if spec.command:
        return [*spec.command, *spec.args]
    return [*image.entrypoint, *(spec.args or image.cmd)]


def _env(spec: ContainerSpec, image: ImageConfig, sandbox: Labels) -> list[str]:
    values = {"PATH": defaults.PATH}
    if sandbox.get(HOSTNAME):
        values["HOSTNAME"] = sandbox[HOSTNAME]
    if spec.tty:
        values["TERM"] = "xterm"
    values |= dict(entry.partition("=")[::2] for entry in image.env)
    values |= dict(spec.env)
    return [f"{name}={value}" for name, value in values.items()]


def _capabilities(facts: HostFacts, spec: ContainerSpec) -> list[str]:
    security = spec.security
    if security.privileged:
        return [name for name in defaults.CAPABILITY_NUMBERS if name in facts.capabilities]
    add = {name.upper().removeprefix("CAP_") for name in security.add_capabilities}
    drop = {name.upper().removeprefix("CAP_") for name in security.drop_capabilities}
    held = set(facts.capabilities) if "ALL" in add else set(defaults.CAPABILITIES)
    held = set() if "ALL" in drop else held - drop
    held |= add - {"ALL"}
    if unknown := sorted(add - {"ALL"} - set(defaults.CAPABILITY_NUMBERS)):
        raise ValueError(f"unknown capability {unknown[0]!r}")
    return [name for name in defaults.CAPABILITY_NUMBERS if name in held & facts.capabilities]


def _namespaces(facts: HostFacts, sandbox: Labels, directory: Path) -> list[Oci]:
    own = kinds(sandbox.get(NETWORK, ""), sandbox.get(IPC, ""))
    names = {"net": "network", "uts": "uts", "ipc": "ipc"}
    held: list[Oci] = [{"type": names[kind], "path": str(directory / kind)} for kind in own]
    cgroup = [{"type": "cgroup"}] if facts.cgroup_v2 else []
    return [{"type": "mount"}, *cgroup, *held]


def _pid_namespace(sandbox: Labels, joined_pid: int) -> list[Oci]:
    if sandbox.get(PID) == "host":
        return []
    return [{"type": "pid", "path": f"/proc/{joined_pid}/ns/pid"} if joined_pid else {"type": "pid"}]


def changeable_resources(facts: HostFacts, wanted: Resources) -> Oci:
    """CPU and memory: what may also be changed while a container runs."""
    cpu = {"shares": wanted.cpu_shares} if wanted.cpu_shares else {}
    if wanted.cpu_quota_us:
        cpu |= {"quota": wanted.cpu_quota_us, "period": wanted.cpu_period_us}
    resources: Oci = {"cpu": cpu}
    if wanted.memory_limit_bytes:
        resources["memory"] = {"limit": wanted.memory_limit_bytes}
        if facts.swap_counted:
            # Memory and swap together: equal means no swap, as Kubernetes promises.
            resources["memory"]["swap"] = wanted.memory_limit_bytes
    return resources


def _resources(facts: HostFacts, spec: ContainerSpec, devices: Sequence[tuple[Oci, str]]) -> Oci:
    wanted = spec.resources
    rules: list[Mapping[str, Any]] = [defaults.ALLOW_DEVICES]
    if not spec.security.privileged:
        rules = [defaults.DENY_DEVICES, *(rule(device, rights) for device, rights in devices)]
    resources: Oci = {"devices": rules, **changeable_resources(facts, wanted)}
    if facts.cgroup_v2:
        # What is out of memory ends as a whole: half a container serves nobody.
        resources["unified"] = {"memory.oom.group": "1"}
    if wanted.pids_limit:
        resources["pids"] = {"limit": wanted.pids_limit}
    return resources


def _mounts(spec: ContainerSpec, sandbox: Labels, directory: Path) -> list[Oci]:
    """Parents before what lies in them; a spec's own mount replaces a default one at the same place."""
    shm = str(directory / "shm") if sandbox.get(IPC) == "pod" else "/dev/shm"
    wanted = [_bind(mount) for mount in spec.mounts]
    given = {posixpath.normpath(mount["destination"]) for mount in wanted}
    plain = [*defaults.mounts(privileged=spec.security.privileged), _bind(Mount(shm, "/dev/shm"))]
    if sandbox.get(HOSTNAME):
        plain.append(_bind(Mount(str(directory / "hostname"), "/etc/hostname")))
    kept = [mount for mount in plain if mount["destination"] not in given]
    return [*kept, *sorted(wanted, key=lambda mount: mount["destination"].count("/"))]


def _bind(mount: Mount) -> Oci:
    options = ["rbind", PROPAGATIONS[mount.propagation], "ro" if mount.read_only else "rw"]
    return {
        "destination": mount.container_path,
        "type": "bind",
        "source": mount.host_path,
        "options": options,
    }


def _reach(propagation: str) -> int:
    return list(PROPAGATIONS).index(propagation)


def sandbox_from_record(record: Mapping[str, Any], *, running: bool, netns_path: str) -> Sandbox:
    labels = record.get("labels", {})
    return Sandbox(
        id=record["id"],
        pod_uid=labels.get(POD_UID, ""),
        pod_name=labels.get(POD_NAME, ""),
        pod_namespace=labels.get(POD_NAMESPACE, ""),
        attempt=int(labels.get(ATTEMPT, "0")),
        running=running,
        created_s=seconds(record.get("created_at")),
        netns_path=netns_path if running else "",
        annotations=annotations(labels),
    )


def container_from_record(
    record: Mapping[str, Any], task: Mapping[str, Any] | None, ended: Ended | None, started_s: float
) -> Container:
    """One container: `task` is containerd's, None when it has none; `ended` is how it ended, None if it has not."""
    labels = record.get("labels", {})
    status = (task or {}).get("status", 0)
    state: Any = "exited" if ended else "running" if status >= RUNNING else "created"
    return Container(
        id=record["id"],
        sandbox_id=labels.get(SANDBOX_ID, ""),
        pod_uid=labels.get(POD_UID, ""),
        pod_name=labels.get(POD_NAME, ""),
        pod_namespace=labels.get(POD_NAMESPACE, ""),
        name=labels.get(CONTAINER_NAME, ""),
        attempt=int(labels.get(ATTEMPT, "0")),
        image=labels.get(IMAGE, ""),
        image_id=labels.get(IMAGE_ID, ""),
        state=state,
        created_s=seconds(record.get("created_at")),
        started_s=ended.started_s if ended else started_s if state == "running" else 0.0,
        finished_s=ended.finished_s if ended else 0.0,
        exit_code=ended.code if ended else 0,
        reason=ended.reason if ended else "",
        message=ended.message if ended else "",
        pid=int((task or {}).get("pid", 0)) if state == "running" else 0,
        annotations=annotations(labels),
    )


def upper_directory(mounts: Sequence[Mapping[str, Any]]) -> Path | None:
    """Where a container's own files lie, by the mounts of its snapshot: the upper layer, or a whole copy."""
    for mount in mounts:
        for option in mount.get("options", ()):
            if option.startswith("upperdir="):
                return Path(option.removeprefix("upperdir="))
        if mount.get("type") == "bind" and mount.get("source"):
            return Path(mount["source"])
    return None


def ended_of(labels: Labels) -> Ended | None:
    """What the record says about the end; None where it says nothing that can be read."""
    try:
        return msgspec.json.decode(labels[ENDED], type=Ended) if ENDED in labels else None
    except msgspec.DecodeError:
        return None


def annotations(labels: Labels) -> dict[str, str]:
    return {key.removeprefix(ANNOTATION): labels[key] for key in labels if key.startswith(ANNOTATION)}
