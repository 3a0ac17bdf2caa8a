"""Kinds with a handful of rules: Events, Leases, ServiceAccounts."""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy

_MISMATCH = "does not match event.namespace"


class EventStrategy(BaseStrategy):
    """An event lives in the namespace of the object it is about; cluster-wide ones in `default`."""

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        namespace = new["metadata"].get("namespace", "")
        about: str = (new.get("involvedObject") or {}).get("namespace") or ""
        if (about and about != namespace) or (not about and namespace not in ("", "default")):
            return [causes.invalid_value("involvedObject.namespace", about, _MISMATCH)]
        if not new.get("eventTime"):
            return []
        return self._validate_series_event(new)

    def _validate_series_event(self, event: Object) -> list[Cause]:
        """Events with a time of their own name who reports and what was done."""
        found: list[Cause] = []
        controller = event.get("reportingComponent")
        if not controller:
            found.append(causes.required("reportingController"))
        else:
            found += causes.problems("reportingController", controller, names.is_qualified_name(controller))
        for name in ("reportingInstance", "action", "reason"):
            if not event.get(name):
                found.append(causes.required(name))
        for name in ("reportingInstance", "action", "reason"):
            if len(event.get(name) or "") > 128:
                found.append(causes.too_long(name, 128))
        return found + causes.one_of("type", event.get("type") or None, ("Normal", "Warning"))


class LeaseStrategy(BaseStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new.get("spec") or {}
        found: list[Cause] = []
        if spec.get("leaseDurationSeconds") is not None and spec["leaseDurationSeconds"] <= 0:
            found.append(
                causes.invalid_value(
                    "spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0"
                )
            )
        found += causes.non_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
        if spec.get("holderIdentity") == "":
            found.append(causes.invalid_value("spec.holderIdentity", "", "must not be empty"))
        return found


class ServiceAccountStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        """Secrets are references by name only; the other fields of a reference are dropped."""
        secrets = obj.get("secrets")
        if not secrets:
            return obj
        return {**obj, "secrets": [{"name": entry["name"]} if "name" in entry else {} for entry in secrets]}
