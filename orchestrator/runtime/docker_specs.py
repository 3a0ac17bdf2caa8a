"""Our specs as the Docker Engine's JSON and its JSON as our facts. Pure.

Labels are the only memory: everything that a restarted daemon must know of a container is on it. Kubernetes'
names are used where the Docker shim of Kubernetes has one, so that other tools recognise the containers.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from orchestrator.runtime import imagemounts
from orchestrator.runtime.interface import (
    Container,
    ContainerSpec,
    Device,
    Mount,
    Places,
    Resources,
    Sandbox,
    SandboxSpec,
)
from orchestrator.runtime.oom import OomScores
from orchestrator.runtime.pause import TAG as PAUSE_TAG
from orchestrator.runtime.podcgroups import absolute

INSTANCE: Final = "orchestrator.internal/instance"
ATTEMPT: Final = "orchestrator.internal/attempt"
IMAGE: Final = "orchestrator.internal/image"
NETWORK: Final = "orchestrator.internal/network"
PID: Final = "orchestrator.internal/pid"
IPC: Final = "orchestrator.internal/ipc"
CGROUP_PARENT: Final = "orchestrator.internal/cgroup-parent"
HANDLER: Final = "orchestrator.internal/runtime-handler"
KIND: Final = "io.kubernetes.docker.type"
POD_NAME: Final = "io.kubernetes.pod.name"
POD_NAMESPACE: Final = "io.kubernetes.pod.namespace"
POD_UID: Final = "io.kubernetes.pod.uid"
CONTAINER_NAME: Final = "io.kubernetes.container.name"
SANDBOX_ID: Final = "io.kubernetes.sandbox.id"
ANNOTATION: Final = "annotation."
SANDBOX_KIND: Final = "podsandbox"
CONTAINER_KIND: Final = "container"
IMAGE_HOLDER_KIND: Final = "imageholder"

SANDBOX_OOM_SCORE_ADJ: Final = -998
LOG_CONFIG: Final = {"max-size": "10m", "max-file": "5", "compress": "true"}
"""As a kubelet rotates."""
PROPAGATIONS: Final = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}
STATES: Final[Mapping[str, Literal["created", "running", "exited"]]] = {
    "created": "created",
    "running": "running",
    "paused": "running",
    "restarting": "running",
}
"""The engine's states; everything else (`exited`, `dead`, `removing`) has ended."""

_EXIT_CODE = re.compile(r"Exited \((\d+)\)")


def sandbox_name(instance: str, spec: SandboxSpec) -> str:
    """The container's name for people; unique, so that one attempt can't be made twice."""
    return f"orc{instance}_POD_{spec.pod_name}_{spec.pod_namespace}_{spec.pod_uid}_{spec.attempt}"


def container_name(instance: str, spec: ContainerSpec) -> str:
    return f"orc{instance}_{spec.name}_{spec.pod_name}_{spec.pod_namespace}_{spec.pod_uid}_{spec.attempt}"


def sandbox_body(instance: str, spec: SandboxSpec, oom: OomScores, cgroup_driver: str) -> dict[str, Any]:
    """The body of `POST /containers/create` for a pause container."""
    host = {
        "NetworkMode": "none" if spec.network == "pod" else "host",
        "IpcMode": "shareable" if spec.ipc == "pod" else "host",
        "PidMode": "host" if spec.pid == "host" else "",
        "UTSMode": "host" if spec.network == "host" else "",
        "CgroupParent": cgroup_parent(sandbox_cgroup(instance, spec), cgroup_driver),
        "Runtime": spec.runtime_handler,
        "Sysctls": dict(spec.sysctls),
        "OomScoreAdj": oom.clamp(SANDBOX_OOM_SCORE_ADJ),
        "CpuShares": 2,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
    }
    body: dict[str, Any] = {
        "Image": PAUSE_TAG,
        "Labels": sandbox_labels(instance, spec),
        "HostConfig": host,
    }
    if spec.network == "pod":
        body["Hostname"] = spec.hostname
        # Still a network namespace of its own, but without the engine's hook process in it: that hook alone
        # takes several times as long as the rest of the start.
        body["NetworkDisabled"] = True
    return body


def sandbox_labels(instance: str, spec: SandboxSpec) -> dict[str, str]:
    return {
        INSTANCE: instance,
        KIND: SANDBOX_KIND,
        POD_NAME: spec.pod_name,
        POD_NAMESPACE: spec.pod_namespace,
        POD_UID: spec.pod_uid,
        CONTAINER_NAME: "POD",
        ATTEMPT: str(spec.attempt),
        NETWORK: spec.network,
        PID: spec.pid,
        IPC: spec.ipc,
        CGROUP_PARENT: sandbox_cgroup(instance, spec),
        HANDLER: spec.runtime_handler,
        **{f"{ANNOTATION}{key}": value for key, value in spec.annotations.items()},
    }


def sandbox_cgroup(instance: str, spec: SandboxSpec) -> str:
    """From the root of the hierarchies; empty leaves it to the engine."""
    return absolute(instance, spec.cgroup_parent) if spec.cgroup_parent else ""


def container_body(
    instance: str, spec: ContainerSpec, sandbox: Mapping[str, str], oom: OomScores, cgroup_driver: str
) -> dict[str, Any]:
    """The body of `POST /containers/create`. `sandbox` are the labels of the sandbox that it joins."""
    body: dict[str, Any] = {
        "Image": spec.image,
        "Labels": container_labels(instance, spec),
        "Env": [f"{name}={value}" for name, value in spec.env],
        "WorkingDir": spec.working_dir,
        "User": spec.security.user,
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        "HostConfig": {
            **_namespaces(spec, sandbox),
            **_resources(spec, oom),
            **_security(spec),
            "CgroupParent": cgroup_parent(_container_cgroup(instance, spec, sandbox), cgroup_driver),
            "Runtime": sandbox.get(HANDLER, ""),
            "Devices": [_device(device) for device in spec.devices],
            "Mounts": [_mount(mount) for mount in spec.mounts],
            "LogConfig": {"Type": "json-file", "Config": LOG_CONFIG},
            "RestartPolicy": {"Name": "no"},
        },
    }
    if spec.command:
        body["Entrypoint"] = list(spec.command)
    if spec.args:
        body["Cmd"] = list(spec.args)
    if spec.stop_signal:
        body["StopSignal"] = spec.stop_signal
    return body


def container_labels(instance: str, spec: ContainerSpec) -> dict[str, str]:
    return {
        INSTANCE: instance,
        KIND: CONTAINER_KIND,
        POD_NAME: spec.pod_name,
        POD_NAMESPACE: spec.pod_namespace,
        POD_UID: spec.pod_uid,
        CONTAINER_NAME: spec.name,
        SANDBOX_ID: spec.sandbox_id,
        ATTEMPT: str(spec.attempt),
        IMAGE: spec.image,
        **{f"{ANNOTATION}{key}": value for key, value in spec.annotations.items()},
    }


def _container_cgroup(instance: str, spec: ContainerSpec, sandbox: Mapping[str, str]) -> str:
    return absolute(instance, spec.cgroup.path) if spec.cgroup else sandbox.get(CGROUP_PARENT, "")


def _namespaces(spec: ContainerSpec, sandbox: Mapping[str, str]) -> dict[str, str]:
    joined = f"container:{spec.sandbox_id}"
    on_host = sandbox.get(NETWORK) == "host"
    pid = sandbox.get(PID, "container")
    return {
        "NetworkMode": "host" if on_host else joined,
        "UTSMode": "host" if on_host else "",
        "IpcMode": "host" if sandbox.get(IPC) == "host" else joined,
        "PidMode": _pid_mode(spec, pid, joined),
    }


def _pid_mode(spec: ContainerSpec, of_pod: str, joined: str) -> str:
    if spec.target_id and of_pod == "container":
        return f"container:{spec.target_id}"
    return {"pod": joined, "host": "host"}.get(of_pod, "")


def _device(device: Device) -> dict[str, str]:
    return {
        "PathOnHost": device.host_path,
        "PathInContainer": device.container_path,
        "CgroupPermissions": device.permissions,
    }


def changeable_resources(wanted: Resources) -> dict[str, Any]:
    """CPU and memory: also the body of `POST /containers/{id}/update`."""
    host: dict[str, Any] = {}
    if wanted.cpu_shares:
        host["CpuShares"] = wanted.cpu_shares
    if wanted.cpu_quota_us:
        host["CpuQuota"], host["CpuPeriod"] = wanted.cpu_quota_us, wanted.cpu_period_us
    if wanted.memory_limit_bytes:
        # Memory and swap together: equal means no swap, as Kubernetes promises.
        host["Memory"] = host["MemorySwap"] = wanted.memory_limit_bytes
    return host


def _resources(spec: ContainerSpec, oom: OomScores) -> dict[str, Any]:
    wanted = spec.resources
    host = {"OomScoreAdj": oom.clamp(wanted.oom_score_adj), **changeable_resources(wanted)}
    if wanted.pids_limit:
        host["PidsLimit"] = wanted.pids_limit
    return host


def _security(spec: ContainerSpec) -> dict[str, Any]:
    wanted = spec.security
    options = ["no-new-privileges"] if wanted.no_new_privileges else []
    if wanted.seccomp:
        options.append(f"seccomp={wanted.seccomp}")
    if wanted.apparmor:
        options.append(f"apparmor={wanted.apparmor}")
    shown: dict[str, Any] = {"MaskedPaths": [], "ReadonlyPaths": []} if wanted.unmasked else {}
    return {
        **shown,
        "Privileged": wanted.privileged,
        "ReadonlyRootfs": wanted.read_only_rootfs,
        "CapAdd": list(wanted.add_capabilities),
        "CapDrop": list(wanted.drop_capabilities),
        "GroupAdd": [str(group) for group in wanted.supplemental_groups],
        "SecurityOpt": options,
    }


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": mount.host_path,
        "Target": mount.container_path,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": PROPAGATIONS[mount.propagation]},
    }


def places(facts: Mapping[str, Any]) -> Places:
    """Where a container's files lie, by its inspection; only overlayfs tells what it wrote."""
    upper = ((facts.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir", "")
    log = facts.get("LogPath") or ""
    return Places(Path(upper) if upper else None, Path(log).parent if log else None)


def image_holder(instance: str, image_id: str, target: str) -> tuple[str, dict[str, Any]]:
    """Name and body of the container that holds an image for the volume at `target`; it is never started."""
    labels = {INSTANCE: instance, KIND: IMAGE_HOLDER_KIND}
    body = {"Image": image_id, "Cmd": ["-"], "Labels": labels, "NetworkDisabled": True}
    return f"orc{instance}-{imagemounts.key(target)}", body


def cgroup_parent(path: str, driver: str) -> str:
    """`/kubepods/burstable/podX` as the engine's cgroup driver wants it: systemd names slices."""
    if driver != "systemd" or not path or path.endswith(".slice"):
        return path
    parts = [part.replace("-", "_") for part in path.strip("/").split("/")]
    return "-".join(parts) + ".slice"


def seconds(time: str) -> float:
    """The engine's RFC 3339 time in seconds since the epoch; 0 for Go's zero time or none."""
    if not time or time.startswith("0001-"):
        return 0.0
    whole, _, rest = time.rstrip("Z").partition(".")
    digits = re.match(r"\d*", rest)
    fraction = digits.group() if digits else ""
    offset = rest[len(fraction) :] if "+" in rest or "-" in rest else "+00:00"
    return datetime.fromisoformat(whole + offset).timestamp() + float(f"0.{fraction or 0}")


def annotations(labels: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(ANNOTATION): labels[key] for key in labels if key.startswith(ANNOTATION)}


def sandbox_from_row(row: Mapping[str, Any], netns_path: str) -> Sandbox:
    """A row of `/containers/json`."""
    labels = row["Labels"]
    return Sandbox(
        id=row["Id"],
        pod_uid=labels.get(POD_UID, ""),
        pod_name=labels.get(POD_NAME, ""),
        pod_namespace=labels.get(POD_NAMESPACE, ""),
        attempt=int(labels.get(ATTEMPT, "0")),
        running=row["State"] == "running",
        created_s=float(row["Created"]),
        netns_path=netns_path,
        annotations=annotations(labels),
    )


def container_from_row(row: Mapping[str, Any]) -> Container:
    """A row of `/containers/json`: no times but the creation's, no pid; ask `inspect` for those."""
    labels = row["Labels"]
    exited = _EXIT_CODE.match(row.get("Status", ""))
    return Container(
        id=row["Id"],
        state=STATES.get(row["State"], "exited"),
        image_id=row.get("ImageID", ""),
        created_s=float(row["Created"]),
        exit_code=int(exited.group(1)) if exited else 0,
        **_identity(labels),
    )


START_ERROR_CODE = 128
"""What Kubernetes tells of a program that could not be started; the engine has 126 or 127."""


def container_from_inspect(facts: Mapping[str, Any]) -> Container:
    """The answer of `/containers/ID/json`."""
    labels, state = facts["Config"]["Labels"], facts["State"]
    status = STATES.get(state["Status"], "exited")
    reason, code = "OOMKilled" if state.get("OOMKilled") else "", int(state.get("ExitCode", 0))
    finished_s = seconds(state.get("FinishedAt", ""))
    if status == "created" and state.get("Error"):
        # The engine leaves a container whose start failed as merely created.
        status, reason, finished_s = "exited", "StartError", finished_s or seconds(facts["Created"])
        code = START_ERROR_CODE
    return Container(
        id=facts["Id"],
        state=status,
        image_id=facts.get("Image", ""),
        created_s=seconds(facts["Created"]),
        started_s=seconds(state.get("StartedAt", "")),
        finished_s=finished_s if status == "exited" else 0.0,
        exit_code=code if status == "exited" else 0,
        reason=reason,
        message=state.get("Error", ""),
        pid=int(state.get("Pid", 0)),
        **_identity(labels),
    )


def _identity(labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "sandbox_id": labels.get(SANDBOX_ID, ""),
        "pod_uid": labels.get(POD_UID, ""),
        "pod_name": labels.get(POD_NAME, ""),
        "pod_namespace": labels.get(POD_NAMESPACE, ""),
        "name": labels.get(CONTAINER_NAME, ""),
        "attempt": int(labels.get(ATTEMPT, "0")),
        "image": labels.get(IMAGE, ""),
        "annotations": annotations(labels),
    }


def stop_timeout_s(grace_s: float) -> int:
    """The engine takes whole seconds; rounded up, a promise of grace is never cut short."""
    return max(0, math.ceil(grace_s))
