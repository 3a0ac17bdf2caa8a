"""RuntimeClass: what it costs to run a pod by its class of runtime, and where such pods run.

1. A class that a pod names must exist.
2. The pod's overhead is that of its class; its author writes none, or the same.
3. The class's node selector is added, where the pod's does not say otherwise, and its tolerations.
"""

from orchestrator.admission.chain import AdmissionRequest, Operation, Reader
from orchestrator.admission.refusal import forbidden
from orchestrator.api.item import Object
from orchestrator.api.resources import RUNTIMECLASSES, Resource

_DIFFERENT = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
_ALONE = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"


class RuntimeClass:
    """See the module. Reads classes through `reader`, the newest state."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "CREATE" and resource.plural == "pods" and not resource.group and not subresource

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        pod = request.object or {}
        spec: Object = pod.get("spec") or {}
        if not spec.get("runtimeClassName"):
            return None
        held = await self._class_of(request, spec["runtimeClassName"])
        overhead, scheduling = _overhead(held), held.get("scheduling")
        changed = dict(spec)
        if overhead is not None:
            if spec.get("overhead") and spec["overhead"] != overhead:
                raise forbidden(request, _DIFFERENT)
            changed["overhead"] = overhead
        if scheduling is not None:
            changed |= _placed(request, spec, scheduling)
        return {**pod, "spec": changed} if changed != spec else None

    async def validate(self, request: AdmissionRequest) -> None:
        spec: Object = (request.object or {}).get("spec") or {}
        overhead = None
        if spec.get("runtimeClassName"):
            overhead = _overhead(await self._class_of(request, spec["runtimeClassName"]))
        if overhead is not None and spec.get("overhead") != overhead:
            raise forbidden(request, _DIFFERENT)
        if overhead is None and spec.get("overhead"):
            raise forbidden(request, _ALONE)

    async def _class_of(self, request: AdmissionRequest, name: str) -> Object:
        item = await self._reader.find(RUNTIMECLASSES, "", name)
        if item is None:
            raise forbidden(request, f'pod rejected: RuntimeClass "{name}" not found')
        return item.object


def _overhead(held: Object) -> Object | None:
    """What pods of the class cost; None where it says nothing."""
    overhead = held.get("overhead")
    return None if overhead is None else overhead.get("podFixed") or {}


def _placed(request: AdmissionRequest, spec: Object, scheduling: Object) -> Object:
    """The fields of the pod's spec that say where it runs."""
    own, wanted = spec.get("nodeSelector") or {}, scheduling.get("nodeSelector") or {}
    for key, value in wanted.items():
        if own.get(key, value) != value:
            text = (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] ="
                f" {own[key]}"
            )
            raise forbidden(request, text)
    placed: Object = {"nodeSelector": {**own, **wanted}} if wanted else {}
    if scheduling.get("tolerations"):
        placed["tolerations"] = _merged([*(spec.get("tolerations") or []), *scheduling["tolerations"]])
    return placed


def _merged(tolerations: list[Object]) -> list[Object]:
    """Without those that another one covers; of equal ones the first."""
    merged: list[Object] = []
    for at, toleration in enumerate(tolerations):
        later = [other for other in tolerations[at + 1 :] if other != toleration]
        if not any(_covers(other, toleration) for other in (*merged, *later)):
            merged.append(toleration)
    return merged


def _covers(wide: Object, narrow: Object) -> bool:
    """Whether `wide` tolerates at least what `narrow` does, and as long."""
    if wide == narrow:
        return True
    exists = wide.get("operator") == "Exists"
    if (narrow.get("key") or "") != (wide.get("key") or "") and (wide.get("key") or not exists):
        return False
    if wide.get("effect") and wide["effect"] != narrow.get("effect"):
        return False
    limit_s, seconds = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if limit_s is not None and (seconds is None or seconds > limit_s):
        return False
    if exists:
        return True
    same = (narrow.get("value") or "") == (wide.get("value") or "")
    return same and wide.get("operator") in (None, "", "Equal") and narrow.get("operator") == "Equal"
