"""Priority: turns a pod's priority class into the number that the scheduler compares, and guards the classes.

1. A pod without a class gets the global default one; where there is none its priority is 0 and it may preempt
   lower ones.
2. Kubernetes' two critical classes always exist and can't be deleted; a class that does not exist is refused.
3. A number or policy that the author wrote must be what the class says.
4. There is one global default at most.
"""

from dataclasses import dataclass

from orchestrator.admission.chain import AdmissionRequest, Operation, Reader
from orchestrator.admission.refusal import forbidden
from orchestrator.api.item import Object
from orchestrator.api.priorities import CLAIMS, SYSTEM
from orchestrator.api.resources import PRIORITYCLASSES, Resource


@dataclass(frozen=True, slots=True)
class _Class:
    name: str = ""
    value: int = 0
    preemption_policy: str = "PreemptLowerPriority"


_NONE = _Class()
_SYSTEM = {name: _Class(name, value) for name, value in SYSTEM.items()}


class Priority:
    """See the module. Reads classes through `reader`, the newest state."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        if subresource:
            return False
        if (resource.group, resource.plural) == ("", "pods"):
            return operation == "CREATE"
        return (resource.group, resource.plural) == (PRIORITYCLASSES.group, PRIORITYCLASSES.plural)

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        if request.resource.plural != "pods":
            return None
        pod = request.object or {}
        spec: Object = pod.get("spec") or {}
        found = await self._class_of(request, spec.get("priorityClassName") or "")
        _check(request, spec, found)
        computed: Object = {"priority": found.value, "preemptionPolicy": found.preemption_policy}
        if found.name:
            computed["priorityClassName"] = found.name
        return {**pod, "spec": {**spec, **computed}}

    async def validate(self, request: AdmissionRequest) -> None:
        if request.resource.plural == "pods":
            return
        if request.operation == "DELETE" and request.name in SYSTEM:
            raise forbidden(request, "this is a system priority class and cannot be deleted")
        if request.object is not None and request.object.get("globalDefault"):
            held = await self._default_name()
            if held and held != request.name:
                text = f"PriorityClass {held} is already marked as default. Only one default can exist"
                raise forbidden(request, text)

    async def _class_of(self, request: AdmissionRequest, name: str) -> _Class:
        """The class that a pod names, or the default one."""
        asked = name or await self._default_name()
        if not asked:
            return _NONE
        if asked in _SYSTEM:
            return _SYSTEM[asked]
        item = await self._reader.find(PRIORITYCLASSES, "", asked)
        if item is not None:
            found = item.object
            policy = found.get("preemptionPolicy") or "PreemptLowerPriority"
            return _Class(asked, found.get("value") or 0, policy)
        if name:
            raise forbidden(request, f"no PriorityClass with name {name} was found")
        return _NONE

    async def _default_name(self) -> str:
        """The name of the global default class; empty without one."""
        holder = await self._reader.find(CLAIMS, "", "default")
        return "" if holder is None else holder.meta.name.rpartition("/")[2]


def _check(request: AdmissionRequest, spec: Object, found: _Class) -> None:
    """What the author wrote beside the class must agree with it."""
    given, policy = spec.get("priority"), spec.get("preemptionPolicy")
    if given is not None and given != found.value:
        raise forbidden(
            request,
            f"the integer value of priority ({given}) must not be provided in pod spec; priority "
            f"admission controller computed {found.value} from the given PriorityClass name",
        )
    if policy and policy != found.preemption_policy:
        raise forbidden(
            request,
            f"the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority "
            f"admission controller computed {found.preemption_policy} from the given PriorityClass name",
        )
