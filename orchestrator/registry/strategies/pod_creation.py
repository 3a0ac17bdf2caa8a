"""What only the creation of a pod does to it, once its defaults are in. Pure; called by `pods`.

Rules:
1. Label keys that a pod shares with others (`matchLabelKeys`) or not (`mismatchLabelKeys`) become requirements of
   the selector beside them, with the values that the pod's own labels have now. A selector that is absent
   matches nothing and stays so.
2. A pod with scheduling gates says from its first moment that it is not to be scheduled.

Source: core/v1's pod strategy of Kubernetes v1.36.
"""

from typing import Any

from orchestrator.api.item import Object

_AFFINITIES = ("podAffinity", "podAntiAffinity")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def with_label_keys(spec: Object, labels: Object) -> Object:
    """`spec` with the label keys of its affinity and spreading merged into their selectors."""
    affinity, constraints = spec.get("affinity"), spec.get("topologySpreadConstraints")
    if affinity:
        merged = {
            name: _merged_affinity(affinity[name], labels) for name in _AFFINITIES if affinity.get(name)
        }
        spec = {**spec, "affinity": {**affinity, **merged}}
    if constraints:
        spec = {**spec, "topologySpreadConstraints": [_merged(term, labels) for term in constraints]}
    return spec


def gated_condition(now: str) -> Object:
    """The condition of a pod that has scheduling gates; `now` is a timestamp."""
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "lastTransitionTime": now,
    }


def _merged_affinity(affinity: Object, labels: Object) -> Object:
    result = dict(affinity)
    if affinity.get(_REQUIRED):
        result[_REQUIRED] = [_merged(term, labels) for term in affinity[_REQUIRED]]
    if affinity.get(_PREFERRED):
        result[_PREFERRED] = [
            {**weighted, "podAffinityTerm": _merged(weighted.get("podAffinityTerm") or {}, labels)}
            for weighted in affinity[_PREFERRED]
        ]
    return result


def _merged(term: Object, labels: Object) -> Object:
    """A term of affinity or a constraint, with its keys in its selector."""
    selector = term.get("labelSelector")
    same, different = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    added: list[Any] = [
        {"key": key, "operator": operator, "values": [labels[key]]}
        for keys, operator in ((same, "In"), (different, "NotIn"))
        for key in keys
        if key in labels
    ]
    if selector is None or not added:
        return term
    expressions = [*(selector.get("matchExpressions") or ()), *added]
    return {**term, "labelSelector": {**selector, "matchExpressions": expressions}}
