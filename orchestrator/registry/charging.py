"""Charging: a write and what it takes from quotas are one transaction, so that no race exceeds a quota.

Writers of one namespace take turns where it has a quota: each charges the same object, and only one of those that
read the same state could win. The turns only save work; other servers of the store are kept out by the comparison.
Called by the writer for every create and change, right before its transaction.
"""

import asyncio
from weakref import WeakValueDictionary

from orchestrator.admission.chain import AdmissionRequest, Ledger
from orchestrator.api.errors import conflict
from orchestrator.api.item import Item, encode
from orchestrator.api.resources import RESOURCEQUOTAS
from orchestrator.registry.storage import Storage
from orchestrator.store.interface import Compare, Put, Txn, TxnResult

ATTEMPTS = 32
"""Tries while the quota is changed by others: its controller, its owner, other servers."""


class Charging:
    """Owner of the turns. Without a ledger nothing is charged."""

    def __init__(self, storage: Storage, ledger: Ledger | None) -> None:
        self._storage = storage
        self._ledger = ledger
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def check(self, request: AdmissionRequest) -> None:
        """For a dry run: raises `Forbidden` where the write would."""
        ledger = self._concerned(request)
        if ledger is not None:
            ledger.charge(request, await self._storage.within(RESOURCEQUOTAS, request.namespace))

    async def commit(self, request: AdmissionRequest, txn: Txn) -> TxnResult:
        """`txn` with what it takes from quotas. Raises `Forbidden`, and what the storage raises."""
        ledger = self._concerned(request)
        if ledger is None:
            return await self._storage.transact(txn)
        held = await self._storage.within(RESOURCEQUOTAS, request.namespace)
        if not held or not ledger.charge(request, held):
            return await self._storage.transact(txn)
        turn = self._turns.setdefault(request.namespace, asyncio.Lock())
        async with turn:
            return await self._charged(ledger, request, txn)

    async def _charged(self, ledger: Ledger, request: AdmissionRequest, txn: Txn) -> TxnResult:
        for _ in range(ATTEMPTS):
            held = await self._storage.within(RESOURCEQUOTAS, request.namespace)
            charges = [(_key(charge.before), charge) for charge in ledger.charge(request, held)]
            compares = (Compare(key, charge.before.revision) for key, charge in charges)
            puts = (Put(key, encode(charge.object)) for key, charge in charges)
            whole = Txn((*txn.compares, *compares), (*txn.operations, *puts))
            result = await self._storage.transact(whole)
            if result.succeeded or not set(result.failed) <= {key for key, _ in charges}:
                return result
        raise conflict("", "resourcequotas", "", "the quotas of the namespace change too fast")

    def _concerned(self, request: AdmissionRequest) -> Ledger | None:
        ledger = self._ledger
        if ledger is None or not ledger.handles(request.operation, request.resource, request.subresource):
            return None
        return ledger


def _key(quota: Item) -> str:
    return RESOURCEQUOTAS.key(quota.meta.namespace, quota.meta.name)
