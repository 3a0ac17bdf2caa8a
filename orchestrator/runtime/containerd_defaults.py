"""What every container gets unless it asks otherwise: mounts, devices, hidden paths, capabilities. Facts only.

The same as Docker and the CRI give, so that an image behaves alike everywhere. Called by `containerd_specs`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
)

CAPABILITY_NUMBERS: Final[Sequence[str]] = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT"),
    *("SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD"),
    *("LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG"),
    *("WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)
"""Each capability at its number in the kernel."""

MASKED_PATHS: Final = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"),
    *("/sys/firmware", "/sys/devices/virtual/powercap"),
)
READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

NO_CODE: Final = ("nosuid", "noexec", "nodev")


def mounts(*, privileged: bool) -> list[dict[str, Any]]:
    """The kernel's own file systems. A privileged container may write to them."""
    access = "rw" if privileged else "ro"
    return [
        _mount("/proc", "proc", *NO_CODE),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/mqueue", "mqueue", *NO_CODE),
        _mount("/sys", "sysfs", *NO_CODE, access),
        _mount("/sys/fs/cgroup", "cgroup", *NO_CODE, "relatime", access),
    ]


def _mount(target: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


DENY_DEVICES: Final[Mapping[str, Any]] = {"allow": False, "access": "rwm"}
"""runc adds those that every container has (null, zero, full, random, urandom, tty, the terminals)."""

ALLOW_DEVICES: Final[Mapping[str, Any]] = {"allow": True, "access": "rwm"}

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
