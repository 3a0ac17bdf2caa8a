"""Leader election on a `Lease` of coordination.k8s.io: of several candidates at most one works.

1. A candidate takes the lease when nobody holds it, or when it has seen the same record of its holder for the
   whole lease duration, by its own clock: clocks of different hosts are never compared.
2. A leader renews every `retry_s`. It counts its time from before the renewal was sent, so its `renew_deadline_s`
   ends before another candidate's lease duration can. Then it stops its work, and may stand again.
3. `may_write` is what the work's client asks before each request, and the shared store before each transaction that
   it sends: a process that was frozen for longer than its deadline has the right no more when it goes on, even before
   anybody told its tasks and amid a request. Both the monotonic and the wall clock count: the former may stand still
   while a machine is suspended.
4. A clean stop gives the lease back, so that another candidate (`look`) takes over at once.

Times are those of Kubernetes' components. Source: client-go, tools/leaderelection. Called by `assembly.deciders`.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Protocol

import structlog
from prometheus_client import Gauge

from orchestrator.api.access import Attributes, Authorizer, Identity
from orchestrator.api.errors import AlreadyExists, ApiError, Conflict, NotFound, ServiceUnavailable
from orchestrator.api.item import Object
from orchestrator.api.resources import LEASES
from orchestrator.api.times import micro_timestamp
from orchestrator.base.clock import Clock
from orchestrator.base.right import right_to_write
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client

log = structlog.get_logger(__name__)

MASTER = Gauge("leader_election_master_status", "Whether this process leads: 1 or 0.", ["name"])

NAMESPACE = "kube-system"
JITTER = 1.2
STOP_TIMEOUT_S = 3.0
"""What is left between the renew deadline and the lease's end must suffice to stop the work."""
READS = frozenset(("get", "list", "watch"))


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds. `renew_deadline_s` lies so far below `lease_s` that the work can stop in between."""

    lease_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class Work(Protocol):
    """What only the leader does. Started and stopped once per term."""

    def start(self) -> None: ...

    async def stop(self) -> None:
        """Returns when nothing of it runs any more."""


class Elector:
    """One candidate for one lease. Owner of its work: nobody else starts or stops it."""

    def __init__(
        self,
        name: str,
        identity: str,
        client: Client,
        work: Work,
        clock: Clock,
        rng: random.Random,
        times: Times | None = None,
    ) -> None:
        """`name` is the lease's; `identity` tells candidates apart and must be unique per process."""
        self.name = name
        self.identity = identity
        self.terms = 0
        self._working = False
        self._client = client
        self._work = work
        self._clock = clock
        self._rng = rng
        self._times = times or Times()
        self._supervisor = Supervisor(f"leader/{name}", clock)
        self._status = MASTER.labels(name)
        self._status.set(0)
        self._seen: Object | None = None
        """The lease as it was last read or written."""
        self._seen_record: Object = {}
        self._seen_at_s = 0.0
        self._renewed: tuple[float, float] | None = None
        """Monotonic and wall clock before the last renewal that succeeded; None while not leading."""
        self._look = asyncio.Event()

    @property
    def leading(self) -> bool:
        """Whether this candidate's term lasts."""
        return self._renewed is not None

    def may_write(self) -> bool:
        """Whether the lease is held for sure at this moment, by both clocks."""
        return self._left_s() > 0

    def look(self) -> None:
        """The lease has changed: see whether it is free now."""
        self._look.set()

    def start(self) -> None:
        """Stand for election from now on."""
        self._supervisor.serve("election", self._run)

    async def stop(self) -> None:
        """End the term, if any, and give the lease back."""
        await self._supervisor.stop()
        held = self.leading
        if self._working:
            await self._end_term()
        if held:
            await self._release()

    async def _run(self) -> None:
        if self._working:  # The last round failed in the midst of a term.
            await self._end_term()
        while True:
            await self._acquire()
            await self._lead()

    async def _acquire(self) -> None:
        while True:
            self._look.clear()
            if await self._try():
                return
            pause = self._supervisor.spawn("pause", self._clock.sleep(self._pause_s()))
            looking = self._supervisor.spawn("look", self._look.wait())
            try:
                await asyncio.wait((pause, looking), return_when=asyncio.FIRST_COMPLETED)
            finally:
                pause.cancel()
                looking.cancel()

    def _pause_s(self) -> float:
        return self._times.retry_s * (1 + JITTER * self._rng.random())

    async def _lead(self) -> None:
        self.terms += 1
        self._working = True
        self._status.set(1)
        log.info("leading", lease=self.name, identity=self.identity)
        renewing = self._supervisor.spawn("renew", self._renew())
        try:
            self._work.start()
            while self.may_write() and not renewing.done():
                await self._clock.sleep(min(self._left_s(), self._times.retry_s))
        finally:
            renewing.cancel()
        log.warning("no longer leading", lease=self.name, identity=self.identity)
        await self._end_term()

    async def _renew(self) -> None:
        """Until somebody else has the lease; failures are tried again for as long as the term lasts."""
        while True:
            await self._clock.sleep(self._times.retry_s)
            if not await self._try() and self._lost():
                return

    async def _end_term(self) -> None:
        self._renewed = None
        self._status.set(0)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._work.stop()
        except TimeoutError:  # Its client lets no write through any more; the rest is cancelled.
            log.error("work of a former leader does not stop", lease=self.name, timeout_s=STOP_TIMEOUT_S)
            await self._work.stop()
        self._working = False

    def _left_s(self) -> float:
        """How long this candidate may still act as the leader."""
        if self._renewed is None:
            return 0.0
        monotonic_s, wall_s = self._renewed
        passed_s = max(self._clock.monotonic_s() - monotonic_s, self._clock.now_s() - wall_s)
        return self._times.renew_deadline_s - passed_s

    def _lost(self) -> bool:
        """Whether the record says that somebody else leads, or nobody."""
        return self._seen_record.get("holderIdentity") != self.identity

    async def _try(self) -> bool:
        """Take or renew the lease, if that is allowed. False when it is not, or failed."""
        started = (self._clock.monotonic_s(), self._clock.now_s())
        try:
            written = await self._take()
        except (Conflict, AlreadyExists, NotFound):
            self._seen = None  # Somebody was faster: read before the next try.
            return False
        except ApiError as error:
            self._seen = None
            log.warning("lease not taken or renewed", lease=self.name, error=error.message)
            return False
        if written:
            self._renewed = started
        return written

    async def _take(self) -> bool:
        known = self._seen if self.leading else None
        if known is None:
            try:
                known = await self._client.get(LEASES, self.name, NAMESPACE)
            except NotFound:
                self._note(await self._client.create(LEASES, self._new(), NAMESPACE))
                return True
            self._note(known)
        if not self._is_free():
            return False
        self._note(await self._client.update(LEASES, {**known, "spec": self._record(known)}))
        return True

    def _is_free(self) -> bool:
        """Rule 1; one's own lease of a former term, too, is only renewed while that term lasts."""
        record = self._seen_record
        holder = record.get("holderIdentity") or ""
        if not holder or (holder == self.identity and self.leading):
            return True
        lease_s = max(float(record.get("leaseDurationSeconds") or 0), self._times.lease_s)
        return holder == self.identity or self._clock.monotonic_s() >= self._seen_at_s + lease_s

    def _note(self, lease: Object) -> None:
        self._seen = lease
        record = lease.get("spec") or {}
        if record != self._seen_record:
            self._seen_record, self._seen_at_s = record, self._clock.monotonic_s()

    def _new(self) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": self._record({}),
        }

    def _record(self, known: Object) -> Object:
        """The lease's spec with us as its holder from now."""
        before = known.get("spec") or {}
        now = micro_timestamp(self._clock.now_s())
        ours = before.get("holderIdentity") == self.identity
        transitions = before.get("leaseTransitions") or 0
        return {
            **before,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._times.lease_s),
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours or not known else transitions + 1,
        }

    async def _release(self) -> None:
        """Give the lease back; whoever cannot be told finds out when it ends."""
        if self._seen is None or self._lost():
            return
        now = micro_timestamp(self._clock.now_s())
        record = {key: value for key, value in self._seen_record.items() if key != "holderIdentity"}
        spec = {**record, "leaseDurationSeconds": 1, "renewTime": now}
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._client.update(LEASES, {**self._seen, "spec": spec})
        except (ApiError, TimeoutError) as error:
            log.info("lease not given back", lease=self.name, error=str(error))


class OnlyLeader:
    """An authorizer that lets writes through only while the elector holds its lease (rule 3)."""

    def __init__(self, authorizer: Authorizer, elector: Elector) -> None:
        self._authorizer = authorizer
        self._elector = elector

    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        """Raises `ServiceUnavailable` to a former leader, else what the authorizer raises."""
        if attributes.verb not in READS:
            if refusal := self._refusal():
                raise ServiceUnavailable(refusal)
            right_to_write.set(self._refusal)  # Of the caller's task, which does nothing but this work.
        await self._authorizer.authorize(identity, attributes)

    def _refusal(self) -> str:
        lost = not self._elector.may_write()
        return f"this process does not lead {self._elector.name} any more" if lost else ""
