"""What a pod asks for as a whole (`spec.resources`): defaults, validation, and the sum over its containers. Pure.

Called by `pod_defaults` and `pod_spec`. Source: defaulting and validation of core/v1 in Kubernetes v1.36.
"""

from orchestrator.api import quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_resources import amount_is_good, validate_resources

Amounts = dict[str, quantity.Quantity]

_PAGES = "hugepages-"


def default_pod_resources(spec: Object) -> Object:
    """`spec.resources` of a pod whose containers have their defaults.

    Limits of huge pages are those of the containers; a request that is missing is what the containers ask for,
    else the limit.
    """
    resources: Object = spec["resources"]
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    if limits or requests:
        for name, amount in _peak(spec, "limits").items():
            if name.startswith(_PAGES) and name not in requests and name not in limits:
                limits = {**limits, name: _shown(name, amount)}
    if not limits:
        return resources
    asked = {
        name: _shown(name, amount)
        for name, amount in container_requests(spec).items()
        if name in ("cpu", "memory")
    }
    held = {name: amount for name, amount in limits.items() if _is_of_pods(name)}
    return {**resources, "limits": limits, "requests": {**held, **asked, **requests}}


def _is_of_pods(name: str) -> bool:
    return name in ("cpu", "memory") or name.startswith(_PAGES)


def _shown(name: str, amount: quantity.Quantity) -> str:
    return quantity.render(amount, "decimal" if name == "cpu" else "binary")


def validate_pod_resources(spec: Object, field: str) -> list[Cause]:
    """`spec.resources`: containers fit into what the pod asks for as a whole."""
    resources: Object = spec["resources"]
    found: list[Cause] = []
    if resources.get("claims"):
        text = "claims cannot be set for Resources at pod-level"
        found.append(causes.forbidden(f"{field}.claims", text))
    found += validate_resources({**resources, "claims": None}, field, of_pod=True)
    if found:
        return found
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, amount in container_requests(spec).items():
        held = requests.get(name, "0")
        if _is_of_pods(name) and amount > quantity.parse(held):
            text = f"must be greater than or equal to aggregate container requests of {_shown(name, amount)}"
            found.append(causes.invalid_value(f"{field}.requests[{name}]", held, text))
    for at, container in enumerate(spec.get("containers") or ()):
        for name, limit in ((container.get("resources") or {}).get("limits") or {}).items():
            most = limits.get(name)
            if most is not None and amount_is_good(limit) and quantity.parse(limit) > quantity.parse(most):
                text = f"must be less than or equal to pod limits of {most}"
                found.append(causes.invalid_value(f"{field}.containers[{at}][{name}].limits", limit, text))
    return found


def container_requests(spec: Object) -> Amounts:
    """What containers need at most at one time, by resource: all of them beside the sidecars, or an init
    container beside the sidecars before it. Amounts that are none are left out."""
    return _peak(spec, "requests")


def _peak(spec: Object, kind: str) -> Amounts:
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _amounts(container, kind))
    peak: Amounts = {}
    sidecars: Amounts = {}
    for container in spec.get("initContainers") or ():
        amounts = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            _add(total, amounts)
            _add(sidecars, amounts)
            amounts = {}
        now = dict(sidecars)
        _add(now, amounts)
        peak = _larger(peak, now)
    return _larger(total, peak)


def _larger(one: Amounts, other: Amounts) -> Amounts:
    result = {**one, **other}
    return {name: max(amount, one.get(name, amount)) for name, amount in result.items()}


def _amounts(container: Object, kind: str) -> Amounts:
    given = (container.get("resources") or {}).get(kind) or {}
    return {name: quantity.parse(amount) for name, amount in given.items() if quantity.is_quantity(amount)}


def _add(total: Amounts, amounts: Amounts) -> None:
    for name, amount in amounts.items():
        total[name] = total[name] + amount if name in total else amount
