"""Validation of what containers ask for: requests, limits, claims. Pure.

Called by `containers`, and by `pod_resources` and `pod_spec` for what a pod asks for as a whole. Source: core
validation of Kubernetes v1.36.
"""

from collections.abc import Collection

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes

_OF_CONTAINERS = frozenset(("cpu", "memory", "ephemeral-storage"))
_OF_PODS = ("cpu", "memory", "hugepages-")
_STANDARD = _OF_CONTAINERS | {
    "storage", "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps",
    "persistentvolumeclaims", "services.nodeports", "services.loadbalancers", "requests.cpu", "requests.memory",
    "requests.storage", "requests.ephemeral-storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage",
}  # fmt: skip


def validate_resources(
    resources: Object, field: str, claims: Collection[str] = (), *, of_pod: bool = False
) -> list[Cause]:
    """`ResourceRequirements`: known names, quantities that are no debts, requests within limits; `claims` are
    the names of the pod's."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    found = _validate_amounts(limits, f"{field}.limits", of_pod=of_pod) if limits else []
    if requests:
        found += _validate_amounts(requests, f"{field}.requests", of_pod=of_pod)
        if not found:
            found = _validate_requests(requests, limits, field)
    asked = requests.keys() | limits.keys()
    if "cpu" not in asked and "memory" not in asked and any(map(_is_pages, asked)):
        found.append(causes.forbidden(field, "HugePages require cpu or memory"))
    if resources.get("claims"):
        found += _validate_claims(resources["claims"], f"{field}.claims", claims)
    return found


def _validate_requests(requests: Object, limits: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is None:
            if not _overcommits(name):
                text = "Limit must be set for non overcommitable resources"
                found.append(causes.required(f"{field}.limits", text))
            continue
        if limit == amount:
            continue
        asked, most = quantity.parse(amount), quantity.parse(limit)
        text = ""
        if asked != most and not _overcommits(name):
            text = f"must be equal to {name} limit of {limit}"
        elif asked > most:
            text = f"must be less than or equal to {name} limit of {limit}"
        if text:
            found.append(causes.invalid_value(f"{field}.requests", amount, text))
    return found


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _is_pages(name: str) -> bool:
    return name.startswith("hugepages-")


def _overcommits(name: str) -> bool:
    """Huge pages and extended resources are all or nothing."""
    return _is_native(name) and not _is_pages(name)


def _validate_amounts(amounts: Object, field: str, *, of_pod: bool) -> list[Cause]:
    found: list[Cause] = []
    for name, amount in amounts.items():
        if name in _OF_CONTAINERS and not of_pod and amount_is_good(amount):
            continue
        path = f"{field}[{name}]"
        found += _validate_pod_name(name, path) if of_pod else _validate_name(name, path)
        if not quantity.is_quantity(amount):
            found.append(causes.invalid_value(path, amount, "must be a quantity such as 100m, 1.5 or 512Mi"))
        elif quantity.parse(amount) < 0:
            found.append(causes.invalid_value(path, amount, "must be greater than or equal to 0"))
        elif not _is_native(name) and quantity.parse(amount) % 1:
            found.append(causes.invalid_value(path, amount, "must be an integer"))
        elif _is_pages(name) and not _divides(name, amount):
            text = f"{amount} is not positive integer multiple of {name}"
            found.append(causes.invalid_value(path, amount, text))
    return found


def amount_is_good(amount: object) -> bool:
    """A quantity of at least 0."""
    return quantity.is_quantity(amount) and quantity.parse(amount) >= 0  # type: ignore[arg-type]


def _divides(name: str, amount: str) -> bool:
    size = name.removeprefix("hugepages-")
    if not quantity.is_quantity(size) or quantity.parse(size) <= 0:
        return False
    return quantity.parse(amount) % quantity.parse(size) == 0


def _validate_name(name: str, field: str) -> list[Cause]:
    found = causes.problems(field, name, names.is_qualified_name(name))
    if "/" not in name:
        if name not in _STANDARD and not _is_pages(name):
            text = "must be a standard resource type or fully qualified"
            found.append(causes.invalid_value(field, name, text))
        if name not in _OF_CONTAINERS and not _is_pages(name):
            found.append(causes.invalid_value(field, name, "must be a standard resource for containers"))
    elif not _is_native(name) and (
        name.startswith("requests.") or names.is_qualified_name(f"requests.{name}")
    ):
        found.append(causes.invalid_value(field, name, "doesn't follow extended resource name standard"))
    return found


def _validate_pod_name(name: str, field: str) -> list[Cause]:
    if name in _OF_PODS or _is_pages(name):
        return []
    return [causes.not_supported(field, name, _OF_PODS)]


def _validate_claims(entries: list[Object], field: str, known: Collection[str]) -> list[Cause]:
    """Every entry names a claim of the pod, and no part of a claim twice."""
    found: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for at, entry in enumerate(entries):
        path, name, request = f"{field}[{at}]", entry.get("name") or "", entry.get("request") or ""
        if not name:
            found.append(causes.required(path))
            continue
        if request:
            found += causes.problems(f"{path}.request", request, names.is_dns1123_label(request))
        whole = (name, "") in seen
        if whole or (name, request) in seen or (not request and any(held[0] == name for held in seen)):
            shown = name if whole or not request else f"{name}/{request}"
            found.append(causes.duplicate(path, shown))
        seen.add((name, request))
        if name not in known:
            rest = f": {', '.join(sorted(known))}" if known else " which is empty"
            text = f'Not found: "{name}": must be one of the names in pod.spec.resourceClaims{rest}'
            found.append(Cause("FieldValueNotFound", text, path))
    return found
