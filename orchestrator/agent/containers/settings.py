"""What the operator and the host decide for every container of a node. Built by `Agent`, read by pod workers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.agent.containers.admit import HostAbilities, has_apparmor
from orchestrator.agent.containers.podfiles import DnsSettings

PID_MAX = Path("/proc/sys/kernel/pid_max")
POD_PIDS_MAX = 16_384


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """Defaults are those of a node without any of it."""

    domain: str = "cluster.local"
    """The cluster's."""
    seccomp_profiles: Path | None = None
    """Where profiles of the node lie; None has none."""
    pids_max: int = 0
    """Processes of one pod; 0 is without a limit."""
    abilities: HostAbilities = field(default_factory=HostAbilities)
    dns: DnsSettings | None = None
    """How pods resolve names; None where they get no files."""


def of_host(
    dns: DnsSettings, directory: Path, pids_max: int = 0, unsafe_sysctls: Sequence[str] = ()
) -> ContainerSettings:
    """For this host; `directory` is the agent's.

    A `pids_max` of 0 takes what keeps a fork bomb inside its pod, a negative one sets no limit.
    """
    return ContainerSettings(
        dns.domain,
        directory / "seccomp",
        max(pids_max or default_pids_max(), 0),
        HostAbilities(has_apparmor(), unsafe_sysctls),
        dns,
    )


def default_pids_max(path: Path = PID_MAX) -> int:
    """A quarter of what the kernel numbers, so that no single pod takes the others' processes."""
    try:
        return min(POD_PIDS_MAX, int(path.read_text()) // 4)
    except (OSError, ValueError):
        return POD_PIDS_MAX
