"""Shared by the controllers of volumes and claims: edits of both, the default class, events told once. Pure but for
`Teller`, which owns what it told."""

from collections import OrderedDict
from collections.abc import Iterable

from orchestrator.api.item import Item, Object
from orchestrator.api.volumes import BOUND_BY_CONTROLLER, annotations, class_of, is_bound_to, phase_of
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.controllers.objects import with_value, without

DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
TOLD_MAX = 10_000
TELL_AGAIN_S = 1800.0


def annotated(obj: Object, **changes: str | None) -> Object:
    """A copy with annotations set, or without those that are None; names are given by `**{name: value}`."""
    kept = {name: value for name, value in annotations(obj).items() if name not in changes}
    added = {name: value for name, value in changes.items() if value is not None}
    merged = {**kept, **added}
    if merged == dict(annotations(obj)):
        return obj
    metadata = {**without(obj["metadata"], "annotations"), **({"annotations": merged} if merged else {})}
    return {**obj, "metadata": metadata}


def without_finalizer(obj: Object, name: str) -> list[str] | None:
    """The finalizers that are left without `name`; None when the object does not have it."""
    finalizers = obj["metadata"].get("finalizers") or []
    return [kept for kept in finalizers if kept != name] if name in finalizers else None


def claimed(volume: Object, claim: Object) -> Object:
    """The volume with a `claimRef` to the claim; the same object when it has it already."""
    reference = volume["spec"].get("claimRef") or {}
    metadata = claim["metadata"]
    if reference.get("uid") == metadata["uid"] and is_bound_to(volume, claim):
        return volume
    reserved = is_bound_to(volume, claim)
    wanted = {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
    }
    volume = with_value(volume, ("spec", "claimRef"), wanted)
    return volume if reserved else annotated(volume, **{BOUND_BY_CONTROLLER: "yes"})


def default_class(classes: Iterable[Item]) -> str:
    """Name of the newest class that is marked as the default, by name among equals; empty without any."""
    marked = [
        item
        for item in classes
        if any(annotations(item.object).get(mark) == "true" for mark in DEFAULT_CLASS)
    ]
    marked.sort(key=lambda item: item.meta.name)
    newest = max(marked, key=lambda i: i.object["metadata"].get("creationTimestamp") or "", default=None)
    return newest.meta.name if newest is not None else ""


def free_index(volume: Item) -> tuple[str, ...]:
    """Index function `free`: the class of a volume that any claim may take."""
    obj = volume.object
    return (class_of(obj),) if phase_of(obj) == "Available" and not obj["spec"].get("claimRef") else ()


class Teller:
    """Events that describe a state: told when the state is reached, and again only when it lasts.

    So a claim that waits for days is not written about at every look. Owner: one controller.
    """

    def __init__(self, recorder: EventRecorder, clock: Clock) -> None:
        self._recorder = recorder
        self._clock = clock
        self._told: OrderedDict[str, tuple[str, str, float]] = OrderedDict()

    def tell(self, obj: Object, type_: str, reason: str, message: str) -> None:
        uid, now_s = obj["metadata"]["uid"], self._clock.monotonic_s()
        last = self._told.get(uid)
        if last is not None and last[:2] == (reason, message) and now_s - last[2] < TELL_AGAIN_S:
            return
        self._told[uid] = (reason, message, now_s)
        self._told.move_to_end(uid)
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        self._recorder.event(obj, type_, reason, message)
