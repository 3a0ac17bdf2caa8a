"""What may change in a pod's spec, field by field, and what of its ephemeral containers. Pure; called by `pods`.

Invariants: only images, a smaller deadline, added tolerations, removed scheduling gates and the repair of a
negative grace period pass; a pod that is still gated may also be bound tighter to nodes. Values that say the
same (absent and empty) are no change. Source: core validation of Kubernetes v1.36.
"""

from typing import Any

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import with_field
from orchestrator.registry.strategies.pod_annotations import MIRROR

_UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to"
    " existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was"
    " previously negative)"
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_PLAIN_FLAGS = frozenset(("hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly"))
"""Booleans for which false and absent are the same; for the others absence has a meaning of its own."""


def validate_spec_update(new: Object, old: Object) -> list[Cause]:
    """What `new` changes that a pod's spec keeps; both with defaults, `new` valid by itself or not."""
    for field in ("containers", "initContainers"):
        if len(new.get(field) or ()) != len(old.get(field) or ()):
            return [causes.forbidden(f"spec.{field}", "pod updates may not add or remove containers")]
    found = _validate_deadline(new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"))
    found += _validate_tolerations(new.get("tolerations") or [], old.get("tolerations") or [])
    found += _validate_gates(new.get("schedulingGates") or [], old.get("schedulingGates") or [])
    allowed = _as_before(new, old)
    if old.get("schedulingGates"):
        allowed = _tightened(allowed, old, found)
    changed = sorted(name for name in allowed.keys() | old.keys() if not same(allowed, old, name))
    if changed:
        found.append(causes.forbidden("spec", f"{_UPDATABLE}\nchanged: {', '.join(changed)}"))
    return found


def same(new: Object, old: Object, name: str) -> bool:
    """Whether field `name` says the same in both."""
    now, before = new.get(name), old.get(name)
    if now == before or (now in _EMPTY and before in _EMPTY):
        return True
    if name in _PLAIN_FLAGS:
        return bool(now) == bool(before)
    return _alike(now, before)


def _alike(now: Any, before: Any) -> bool:
    if isinstance(now, dict) and isinstance(before, dict):
        return all(same(now, before, name) for name in now.keys() | before.keys())
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return all(_alike(*pair) for pair in zip(now, before, strict=True))
    return bool(now == before)


def _as_before(new: Object, old: Object) -> Object:
    """`new` with every field that may change put back to its old value."""
    result = dict(new)
    for field in ("containers", "initContainers"):
        if new.get(field):
            pairs = zip(new[field], old[field], strict=True)
            result[field] = [{**now, "image": before.get("image")} for now, before in pairs]
    mutable = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if old.get("terminationGracePeriodSeconds", 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        mutable.append("terminationGracePeriodSeconds")
    for field in mutable:
        result = with_field(result, field, old.get(field))
    return result


def _validate_deadline(new: int | None, old: int | None) -> list[Cause]:
    """From nothing to a deadline, or to an earlier one."""
    field = "spec.activeDeadlineSeconds"
    if old is None or new == old:
        return []
    if new is None:
        return [causes.invalid_value(field, None, "must not update from a positive integer to nil value")]
    if new > old:
        return [causes.invalid_value(field, new, "must be less than or equal to previous value")]
    return []


def _validate_tolerations(new: list[Object], old: list[Object]) -> list[Cause]:
    """Old tolerations stay; only their seconds may change."""
    kept = [with_field(toleration, "tolerationSeconds", None) for toleration in new]
    if all(with_field(toleration, "tolerationSeconds", None) in kept for toleration in old):
        return []
    text = "existing toleration can not be modified except its tolerationSeconds"
    return [causes.forbidden("spec.tolerations", text)]


def _validate_gates(new: list[Object], old: list[Object]) -> list[Cause]:
    before = {gate.get("name") for gate in old}
    return [
        causes.forbidden(
            f"spec.schedulingGates[{at}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for at, gate in enumerate(new)
        if gate.get("name") not in before
    ]


# ── Gated pods ───────────────────────────────────────────────────────────────────────────────────────────


def _tightened(spec: Object, old: Object, found: list[Cause]) -> Object:
    """`spec` with the node selector and node affinity of `old`; what does not only tighten them goes to `found`."""
    if not same(spec, old, "nodeSelector"):
        new, before = spec.get("nodeSelector") or {}, old.get("nodeSelector") or {}
        if any(new.get(key) != value for key, value in before.items()):
            text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            found.append(causes.invalid_value("spec.nodeSelector", new, text))
        spec = with_field(spec, "nodeSelector", old.get("nodeSelector"))
    affinity, old_affinity = spec.get("affinity") or {}, old.get("affinity") or {}
    if same(affinity, old_affinity, "nodeAffinity"):
        return spec
    found += _validate_node_affinity(affinity.get("nodeAffinity"), old_affinity.get("nodeAffinity"))
    return with_field(
        spec, "affinity", with_field(affinity, "nodeAffinity", old_affinity.get("nodeAffinity"))
    )


def _validate_node_affinity(new: Object | None, old: Object | None) -> list[Cause]:
    """Old terms keep their number, and each only gains requirements."""
    field = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    old_terms = ((old or {}).get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    new_terms = ((new or {}).get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    if not old_terms:
        return []
    if len(new_terms) != len(old_terms):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [causes.invalid_value(field, new_terms, text)]
    return [
        causes.invalid_value(f"{field}[{at}]", term, "only additions are allowed (no mutations or deletions)")
        for at, term in enumerate(new_terms)
        if not _only_adds(term, old_terms[at])
    ]


def _only_adds(new: Object, old: Object) -> bool:
    pairs = [(new.get(name) or [], old.get(name) or []) for name in ("matchExpressions", "matchFields")]
    if not any(before for _, before in pairs):
        # An empty term matches nothing; requirements would make it match something.
        return not any(now for now, _ in pairs)
    return all(now[: len(before)] == before for now, before in pairs)


# ── Ephemeral containers ─────────────────────────────────────────────────────────────────────────────────


def validate_ephemeral_update(new: Object, old: Object) -> list[Cause]:
    """Ephemeral containers are added, never changed or removed. Both are pods."""
    if MIRROR in (old["metadata"].get("annotations") or {}):
        return [causes.forbidden("", "static pods do not support ephemeral containers")]
    now = {container.get("name"): container for container in new["spec"].get("ephemeralContainers") or ()}
    found = []
    for before in old["spec"].get("ephemeralContainers") or ():
        name = before.get("name")
        if name not in now:
            text = f'existing ephemeral containers "{name}" may not be removed\n'
            found.append(causes.forbidden("spec.ephemeralContainers", text))
        elif not _alike(now[name], before):
            text = f'existing ephemeral containers "{name}" may not be changed\n'
            found.append(causes.forbidden("spec.ephemeralContainers", text))
    return found
