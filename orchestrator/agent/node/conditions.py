"""A node's conditions with a kubelet's reasons and words, and the events of their changes. Pure.."""

from collections.abc import Collection, Iterable, Mapping

from orchestrator.api.item import Object

PRESSURES = {
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}
"""Reason and message without and with the pressure."""
_EVENTS = {
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
}


def conditions(
    old: Iterable[Object], pressures: Collection[str], problems: Iterable[str], now: str
) -> list[Object]:
    """Those of other owners first, as they were; a node with `problems` is not Ready. `now` is RFC 3339."""
    wanted = {
        kind: ("True" if kind in pressures else "False", *texts[kind in pressures])
        for kind, texts in PRESSURES.items()
    }
    wanted["Ready"] = _ready([problem for problem in problems if problem])
    before = {condition["type"]: condition for condition in old}
    others = [condition for kind, condition in before.items() if kind not in wanted]
    return [*others, *(_condition(kind, told, before.get(kind), now) for kind, told in wanted.items())]


def changes(old: Iterable[Object], new: Iterable[Object]) -> list[str]:
    """Reasons of the events for what became different; of a first status, for everything."""
    before = {condition["type"]: condition["status"] for condition in old}
    return [
        _EVENTS[condition["type"], condition["status"]]
        for condition in new
        if (condition["type"], condition["status"]) in _EVENTS
        and before.get(condition["type"]) != condition["status"]
    ]


def _ready(problems: list[str]) -> tuple[str, str, str]:
    if not problems:
        return "True", "KubeletReady", "kubelet is posting ready status"
    text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    return "False", "KubeletNotReady", text


def _condition(kind: str, told: tuple[str, str, str], old: Mapping[str, str] | None, now: str) -> Object:
    status, reason, message = told
    changed = old is None or old.get("status") != status
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now if changed or old is None else old["lastTransitionTime"],
    }
