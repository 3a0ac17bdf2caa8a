"""Namespace deletion: everything in it goes first, then the namespace.

1. Only a namespace with a deletion timestamp is touched.
2. Every object of every stored namespaced resource is deleted: pods first, with their grace period, and all else
   once none is left, so that what they live by (policies, claims, secrets) is there until they end.
3. While objects remain (graceful deletion, finalizers) the conditions say which, and the namespace is looked
   at again: soon at first, then less often, and at once when its last pod goes.
4. When nothing remains the finalizer `kubernetes` is taken from the spec through `finalize`, which lets the
   API remove the namespace.
5. A resource that can't be deleted does not keep the others from going; it is named in a condition.
6. While another server that serves a group of the API is away, nobody knows what it holds: the namespace waits.
"""

from collections import Counter
from dataclasses import dataclass, field

from orchestrator.api.errors import ApiError, Conflict, MethodNotAllowed, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import APISERVICES, NAMESPACES, PODS, Resource, ResourceTable
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import find_condition, with_condition, with_value
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

FINALIZER = "kubernetes"
LOOK_AGAIN_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class NamespaceController:
    name = "namespace"
    watches = (NAMESPACES, PODS)
    writes = (NAMESPACES,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, table: ResourceTable) -> None:
        self._client = client
        self._clock = clock
        self._table = table
        self._passes: Counter[str] = Counter()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._namespaces = informers.of(NAMESPACES)
        self._pods = informers.of(PODS)
        self._namespaces.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._pods.on_change(self._pod_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._namespaces.get(key)
        if item is None or not item.meta.deletion_timestamp:
            self._passes.pop(key, None)
            return None
        namespace = item.object
        if FINALIZER not in (namespace.get("spec") or {}).get("finalizers", ()):
            return None
        rest = await self._empty(key)
        rest.away = await self._away()
        if rest.clean:
            await self._finalize(namespace)
            return None
        await self._write_conditions(namespace, rest)
        self._passes[key] += 1
        return LOOK_AGAIN_S[min(self._passes[key], len(LOOK_AGAIN_S)) - 1]

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        if old is None or new is not None:
            return
        namespace = self._namespaces.get(old.meta.namespace)
        if namespace is None or not namespace.meta.deletion_timestamp:
            return
        if not self._pods.list(old.meta.namespace):
            self._queue.add(old.meta.namespace)

    async def _empty(self, namespace: str) -> "Rest":
        """Delete what there is (rule 2); answers what is left."""
        rest = Rest()
        for resource in contents(self._table):
            try:
                items = (await self._client.list(resource, namespace)).items
                if not items:
                    continue
                if any(not item.meta.deletion_timestamp for item in items):
                    await self._delete_all(resource, namespace, items)
                    items = (await self._client.list(resource, namespace)).items
            except ApiError as error:
                rest.errors[resource.qualified] = error.message
                continue
            if items:
                rest.counts[resource.qualified] = len(items)
                rest.finalizers.update(name for item in items for name in item.meta.finalizers)
                if resource is PODS:
                    break
        return rest

    async def _away(self) -> list[str]:
        """Rule 6: group and version of what other servers serve, and do not now."""
        services = (await self._client.list(APISERVICES)).items
        return sorted(_group_version(service.object) for service in services if is_away(service.object))

    async def _delete_all(self, resource: Resource, namespace: str, items: list[Item]) -> None:
        options = DeleteOptions(propagation_policy="Background")
        if "deletecollection" in resource.verbs:
            await self._client.delete_collection(resource, namespace, options)
            return
        for item in items:
            try:
                await self._client.delete(resource, item.meta.name, namespace, options)
            except (NotFound, MethodNotAllowed):
                continue

    async def _finalize(self, namespace: Object) -> None:
        left = [name for name in namespace["spec"]["finalizers"] if name != FINALIZER]
        changed = with_value(namespace, ("spec", "finalizers"), left)
        try:
            await self._client.update(NAMESPACES, changed, subresource="finalize")
        except NotFound:
            return

    async def _write_conditions(self, namespace: Object, rest: "Rest") -> None:
        old = (namespace.get("status") or {}).get("conditions") or []
        new = conditions(old, rest, timestamp(self._clock.now_s()))
        if new == old:
            return
        try:
            changed = with_value(namespace, ("status", "conditions"), new)
            await self._client.update(NAMESPACES, changed, subresource="status")
        except (NotFound, Conflict):
            return  # looked at again anyway


@dataclass(slots=True)
class Rest:
    """What is left in a namespace: objects per resource, their finalizers, errors per resource."""

    counts: Counter[str] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)
    away: list[str] = field(default_factory=list)
    """Groups and versions that can't be asked."""

    @property
    def clean(self) -> bool:
        return not self.counts and not self.errors and not self.away


def is_away(service: Object) -> bool:
    """Whether an APIService is another server's, which does not answer."""
    if not service["spec"].get("service"):
        return False
    available = find_condition((service.get("status") or {}).get("conditions") or [], "Available")
    return available is None or available["status"] != "True"


def _group_version(service: Object) -> str:
    spec = service["spec"]
    return f"{spec.get('group', '')}/{spec.get('version', '')}"


def contents(table: ResourceTable) -> list[Resource]:
    """Stored namespaced resources, one row for each kept form; pods first, their end takes longest."""
    rows: dict[tuple[str, str], Resource] = {}
    for row in table:
        kept_as = row.stored_as or (row.group, row.version)
        if not row.stored or not row.namespaced or kept_as[0] != row.group:
            continue
        if row.version == kept_as[1] or (row.group, row.plural) not in rows:
            rows[row.group, row.plural] = row
    return sorted(rows.values(), key=lambda row: (row != PODS, row.group, row.plural))


def conditions(old: list[Object], rest: Rest, now: str) -> list[Object]:
    """Rule 3 and 5 as conditions, in Kubernetes' words."""
    remaining = [
        f"{name if '.' in name else name + '.'} has {count} resource instances"
        for name, count in sorted(rest.counts.items())
    ]
    holding = [f"{name} in {count} resource instances" for name, count in sorted(rest.finalizers.items())]
    failed = [f"{name}: {text}" for name, text in sorted(rest.errors.items())]
    away = [f"{name}: stale GroupVersion discovery: {name}" for name in rest.away]
    rows: tuple[tuple[str, list[str], str, str, str], ...] = (
        ("NamespaceDeletionDiscoveryFailure", away, "DiscoveryFailed", "ResourcesDiscovered",
         "All resources successfully discovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", [], "", "ParsedGroupVersions",
         "All legacy kube types successfully parsed"),
        ("NamespaceDeletionContentFailure", failed, "ContentDeletionFailed", "ContentDeleted",
         "All content successfully deleted, may be waiting on finalization"),
        ("NamespaceContentRemaining", remaining, "SomeResourcesRemain", "ContentRemoved",
         "All content successfully removed"),
        ("NamespaceFinalizersRemaining", holding, "SomeFinalizersRemain", "ContentHasNoFinalizers",
         "All content-preserving finalizers finished"),
    )  # fmt: skip
    texts = {
        "NamespaceDeletionDiscoveryFailure": f"Discovery failed for some groups, {len(away)} failing: "
        "unable to retrieve the complete list of server APIs: ",
        "NamespaceContentRemaining": "Some resources are remaining: ",
        "NamespaceFinalizersRemaining": "Some content in the namespace has finalizers remaining: ",
        "NamespaceDeletionContentFailure": f"Failed to delete all resource types, {len(failed)} remaining: ",
    }
    new = old
    for kind, found, bad_reason, good_reason, good_text in rows:
        bad = bool(found)
        condition = {
            "type": kind,
            "status": "True" if bad else "False",
            "reason": bad_reason if bad else good_reason,
            "message": texts[kind] + ", ".join(found) if bad else good_text,
        }
        new = with_condition(new, condition, now)
    return new
