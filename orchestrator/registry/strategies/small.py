"""Kinds with a handful of rules: Leases, ServiceAccounts."""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy


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
        strategy = spec.get("strategy")
        if strategy is not None:
            found += _validate_strategy(strategy, "spec.strategy.strategy")
        if spec.get("preferredHolder") and not strategy:
            text = "may only be specified if `strategy` is defined"
            found.append(causes.forbidden("spec.preferredHolder", text))
        return found


def _validate_strategy(name: str, field: str) -> list[Cause]:
    """How the holder of a coordinated Lease is chosen: Kubernetes' own way, or somebody's with a domain."""
    if "/" in name:
        return causes.problems(field, name, names.is_qualified_name(name))
    return causes.one_of(field, name, ("OldestEmulationVersion",))


class ServiceAccountStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        """Secrets are references by name only; the other fields of a reference are dropped."""
        secrets = obj.get("secrets")
        if not secrets:
            return obj
        return {**obj, "secrets": [{"name": entry["name"]} if "name" in entry else {} for entry in secrets]}
