"""Taints and tolerations. Pure; used by the scheduler's rules and by the controllers that taint and evict."""

from collections.abc import Iterable, Sequence

from orchestrator.api.item import Object

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


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
    return bool(key) and operator == "Equal" and toleration.get("value", "") == taint.get("value", "")


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
