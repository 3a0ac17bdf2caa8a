"""CustomResourceDefinitions: defaults, the status that the registry itself keeps, deletion with all objects.

1. `spec.names.singular` and `listKind` follow from the kind, `spec.conversion` is None where nothing is said.
2. `status.storedVersions` names every version that was ever the storage version, so nobody loses the schema of what
   is still kept in it; an administrator takes names out through the status.
3. `metadata.generation` grows with the spec.
4. A delete request marks the definition as Terminating and holds it with a finalizer until its controller has
   deleted every object.

What a definition may say is validated by `api.custom.definition`.
"""

from typing import Any

from orchestrator.api.custom.definition import check_definition, check_names
from orchestrator.api.custom.formats import unrecognized
from orchestrator.api.custom.shapes import parts_of
from orchestrator.api.errors import CAUSES_MAX, Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies.base import BaseStrategy, with_field

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
TERMINATING = {
    "type": "Terminating",
    "status": "True",
    "reason": "InstanceDeletionPending",
    "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
}
WARNINGS_MAX = 10


class CustomResourceDefinitionStrategy(BaseStrategy):
    """`registry.strategy.Strategy` of definitions."""

    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        names = spec.get("names") or {}
        kind = names.get("kind") or ""
        if kind:
            names = {"singular": kind.lower(), "listKind": f"{kind}List", **names}
        conversion = spec.get("conversion") or {"strategy": "None"}
        service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
        if service is not None and "port" not in service:
            config = {**conversion["webhook"]["clientConfig"], "service": {**service, "port": 443}}
            conversion = {**conversion, "webhook": {**conversion["webhook"], "clientConfig": config}}
        return {**obj, "spec": {**spec, "names": names, "conversion": conversion}}

    def initial_status(self, obj: Object) -> Object | None:
        return {"acceptedNames": {"kind": "", "plural": ""}, "storedVersions": _storage(obj)}

    def settle_update(self, new: Object, old: Object) -> Object:
        status = new.get("status") or {}
        stored = status.get("storedVersions") or []
        missing = [name for name in _storage(new) if name not in stored]
        return (
            with_field(new, "status", {**status, "storedVersions": [*stored, *missing]}) if missing else new
        )

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        return check_definition(new, old)[:CAUSES_MAX]

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        return list(check_names((new.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames"))

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        if old is not None and old["spec"] == new["spec"]:
            return []
        found: list[str] = []
        for version in new["spec"].get("versions") or ():
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            if isinstance(schema, dict):
                where = f"spec.versions[name={version['name']}].schema.openAPIV3Schema"
                _format_warnings(schema, where, found)
        return found[:WARNINGS_MAX]

    def ending(self, obj: Object, now: str) -> Object:
        metadata = obj["metadata"]
        if metadata.get("deletionTimestamp"):
            return obj
        finalizers = metadata.get("finalizers") or []
        if FINALIZER not in finalizers:
            metadata = {**metadata, "finalizers": [*finalizers, FINALIZER]}
        status = obj.get("status") or {}
        others = [each for each in status.get("conditions") or () if each.get("type") != "Terminating"]
        condition = {**TERMINATING, "lastTransitionTime": now}
        return {**obj, "metadata": metadata, "status": {**status, "conditions": [*others, condition]}}


def _storage(crd: Object) -> list[str]:
    versions = crd["spec"].get("versions") or ()
    return [version["name"] for version in versions if version.get("storage")][:1]


def _format_warnings(schema: Any, path: str, found: list[str]) -> None:
    if not isinstance(schema, dict) or len(found) >= WARNINGS_MAX:
        return
    form = schema.get("format")
    if form and unrecognized(schema.get("type") or "", form):
        found.append(f'unrecognized format "{form}"')
    for below, part in parts_of(schema, path):
        _format_warnings(part, below, found)
