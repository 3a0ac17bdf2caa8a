"""PriorityClasses.

Rules:
1. Value and preemption policy never change; values above a billion and the `system-` names are Kubernetes' own.
2. At most one class is the global default: it holds a claim, so the store decides between two that come at
   once. (Admission names the class that is in the way; this is the last word.)
"""

from orchestrator.api.errors import Cause, Forbidden
from orchestrator.api.item import Object
from orchestrator.api.priorities import DEFAULT_CLAIM, SYSTEM, SYSTEM_PREFIX, USER_VALUE_MAX
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, with_defaults
from orchestrator.registry.strategy import IsTaken


class PriorityClassStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        return with_defaults(obj, {"value": 0, "preemptionPolicy": "PreemptLowerPriority"})

    def desired_changed(self, new: Object, old: Object) -> bool:
        return False

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        if old is None:
            return _validate_new(new)
        found: list[Cause] = []
        if new["value"] != (old.get("value") or 0):
            found.append(causes.forbidden("value", "may not be changed in an update."))
        policy = old.get("preemptionPolicy", new["preemptionPolicy"])
        return found + causes.immutable("preemptionPolicy", new["preemptionPolicy"], policy)

    async def allocate(self, new: Object, old: Object | None, is_taken: IsTaken) -> Object:
        if (
            new.get("globalDefault")
            and not (old or {}).get("globalDefault")
            and await is_taken(DEFAULT_CLAIM)
        ):
            name = new["metadata"]["name"]
            raise Forbidden(
                f'priorityclasses.scheduling.k8s.io "{name}" is forbidden: another PriorityClass is already'
                " marked as default. Only one default can exist",
                group=self.resource.group, kind=self.resource.plural, name=name,
            )  # fmt: skip
        return new

    def claims(self, obj: Object) -> frozenset[str]:
        return frozenset((DEFAULT_CLAIM,)) if obj.get("globalDefault") else frozenset()


def _validate_new(obj: Object) -> list[Cause]:
    name, value = obj["metadata"].get("name") or "", obj["value"]
    found: list[Cause] = []
    if name.startswith(SYSTEM_PREFIX):
        problem = _system_problem(name, value, bool(obj.get("globalDefault")))
        if problem:
            text = f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only."
            found.append(causes.forbidden("metadata.name", f"{text} error: {problem}"))
    elif value > USER_VALUE_MAX:
        text = f"maximum allowed value of a user defined priority is {USER_VALUE_MAX}"
        found.append(causes.forbidden("value", text))
    policies = ("Never", "PreemptLowerPriority")
    return found + causes.one_of("preemptionPolicy", obj["preemptionPolicy"], policies)


def _system_problem(name: str, value: int, is_default: bool) -> str:
    if name not in SYSTEM:
        return f"{name} is not a known system priority class"
    if value != SYSTEM[name]:
        return f"value of {name} PriorityClass must be {SYSTEM[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""
