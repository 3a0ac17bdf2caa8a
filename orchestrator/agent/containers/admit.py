"""Whether this node may run a pod at all, by its containers' settings. Pure.

A pod that asks for a sysctl which is not safe, or for AppArmor where the kernel has none, is refused for good: its
phase becomes Failed with a kubelet's reason and message. Called by pod workers before anything is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.agent import podspec
from orchestrator.api.item import Object

SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
NETWORK_SYSCTLS = ("net.",)
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


@dataclass(frozen=True, slots=True)
class HostAbilities:
    """What of the host decides. `unsafe_sysctls` are names, or prefixes that end in `*`, that the operator allows."""

    apparmor: bool = False
    unsafe_sysctls: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod fails at once: its status's reason and message."""

    reason: str
    message: str


@cache
def has_apparmor(path: Path = APPARMOR) -> bool:
    """Whether the kernel enforces AppArmor."""
    try:
        return path.read_text().startswith("Y")
    except OSError:
        return False


def refusal(pod: Object, host: HostAbilities) -> Refusal | None:
    """Why the node does not take the pod; None when it may run."""
    return _sysctls(pod, host) or _apparmor(pod, host)


def _sysctls(pod: Object, host: HostAbilities) -> Refusal | None:
    spec = pod["spec"]
    for entry in (spec.get("securityContext") or {}).get("sysctls") or ():
        name = sysctl_name(entry["name"])
        problem = ""
        if podspec.is_host_network(pod) and name.startswith(NETWORK_SYSCTLS):
            problem = "not allowed with host net enabled"
        elif spec.get("hostIPC") and name.startswith(IPC_SYSCTLS):
            problem = "not allowed with host ipc enabled"
        elif not _allowed(name, host):
            problem = "not allowlisted"
        if problem:
            return Refusal("SysctlForbidden", f'forbidden sysctl: "{entry["name"]}" {problem}')
    return None


def _allowed(name: str, host: HostAbilities) -> bool:
    if name in SAFE_SYSCTLS or name in host.unsafe_sysctls:
        return True
    prefixes = [
        sysctl_name(pattern).removesuffix("*") for pattern in host.unsafe_sysctls if pattern.endswith("*")
    ]
    return any(name.startswith(prefix) for prefix in prefixes)


def is_namespaced(pattern: str) -> bool:
    """Whether each sysctl that the name or pattern stands for is one of a pod and not of the whole host."""
    return sysctl_name(pattern).startswith((*IPC_SYSCTLS, *NETWORK_SYSCTLS))


def sysctl_name(name: str) -> str:
    """With dots between its parts; where the first separator is a slash, dots belong to the parts."""
    place = next((place for place, letter in enumerate(name) if letter in "./"), -1)
    if place < 0 or name[place] == ".":
        return name
    return name.translate(str.maketrans("./", "/."))


def _apparmor(pod: Object, host: HostAbilities) -> Refusal | None:
    if host.apparmor:
        return None
    contexts = [pod["spec"], *podspec.all_containers(pod)]
    profiles = [(each.get("securityContext") or {}).get("appArmorProfile") or {} for each in contexts]
    if any(profile.get("type", "Unconfined") != "Unconfined" for profile in profiles):
        return Refusal("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    return None
