"""`pods/resize`: cpu and memory of a pod's containers change in place. Pure; called by `pods`.

Invariants: nothing but resources and resize policies of the same containers is taken from the request; requests
and limits grow, shrink or appear, but do not go away; the class of service stays. A pod that runs on a node whose
agent does not report what its containers have is refused. Source: core validation and strategy of Kubernetes v1.36.
"""

from typing import Any

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import with_field
from orchestrator.registry.strategies.pod_annotations import MIRROR
from orchestrator.registry.strategies.pod_updates import same

_LISTS = ("containers", "initContainers")
_RESIZED = ("resources", "resizePolicy")
_MUTABLE = ("cpu", "memory")
_ONLY = "only cpu and memory resources are mutable"


def resized(spec: Object, old: Object) -> Object:
    """`old` with the resources of `spec`. Containers that are others than in `old` stay, for validation to refuse."""
    result = with_field(old, "resources", spec.get("resources"))
    for field in _LISTS:
        now, before = spec.get(field) or [], old.get(field) or []
        if _names(now) == _names(before):
            now = [_with_resources(*pair) for pair in zip(now, before, strict=True)]
        result = with_field(result, field, now or None)
    return result


def _with_resources(new: Object, old: Object) -> Object:
    for name in _RESIZED:
        old = with_field(old, name, new.get(name))
    return old


def _names(containers: list[Object]) -> list[Any]:
    return [container.get("name") for container in containers]


def validate_resize(new: Object, old: Object, qos: str, old_qos: str) -> list[Cause]:
    """What a resize may not do. `new` and `old` are pods that passed `resized`; `qos` are their classes."""
    spec, before = new["spec"], old["spec"]
    refusal = _refusal(new, old)
    if refusal:
        return [causes.forbidden("", refusal)]
    found = _other_containers(spec, before)
    if found:
        return found
    if qos != old_qos:
        text = "Pod QOS Class may not change as a result of resizing"
        found.append(causes.invalid_value("spec", qos, text))
    if not _is_supported(old):
        found.append(causes.forbidden("spec", "Pod running on node without support for resize"))
    for field in _LISTS:
        pairs = zip(spec.get(field) or (), before.get(field) or (), strict=True)
        for at, (now, then) in enumerate(pairs):
            found += _validate_container(f"spec.{field}[{at}]", now, then, field == "containers")
    return found


def _refusal(new: Object, old: Object) -> str:
    """Why this pod can't be resized at all."""
    if any((pod["spec"].get("resources") or {}).get(kind) for pod in (new, old) for kind in _KINDS):
        return "pods with pod-level resources cannot be resized"
    if MIRROR in (old["metadata"].get("annotations") or {}):
        return "static pods cannot be resized"
    if (old["spec"].get("os") or {}).get("name") == "windows":
        return "windows pods cannot be resized"
    return ""


_KINDS = ("requests", "limits")


def _other_containers(new: Object, old: Object) -> list[Cause]:
    found = []
    for field in _LISTS:
        now, before = _names(new.get(field) or []), _names(old.get(field) or [])
        if len(now) != len(before):
            found.append(causes.forbidden(f"spec.{field}", f"{field} may not be added or removed on resize"))
        elif now != before:
            found.append(
                causes.forbidden(f"spec.{field}", f"{field} may not be renamed or reordered on resize")
            )
    return found


def _is_supported(pod: Object) -> bool:
    """Whether the agent of the pod's node changes running containers: it says then what they have."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if (status.get("state") or {}).get("running") is not None:
            return status.get("resources") is not None
    return True


def _validate_container(field: str, new: Object, old: Object, main: bool) -> list[Cause]:
    if not main and old.get("restartPolicy") != "Always":
        if all(same(new, old, name) for name in _RESIZED):
            return []
        return [causes.forbidden("spec", "resources for non-sidecar init containers are immutable")]
    now, before = new.get("resources") or {}, old.get("resources") or {}
    found = [
        causes.forbidden(f"{field}.resources.{kind}", f"resource {kind} cannot be removed")
        for kind in _KINDS
        if (before.get(kind) or {}).keys() - (now.get(kind) or {}).keys()
    ]
    if not same(_fixed(now), _fixed(before), "all") or not same(new, old, "resizePolicy"):
        text = _ONLY if main else "only cpu and memory resources for sidecar containers are mutable"
        found.append(causes.forbidden("spec", text))
    return found


def _fixed(resources: Object) -> Object:
    """The part of a container's resources that no resize changes."""
    amounts = {
        kind: {name: amount for name, amount in (resources.get(kind) or {}).items() if name not in _MUTABLE}
        for kind in _KINDS
    }
    return {"all": {**amounts, "claims": resources.get("claims")}}
