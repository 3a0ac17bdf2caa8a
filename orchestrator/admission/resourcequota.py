"""ResourceQuota: what a write takes from the quotas of its namespace, or why it may not. Pure.

1. Only quotas count that limit something which the object uses, and whose scopes the object is in.
2. Where cpu or memory are limited, each container must say what it takes.
3. A quota whose usage is not known yet refuses.
4. The usage after the write must stay within `status.hard`; a change is charged for what it adds.

`Charging` in the registry calls `charge` just before it writes, and writes the charged quotas in the transaction
that writes the object. Less usage is noted by the quota controller. Source: Kubernetes' quota admission.
"""

from orchestrator.admission.chain import AdmissionRequest, Charge, Operation
from orchestrator.admission.refusal import forbidden
from orchestrator.api import amounts, quantity, quotas
from orchestrator.api.amounts import Amounts
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import Resource
from orchestrator.base.clock import Clock


class QuotaLedger:
    """Decides what is charged. Keeps nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        """Whether such a write may use more of a quota."""
        return quotas.is_measured(resource, operation, subresource)

    def charge(self, request: AdmissionRequest, held: list[Item]) -> list[Charge]:
        """What becomes of `held`, the namespace's quotas in their newest state. Raises `Forbidden`."""
        now_s = self._clock.now_s()
        obj = request.object or {}
        concerned = [quota for quota in held if _concerns(request, quota.object, obj)]
        if not concerned:
            return []
        added = dict(quotas.usage(request.resource, obj, now_s))
        negative = sorted(name for name, amount in added.items() if quantity.parse(amount) < 0)
        if negative:
            raise forbidden(request, f"quota usage is negative for resource(s): {','.join(negative)}")
        if request.old is not None:
            added = amounts.plus(added, quotas.usage(request.resource, request.old, now_s), -1)
        added = {name: amount for name, amount in added.items() if quantity.parse(amount) > 0}
        charges = [_charge(request, quota, added) for quota in concerned]
        return [charge for charge in charges if charge is not None]


def _concerns(request: AdmissionRequest, quota: Object, obj: Object) -> bool:
    """Rules 1 to 3."""
    status = quota.get("status") or {}
    limited = quotas.concerning(request.resource, status.get("hard") or ())
    if not limited or not quotas.covers(quota["spec"], request.resource, obj):
        return False
    name = quota["metadata"]["name"]
    if request.resource.plural == "pods" and not request.resource.group:
        text = quotas.unspecified(obj, limited)
        if text:
            raise forbidden(request, f"failed quota: {name}: {text}")
    unknown = sorted(set(limited) - (status.get("used") or {}).keys())
    if unknown:
        raise forbidden(request, f"status unknown for quota: {name}, resources: {','.join(unknown)}")
    return True


def _charge(request: AdmissionRequest, item: Item, added: Amounts) -> Charge | None:
    """Rule 4."""
    quota = item.object
    status = quota["status"]
    hard, used = status["hard"], status.get("used") or {}
    wanted = amounts.only(added, hard)
    if not wanted:
        return None
    new = amounts.plus(used, wanted)
    exceeded = amounts.beyond(amounts.only(new, wanted), hard)
    if exceeded:
        requested, before, limits = (
            amounts.shown(amounts.only(each, exceeded)) for each in (wanted, used, hard)
        )
        name = quota["metadata"]["name"]
        text = f"exceeded quota: {name}, requested: {requested}, used: {before}, limited: {limits}"
        raise forbidden(request, text)
    return Charge(item, {**quota, "status": {**status, "used": new}})
