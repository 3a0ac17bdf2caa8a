"""APIServices: who serves a group and version. Those without a service are this server's own.

A component (`server.local_services`) keeps one such object per version that is served here.
"""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy

_GROUP_PRIORITY_MAX = 20_000
_VERSION_PRIORITY_MAX = 1000


class APIServiceStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        service = spec.get("service")
        if service is None or service.get("port") is not None:
            return obj
        return {**obj, "spec": {**spec, "service": {**service, "port": 443}}}

    def initial_status(self, obj: Object) -> Object:
        """What this server answers itself is there from the start."""
        if (obj.get("spec") or {}).get("service") is not None:
            return {}
        return {"conditions": [local_condition(obj["metadata"].get("creationTimestamp") or "")]}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new.get("spec") or {}
        group, version = spec.get("group") or "", spec.get("version") or ""
        found: list[Cause] = []
        name, wanted = new["metadata"].get("name") or "", f"{version}.{group}"
        if name != wanted:
            text = f'must be `spec.version+"."+spec.group`: "{wanted}"'
            found.append(causes.invalid_value("metadata.name", name, text))
        if group:
            found += causes.problems("spec.group", group, names.is_dns1123_subdomain(group))
        found += causes.problems("spec.version", version, names.is_dns1035_label(version))
        found += _validate_priority(
            spec.get("groupPriorityMinimum") or 0, "groupPriorityMinimum", _GROUP_PRIORITY_MAX
        )
        found += _validate_priority(
            spec.get("versionPriority") or 0, "versionPriority", _VERSION_PRIORITY_MAX
        )
        service = spec.get("service")
        return found + (_validate_local(spec) if service is None else _validate_remote(spec, service))

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        found: list[Cause] = []
        for at, condition in enumerate((new.get("status") or {}).get("conditions") or ()):
            statuses = ("False", "True", "Unknown")
            found += causes.one_of(f"status.conditions[{at}].status", condition.get("status") or "", statuses)
        return found


def local_condition(now: str) -> Object:
    """The condition of a version that this server answers itself; `now` is a timestamp."""
    return {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "Local",
        "message": "Local APIServices are always available",
    }


def _validate_priority(priority: int, name: str, limit: int) -> list[Cause]:
    if 0 < priority <= limit:
        return []
    text = f"must be positive and less than {limit}"
    return [causes.invalid_value(f"spec.{name}", priority, text)]


def _validate_local(spec: Object) -> list[Cause]:
    found: list[Cause] = []
    if spec.get("caBundle"):
        size = f"{len(spec['caBundle']) * 3 // 4} bytes"
        found.append(causes.invalid_value("spec.caBundle", size, "local APIServices may not have a caBundle"))
    if spec.get("insecureSkipTLSVerify"):
        text = "local APIServices may not have insecureSkipTLSVerify"
        found.append(causes.invalid_value("spec.insecureSkipTLSVerify", True, text))
    return found


def _validate_remote(spec: Object, service: Object) -> list[Cause]:
    found = [
        causes.required(f"spec.service.{name}") for name in ("namespace", "name") if not service.get(name)
    ]
    port = service.get("port") or 0
    found += [
        causes.invalid_value("spec.service.port", port, f"port is not valid: {text}")
        for text in names.is_port_number(port)
    ]
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        text = "may not be true if caBundle is present"
        found.append(causes.invalid_value("spec.insecureSkipTLSVerify", True, text))
    return found
