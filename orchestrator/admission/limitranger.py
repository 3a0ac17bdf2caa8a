"""LimitRanger: what a namespace's LimitRanges make of pods and claims that say too little or ask too much.

1. A container without a request or limit gets the default one; an annotation tells what was set.
2. Requests and limits of each container, of the pod as a whole, and requests of a claim keep between minimum and
   maximum; the limit is at most so many times the request.
3. A change of a claim is only held to what it changes; pods do not change what they ask for.

Source: Kubernetes' limit ranger, whose texts these are.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from orchestrator.admission.chain import AdmissionRequest, Operation
from orchestrator.admission.refusal import forbidden
from orchestrator.api import amounts, quantity
from orchestrator.api.amounts import Amounts
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import LIMITRANGES, Resource

ANNOTATION = "kubernetes.io/limit-ranger"
_CONTAINERS = (("containers", "container"), ("initContainers", "init container"))


class NamespaceReader(Protocol):
    """A reader that knows every object of a resource in a namespace."""

    async def within(self, resource: Resource, namespace: str) -> list[Item]:
        """The newest state; for resources that have a handful in a namespace."""


class LimitRanger:
    """See the module."""

    def __init__(self, reader: NamespaceReader) -> None:
        self._reader = reader

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        if subresource:
            return subresource == "resize" and resource.plural == "pods" and operation == "UPDATE"
        if resource.group:
            return False
        if resource.plural == "pods":
            return operation == "CREATE"
        return resource.plural == "persistentvolumeclaims" and operation in ("CREATE", "UPDATE")

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        if request.resource.plural != "pods":
            return None
        pod = changed = request.object or {}
        for item in await self._reader.within(LIMITRANGES, request.namespace):
            changed = with_defaults(changed, item.object)
        return changed if changed is not pod else None

    async def validate(self, request: AdmissionRequest) -> None:
        for item in await self._reader.within(LIMITRANGES, request.namespace):
            limits = (item.object.get("spec") or {}).get("limits") or ()
            problems = [text for limit in limits for text in _violations(limit, request)]
            if problems:
                raise forbidden(request, problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def with_defaults(pod: Object, limit_range: Object) -> Object:
    """Rule 1; `pod` itself where nothing was missing."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for limit in (limit_range.get("spec") or {}).get("limits") or ():
        if limit.get("type") == "Container":
            requests |= limit.get("defaultRequest") or {}
            limits |= limit.get("default") or {}
    spec, said = dict(pod["spec"]), list[str]()
    for field, noun in _CONTAINERS:
        if spec.get(field):
            spec[field] = [_completed(entry, noun, requests, limits, said) for entry in spec[field]]
    if not said:
        return pod
    annotations = pod["metadata"].get("annotations") or {}
    text = f"LimitRanger plugin set: {'; '.join(said)}"
    metadata = {**pod["metadata"], "annotations": {**annotations, ANNOTATION: text}}
    return {**pod, "metadata": metadata, "spec": spec}


def _completed(container: Object, noun: str, requests: Amounts, limits: Amounts, said: list[str]) -> Object:
    resources = container.get("resources") or {}
    changed = dict(resources)
    for field, defaults, what in (("requests", requests, "request"), ("limits", limits, "limit")):
        given = resources.get(field) or {}
        missing = sorted(defaults.keys() - given.keys())
        if missing:
            changed[field] = {**given, **amounts.only(defaults, missing)}
            said.append(f"{', '.join(missing)} {what} for {noun} {container.get('name', '')}")
    return {**container, "resources": changed} if changed != resources else container


def _violations(limit: Object, request: AdmissionRequest) -> Iterator[str]:
    """What one item of a LimitRange has against the object."""
    spec, kind = (request.object or {}).get("spec") or {}, limit.get("type")
    if request.resource.plural == "persistentvolumeclaims":
        if kind == "PersistentVolumeClaim":
            yield from _claim_violations(limit, spec, request.old)
    elif kind == "Container":
        for field, _ in _CONTAINERS:
            for container in spec.get(field) or ():
                yield from _out_of_bounds(limit, container_amounts(container))
    elif kind == "Pod":
        yield from _out_of_bounds(limit, (amounts.of_pod(spec, "requests"), amounts.of_pod(spec, "limits")))


def container_amounts(container: Object) -> tuple[Amounts, Amounts]:
    """Requests and limits."""
    return amounts.of_container(container, "requests"), amounts.of_container(container, "limits")


def _claim_violations(limit: Object, spec: Object, old: Object | None) -> Iterator[str]:
    requests = amounts.of_container(spec, "requests")
    before = amounts.of_container((old or {}).get("spec") or {}, "requests")
    for name, enforced in (limit.get("min") or {}).items():
        if name not in requests or requests[name] != before.get(name):
            yield from _below(limit["type"], name, enforced, requests, {})
    for name, enforced in (limit.get("max") or {}).items():
        asked = requests.get(name)
        if asked is not None and asked != before.get(name) and _more(asked, enforced):
            said = f"maximum {name} usage per {limit['type']} is {quantity.canonical(enforced)}"
            yield f"{said}, but request is {quantity.canonical(asked)}"


def _out_of_bounds(limit: Object, held: tuple[Amounts, Amounts]) -> Iterator[str]:
    for field, rule in _RULES:
        for name, enforced in sorted((limit.get(field) or {}).items()):
            yield from rule(limit["type"], name, enforced, *held)


def _below(kind: str, name: str, enforced: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    said = f"minimum {name} usage per {kind} is {quantity.canonical(enforced)}"
    request, limit = requests.get(name), limits.get(name)
    if request is None:
        yield f"{said}.  No request is specified"
    elif _more(enforced, request):
        yield f"{said}, but request is {quantity.canonical(request)}"
    elif limit is not None and _more(enforced, limit):
        yield f"{said}, but limit is {quantity.canonical(limit)}"


def _above(kind: str, name: str, enforced: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    said = f"maximum {name} usage per {kind} is {quantity.canonical(enforced)}"
    request, limit = requests.get(name), limits.get(name)
    if limit is None:
        yield f"{said}.  No limit is specified"
    elif _more(limit, enforced):
        yield f"{said}, but limit is {quantity.canonical(limit)}"
    elif request is not None and _more(request, enforced):
        yield f"{said}, but request is {quantity.canonical(request)}"


def _beyond_ratio(kind: str, name: str, enforced: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    said = f"{name} max limit to request ratio per {kind} is {quantity.canonical(enforced)}"
    request, limit = quantity.parse(requests.get(name, "0")), quantity.parse(limits.get(name, "0"))
    if not request:
        yield f"{said}, but no request is specified or request is 0"
    elif not limit:
        yield f"{said}, but no limit is specified or limit is 0"
    elif limit / request > quantity.parse(enforced):
        yield f"{said}, but provided ratio is {float(limit / request):.6f}"


def _more(one: str, other: str) -> bool:
    return quantity.parse(one) > quantity.parse(other)


_RULES: tuple[tuple[str, Callable[[str, str, str, Amounts, Amounts], Iterator[str]]], ...] = (
    ("min", _below),
    ("max", _above),
    ("maxLimitRequestRatio", _beyond_ratio),
)
