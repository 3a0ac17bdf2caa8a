"""The ReplicaSets of a Deployment: which is new, what a new one looks like, what its annotations say. Pure.

Invariants: the new set has the highest revision of all; a revision never falls; every active set's annotations say for
how many replicas of the Deployment it was sized, so that a change of replicas is told from a step of a rollout.
Called by `orchestrator.controllers.deployment`.
"""

from dataclasses import dataclass

from orchestrator.api.item import Object
from orchestrator.api.resources import DEPLOYMENTS
from orchestrator.controllers.objects import controller_reference, with_value, without
from orchestrator.controllers.rollout import (
    DESIRED,
    MAXIMUM,
    REVISION,
    REVISION_HISTORY,
    Bounds,
    Sizes,
    age_order,
    annotated,
    size,
)
from orchestrator.controllers.selecting import HASH_LABEL
from orchestrator.controllers.templates import same_template, template_hash

HISTORY_MAX = 2000
"""Characters of the annotation that lists the revisions which a set had."""
NO_HISTORY_LIMIT = 2**31 - 1
_OWN_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAXIMUM,
    "deprecated.deployment.rollback.to",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SetWrite:
    """A ReplicaSet before and after."""

    old: Object
    new: Object


@dataclass(frozen=True, slots=True)
class Family:
    """A Deployment and its ReplicaSets. `marks` are annotations that the new set shall have besides the usual ones."""

    deployment: Object
    limits: Bounds
    new: Object | None
    old: list[Object]
    marks: dict[str, str]

    @property
    def sets(self) -> list[Object]:
        return [*self.old, self.new] if self.new is not None else self.old


def find_new(deployment: Object, sets: list[Object]) -> Object | None:
    """The oldest set with the Deployment's template."""
    template = deployment["spec"]["template"]
    same = [s for s in sets if same_template(s["spec"]["template"], template)]
    return min(same, key=age_order, default=None)


def new_set(family: Family, replicas: int) -> Object:
    """The ReplicaSet for the Deployment's template, labelled and named after its hash."""
    deployment = family.deployment
    spec, meta = deployment["spec"], deployment["metadata"]
    digest = template_hash(spec["template"], (deployment.get("status") or {}).get("collisionCount", 0))
    template = with_value(spec["template"], ("metadata", "labels", HASH_LABEL), digest)
    selector = with_value(spec["selector"], ("matchLabels", HASH_LABEL), digest)
    annotations = without(meta.get("annotations") or {}, *_OWN_ANNOTATIONS)
    annotations |= _size_annotations(family.limits) | {REVISION: revision_of(None, family.old)}
    set_spec = {"replicas": replicas, "selector": selector, "template": template}
    if spec.get("minReadySeconds"):
        set_spec["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "annotations": annotations,
            "ownerReferences": [controller_reference(DEPLOYMENTS, deployment)],
        },
        "spec": set_spec,
    }


def revision_of(new: Object | None, old: list[Object]) -> str:
    """One more than any old set's; a new set that has more keeps it."""
    following = max((annotated(s, REVISION) or 0 for s in old), default=0) + 1
    current = (annotated(new, REVISION) or 0) if new is not None else 0
    return str(max(following, current))


def set_writes(family: Family, sizes: Sizes, *, annotate_old: bool = False) -> list[SetWrite]:
    """Sets that must be written: resized ones, the new one with its annotations, and with `annotate_old`
    the active old ones too (so that a change of replicas is dealt with once)."""
    new, limits = family.new, family.limits
    writes = []
    for before in ([new] if new is not None else []) + family.old:
        target = sizes.get(before["metadata"]["name"], size(before))
        resized = target != size(before)
        after = with_value(before, ("spec", "replicas"), target) if resized else before
        if before is new:
            after = _updated_new(after, family)
        elif resized or (annotate_old and size(before) > 0):
            after = annotate(after, _size_annotations(limits))
        if after != before:
            writes.append(SetWrite(before, after))
    return writes


def annotate(replica_set: Object, annotations: dict[str, str]) -> Object:
    """The set with `annotations` too; itself when it has them."""
    current = replica_set["metadata"].get("annotations") or {}
    if annotations.items() <= current.items():
        return replica_set
    return with_value(replica_set, ("metadata", "annotations"), {**current, **annotations})


def surplus_history(deployment: Object, old: list[Object]) -> list[Object]:
    """Empty old sets beyond the history limit, lowest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit", NO_HISTORY_LIMIT)
    alive = [s for s in old if "deletionTimestamp" not in s["metadata"]]
    if limit == NO_HISTORY_LIMIT or len(alive) <= limit:
        return []
    alive.sort(key=lambda s: (annotated(s, REVISION) or 0, age_order(s)))
    return [s for s in alive[: len(alive) - limit] if _is_empty(s)]


def _is_empty(replica_set: Object) -> bool:
    status = replica_set.get("status") or {}
    observed = status.get("observedGeneration", 0) >= replica_set["metadata"].get("generation", 0)
    return size(replica_set) == 0 and status.get("replicas", 0) == 0 and observed


def _size_annotations(limits: Bounds) -> dict[str, str]:
    return {DESIRED: str(limits.replicas), MAXIMUM: str(limits.total_max)}


def _updated_new(new: Object, family: Family) -> Object:
    """The new set repeats the Deployment's annotations and minReadySeconds, and has the highest revision."""
    deployment = family.deployment
    annotations = without(deployment["metadata"].get("annotations") or {}, *_OWN_ANNOTATIONS)
    annotations |= _size_annotations(family.limits) | family.marks
    revision = revision_of(new, family.old)
    current = (new["metadata"].get("annotations") or {}).get(REVISION, "")
    if revision != current:
        annotations[REVISION] = revision
        if current:
            known = (new["metadata"].get("annotations") or {}).get(REVISION_HISTORY, "")
            annotations[REVISION_HISTORY] = _history(known, current)
    min_ready_s = deployment["spec"].get("minReadySeconds", 0)
    if new["spec"].get("minReadySeconds", 0) != min_ready_s:
        new = with_value(new, ("spec", "minReadySeconds"), min_ready_s)
    return annotate(new, annotations)


def _history(known: str, revision: str) -> str:
    """The revisions that a set had, latest last; the oldest go when there are too many."""
    revisions = [*known.split(","), revision] if known else [revision]
    while len(",".join(revisions)) > HISTORY_MAX:
        revisions = revisions[1:]
    return ",".join(revisions)
