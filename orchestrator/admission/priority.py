"""Priority: turns a pod's priority class into the number that the scheduler compares.

1. Without a class the priority is 0 and the pod may preempt lower ones.
2. Kubernetes' two critical classes always exist; a class that does not exist is refused.
3. A number or policy that the author wrote must be what the class says.
"""

from dataclasses import dataclass

from orchestrator.admission.chain import AdmissionRequest, Operation
from orchestrator.admission.refusal import forbidden
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource


@dataclass(frozen=True, slots=True)
class _Class:
    value: int
    preemption_policy: str = "PreemptLowerPriority"


_NONE = _Class(0)
BUILT_IN = {
    "system-cluster-critical": _Class(2_000_000_000),
    "system-node-critical": _Class(2_000_001_000),
}


class Priority:
    """See the module."""

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "CREATE" and resource.plural == "pods" and not resource.group and not subresource

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        pod = request.object or {}
        spec: Object = pod.get("spec") or {}
        name = spec.get("priorityClassName") or ""
        found = BUILT_IN.get(name) if name else _NONE
        if found is None:
            raise forbidden(request, f"no PriorityClass with name {name} was found")
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
        computed = {"priority": found.value, "preemptionPolicy": found.preemption_policy}
        return {**pod, "spec": {**spec, **computed}}

    async def validate(self, request: AdmissionRequest) -> None:
        return
