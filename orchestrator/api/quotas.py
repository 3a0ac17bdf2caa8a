"""What objects use of a ResourceQuota, and which quotas they fall under. Pure.

1. Every object counts as one of `count/<resource>.<group>`; some kinds of the core group have older names too.
2. Pods use compute resources until they have finished, or should long be gone; `count/pods` has them to the end.
3. Services use node ports and load balancers, claims use storage (also of their class), device claims devices.
4. A quota with scopes only sees pods that are in all of them, or claims where the scope is about claims.

Called by admission, which charges, and by the quota controller, which adds up. Source: Kubernetes' quota evaluators.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from orchestrator.api import amounts
from orchestrator.api.amounts import Amounts
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.api.times import seconds

FINISHED = ("Succeeded", "Failed")
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_COUNTED_BY_NAME = frozenset((
    "configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services",
))  # fmt: skip
_NOT_COUNTED = ("events", "events.events.k8s.io")
_EXPLICIT = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
"""Where a quota limits one of these, every container must say what it takes."""
_POD_NAMES = frozenset(
    ("pods", *_COMPUTE, *(f"{kind}.{name}" for kind in ("requests", "limits") for name in _COMPUTE))
)
_SERVICE_NAMES = frozenset(("services.nodeports", "services.loadbalancers"))
_OF_CLASS = ".storageclass.storage.k8s.io/"
_OF_DEVICES = ".deviceclass.resource.k8s.io/devices"
_ALL_DEVICES = 32
"""What a request for all devices of a class counts as: no claim can be given more."""


@dataclass(frozen=True, slots=True)
class _Measure:
    """How objects of one resource are measured; `names` says which limits besides counts concern them."""

    usage: Callable[[Object, float], Amounts]
    names: Callable[[str], bool]
    updates: bool = False
    """Whether a change of the object can raise what it uses."""
    in_scope: Callable[[Object, Object], bool] = lambda obj, scope: False


def is_measured(resource: Resource, operation: str, subresource: str) -> bool:
    """Whether such a write may use more of a quota."""
    if not resource.namespaced or not resource.stored or resource.qualified in _NOT_COUNTED:
        return False
    if subresource:
        return subresource == "resize" and operation == "UPDATE"
    measure = _MEASURES.get((resource.group, resource.plural))
    return operation == "CREATE" or (operation == "UPDATE" and measure is not None and measure.updates)


def plain_counts(resource: Resource) -> frozenset[str]:
    """The names of which every object of `resource` uses one: `count/deployments.apps`, or `count/secrets` and
    `secrets`."""
    name = f"count/{resource.qualified}"
    older = not resource.group and resource.plural in _COUNTED_BY_NAME
    return frozenset((name, resource.plural)) if older else frozenset((name,))


def concerning(resource: Resource, names: Iterable[str]) -> list[str]:
    """Those of a quota's names that objects of `resource` may use."""
    measure = _MEASURES.get((resource.group, resource.plural))
    counted = plain_counts(resource)
    return [name for name in names if name in counted or (measure is not None and measure.names(name))]


def usage(resource: Resource, obj: Object, now_s: float) -> Amounts:
    """What `obj` uses at that time, by a quota's names."""
    used = dict.fromkeys(plain_counts(resource), "1")
    measure = _MEASURES.get((resource.group, resource.plural))
    return {**used, **measure.usage(obj, now_s)} if measure is not None else used


def scopes(spec: Object) -> list[Object]:
    """The scopes of a quota as selector requirements."""
    plain = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    return plain + list((spec.get("scopeSelector") or {}).get("matchExpressions") or ())


def covers(spec: Object, resource: Resource, obj: Object) -> bool:
    """Whether `obj` is in every scope of a quota."""
    wanted = scopes(spec)
    measure = _MEASURES.get((resource.group, resource.plural))
    return not wanted or (measure is not None and all(measure.in_scope(obj, scope) for scope in wanted))


def unspecified(pod: Object, limited: Iterable[str]) -> str:
    """Which containers do not say what a quota on `limited` wants to know; empty when all is said."""
    needed = [name for name in _EXPLICIT if name in set(limited)]
    spec = pod.get("spec") or {}
    missing: dict[str, list[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        said = _compute(
            amounts.of_container(container, "requests"), amounts.of_container(container, "limits")
        )
        for name in needed:
            if name not in said:
                missing.setdefault(name, []).append(container["name"])
    texts = [f"{name} for: {','.join(sorted(set(missing[name])))}" for name in sorted(missing)]
    return f"must specify {'; '.join(texts)}" if texts else ""


# ── Pods ─────────────────────────────────────────────────────────────────────────────────────────────────


def _is_pod_name(name: str) -> bool:
    if name in _POD_NAMES or name.startswith(("hugepages-", "requests.hugepages-")):
        return True
    return name.startswith("requests.") and "/" in name and "kubernetes.io/" not in name


def _pod_usage(pod: Object, now_s: float) -> Amounts:
    if (pod.get("status") or {}).get("phase") in FINISHED or _is_overdue(pod["metadata"], now_s):
        return {}
    spec = pod.get("spec") or {}
    return {"pods": "1", **_compute(amounts.of_pod(spec, "requests"), amounts.of_pod(spec, "limits"))}


def _is_overdue(metadata: Object, now_s: float) -> bool:
    """A pod that its node never removed must not keep others from starting."""
    ends, grace_s = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    return bool(ends and grace_s is not None and now_s > seconds(ends) + grace_s)


def _compute(requests: Amounts, limits: Amounts) -> dict[str, str]:
    used = {f"limits.{name}": limits[name] for name in _COMPUTE if name in limits}
    for name, amount in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            used[name] = used[f"requests.{name}"] = amount
        elif "/" in name and "kubernetes.io/" not in name:
            used[f"requests.{name}"] = amount
    return used


def _pod_in_scope(pod: Object, scope: Object) -> bool:
    spec = pod.get("spec") or {}
    name = scope["scopeName"]
    if name == "PriorityClass":
        return _selects(scope, {spec["priorityClassName"]} if spec.get("priorityClassName") else set())
    rule = _POD_SCOPES.get(name)
    return rule is not None and rule(pod, spec)


def _is_best_effort(pod: Object, spec: Object) -> bool:
    return bool((pod.get("status") or {}).get("qosClass") == "BestEffort")


def _ends(pod: Object, spec: Object) -> bool:
    return spec.get("activeDeadlineSeconds") is not None


def _crosses_namespaces(pod: Object, spec: Object) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [entry.get("podAffinityTerm") or {} for entry in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


_POD_SCOPES: Mapping[str, Callable[[Object, Object], bool]] = {
    "Terminating": _ends,
    "NotTerminating": lambda pod, spec: not _ends(pod, spec),
    "BestEffort": _is_best_effort,
    "NotBestEffort": lambda pod, spec: not _is_best_effort(pod, spec),
    "CrossNamespacePodAffinity": _crosses_namespaces,
}


def _selects(scope: Object, values: set[str]) -> bool:
    """Whether one of `values` is what the requirement asks for; without values only its negations hold."""
    asked = set(scope.get("values") or ())
    match scope.get("operator"):
        case "Exists":
            return bool(values)
        case "DoesNotExist":
            return not values
        case "In":
            return bool(values & asked)
        case "NotIn":
            return bool(values - asked) or not values
    return False


# ── Services, claims ─────────────────────────────────────────────────────────────────────────────────────


def _service_usage(service: Object, now_s: float) -> Amounts:
    spec = service.get("spec") or {}
    ports, kind = spec.get("ports") or [], spec.get("type")
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        ports = [port for port in ports if port.get("nodePort")]
    external = kind in ("NodePort", "LoadBalancer")
    return {
        "services.nodeports": str(len(ports) if external else 0),
        "services.loadbalancers": str(int(kind == "LoadBalancer")),
    }


def _is_claim_name(name: str) -> bool:
    return name == "requests.storage" or _OF_CLASS in name


def _claim_usage(claim: Object, now_s: float) -> Amounts:
    spec = claim.get("spec") or {}
    asked = amounts.of_container(spec, "requests")
    held = (claim.get("status") or {}).get("allocatedResources") or {}
    storage = amounts.larger(amounts.only(asked, ("storage",)), amounts.only(held, ("storage",)))
    used = {"requests.storage": storage["storage"]} if storage else {}
    annotations = claim["metadata"].get("annotations") or {}
    name = annotations.get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName")
    if name:
        used |= {f"{name}{_OF_CLASS}{key}": amount for key, amount in used.items()}
        used[f"{name}{_OF_CLASS}persistentvolumeclaims"] = "1"
    return used


def _claim_in_scope(claim: Object, scope: Object) -> bool:
    if scope["scopeName"] != "VolumeAttributesClass":
        return False
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    names = (
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return _selects(scope, {name for name in names if name})


def _device_usage(claim: Object, now_s: float) -> Amounts:
    """Of alternatives the largest of each class counts."""
    used: dict[str, int] = {}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        most: dict[str, int] = {}
        for choice in request.get("firstAvailable") or [request.get("exactly") or {}]:
            name = choice.get("deviceClassName")
            if name:
                every = choice.get("allocationMode") == "All"
                most[name] = max(most.get(name, 0), _ALL_DEVICES if every else choice.get("count") or 1)
        for name, count in most.items():
            used[name] = used.get(name, 0) + count
    return {f"{name}{_OF_DEVICES}": str(count) for name, count in used.items()}


_MEASURES: Mapping[tuple[str, str], _Measure] = {
    ("", "pods"): _Measure(_pod_usage, _is_pod_name, in_scope=_pod_in_scope),
    ("", "services"): _Measure(_service_usage, lambda name: name in _SERVICE_NAMES, updates=True),
    ("", "persistentvolumeclaims"): _Measure(
        _claim_usage, _is_claim_name, updates=True, in_scope=_claim_in_scope
    ),
    ("resource.k8s.io", "resourceclaims"): _Measure(
        _device_usage, lambda name: name.endswith(_OF_DEVICES), updates=True
    ),
}
