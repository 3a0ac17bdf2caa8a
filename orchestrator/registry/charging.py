"""Charging: a write and what it takes from quotas are one transaction, so that no race exceeds a quota.

1. Writers of one namespace with a quota charge the same object. They stand in line, and whoever waits while others
   are written goes with the next round: up to `TOGETHER_MAX` transactions that share one sync of the log, each
   charged on top of the one before it and compared with it (`PREVIOUS`).
2. In a round each still succeeds or fails by itself. Where one fails for a reason of its own, such as a name that is
   taken, those behind it were charged on top of what never came: they are charged anew in the next round.
3. Who would exceed a quota is refused only on top of what is written, never on top of what may yet fail.
4. Other servers of the store, the quota's controller and its owner are kept out by the comparison.

Called by the writer for every create and change, right before its transaction.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.admission.chain import AdmissionRequest, Charge, Ledger
from orchestrator.api.errors import ApiError, conflict
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.resources import RESOURCEQUOTAS
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.registry.storage import Storage
from orchestrator.store.interface import PREVIOUS, Compare, Put, Txn, TxnResult

ATTEMPTS = 32
"""Tries while the quota is changed by others: its controller, its owner, other servers."""
TOGETHER_MAX = 64
TOGETHER_BYTES_MAX = 1024 * 1024
"""Both bound a round; an object may exceed the bytes by itself."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """A write that stands in line; whoever waits for `answer` may be cancelled."""

    ledger: Ledger
    request: AdmissionRequest
    txn: Txn
    size_bytes: int
    answer: asyncio.Future[TxnResult]
    attempts: int = 0


@dataclass(eq=False, slots=True)
class _Round:
    """What goes to the store together, and the quotas as they are behind it."""

    held: dict[str, Item]
    members: list[_Waiting] = field(default_factory=list)
    txns: list[Txn] = field(default_factory=list)
    charged: list[set[str]] = field(default_factory=list)
    """Keys of the quotas that each member charges."""

    def add(self, waiting: _Waiting, charges: list[Charge]) -> None:
        keys = [_key(charge.before) for charge in charges]
        compares = [Compare(key, charge.before.revision) for key, charge in zip(keys, charges, strict=True)]
        puts = []
        for key, charge in zip(keys, charges, strict=True):
            raw = _encoded(charge)
            puts.append(Put(key, raw))
            self.held[key] = Item(raw, PREVIOUS, None, charge.object)
        txn = waiting.txn
        self.txns.append(Txn((*txn.compares, *compares), (*txn.operations, *puts)))
        self.members.append(waiting)
        self.charged.append(set(keys))


class Charging:
    """Owner of the lines, one per namespace that is written to. Without a ledger nothing is charged."""

    def __init__(self, storage: Storage, ledger: Ledger | None, clock: Clock) -> None:
        self._storage = storage
        self._ledger = ledger
        self._supervisor = Supervisor("charging", clock)
        self._lines: dict[str, deque[_Waiting]] = {}
        """As long as the requests that wait, which the server bounds."""

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
        answer: asyncio.Future[TxnResult] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(ledger, request, txn, _size_bytes(txn), answer)
        line = self._lines.get(request.namespace)
        if line is not None:
            line.append(waiting)
        else:
            self._lines[request.namespace] = line = deque((waiting,))
            self._supervisor.spawn(request.namespace, self._drain(request.namespace, line))
        return await answer

    async def close(self) -> None:
        """Writes that still stand in line are cancelled. May be called twice."""
        await self._supervisor.stop()

    def _concerned(self, request: AdmissionRequest) -> Ledger | None:
        ledger = self._ledger
        if ledger is None or not ledger.handles(request.operation, request.resource, request.subresource):
            return None
        return ledger

    # ── A line ──────────────────────────────────────────────────────────────────────────────────────────

    async def _drain(self, namespace: str, line: deque[_Waiting]) -> None:
        """Round after round until nobody waits."""
        group: list[_Waiting] = []
        try:
            while group := _taken(line):
                try:
                    left = await self._round(namespace, group)
                except Exception as error:
                    left = []
                    for waiting in group:
                        _fail(waiting, error)
                line.extendleft(reversed(left))
        finally:
            del self._lines[namespace]
            for waiting in (*group, *line):
                waiting.answer.cancel()

    async def _round(self, namespace: str, group: list[_Waiting]) -> list[_Waiting]:
        """Write what can be written of `group`; those who have no answer yet."""
        items = await self._storage.within(RESOURCEQUOTAS, namespace)
        ahead = _Round({_key(item): item for item in items})
        left: set[_Waiting] = set()
        for waiting in group:
            try:
                charges = waiting.ledger.charge(waiting.request, list(ahead.held.values()))
            except ApiError as error:
                if ahead.members:  # Rule 3
                    left.add(waiting)
                else:
                    _fail(waiting, error)
                continue
            ahead.add(waiting, charges)
        if ahead.txns:
            results = await self._storage.transact_many(ahead.txns)
            left.update(_unsettled(ahead, results))
        return [waiting for waiting in group if waiting in left]


def _taken(line: deque[_Waiting]) -> list[_Waiting]:
    """The next round's, taken off the line; who has gone away meanwhile is passed over."""
    group: list[_Waiting] = []
    size_bytes = 0
    while line and len(group) < TOGETHER_MAX:
        size_bytes += line[0].size_bytes
        if group and size_bytes > TOGETHER_BYTES_MAX:
            break
        waiting = line.popleft()
        if not waiting.answer.done():
            group.append(waiting)
        else:
            size_bytes -= waiting.size_bytes
    return group


def _unsettled(ahead: _Round, results: Iterable[TxnResult]) -> list[_Waiting]:
    """Answer those whose own fate is known; the others lost a quota to somebody, or to one before them."""
    left = []
    for waiting, txn, keys, result in zip(ahead.members, ahead.txns, ahead.charged, results, strict=True):
        if result.succeeded or not set(result.failed) <= keys:
            if not waiting.answer.done():
                waiting.answer.set_result(result)
            continue
        waiting.attempts += not any(compare.revision == PREVIOUS for compare in txn.compares)
        if waiting.attempts >= ATTEMPTS:
            _fail(waiting, conflict("", "resourcequotas", "", "the quotas of the namespace change too fast"))
        else:
            left.append(waiting)
    return left


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _size_bytes(txn: Txn) -> int:
    return sum(len(step.value) for step in txn.operations if isinstance(step, Put))


def _encoded(charge: Charge) -> bytes:
    """The charged quota. Decoded objects lack their fields' owners; those stay as they are."""
    obj: Object = charge.object
    if b'"managedFields"' in charge.before.raw:
        obj = {**obj, "metadata": charge.before.whole["metadata"]}
    return encode(obj)


def _key(quota: Item) -> str:
    return RESOURCEQUOTAS.key(quota.meta.namespace, quota.meta.name)
