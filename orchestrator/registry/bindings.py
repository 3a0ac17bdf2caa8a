"""Bindings of many pods at once: each as `pods/binding` does it, all in one write of the log.

A pod that somebody else wrote meanwhile goes the way of a single binding. Called by the local client for the scheduler.
"""

from collections.abc import Awaitable, Callable, Sequence

from orchestrator.admission.chain import AdmissionChain, AdmissionRequest
from orchestrator.api.access import Identity
from orchestrator.api.errors import ApiError, conflict, not_found
from orchestrator.api.item import Object, decode, encode
from orchestrator.api.resources import PODS
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.registry import objectmeta
from orchestrator.registry.storage import Storage
from orchestrator.store.interface import Compare, Entry, Put, Txn

Single = Callable[[Object], Awaitable[object]]
"""Binds one pod the usual way."""


class Bindings:
    """Owner: the registry's subresources."""

    def __init__(
        self,
        storage: Storage,
        admission: AdmissionChain,
        assigned: Callable[[Object, str, str, Object, str], Object],
        clock: Clock,
    ) -> None:
        """`assigned` makes the bound pod: (pod, name, node, metadata of the binding, now); raises `Conflict`."""
        self._storage = storage
        self._admission = admission
        self._assigned = assigned
        self._clock = clock

    async def bind(
        self, bindings: Sequence[Object], identity: Identity, single: Single
    ) -> list[ApiError | None]:
        """What went wrong with each, in order. Raises what concerns all of them."""
        errors: list[ApiError | None] = [None] * len(bindings)
        places: list[int] = []
        txns: list[Txn] = []
        now = timestamp(self._clock.now_s())
        for at, binding in enumerate(bindings):
            try:
                txn = await self._transaction(binding, identity, now)
            except ApiError as error:
                errors[at] = error
                continue
            places.append(at)
            txns.append(txn)
        results = await self._storage.transact_many(txns) if txns else []
        for at, result in zip(places, results, strict=True):
            if not result.succeeded:
                errors[at] = await _alone(single, bindings[at])
        return errors

    async def _transaction(self, binding: Object, identity: Identity, now: str) -> Txn:
        given = binding["metadata"]
        namespace, name = given["namespace"], given["name"]
        key = PODS.key(namespace, name)
        entry = await self._storage.get(key)
        if entry is None:
            raise not_found("", "pods", name)
        old = decode(entry.value, entry.revision)
        for text in objectmeta.unmet_uid(given.get("uid") or "", old["metadata"]["uid"]):
            raise conflict("", "pods", name, text)
        candidate = self._assigned(old, name, binding["target"]["name"], {}, now)
        new = objectmeta.updated(candidate, old)
        request = AdmissionRequest("UPDATE", PODS, "binding", namespace, name, new, old, identity)
        return _replacing(entry, encode(await self._admission.admit(request)))


def _replacing(entry: Entry, raw: bytes) -> Txn:
    return Txn((Compare(entry.key, entry.revision),), (Put(entry.key, raw, entry.lease),))


async def _alone(single: Single, binding: Object) -> ApiError | None:
    try:
        await single(binding)
    except ApiError as error:
        return error
    return None
