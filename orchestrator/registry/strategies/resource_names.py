"""Which resource names quotas, limits and metrics know, and the amounts they may have. Pure.

Source: core validation and helpers of Kubernetes v1.36.
"""

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.registry.strategies import causes

HUGE_PAGES = "hugepages-"
COMPUTE = frozenset(("cpu", "memory", "ephemeral-storage"))
COUNTS = frozenset(
    (
        "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "persistentvolumeclaims",
        "configmaps", "services.nodeports", "services.loadbalancers",
    )
)  # fmt: skip
"""Quotas of whole objects."""
QUOTA_NAMES = (
    COMPUTE
    | COUNTS
    | {f"requests.{name}" for name in (*COMPUTE, "storage")}
    | {f"limits.{name}" for name in COMPUTE}
)
_STANDARD = QUOTA_NAMES | {"storage"}


def is_quota_name(name: str) -> bool:
    return name in QUOTA_NAMES or name.startswith((HUGE_PAGES, f"requests.{HUGE_PAGES}"))


def is_extended(name: str) -> bool:
    """A resource that somebody else than Kubernetes defines, such as a device."""
    if "/" not in name or name.startswith("requests."):
        return False
    return not _is_native(name) and not names.is_qualified_name(f"requests.{name}")


def overcommits(name: str) -> bool:
    """Huge pages and extended resources are all or nothing."""
    return _is_native(name) and not name.startswith(HUGE_PAGES)


def validate_name(name: str, field: str) -> list[Cause]:
    """Any resource name: a standard one or one with a domain."""
    found = causes.problems(field, name, names.is_qualified_name(name))
    if not found and "/" not in name and name not in _STANDARD and not is_quota_name(name):
        found.append(causes.invalid_value(field, name, "must be a standard resource type or fully qualified"))
    return found


def validate_container_name(name: str, field: str) -> list[Cause]:
    """What a container can ask for."""
    found = validate_name(name, field)
    if "/" not in name:
        if name not in COMPUTE and not name.startswith(HUGE_PAGES):
            found.append(causes.invalid_value(field, name, "must be a standard resource for containers"))
    elif not _is_native(name) and not is_extended(name):
        found.append(causes.invalid_value(field, name, "doesn't follow extended resource name standard"))
    return found


def validate_quota_name(name: str, field: str) -> list[Cause]:
    """What a quota can limit; names with a slash count objects (`count/…`) or extended resources."""
    found = validate_name(name, field)
    if "/" not in name and not is_quota_name(name):
        found.append(causes.invalid_value(field, name, "must be a standard resource for quota"))
    return found


def validate_amount(name: str, amount: str, field: str) -> list[Cause]:
    """An amount of a quota: no debt, and whole where it counts something."""
    if not quantity.is_quantity(amount):
        return [causes.invalid_value(field, amount, "must be a quantity such as 100m, 1.5 or 512Mi")]
    value = quantity.parse(amount)
    found: list[Cause] = []
    if value < 0:
        found.append(causes.invalid_value(field, amount, "must be greater than or equal to 0"))
    if value % 1 and (name in COUNTS or is_extended(name)):
        found.append(causes.invalid_value(field, amount, "must be an integer"))
    return found


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name
