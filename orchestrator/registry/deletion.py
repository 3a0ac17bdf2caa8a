"""What a delete request does to an object: remove it, mark it, or nothing. Pure; called by the writer.

Rules, in the order of the branches (source: Kubernetes' `rest.BeforeDelete` and the generic registry's store):

1. An object that is already going is only hurried: a shorter grace period moves its deletion time.
2. Finalizers follow from the propagation policy: Foreground adds `foregroundDeletion`, Orphan adds `orphan`.
3. With no finalizer left and no grace period the object is removed; else it is marked and stays.
4. A namespace also waits for `spec.finalizers` and shows phase Terminating.
"""

from dataclasses import dataclass
from typing import Literal

from orchestrator.api.errors import Cause, invalid
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.times import seconds, timestamp

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_POLICIES = {"Foreground": FOREGROUND, "Orphan": ORPHAN, "Background": ""}


@dataclass(frozen=True, slots=True)
class Step:
    """`object` is the object as it will be written, or as it was when removed or kept."""

    action: Literal["remove", "mark", "keep"]
    object: Object


def check_options(options: DeleteOptions) -> None:
    """Raises `Invalid` for a policy that does not exist, or two ways of naming one."""
    policy = options.propagation_policy
    if policy and options.orphan_dependents is not None:
        text = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
    elif policy and policy not in _POLICIES:
        text = f'Unsupported value: "{policy}": supported values: "Background", "Foreground", "Orphan", "nil"'
    else:
        return
    causes = (Cause("FieldValueInvalid", text, "propagationPolicy"),)
    raise invalid("meta.k8s.io", "DeleteOptions", "", causes)


def plan(obj: Object, options: DeleteOptions, grace_period_s: int, now_s: float) -> Step:
    """The step for a delete request. `grace_period_s` is what the strategy grants it."""
    metadata = obj["metadata"]
    if metadata.get("deletionTimestamp"):
        return _hurry(obj, options)
    finalizers = _finalizers(metadata.get("finalizers") or [], options)
    if not finalizers and grace_period_s == 0 and not _held_namespace(obj):
        return Step("remove", obj)
    return Step("mark", _marked(obj, finalizers, grace_period_s, now_s))


def removable(obj: Object) -> bool:
    """Whether nothing holds a marked object any more, so that the write that made it so removes it."""
    metadata = obj["metadata"]
    return (
        bool(metadata.get("deletionTimestamp"))
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
        and not _held_namespace(obj)
    )


def _hurry(obj: Object, options: DeleteOptions) -> Step:
    metadata = obj["metadata"]
    if removable(obj):
        return Step("remove", obj)
    period_s, requested_s = metadata.get("deletionGracePeriodSeconds"), options.grace_period_s
    if period_s is None or requested_s is None or requested_s >= period_s:
        return Step("keep", obj)
    started_s = seconds(metadata["deletionTimestamp"]) - period_s
    shorter = max(0, requested_s)
    changed = {
        **metadata,
        "deletionTimestamp": timestamp(started_s + shorter),
        "deletionGracePeriodSeconds": shorter,
    }
    hurried = {**obj, "metadata": changed}
    return Step("remove" if removable(hurried) else "mark", hurried)


def _marked(obj: Object, finalizers: list[str], grace_period_s: int, now_s: float) -> Object:
    metadata = {**obj["metadata"], "deletionTimestamp": timestamp(now_s + grace_period_s)}
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    if _is_namespace(obj):
        status = {**(obj.get("status") or {}), "phase": "Terminating"}
        return {**obj, "metadata": metadata, "status": status}
    metadata["deletionGracePeriodSeconds"] = grace_period_s
    if metadata.get("generation"):
        metadata["generation"] += 1
    return {**obj, "metadata": metadata}


def _finalizers(before: list[str], options: DeleteOptions) -> list[str]:
    policy = options.propagation_policy
    if not policy and options.orphan_dependents is not None:
        policy = "Orphan" if options.orphan_dependents else "Background"
    if not policy:
        return before
    others = [name for name in before if name not in (FOREGROUND, ORPHAN)]
    return [*others, _POLICIES[policy]] if _POLICIES[policy] else others


def _is_namespace(obj: Object) -> bool:
    return bool(obj["kind"] == "Namespace" and obj["apiVersion"] == "v1")


def _held_namespace(obj: Object) -> bool:
    return _is_namespace(obj) and bool((obj.get("spec") or {}).get("finalizers"))
