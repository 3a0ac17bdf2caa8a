"""Subresources whose change is a rule of its own: binding, eviction, scale, and a namespace's finalize.

`status` and `ephemeralcontainers` are not here: a strategy splits them off the main resource. Each of these
writes through the `Writer`, so admission sees them and the store decides their races.
"""

from typing import Any

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import Identity
from orchestrator.api.conversion import Views
from orchestrator.api.errors import ApiError, BadRequest, Cause, Conflict, invalid, not_found
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.options import DeleteOptions, WriteOptions
from orchestrator.api.resources import NAMESPACES, PODS, Resource
from orchestrator.api.selectors import Selector, from_label_selector, from_set
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.registry.bindings import Bindings
from orchestrator.registry.custom_scale import Paths, custom_scale, with_replicas
from orchestrator.registry.eviction import Evictions
from orchestrator.registry.patching import Patch
from orchestrator.registry.results import Deleted, Written
from orchestrator.registry.storage import Storage
from orchestrator.registry.writing import Target, Writer

BINDING, EVICTION, SCALE = ("", "v1", "Binding"), ("policy", "v1", "Eviction"), ("autoscaling", "v1", "Scale")
_REPLICAS_MAX = 2**31 - 1


class Subresources:
    """The verbs of these subresources."""

    def __init__(
        self, storage: Storage, writer: Writer, views: Views, admission: AdmissionChain, clock: Clock
    ) -> None:
        self._storage = storage
        self._views = views
        self._writer = writer
        self._clock = clock
        self._evictions = Evictions(storage, writer, clock)
        self._bindings = Bindings(storage, admission, _assigned, clock)

    # ── pods/binding ────────────────────────────────────────────────────────────────────────────────────

    async def bind(
        self, namespace: str, name: str, binding: Object, options: WriteOptions, identity: Identity
    ) -> Written:
        """Assign the pod to `binding.target.name`. Raises `Conflict` when it has a node or is going."""
        binding, warnings = self._writer.checked_kind(BINDING, binding, options)
        if (binding["metadata"].get("name") or name) != name:
            raise BadRequest("name in URL does not match name in Binding object")
        target = binding.get("target") or {}
        node = target.get("name") or ""
        if target.get("kind") not in (None, "", "Node"):
            raise _invalid_binding(name, "target.kind", f'Unsupported value: "{target["kind"]}"')
        if not node:
            raise _invalid_binding(name, "target.name", "Required value")
        given = binding.get("metadata") or {}
        now = timestamp(self._clock.now_s())

        def assigned(pod: Object) -> tuple[Object, list[str]]:
            return _assigned(pod, name, node, given, now), warnings

        where = Target(PODS, namespace, name, options, identity, "binding")
        return await self._writer.modify(where, assigned, rules=False)

    async def bind_many(
        self, bindings: list[Object], options: WriteOptions, identity: Identity
    ) -> list[ApiError | None]:
        """The same for many pods, each with `metadata.namespace`, in one write; what went wrong with each."""

        async def single(binding: Object) -> object:
            metadata = binding["metadata"]
            return await self.bind(metadata["namespace"], metadata["name"], binding, options, identity)

        return await self._bindings.bind(bindings, identity, single)

    # ── pods/eviction ───────────────────────────────────────────────────────────────────────────────────

    async def evict(
        self, namespace: str, name: str, eviction: Object, options: WriteOptions, identity: Identity
    ) -> Deleted:
        """Delete the pod, within its disruption budget, with the options that the eviction carries."""
        if eviction.get("apiVersion") == "policy/v1beta1":  # the same fields; older clients ask with it
            eviction = {**eviction, "apiVersion": "policy/v1"}
        eviction, _ = self._writer.checked_kind(EVICTION, eviction, options)
        if (eviction["metadata"].get("name") or name) != name:
            raise BadRequest("name in URL does not match name in Eviction object")
        where = Target(PODS, namespace, name, options, identity, "eviction")
        wanted = delete_options(eviction.get("deleteOptions"), options.dry_run)
        return await self._evictions.evict(where, wanted)

    # ── namespaces/finalize ─────────────────────────────────────────────────────────────────────────────

    async def finalize(self, name: str, obj: Object, options: WriteOptions, identity: Identity) -> Written:
        """Replace `spec.finalizers` of a namespace; the last one gone removes it when it is terminating."""
        where = Target(NAMESPACES, "", name, options, identity, "finalize")
        obj, warnings = self._writer.checked(NAMESPACES, obj, options)
        finalizers = (obj.get("spec") or {}).get("finalizers") or []

        def finalized(namespace: Object) -> tuple[Object, list[str]]:
            spec = {key: value for key, value in (namespace.get("spec") or {}).items() if key != "finalizers"}
            if finalizers:
                spec["finalizers"] = finalizers
            return {**namespace, "metadata": _conditional(namespace, obj), "spec": spec}, warnings

        return await self._writer.modify(where, finalized, rules=False)

    # ── */scale ─────────────────────────────────────────────────────────────────────────────────────────

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Item:
        """The object's replicas as an `autoscaling/v1` Scale."""
        item = await self._storage.find(resource, namespace, name)
        if item is None:
            raise not_found(resource.group, resource.plural, name)
        view = self._views.of(resource)
        return _scale_of(resource, item if view is None else view.item(item))

    async def update_scale(
        self, resource: Resource, namespace: str, name: str, scale: Object, options: WriteOptions,
        identity: Identity,
    ) -> Written:  # fmt: skip
        """Set the replicas; a `resourceVersion` in the scale makes it conditional."""
        return await self._write_scale(resource, namespace, name, lambda _: scale, options, identity)

    async def patch_scale(
        self, resource: Resource, namespace: str, name: str, patch: Patch, options: WriteOptions,
        identity: Identity,
    ) -> Written:  # fmt: skip
        """Patch the Scale that `get_scale` shows."""
        return await self._write_scale(
            resource, namespace, name, lambda shown: patch.apply_to(shown, None), options, identity
        )

    async def apply_scale(
        self, resource: Resource, namespace: str, name: str, patch: Patch, options: WriteOptions,
        identity: Identity,
    ) -> Written:  # fmt: skip
        """Server-side apply of a Scale: the object's replicas become the applier's, under the name of `scale`."""
        where = self._writer.target(resource, namespace, name, options, identity, "scale")
        scale, warnings = self._writer.applicable(SCALE, where, patch.body)
        row, spec = where.row, scale.get("spec") or {}
        config: Object = {"apiVersion": row.api_version, "kind": row.kind}
        if "metadata" in scale:
            config["metadata"] = scale["metadata"]
        if "replicas" in spec:
            paths, replicas = _paths(resource), _replicas(name, scale)
            config = with_replicas(config, paths, replicas) if paths else {**config, "spec": spec}
        written = await self._writer.apply(where, config)
        return Written(_scale_of(resource, written.item), warnings + written.warnings)

    async def _write_scale(
        self, resource: Resource, namespace: str, name: str, wanted: Any, options: WriteOptions,
        identity: Identity,
    ) -> Written:  # fmt: skip
        def scaled(obj: Object) -> tuple[Object, list[str]]:
            before = Item(encode(obj), int(obj["metadata"]["resourceVersion"]))
            shown = _scale_of(resource, before, missing=0).object
            scale, warnings = self._writer.checked_kind(SCALE, wanted(shown), options)
            replicas = _replicas(name, scale)
            changed = {**obj, "metadata": _conditional(obj, scale)}
            paths = _paths(resource)
            if paths is not None:
                return with_replicas(changed, paths, replicas), warnings
            spec = {**(obj.get("spec") or {}), "replicas": replicas}
            return {**changed, "spec": spec}, warnings

        where = self._writer.target(resource, namespace, name, options, identity, "scale")
        written = await self._writer.modify(where, scaled)
        return Written(_scale_of(resource, written.item), written.warnings)


def _paths(resource: Resource) -> Paths | None:
    scale = resource.subresource("scale")
    return scale.paths if scale is not None else None


def _scale_of(resource: Resource, item: Item, missing: int | None = None) -> Item:
    """`missing` as `custom_scale` says."""
    paths = _paths(resource)
    return scale_of(item) if paths is None else custom_scale(item, paths, missing)


def scale_of(item: Item) -> Item:
    """The Scale of a Deployment, ReplicaSet or any kind with `spec.replicas` and a label selector."""
    obj = item.object
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    shown = ("name", "namespace", "uid", "creationTimestamp")
    state: Object = {"replicas": status.get("replicas") or 0}
    selector = str(_selector(spec.get("selector")))
    if selector:
        state["selector"] = selector
    scale = {
        "metadata": {key: metadata[key] for key in shown if key in metadata},
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "spec": {"replicas": spec.get("replicas") or 0},
        "status": state,
    }
    return Item(encode(scale), item.revision)


def _selector(selector: Object | None) -> Selector:
    """A label selector, or the plain map of labels that ReplicationControllers have."""
    if selector and all(isinstance(value, str) for value in selector.values()):
        return from_set(selector)
    return from_label_selector(selector)


def delete_options(body: Object | None, dry_run: bool = False) -> DeleteOptions:
    """A `DeleteOptions` object of a body whose types have been checked."""
    body = body or {}
    preconditions = body.get("preconditions") or {}
    return DeleteOptions(
        grace_period_s=body.get("gracePeriodSeconds"),
        propagation_policy=body.get("propagationPolicy") or "",
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        dry_run=dry_run or "All" in (body.get("dryRun") or ()),
        orphan_dependents=body.get("orphanDependents"),
    )


def _assigned(pod: Object, name: str, node: str, given: Object, now: str) -> Object:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    problem = ""
    if metadata.get("deletionTimestamp"):
        problem = f"pod {name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        problem = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
    elif spec.get("schedulingGates"):
        problem = f"pod {name} has non-empty .spec.schedulingGates"
    if problem:
        text = f'Operation cannot be fulfilled on pods/binding "{name}": {problem}'
        raise Conflict(text, kind="pods/binding", name=name)
    metadata = {**metadata, **{key: given[key] for key in ("uid", "resourceVersion") if given.get(key)}}
    if given.get("annotations"):
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **given["annotations"]}
    status = pod.get("status") or {}
    others = [entry for entry in status.get("conditions") or () if entry.get("type") != "PodScheduled"]
    status = {key: value for key, value in status.items() if key != "nominatedNodeName"}
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
    return {
        **pod,
        "metadata": metadata,
        "spec": {**spec, "nodeName": node},
        "status": {**status, "conditions": [*others, condition]},
    }


def _conditional(obj: Object, given: Object) -> Object:
    """Metadata of `obj` with the preconditions that a client's body carries."""
    wanted = given.get("metadata") or {}
    asked = {key: wanted[key] for key in ("uid", "resourceVersion") if wanted.get(key)}
    return {**obj["metadata"], **asked}


def _replicas(name: str, scale: Object) -> int:
    replicas: int = (scale.get("spec") or {}).get("replicas") or 0
    if not 0 <= replicas <= _REPLICAS_MAX:
        text = f"Invalid value: {replicas}: must be greater than or equal to 0"
        cause = Cause("FieldValueInvalid", text, "spec.replicas")
        raise invalid("autoscaling", "Scale", name, (cause,))
    return replicas


def _invalid_binding(name: str, field: str, text: str) -> ApiError:
    reason = "FieldValueRequired" if text.startswith("Required") else "FieldValueNotSupported"
    return invalid("", "Binding", name, (Cause(reason, text, field),))
