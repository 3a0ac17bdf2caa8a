"""CustomResourceDefinitions: whether their objects can be served, and their removal with all objects.

1. A name (plural, singular, short names, kind, list kind) is accepted unless another definition of the group, or a
   built-in resource of the group, has it; what was accepted stays accepted. Condition NamesAccepted says so, and
   which name is taken.
2. Once all names are accepted the definition is Established, for good: from then on its objects are served.
3. A definition in a protected group says with KubernetesAPIApprovalPolicyConformant whether it was approved.
4. A schema that is not structural shows as NonStructuralSchema. The API accepts no such, so the condition is only
   removed here where an older one is left.
5. A definition being deleted has all its objects deleted, namespace by namespace, then loses the finalizer.
6. When a definition changes or goes, others of its group may have their names now.

Source: the apiextensions controllers of Kubernetes v1.36. Rows of the table follow the Established condition
(`registry.custom_kinds`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.api.custom.definition import approval, is_protected
from orchestrator.api.errors import ApiError, MethodNotAllowed, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import ListOptions
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS, READ_WRITE, Resource, ResourceTable
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import find_condition, with_condition
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
PAGE = 500
LOOK_AGAIN_S = 1.0


class CustomResourceDefinitionController:
    name = "customresourcedefinition"
    watches = (CUSTOMRESOURCEDEFINITIONS,)
    writes = (CUSTOMRESOURCEDEFINITIONS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, table: ResourceTable) -> None:
        self._client = client
        self._clock = clock
        self._table = table

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._definitions = informers.of(CUSTOMRESOURCEDEFINITIONS)
        self._definitions.on_change(self._changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._definitions.get(key)
        if item is None:
            return None
        crd = item.object
        if crd["metadata"].get("deletionTimestamp"):
            return await self._finalize(crd)
        status = plan(crd, self._others(crd), timestamp(self._clock.now_s()))
        if status is not None:
            await self._client.update(
                CUSTOMRESOURCEDEFINITIONS, {**crd, "status": status}, subresource="status"
            )
        return None

    def _changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        if item is None:
            return
        self._queue.add(key_of(item))
        if old is not new:
            _, _, group = item.meta.name.partition(".")
            for other in self._definitions.list():
                if other.meta.name.endswith(f".{group}") and other.meta.name != item.meta.name:
                    self._queue.add(key_of(other))

    def _others(self, crd: Object) -> "Taken":
        """The names in the group that others have."""
        group, name = crd["spec"]["group"], crd["metadata"]["name"]
        taken = Taken(set(), set())
        for item in self._definitions.list():
            other = item.object
            if other["spec"]["group"] == group and other["metadata"]["name"] != name:
                taken.add((other.get("status") or {}).get("acceptedNames") or {})
        for row in self._table:
            if row.group == group and row.columns is None:
                taken.add(_names_of(row))
        return taken

    # ── deletion ────────────────────────────────────────────────────────────────────────────────────────

    async def _finalize(self, crd: Object) -> float | None:
        if FINALIZER not in (crd["metadata"].get("finalizers") or ()):
            return None
        if not self._is_own(crd):
            await self._release(crd, _deletion("False", "NeverEstablished", "resource was never established"))
            return None
        row = _any_row(crd)
        try:
            left = await self._delete_objects(row)
        except ApiError as error:
            text = f"could not list instances: {error.message}"
            await self._write_status(crd, _deletion("True", "InstanceDeletionFailed", text))
            raise
        if left:
            text = "CustomResource deletion is in progress"
            await self._write_status(crd, _deletion("True", "InstanceDeletionInProgress", text))
            return LOOK_AGAIN_S
        await self._release(crd, _deletion("False", "InstanceDeletionCompleted", "removed all instances"))
        return None

    def _is_own(self, crd: Object) -> bool:
        """Whether the objects under the definition's names are its own."""
        established = find_condition((crd.get("status") or {}).get("conditions") or [], "Established")
        return established is not None and established["status"] == "True"

    async def _delete_objects(self, row: Resource) -> bool:
        """Delete every object; whether some are left, as they have finalizers."""
        found = await self._client.list(row, None, ListOptions())
        namespaces = dict.fromkeys(
            item.meta.namespace for item in found.items if not item.meta.deletion_timestamp
        )
        for namespace in namespaces:
            try:
                await self._client.delete_collection(row, namespace)
            except (NotFound, MethodNotAllowed):
                continue
        return bool((await self._client.list(row, None, ListOptions(limit=1))).items)

    async def _release(self, crd: Object, condition: Object) -> None:
        written = await self._write_status(crd, condition)
        if written is None:
            return
        kept = [name for name in written["metadata"].get("finalizers") or () if name != FINALIZER]
        metadata = {**written["metadata"], "finalizers": kept}
        try:
            await self._client.update(CUSTOMRESOURCEDEFINITIONS, {**written, "metadata": metadata})
        except NotFound:
            return

    async def _write_status(self, crd: Object, condition: Object) -> Object | None:
        """The definition with the condition set; None when it is gone. Raises `Conflict`."""
        status = crd.get("status") or {}
        before = status.get("conditions") or []
        conditions = with_condition(before, condition, timestamp(self._clock.now_s()))
        if conditions is before:
            return crd
        changed = {**crd, "status": {**status, "conditions": conditions}}
        try:
            return await self._client.update(CUSTOMRESOURCEDEFINITIONS, changed, subresource="status")
        except NotFound:
            return None


@dataclass(frozen=True, slots=True)
class Taken:
    """Names that are in use in a group."""

    resources: set[str]
    kinds: set[str]

    def add(self, names: Object) -> None:
        """Take the names of an `acceptedNames`."""
        self.resources.update(filter(None, (names.get("plural"), names.get("singular"))))
        self.resources.update(names.get("shortNames") or ())
        self.kinds.update(filter(None, (names.get("kind"), names.get("listKind"))))


def plan(crd: Object, taken: Taken, now: str) -> Object | None:
    """Rules 1 to 4: the status to write, or None when it is right."""
    before, generation = crd.get("status") or {}, crd["metadata"].get("generation", 1)
    accepted, naming = _accept(crd["spec"]["names"], before.get("acceptedNames") or {}, taken)
    conditions = before.get("conditions") or []
    seen = {"observedGeneration": generation}
    conditions = with_condition(conditions, {**naming, **seen}, now)
    established = find_condition(conditions, "Established")
    if naming["status"] == "True":
        conditions = with_condition(conditions, {**_ESTABLISHED, **seen}, now)
    elif established is None:
        conditions = with_condition(conditions, {**_NOT_ESTABLISHED, **seen}, now)
    if is_protected(crd["spec"]["group"]):
        status, reason, message = approval(crd)
        conformant = _condition("KubernetesAPIApprovalPolicyConformant", status, reason, message)
        conditions = with_condition(conditions, {**conformant, **seen}, now)
    if find_condition(conditions, "NonStructuralSchema") is not None:
        conditions = [each for each in conditions if each["type"] != "NonStructuralSchema"]
    after = {**before, **seen, "acceptedNames": accepted, "conditions": conditions}
    return None if after == before else after


def _accept(wanted: Object, accepted: Object, taken: Taken) -> tuple[Object, Object]:
    """The names that are the definition's own now, and the condition about it."""
    names: dict[str, Any] = dict(accepted)
    conflict: Object | None = None
    for field, reason, used in (
        ("plural", "PluralConflict", taken.resources),
        ("singular", "SingularConflict", taken.resources),
        ("shortNames", "ShortNamesConflict", taken.resources),
        ("kind", "KindConflict", taken.kinds),
        ("listKind", "ListKindConflict", taken.kinds),
    ):
        busy = _busy(wanted.get(field), accepted.get(field), used)
        if busy:
            message = ", ".join(f'"{name}" is already in use' for name in busy)
            conflict = _condition(
                "NamesAccepted", "False", reason, message if len(busy) == 1 else f"[{message}]"
            )
        elif wanted.get(field):
            names[field] = wanted[field]
        else:
            names.pop(field, None)
    names.pop("categories", None)
    if wanted.get("categories"):
        names["categories"] = wanted["categories"]
    names.setdefault("plural", "")
    names.setdefault("kind", "")
    return names, conflict or _condition("NamesAccepted", "True", "NoConflicts", "no conflicts found")


def _busy(wanted: Any, accepted: Any, used: set[str]) -> list[str]:
    """Names that are wanted, new to the definition, and somebody else's."""
    new = [wanted] if isinstance(wanted, str) else wanted or ()
    own: Iterable[str] = [accepted] if isinstance(accepted, str) else accepted or ()
    return [name for name in new if name not in own and name in used]


def _names_of(row: Resource) -> Object:
    return {
        "plural": row.plural,
        "singular": row.singular_name,
        "shortNames": list(row.short_names),
        "kind": row.kind,
        "listKind": row.list_kind,
    }


def _condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _deletion(status: str, reason: str, message: str) -> Object:
    return _condition("Terminating", status, reason, message)


_ESTABLISHED = _condition(
    "Established", "True", "InitialNamesAccepted", "the initial names have been accepted"
)
_NOT_ESTABLISHED = _condition("Established", "False", "NotAccepted", "not all names are accepted")


def _any_row(crd: Object) -> Resource:
    """A row under which all objects of the definition are reached, whether or not it is served."""
    spec = crd["spec"]
    names = crd["status"]["acceptedNames"]
    versions: Sequence[Object] = spec["versions"]
    version = next(version["name"] for version in versions if version.get("storage"))
    return Resource(
        spec["group"],
        version,
        names["kind"],
        names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        verbs=READ_WRITE,
        prefix=f"{spec['group']}/{names['plural']}",
    )
