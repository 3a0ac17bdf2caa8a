"""Eviction of a pod: a deletion that disruption budgets may refuse.

1. A pod that is pending, has ended or is going is deleted without asking a budget; a pending one only as it was
   read, since it may become ready meanwhile.
2. More than one budget for a pod is an error. A pod that is not ready is deleted, and not charged, if its budget
   always allows that or has enough healthy pods; but only as it was read.
3. Else the budget is charged: one disruption less, and the pod noted with the time, in one write of its status.
   Of concurrent evictions the store lets one write at a time, so no disruption is granted twice.
4. The pod says why it goes in the condition DisruptionTarget, then it is deleted. A dry run changes neither.

Called by the subresources. Source of rules and texts: Kubernetes v1.36's eviction subresource.
"""

from dataclasses import replace

from orchestrator.api.errors import (
    BadRequest,
    Cause,
    Conflict,
    Forbidden,
    InternalError,
    Timeout,
    TooManyRequests,
    not_found,
)
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import PODDISRUPTIONBUDGETS, PODS
from orchestrator.api.selectors import from_label_selector
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.registry.results import Deleted
from orchestrator.registry.storage import Storage
from orchestrator.registry.writing import Target, Writer

DISRUPTED_MAX = 2000
"""Evictions that a budget grants before its controller has looked at them."""
_ATTEMPTS = 20
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_RETRY_S = 10


class Evictions:
    """Deletes pods within their budgets. Keeps no state: the store decides every race."""

    def __init__(self, storage: Storage, writer: Writer, clock: Clock) -> None:
        self._storage = storage
        self._writer = writer
        self._clock = clock

    async def evict(self, where: Target, options: DeleteOptions) -> Deleted:
        """`where` is the pod's eviction. Raises `NotFound`, `Conflict` for preconditions, `TooManyRequests` when
        the budget refuses, `InternalError` when there are several."""
        pod = None
        for _ in range(_ATTEMPTS):
            pod = await self._pod(where)
            if not _asks_no_budget(pod):
                return await self._within_budget(where, pod, options)
            pending = _phase(pod) == "Pending" and "deletionTimestamp" not in pod["metadata"]
            try:
                return await self._delete(where, _as_read(options, pod) if pending else options)
            except Conflict:
                if options.resource_version or not pending:
                    raise
        raise Conflict(f"pod {where.name} keeps changing", kind="pods", name=where.name)

    async def _within_budget(self, where: Target, pod: Object, options: DeleteOptions) -> Deleted:
        budget = await self._budget_of(pod)
        if budget is None:
            return await self._delete(where, options)
        if not _may_go_unready(pod, budget.object):
            await self._charge(where, budget.meta.name, options.dry_run or where.options.dry_run)
            return await self._delete(where, options)
        try:
            return await self._delete(where, _as_read(options, pod))
        except Conflict:
            if options.resource_version:
                raise
            raise _busy(budget.meta.name) from None

    async def _pod(self, where: Target) -> Object:
        item = await self._storage.find(PODS, where.namespace, where.name)
        if item is None:
            raise not_found("", "pods", where.name)
        return item.object

    async def _budget_of(self, pod: Object) -> Item | None:
        meta = pod["metadata"]
        prefix = PODDISRUPTIONBUDGETS.key_prefix(meta["namespace"])
        entries = (await self._storage.range(prefix)).entries
        found = [entry.item for entry in entries if _selects(entry.item.object, meta.get("labels") or {})]
        if len(found) > 1:
            raise InternalError(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            )
        return found[0] if found else None

    async def _charge(self, where: Target, name: str, dry_run: bool) -> None:
        """Rule 3."""
        options = replace(where.options, dry_run=dry_run)
        target = Target(PODDISRUPTIONBUDGETS, where.namespace, name, options, where.identity, "status")
        now = timestamp(self._clock.now_s())
        for _ in range(_ATTEMPTS):
            try:
                await self._writer.modify(
                    target, lambda budget: (charged(budget, where.name, now), []), rules=False
                )
                return
            except Conflict:
                continue
        text = f'couldn\'t update PodDisruptionBudget "{name}" due to conflicts'
        raise Timeout(text, retry_after_s=_RETRY_S)

    async def _delete(self, where: Target, options: DeleteOptions) -> Deleted:
        """Rule 4."""
        if options.dry_run or where.options.dry_run:
            return await self._writer.delete(where, replace(options, dry_run=True))
        now = timestamp(self._clock.now_s())
        wanted = {"uid": options.uid, "resourceVersion": options.resource_version}

        def marked(pod: Object) -> tuple[Object, list[str]]:
            self._writer.check_deletion_preconditions(where, wanted, pod["metadata"])
            return disrupted(pod, now), []

        written = await self._writer.modify(replace(where, subresource="status"), marked, rules=False)
        if options.resource_version:
            options = replace(options, resource_version=str(written.item.revision))
        return await self._writer.delete(where, options)


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def _asks_no_budget(pod: Object) -> bool:
    return _phase(pod) in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _as_read(options: DeleteOptions, pod: Object) -> DeleteOptions:
    """The options, for the very revision of the pod unless they name one."""
    version = options.resource_version or pod["metadata"]["resourceVersion"]
    return replace(options, resource_version=version)


def _selects(budget: Object, labels: dict[str, str]) -> bool:
    try:
        return from_label_selector((budget.get("spec") or {}).get("selector")).matches(labels)
    except BadRequest:
        return False  # A selector that is broken matches nothing.


def _may_go_unready(pod: Object, budget: Object) -> bool:
    """Rule 2."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)


def charged(budget: Object, pod: str, now: str) -> Object:
    """The budget with one disruption less, for `pod`. Raises `TooManyRequests` or `Forbidden`."""
    name, status = budget["metadata"]["name"], budget.get("status") or {}
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _busy(name)
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or ()) > DISRUPTED_MAX:
        text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise _forbidden(name, text)
    if allowed == 0:
        raise TooManyRequests(_REFUSED, causes=(Cause("DisruptionBudget", _why(name, status), ""),))
    status = {
        **status,
        "disruptionsAllowed": allowed - 1,
        "disruptedPods": {**(status.get("disruptedPods") or {}), pod: now},
    }
    if allowed == 1:
        status["conditions"] = _none_allowed(status, now)
    return {**budget, "status": status}


def _why(name: str, status: Object) -> str:
    for entry in status.get("conditions") or ():
        if entry["type"] == "DisruptionAllowed" and entry.get("reason") == "SyncFailed":
            failed = entry.get("message", "")
            return (
                f"The disruption budget {name} does not allow evicting pods currently because it failed sync:"
                f" {failed}"
            )
    desired, current = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    return f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"


def _none_allowed(status: Object, now: str) -> list[Object]:
    old = status.get("conditions") or []
    known: Object = next((entry for entry in old if entry["type"] == "DisruptionAllowed"), {})
    since = known.get("lastTransitionTime", now) if known.get("status") == "False" else now
    entry = {
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
        "lastTransitionTime": since,
        "observedGeneration": status.get("observedGeneration", 0),
    }
    return [*(each for each in old if each["type"] != "DisruptionAllowed"), entry]


def _busy(budget: str) -> TooManyRequests:
    text = f"The disruption budget {budget} is still being processed by the server."
    return TooManyRequests(_REFUSED, causes=(Cause("DisruptionBudget", text, ""),), retry_after_s=_RETRY_S)


def _forbidden(name: str, why: str) -> Forbidden:
    text = f'poddisruptionbudget.policy "{name}" is forbidden: {why}'
    return Forbidden(text, group="policy", kind="poddisruptionbudget", name=name)


def disrupted(pod: Object, now: str) -> Object:
    """The pod with the condition that says it is evicted."""
    status = pod.get("status") or {}
    conditions = status.get("conditions") or []
    known: Object = next((entry for entry in conditions if entry["type"] == "DisruptionTarget"), {})
    since = known.get("lastTransitionTime", now) if known.get("status") == "True" else now
    entry = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": since,
    }
    if pod["metadata"].get("generation"):
        entry["observedGeneration"] = pod["metadata"]["generation"]
    others = [each for each in conditions if each["type"] != "DisruptionTarget"]
    return {**pod, "status": {**status, "conditions": [*others, entry]}}
