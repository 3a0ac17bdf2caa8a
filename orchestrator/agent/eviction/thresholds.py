"""Eviction thresholds: what an operator writes, and when one is met. Pure. Called by `agent.settings` and the manager.

Written as for a kubelet: `memory.available<100Mi`, `nodefs.available<10%`; of soft ones a grace period,
`memory.available=1m30s`; a least amount to reclaim, `nodefs.available=500Mi`. A hard threshold acts at once.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from orchestrator.api import quantity
from orchestrator.base.errors import StartupError

MEMORY, NODEFS, NODEFS_INODES = "memory.available", "nodefs.available", "nodefs.inodesFree"
IMAGEFS, IMAGEFS_INODES, PIDS = "imagefs.available", "imagefs.inodesFree", "pid.available"
SIGNALS = (MEMORY, NODEFS, NODEFS_INODES, IMAGEFS, IMAGEFS_INODES, PIDS)
CONDITIONS = {
    MEMORY: "MemoryPressure",
    NODEFS: "DiskPressure",
    NODEFS_INODES: "DiskPressure",
    IMAGEFS: "DiskPressure",
    IMAGEFS_INODES: "DiskPressure",
    PIDS: "PIDPressure",
}
"""The node's condition that a signal stands for."""
RESOURCES = {
    MEMORY: "memory",
    NODEFS: "ephemeral-storage",
    NODEFS_INODES: "inodes",
    IMAGEFS: "ephemeral-storage",
    IMAGEFS_INODES: "inodes",
    PIDS: "pids",
}
"""What messages call it."""
HARD = (
    "memory.available<100Mi",
    "nodefs.available<10%",
    "nodefs.inodesFree<5%",
    "imagefs.available<15%",
    "imagefs.inodesFree<5%",
)
"""A kubelet's own."""
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


@dataclass(frozen=True, slots=True)
class Amount:
    """So much, or a share of the capacity."""

    whole: int = 0
    share: float = 0.0

    def of(self, capacity: int) -> int:
        return int(capacity * self.share) if self.share else self.whole

    def text(self, capacity: int, *, binary: bool) -> str:
        """As a quantity in a message."""
        return amount_text(self.of(capacity), binary=binary)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Met when less than `value` is left; a `grace_s` above 0 makes it soft."""

    signal: str
    value: Amount
    grace_s: float = 0.0
    reclaim: Amount = Amount()

    @property
    def hard(self) -> bool:
        return self.grace_s == 0


@dataclass(frozen=True, slots=True)
class Observation:
    """What is left of a signal, when it was measured."""

    available: int
    capacity: int
    time_s: float = 0.0


def met(threshold: Threshold, seen: Observation | None, *, with_reclaim: bool = False) -> bool:
    """Whether less is left than the threshold says; with the amount to reclaim on top for one that was met before."""
    if seen is None:
        return False
    least = threshold.value.of(seen.capacity)
    if with_reclaim:
        least += threshold.reclaim.of(seen.capacity)
    return seen.available < least


def parse(
    hard: Iterable[str],
    soft: Iterable[str] = (),
    soft_grace: Iterable[str] = (),
    reclaim: Iterable[str] = (),
) -> tuple[Threshold, ...]:
    """Hard thresholds before soft ones. Raises `StartupError` naming the setting and the entry."""
    least = {
        signal: _amount(value, f"eviction_minimum_reclaim entry {signal}={value}")
        for signal, value in pairs(reclaim, "eviction_minimum_reclaim").items()
    }
    graces = {
        signal: _seconds(value) for signal, value in pairs(soft_grace, "eviction_soft_grace_period").items()
    }
    found = [_threshold(text, "eviction_hard") for text in hard]
    for text in soft:
        threshold = _threshold(text, "eviction_soft")
        grace_s = graces.get(threshold.signal, 0.0)
        if grace_s <= 0:
            raise StartupError(
                f"eviction_soft has {text!r} without a grace period.",
                f'Add "{threshold.signal}=1m30s" to eviction_soft_grace_period.',
            )
        found.append(replace(threshold, grace_s=grace_s))
    return tuple(
        replace(threshold, reclaim=least.get(threshold.signal, Amount()))
        for threshold in found
        if threshold.value != Amount()
    )


def hard_amounts(thresholds: Iterable[Threshold], capacities: Mapping[str, int]) -> dict[str, int]:
    """By signal, what hard thresholds take off what is allocatable."""
    return {
        threshold.signal: threshold.value.of(capacities[threshold.signal])
        for threshold in thresholds
        if threshold.hard and threshold.signal in capacities
    }


def pairs(entries: Iterable[str], setting: str) -> dict[str, str]:
    """`name=value` entries. Raises `StartupError`."""
    found = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not separator or not name.strip():
            raise StartupError(f"{setting} has {entry!r}.", 'Write each entry as "name=value".')
        found[name.strip()] = value.strip()
    return found


def amount_text(amount: int, *, binary: bool) -> str:
    """A quantity as Kubernetes prints it: `100Mi` where it divides, else plain."""
    return quantity.render(quantity.parse(amount), "binary" if binary else "decimal")


def _threshold(text: str, setting: str) -> Threshold:
    signal, separator, value = (part.strip() for part in text.partition("<"))
    if not separator or signal not in SIGNALS:
        raise StartupError(
            f"{setting} has {text!r}.",
            f'Write it as "memory.available<100Mi"; signals are {", ".join(SIGNALS)}.',
        )
    return Threshold(signal, _amount(value, f"{setting} entry {text}"))


def _amount(text: str, where: str) -> Amount:
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if 0 <= share <= 1:
                return Amount(share=share)
        elif (whole := quantity.as_int(text)) >= 0:
            return Amount(whole)
    except ValueError:
        pass
    raise StartupError(f"{where}: {text!r} is no amount.", "Write it as 100Mi or 10%.")


def _seconds(text: str) -> float:
    parts = _DURATION.fullmatch(text)
    if not text or parts is None:
        raise StartupError(
            f"eviction_soft_grace_period has {text!r}, which is no duration.", "Write it as 1m30s."
        )
    hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds
