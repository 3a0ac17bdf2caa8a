"""What an operator may set about a node: a kubelet's configuration, checked. Filled by `config`; read by the agent."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.agent.containers import admit
from orchestrator.agent.eviction import thresholds
from orchestrator.agent.eviction.thresholds import Threshold, pairs
from orchestrator.api import quantity
from orchestrator.api.item import Object
from orchestrator.base.errors import StartupError

RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
VERIFY = ("NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify")
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_SYSCTL = re.compile(r"(?:[a-z0-9][-_a-z0-9]*[./])*(?:[a-z0-9][-_a-z0-9]*\*?|\*)")
_VALUE = re.compile(rf"(?:{_NAME})?")


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Shares in per cent of the images' disk, times in seconds; a `max_age_s` of 0 sets no bound, nor does a
    `pulls_max` of 0."""

    gc_high: int = 85
    gc_low: int = 80
    min_age_s: float = 120.0
    max_age_s: float = 0.0
    pulls_max: int = 5
    verify: str = "NeverVerifyPreloadedImages"
    verify_allowlist: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.gc_low <= self.gc_high <= 100:
            raise StartupError(
                f"image_gc_low_threshold {self.gc_low} and image_gc_high_threshold {self.gc_high} can't be used.",
                "Both are per cent of the disk, and the low one is not above the high one.",
            )
        if self.min_age_s < 0 or self.max_age_s < 0 or 0 < self.max_age_s <= self.min_age_s:
            raise StartupError(
                f"image_maximum_gc_age {self.max_age_s:.0f} is not above image_minimum_gc_age {self.min_age_s:.0f}.",
                "Give seconds; 0 sets no maximum.",
            )
        if self.pulls_max < 0:
            raise StartupError(
                f"max_parallel_image_pulls is {self.pulls_max}.", "Give a number; 0 sets no bound."
            )
        if self.verify not in VERIFY:
            raise StartupError(
                f"image_pull_credentials_verification is {self.verify!r}.",
                f"Choose one of {', '.join(VERIFY)}.",
            )


@dataclass(frozen=True, slots=True)
class EvictionSettings:
    """Thresholds, hard ones first. `grace_max_s` is what a pod gets at most under a soft one."""

    thresholds: tuple[Threshold, ...] = field(default_factory=lambda: thresholds.parse(thresholds.HARD))
    grace_max_s: int = 0
    transition_s: float = 300.0


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """Of one node. Reserved amounts are quantities by resource."""

    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Object, ...] = ()
    max_pods: int = 110
    pod_pids_limit: int = 0
    """Most processes of one pod; 0 for a share of the kernel's, -1 for no limit."""
    unsafe_sysctls: tuple[str, ...] = ()
    """Names, or prefixes that end in `*`, that pods may set beside the safe ones."""
    reserved: tuple[Mapping[str, str], ...] = ()
    """What is kept for Kubernetes and for the system."""
    images: ImageSettings = ImageSettings()
    eviction: EvictionSettings = field(default_factory=EvictionSettings)


def labels_of(entries: Iterable[str]) -> dict[str, str]:
    """`key=value` entries. Raises `StartupError`."""
    found = pairs(entries, "node_labels")
    for key, value in found.items():
        if not (_KEY.fullmatch(key) and _VALUE.fullmatch(value)):
            raise StartupError(f"node_labels has {key}={value}, which is no label.", "Write it as zone=a.")
    return found


def taints_of(entries: Iterable[str]) -> tuple[Object, ...]:
    """`key=value:Effect` and `key:Effect` entries. Raises `StartupError`."""
    found = []
    for entry in entries:
        rest, _, effect = entry.rpartition(":")
        key, _, value = rest.partition("=")
        if effect not in EFFECTS or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise StartupError(
                f"register_taints has {entry!r}.",
                f'Write it as "key=value:Effect" with an effect of {", ".join(EFFECTS)}.',
            )
        taint: Object = {"key": key, "effect": effect}
        found.append({**taint, "value": value} if value else taint)
    return tuple(found)


def sysctls_of(entries: Iterable[str]) -> tuple[str, ...]:
    """Names and patterns of sysctls, each of a namespace that pods have of their own. Raises `StartupError`."""
    found = tuple(entries)
    for entry in found:
        if not _SYSCTL.fullmatch(entry) or not admit.is_namespaced(entry):
            raise StartupError(
                f"allowed_unsafe_sysctls has {entry!r}.",
                "Name sysctls that a pod has of its own, as net.core.somaxconn or kernel.msg*.",
            )
    return found


def reserved_of(entries: Iterable[str], setting: str) -> dict[str, str]:
    """`resource=quantity` entries. Raises `StartupError`."""
    found = pairs(entries, setting)
    for name, value in found.items():
        if name not in RESERVABLE or not quantity.is_quantity(value) or quantity.parse(value) < 0:
            raise StartupError(
                f"{setting} has {name}={value}.",
                f"Write it as memory=500Mi; resources are {', '.join(RESERVABLE)}.",
            )
    return found
