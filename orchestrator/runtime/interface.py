"""What the agent asks of a container engine.

Everything that an engine creates is labelled with the instance, so that it can be found after a restart and
removed without a trace. All operations may run twice: stopping what is stopped, removing what is absent and
starting what runs all succeed. A failed call raises `RuntimeFailure` with the engine's words.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from orchestrator.base.errors import OrchestratorError
from orchestrator.runtime.usage import Reading


class RuntimeFailure(OrchestratorError):
    """The engine refused or failed. `reason` is a Kubernetes reason such as `CreateContainerError`."""

    def __init__(self, message: str, reason: str = "RuntimeError") -> None:
        super().__init__(message)
        self.reason = reason


class ImageNotFound(RuntimeFailure):
    """No such image here, or in the registry that was asked."""

    def __init__(self, message: str, reason: str = "ErrImagePull") -> None:
        super().__init__(message, reason)


class RuntimeUnavailable(RuntimeFailure):
    """The engine does not answer (within the deadline)."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A pod's shared namespaces, held by a pause process.

    `network` is `pod` for a fresh, empty network namespace (the agent wires it) or `host`. `pid` and `ipc` are
    `container`, `pod` or `host`.
    """

    pod_uid: str
    pod_name: str
    pod_namespace: str
    hostname: str
    attempt: int = 0
    network: Literal["pod", "host"] = "pod"
    pid: Literal["container", "pod", "host"] = "container"
    ipc: Literal["pod", "host"] = "pod"
    sysctls: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    """Below the instance's own cgroup, such as `burstable/podUID`; a path from the root begins with a slash."""
    runtime_handler: str = ""
    """Of a RuntimeClass: which of the engine's OCI runtimes runs the containers; empty is its default."""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox as the engine knows it. `netns_path` is empty when it does not run or uses the host's."""

    id: str
    pod_uid: str
    pod_name: str
    pod_namespace: str
    attempt: int
    running: bool
    created_s: float
    netns_path: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount. `propagation` is Kubernetes' name; None means private."""

    host_path: str
    container_path: str
    read_only: bool = False
    propagation: Literal["None", "HostToContainer", "Bidirectional"] = "None"


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the host in a container. `permissions` are letters of `rwm`."""

    host_path: str
    container_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class PodCgroup:
    """The cgroup that holds all containers of a pod: a path as `SandboxSpec.cgroup_parent`; 0 limits nothing."""

    path: str
    cpu_shares: int = 2
    cpu_quota_us: int = 0
    cpu_period_us: int = 100_000
    memory_limit_bytes: int = 0
    pids_limit: int = 0
    hugepage_limits: tuple[tuple[int, int], ...] = ()
    """(size of a page, limit), both in bytes, of each size that the pod may use; the others are shut."""


@dataclass(frozen=True, slots=True)
class Resources:
    """cgroup settings; 0 or None leaves the engine's default."""

    cpu_shares: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 100_000
    memory_limit_bytes: int = 0
    pids_limit: int = 0
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class Security:
    """User and privileges of a container. `user` is `uid[:gid]` or a name; empty takes the image's."""

    user: str = ""
    supplemental_groups: tuple[int, ...] = ()
    privileged: bool = False
    read_only_rootfs: bool = False
    no_new_privileges: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    seccomp: str = ""
    """Empty takes the engine's default profile; `unconfined`; or the JSON text of a profile."""
    apparmor: str = ""
    """Empty takes the engine's default where the kernel has AppArmor; `unconfined`; or the name of a profile."""
    unmasked: bool = False
    """Nothing of /proc and /sys is hidden or made read-only."""
    strict_groups: bool = False
    """The image's own group memberships of the user don't count."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container in a sandbox. `command` and `args` empty take the image's entrypoint and cmd."""

    sandbox_id: str
    pod_uid: str
    pod_name: str
    pod_namespace: str
    name: str
    attempt: int
    image: str
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Sequence[tuple[str, str]] = ()
    working_dir: str = ""
    mounts: Sequence[Mount] = ()
    devices: Sequence[Device] = ()
    cgroup: PodCgroup | None = None
    """The pod's cgroup, made when its first container is; None takes the sandbox's without limits."""
    target_id: str = ""
    """A container of the sandbox whose processes this one sees; empty takes the sandbox's setting."""
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Kept with the container and handed back in `Container`, e.g. a hash of the spec."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine knows it. Times are seconds since the epoch, 0 when not yet."""

    id: str
    sandbox_id: str
    pod_uid: str
    pod_name: str
    pod_namespace: str
    name: str
    attempt: int
    image: str
    image_id: str
    state: Literal["created", "running", "exited"]
    created_s: float = 0.0
    started_s: float = 0.0
    finished_s: float = 0.0
    exit_code: int = 0
    reason: str = ""
    """`OOMKilled` when the kernel killed it; else empty and the agent words it."""
    message: str = ""
    pid: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this host. `user` is what its config names; `digests` are `repo@sha256:…`."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...] = ()
    size_bytes: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """Credentials for one registry."""

    server: str
    username: str = ""
    password: str = ""
    identity_token: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something happened to a pod's sandbox or container; the pod's worker looks for itself."""

    pod_uid: str
    container_id: str
    kind: Literal["started", "exited", "removed", "oom"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output, without the newline unless `partial`."""

    stream: Literal["stdout", "stderr"]
    time: str
    """RFC 3339 with nanoseconds, as written by the engine."""
    data: bytes
    partial: bool = False


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which lines. `tail_lines` of None means all; `since_s` is seconds since the epoch, 0 means all."""

    follow: bool = False
    tail_lines: int | None = None
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Places:
    """Directories of one container on this host's disks; None where there is none, or it can't be measured."""

    rootfs: Path | None = None
    """What it wrote above its image."""
    logs: Path | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Cumulative CPU and current memory of one container."""

    cpu_ns: int
    memory_usage_bytes: int
    memory_working_set_bytes: int


class Streams(Protocol):
    """The open ends of an exec or attach. With a terminal, everything arrives as stdout."""

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        """The next output, or None at the end."""

    async def write(self, data: bytes) -> None:
        """Send to stdin; ignored after the process has ended."""

    async def close_stdin(self) -> None:
        """End of input."""

    async def resize(self, width: int, height: int) -> None:
        """Set the terminal's size in characters."""

    async def wait(self) -> int:
        """Exit code of an exec; for attach, that of the container (0 while it still runs)."""

    async def close(self) -> None:
        """Let go; an exec'd process that still runs is left to the engine."""


class Runtime(Protocol):
    """One container engine on one host. Owner: the agent."""

    name: str
    """`docker`, `containerd` or `simulated`; node status names `<name>://<version>`."""

    async def connect(self) -> None:
        """Reach the engine and make the pause image available. Raises `RuntimeUnavailable`."""

    async def close(self) -> None:
        """Let go of connections; containers run on."""

    async def version(self) -> str:
        """The engine's version; doubles as the health check. Raises `RuntimeUnavailable`."""

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        """Create and start; the result runs and has its network namespace."""

    async def stop_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove it and every container in it."""

    async def list_sandboxes(self) -> list[Sandbox]:
        """All of this instance, running or not."""

    async def inspect_sandbox(self, sandbox_id: str) -> Sandbox | None:
        """One sandbox, or None when there is no such; costs the same however many others there are."""

    async def create_container(self, spec: ContainerSpec) -> str:
        """Create without starting; returns the id. Raises `ImageNotFound` if the image is not here."""

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        """SIGTERM (or the image's signal), SIGKILL after `grace_s`; returns when it has ended."""

    async def update_pod(self, cgroup: PodCgroup) -> None:
        """Change the limits around all containers of a pod. Raises `RuntimeFailure` when the kernel refuses."""

    async def handlers(self) -> list[str]:
        """Names that a RuntimeClass may give as its handler, the default (empty) one first."""

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        """Change CPU and memory of a running container; 0 leaves what is in force, and so does everything else.

        One that does not run is left as it is. Raises `RuntimeFailure` with the engine's words.
        """

    async def remove_container(self, container_id: str) -> None:
        """Remove, killing it first when it runs."""

    async def list_containers(self) -> list[Container]:
        """All of this instance, sandboxes excluded."""

    async def inspect_container(self, container_id: str) -> Container | None:
        """One container, or None when there is no such."""

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Streams:
        """Start a process in a running container."""

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> tuple[int, bytes]:
        """Run to the end; exit code and up to 16 KiB of output. Raises `TimeoutError` after `timeout_s`."""

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> Streams:
        """Join the main process's streams."""

    def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[LogLine]:
        """Lines of output, oldest first; with `follow` until the container ends."""

    async def image(self, reference: str) -> Image | None:
        """The image if it is on this host. References are normalised as docker does (`busybox` has `:latest`)."""

    async def pull(self, reference: str, auth: RegistryAuth | None = None) -> Image:
        """Fetch; raises `ImageNotFound` or `RuntimeFailure` with the registry's words."""

    async def list_images(self) -> list[Image]: ...

    async def mount_image(self, image_id: str, target: str) -> None:
        """Show the files of an image at the directory `target`, read-only; the image stays until that ends.

        Raises `RuntimeFailure`, `OSError`.
        """

    async def unmount_image(self, target: str) -> None:
        """End that."""

    async def remove_image(self, image_id: str) -> None: ...

    async def load_file(self, path: Path) -> None:
        """Take in an image archive of `docker save` or with an OCI layout, plain or packed. Raises `RuntimeFailure`."""

    async def images_in_use(self) -> frozenset[str]:
        """Ids of the images that containers were made from, whoever made them and whether they run or not."""

    async def stats(self, container_id: str) -> Stats | None:
        """Usage now, or None when it does not run."""

    async def usage(
        self, containers: Sequence[Container], shared: Collection[str] = (), *, detail: bool = False
    ) -> Reading:
        """What these use now, all at once; who does not run is left out. `shared` are the uids of pods whose
        network is the host's; `detail` adds what is not CPU, memory and processes."""

    async def places(self, container_id: str) -> Places:
        """Where its files lie; of an absent one, nowhere."""

    async def image_store(self) -> Path | None:
        """The directory of images and writable layers, None without one on this host."""

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Changes from now on; ends (or raises `RuntimeUnavailable`) when the engine goes away."""
