"""DefaultTolerationSeconds: a pod that says nothing about it stays five minutes on a node that went away."""

from orchestrator.admission.chain import AdmissionRequest, Operation
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource

STAY_S = 300
_KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds:
    """Adds the toleration for each of the two taints that the pod does not tolerate itself."""

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "CREATE" and resource.plural == "pods" and not resource.group and not subresource

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        pod = request.object or {}
        spec: Object = pod.get("spec") or {}
        tolerations: list[Object] = spec.get("tolerations") or []
        missing = [key for key in _KEYS if not any(_tolerates(entry, key) for entry in tolerations)]
        if not missing:
            return None
        added = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": STAY_S}
            for key in missing
        ]
        return {**pod, "spec": {**spec, "tolerations": [*tolerations, *added]}}

    async def validate(self, request: AdmissionRequest) -> None:
        return


def _tolerates(toleration: Object, key: str) -> bool:
    return toleration.get("key") in (key, "", None) and toleration.get("effect") in ("NoExecute", "", None)
