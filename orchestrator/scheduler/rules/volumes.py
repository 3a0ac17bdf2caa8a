"""Which volume suits a claim, as in Kubernetes: pure, over plain objects. Used by the controllers that bind.

Source of the rules: `FindMatchingVolume` of component-helpers and the volume binder's own checks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.api.item import Object
from orchestrator.api.selectors import from_label_selector, from_node_selector_term
from orchestrator.api.volumes import capacity, class_of, is_bound_to, phase_of, requested


@dataclass(frozen=True, slots=True)
class Place:
    """The node that a volume must be reachable from."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


def mismatch(volume: Object, claim: Object) -> str:
    """Why the volume can't serve the claim although the claim names it; empty when it can."""
    spec, wanted = volume["spec"], claim["spec"]
    checks = (
        (capacity(volume) < requested(claim), "requested PV is too small"),
        (class_of(volume) != class_of(claim), "storageClassName does not match"),
        (_attributes(spec) != _attributes(wanted), "VolumeAttributesClassName does not match"),
        (_mode(spec) != _mode(wanted), "incompatible volumeMode"),
        (not modes_suffice(volume, claim), "incompatible accessMode"),
    )
    return next((text for failed, text in checks if failed), "")


def modes_suffice(volume: Object, claim: Object) -> bool:
    """Whether the volume can be accessed in every way that the claim asks for."""
    return set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())


def find_match(
    claim: Object, volumes: Iterable[Object], place: Place | None = None, *, delayed: bool = False
) -> Object | None:
    """The volume for a claim, or None: one reserved for it, else the one of fewest access modes and then of the
    smallest size that suits.

    `delayed` without a `place` finds reserved ones only: the others wait until a pod's node is known.
    """
    best: Object | None = None
    best_rank: tuple[Any, ...] = ()
    size = requested(claim)
    for volume in volumes:
        reference = volume["spec"].get("claimRef")
        if reference:
            if is_bound_to(volume, claim) and _may_serve(volume, claim, place):
                return volume
            continue
        rank = _rank(volume)
        if rank[1] < size or (best is not None and rank >= best_rank):
            continue  # Most end here: the rest costs several times as much.
        free = phase_of(volume) == "Available" and not (delayed and place is None)
        if free and _suits(volume, claim) and _may_serve(volume, claim, place):
            best, best_rank = volume, rank
    return best


def reachable_from(volume: Object, place: Place) -> bool:
    """Whether the volume's node affinity admits the node. Raises `BadRequest` for one that can't be read."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if required is None:
        return True
    return any(_term_matches(term, place) for term in required.get("nodeSelectorTerms") or ())


def _may_serve(volume: Object, claim: Object, place: Place | None) -> bool:
    """What also holds for a volume that is reserved for the claim."""
    spec, wanted = volume["spec"], claim["spec"]
    if "deletionTimestamp" in volume["metadata"] or capacity(volume) < requested(claim):
        return False
    if _mode(spec) != _mode(wanted) or _attributes(spec) != _attributes(wanted):
        return False
    return place is None or reachable_from(volume, place)


def _suits(volume: Object, claim: Object) -> bool:
    selector = claim["spec"].get("selector")
    if selector and not from_label_selector(selector).matches(volume["metadata"].get("labels") or {}):
        return False
    return class_of(volume) == class_of(claim) and modes_suffice(volume, claim)


def _rank(volume: Object) -> tuple[Any, ...]:
    """Number of access modes, size, name."""
    return len(volume["spec"].get("accessModes") or ()), capacity(volume), volume["metadata"]["name"]


def _term_matches(term: Object, place: Place) -> bool:
    """An empty term matches nothing."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    if not from_node_selector_term(expressions).matches(place.labels):
        return False
    return all(
        (place.name in (entry.get("values") or ())) == (entry["operator"] == "In")
        for entry in fields
        if entry.get("key") == "metadata.name"
    )


def _mode(spec: Object) -> str:
    return spec.get("volumeMode") or "Filesystem"


def _attributes(spec: Object) -> str:
    return spec.get("volumeAttributesClassName") or ""
