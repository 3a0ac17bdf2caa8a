"""Pods: defaults, what may change after creation, status, grace periods.

Rules:
1. A new pod is Pending and carries its quality of service class; a client's status is dropped.
2. Of the spec only images, activeDeadlineSeconds (downwards), tolerations (added), scheduling gates
   (removed) and a negative grace period may change; `spec.nodeName` is set by the binding subresource.
3. The status subresource leaves the spec alone, `ephemeralcontainers` changes nothing but its list.
4. Deletion takes the requested or the pod's own grace period; pods that never ran or have finished go at once.
"""

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, with_field
from orchestrator.registry.strategies.pod_defaults import default_container, default_pod_spec
from orchestrator.registry.strategies.pod_spec import validate_pod_spec
from orchestrator.registry.strategies.pod_warnings import pod_spec_warnings

_UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to"
    " existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was"
    " previously negative)"
)
_FINISHED = ("Succeeded", "Failed")


class PodStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = obj.get("spec")
        return {**obj, "spec": default_pod_spec(spec or {}, template=False)}

    def initial_status(self, obj: Object) -> Object:
        return {"phase": "Pending", "qosClass": qos_class(obj["spec"])}

    def prepare_update(self, new: Object, old: Object, subresource: str) -> Object:
        if subresource == "ephemeralcontainers":
            added = (new.get("spec") or {}).get("ephemeralContainers") or ()
            spec = {**old["spec"], "ephemeralContainers": [default_container(c) for c in added]}
            new = {**old, "metadata": new["metadata"], "spec": spec}
        elif new.get("spec") is old.get("spec"):
            # Nothing of the spec was touched: the defaults are in it already.
            return self.status_update(new, old) if subresource == "status" else self._same_spec(new, old)
        return super().prepare_update(new, old, "status" if subresource == "status" else "")

    def _same_spec(self, new: Object, old: Object) -> Object:
        metadata = with_field(new["metadata"], "generation", old["metadata"].get("generation"))
        return with_field({**new, "metadata": metadata}, "status", old.get("status"))

    def status_update(self, new: Object, old: Object) -> Object:
        """Also mirrors podIP into podIPs, and keeps the class of service that creation decided."""
        result = super().status_update(new, old)
        status = result.get("status") or {}
        if status.get("podIP") and not status.get("podIPs"):
            status = {**status, "podIPs": [{"ip": status["podIP"]}]}
        if not status.get("qosClass"):
            status = {**status, "qosClass": qos_class(old["spec"])}
        return with_field(result, "status", status)

    def validate(self, new: Object, old: Object | None, subresource: str) -> list[Cause]:
        found = super().validate(new, old, subresource)
        if subresource == "ephemeralcontainers" and old is not None:
            found += _validate_ephemeral_update(new["spec"], old["spec"])
        return found

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        if old is None:
            found = validate_pod_spec(spec, "spec")
            if spec.get("ephemeralContainers"):
                found.append(causes.forbidden("spec.ephemeralContainers", "cannot be set on create"))
            return found
        if spec is old["spec"] or spec == old["spec"]:
            return []
        return validate_pod_spec(spec, "spec") + _validate_update(spec, old["spec"])

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status = new.get("status") or {}
        nominated = status.get("nominatedNodeName")
        found: list[Cause] = []
        if nominated:
            found += causes.problems(
                "status.nominatedNodeName", nominated, names.is_dns1123_subdomain(nominated)
            )
        if old["spec"].get("restartPolicy") != "Always":
            for field in ("containerStatuses", "initContainerStatuses"):
                found += _validate_transitions(status, old, field)
        return found

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        if old is not None and new.get("spec") == old.get("spec"):
            return []
        return pod_spec_warnings(new["spec"], "spec")

    def grace_period_s(self, obj: Object, requested_s: int | None) -> int:
        spec, phase = obj.get("spec") or {}, (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in _FINISHED:
            return 0
        period_s: int = spec.get("terminationGracePeriodSeconds", 0) if requested_s is None else requested_s
        return 1 if period_s < 0 else period_s


# ── Updates ──────────────────────────────────────────────────────────────────────────────────────────────


def _validate_update(new: Object, old: Object) -> list[Cause]:
    for field in ("containers", "initContainers"):
        if len(new.get(field) or ()) != len(old.get(field) or ()):
            return [causes.forbidden(f"spec.{field}", "pod updates may not add or remove containers")]
    found = _validate_deadline(new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"))
    found += _validate_tolerations(new.get("tolerations") or [], old.get("tolerations") or [])
    found += _validate_gates(new, old)
    allowed = _as_before(new, old)
    if allowed != old and not found:
        changed = sorted(f for f in allowed.keys() | old.keys() if allowed.get(f) != old.get(f))
        found.append(causes.forbidden("spec", f"{_UPDATABLE}\nchanged: {', '.join(changed)}"))
    return found


def _as_before(new: Object, old: Object) -> Object:
    """`new` with every field that may change put back to its old value."""
    result = dict(new)
    for field in ("containers", "initContainers"):
        if field in new:
            pairs = zip(new[field], old.get(field) or (), strict=True)
            result[field] = [{**now, "image": before.get("image")} for now, before in pairs]
    mutable = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if old.get("terminationGracePeriodSeconds", 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        mutable.append("terminationGracePeriodSeconds")
    for field in mutable:
        result = with_field(result, field, old.get(field))
    return result


def _validate_deadline(new: int | None, old: int | None) -> list[Cause]:
    if old is None or new == old:
        return []
    if new is None:
        text = "must not update from a positive integer to nil value"
        return [causes.invalid_value("spec.activeDeadlineSeconds", None, text)]
    if new > old:
        text = f"must be less than or equal to previous value: {old}"
        return [causes.invalid_value("spec.activeDeadlineSeconds", new, text)]
    return []


def _validate_tolerations(new: list[Object], old: list[Object]) -> list[Cause]:
    """Old tolerations stay; only their seconds may change."""
    kept = [with_field(toleration, "tolerationSeconds", None) for toleration in new]
    if all(with_field(toleration, "tolerationSeconds", None) in kept for toleration in old):
        return []
    text = "existing toleration can not be modified except its tolerationSeconds"
    return [causes.forbidden("spec.tolerations", text)]


def _validate_gates(new: Object, old: Object) -> list[Cause]:
    before = {gate.get("name") for gate in old.get("schedulingGates") or ()}
    return [
        causes.forbidden(
            "spec.schedulingGates",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for gate in new.get("schedulingGates") or ()
        if gate.get("name") not in before
    ]


def _validate_ephemeral_update(new: Object, old: Object) -> list[Cause]:
    """Ephemeral containers are added, never changed or removed."""
    now = {container.get("name"): container for container in new.get("ephemeralContainers") or ()}
    found = []
    for before in old.get("ephemeralContainers") or ():
        name = before.get("name")
        if name not in now:
            text = f'existing ephemeral containers "{name}" may not be removed\n'
            found.append(causes.forbidden("spec.ephemeralContainers", text))
        elif now[name] != before:
            text = f'existing ephemeral containers "{name}" may not be changed\n'
            found.append(causes.forbidden("spec.ephemeralContainers", text))
    return found


def _validate_transitions(status: Object, old: Object, field: str) -> list[Cause]:
    """Where the pod's policy does not restart a container, terminated stays terminated."""
    before = {entry["name"]: entry for entry in (old.get("status") or {}).get(field) or ()}
    policies = {
        container["name"]: container.get("restartPolicy")
        for container in old["spec"].get("initContainers") or ()
        if field == "initContainerStatuses"
    }
    found = []
    for at, entry in enumerate(status.get(field) or ()):
        state = (before.get(entry.get("name")) or {}).get("state") or {}
        ended = state.get("terminated")
        if not ended or (entry.get("state") or {}).get("terminated") or policies.get(entry["name"]):
            continue
        if ended.get("exitCode") and old["spec"].get("restartPolicy") == "OnFailure":
            continue
        text = "may not be transitioned to non-terminated state"
        found.append(causes.forbidden(f"status.{field}[{at}].state", text))
    return found


# ── Quality of service ───────────────────────────────────────────────────────────────────────────────────


def qos_class(spec: Object) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`, from cpu and memory of all containers."""
    if spec.get("resources"):
        holders = [spec["resources"]]
    else:
        holders = [
            container.get("resources") or {}
            for field in ("containers", "initContainers")
            for container in spec.get(field) or ()
        ]
    guaranteed, anything = True, False
    for resources in holders:
        requests, limits = _compute(resources.get("requests")), _compute(resources.get("limits"))
        anything = anything or bool(requests or limits)
        guaranteed = guaranteed and len(limits) == 2 and limits == {**limits, **requests}
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _compute(amounts: Object | None) -> dict[str, quantity.Quantity]:
    """Cpu and memory that are asked for and not zero; what is no quantity is validation's business."""
    if not amounts:
        return {}
    return {
        name: quantity.parse(amounts[name])
        for name in ("cpu", "memory")
        if name in amounts and quantity.is_quantity(amounts[name]) and quantity.parse(amounts[name]) > 0
    }
