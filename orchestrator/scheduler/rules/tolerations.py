"""Taints and tolerations. Pure; used by the scheduler's rules and by the controllers that taint and evict."""

import operator as compare
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from orchestrator.api.item import Object

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_COMPARED: Mapping[str, Callable[[int, int], bool]] = {"Gt": compare.gt, "Lt": compare.lt}
_NUMBER = re.compile("[+-]?[0-9]{1,19}")


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration covers the taint. Empty key with Exists covers every key, empty effect every effect."""
    effect = toleration.get("effect")
    if effect and effect != taint["effect"]:
        return False
    key, operator = toleration.get("key"), toleration.get("operator") or "Equal"
    if key and key != taint["key"]:
        return False
    if operator == "Exists":
        return True
    value, of_taint = toleration.get("value") or "", taint.get("value") or ""
    if operator in _COMPARED:
        return bool(key) and _compared(operator, of_taint, value)
    return bool(key) and operator == "Equal" and value == of_taint


def _compared(operator: str, of_taint: str, value: str) -> bool:
    """Whether the taint's number is beyond the toleration's; text that is no 64-bit number is tolerated by none."""
    if not (_NUMBER.fullmatch(of_taint) and _NUMBER.fullmatch(value)):
        return False
    left, right = int(of_taint), int(value)
    return max(abs(left), abs(right)) < 2**63 and _COMPARED[operator](left, right)


def untolerated(
    taints: Iterable[Object], tolerations: Sequence[Object], effects: tuple[str, ...]
) -> Object | None:
    """The first taint with one of `effects` that nothing covers."""
    for taint in taints:
        if taint["effect"] in effects and not any(tolerates(t, taint) for t in tolerations):
            return taint
    return None


def stay_s(taints: Sequence[Object], tolerations: Sequence[Object]) -> float | None:
    """How long a pod may stay with these NoExecute taints: seconds, 0 at once, None for ever."""
    shortest: float | None = None
    for taint in taints:
        covering = next((t for t in tolerations if tolerates(t, taint)), None)
        if covering is None:
            return 0.0
        limit = covering.get("tolerationSeconds")
        if limit is not None:
            shortest = max(0.0, float(limit)) if shortest is None else min(shortest, max(0.0, float(limit)))
    return shortest
