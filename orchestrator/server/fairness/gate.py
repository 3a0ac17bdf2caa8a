"""Gate: around the handling of a request. A seat of its priority level, and an end to its time.

What runs long by its nature (exec, log, proxy, an operator's work on the store) passes; a watch waits for its turn
to begin and gives the seat back at once. A request that has taken `timeout_s`, waiting included, is cancelled and
answered 504: its task is noted, and one timer for all of them looks once a second (a timer each costs more than
the whole gate).
"""

import asyncio
import re
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable

from orchestrator.api.access import Identity
from orchestrator.api.errors import BadRequest, Timeout, TooManyRequests
from orchestrator.server.fairness.fairness import WAITS_S, Fairness, Flow
from orchestrator.server.fairness.level import WAIT_LIMIT_S, Rejected
from orchestrator.server.paths import RequestInfo
from orchestrator.server.query import Query
from orchestrator.server.store_admin import PREFIX
from orchestrator.web.answer import Request, Response
from orchestrator.web.listener import when_lost

REQUEST_TIMEOUT_S = 60.0
SWEEP_S = 1.0
LONG_RUNNING = frozenset(("attach", "exec", "log", "portforward", "proxy"))
"""Subresources that are neither counted nor limited in time."""
OBJECTS_PER_SEAT = 100
LIST_SEATS_MAX = 10
LISTS_MAX = 2048
"""Lists whose size is remembered."""

Serve = Callable[[], Awaitable[Response]]
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Gate:
    """One per server. Owner of the tasks' deadlines; its timer runs only while requests are open."""

    def __init__(
        self, fairness: Fairness, timeout_s: float = REQUEST_TIMEOUT_S, wait_s: float = WAIT_LIMIT_S
    ) -> None:
        self._fairness = fairness
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._open: dict[asyncio.Task[object], float] = {}
        self._overdue: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._objects: dict[tuple[str, str, str], int] = {}

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def flow_of(self, identity: Identity, info: RequestInfo) -> Flow | None:
        """The flow that a request counts to; None for what is not counted."""
        if info.subresource in LONG_RUNNING or (not info.resource and info.path.startswith(PREFIX)):
            return None
        return self._fairness.flow_of(identity, info)

    async def run(
        self, request: Request, identity: Identity, info: RequestInfo, query: Query, flow: Flow, serve: Serve
    ) -> Response:
        """Serve within the limits. Raises `TooManyRequests`, `Timeout`, and what `serve` raises."""
        if info.verb == "watch":
            width = await self._enter(request, identity, info, flow)
            self._leave(flow, width)
            return await serve()
        limit_s = self._timeout_s
        if query and query.has("timeout"):
            limit_s = min(limit_s, asked_timeout_s(query.text("timeout")) or limit_s)
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = time.monotonic() + limit_s
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(min(SWEEP_S, limit_s), self._sweep)
        try:
            width = await self._enter(request, identity, info, flow)
            try:
                return await serve()
            finally:
                self._leave(flow, width)
        except asyncio.CancelledError:
            if task not in self._overdue:
                raise
            task.uncancel()
            raise Timeout("Timeout: request did not complete within the allotted timeout") from None
        finally:
            del self._open[task]
            self._overdue.discard(task)

    def note_objects(self, info: RequestInfo, count: int) -> None:
        """How many objects a list had: the next one like it takes seats by that."""
        key = (info.group, info.resource, info.namespace)
        if count > OBJECTS_PER_SEAT and (key in self._objects or len(self._objects) < LISTS_MAX):
            self._objects[key] = count
        elif self._objects:
            self._objects.pop(key, None)

    async def _enter(self, request: Request, identity: Identity, info: RequestInfo, flow: Flow) -> int:
        """Take the seats, at once or after a wait; how many they are."""
        width = 1
        if info.verb == "list" and self._objects:
            width = self._list_width(info, flow)
        counts = flow.counts
        if flow.level.try_enter(width):
            counts.waits[0] += 1
        else:
            await self._wait(request, flow, width, flow.of(identity, info))
        counts.dispatched += 1
        counts.executing += 1
        return width

    def _leave(self, flow: Flow, width: int) -> None:
        flow.counts.executing -= 1
        flow.level.leave(width)

    def _list_width(self, info: RequestInfo, flow: Flow) -> int:
        count = self._objects.get((info.group, info.resource, info.namespace), 0)
        return max(1, min(-(-count // OBJECTS_PER_SEAT), LIST_SEATS_MAX, flow.level.nominal))

    async def _wait(self, request: Request, flow: Flow, width: int, name: str) -> None:
        """Raises `TooManyRequests`, and `ConnectionError` when the client goes meanwhile."""
        counts, started_s = flow.counts, time.monotonic()
        task = asyncio.current_task()
        gone = False

        def lost() -> None:
            nonlocal gone
            gone = True
            if task is not None:
                task.cancel()

        counts.queued += 1
        when_lost(request, lost)
        try:
            await flow.level.wait(width, name, self._wait_s)
        except Rejected as error:
            counts.rejected[error.reason] = counts.rejected.get(error.reason, 0) + 1
            raise TooManyRequests("Too many requests, please try again later.", retry_after_s=1) from None
        except asyncio.CancelledError:
            counts.rejected["cancelled"] = counts.rejected.get("cancelled", 0) + 1
            if not gone or task is None:
                raise
            task.uncancel()
            raise ConnectionResetError("client has gone") from None
        finally:
            when_lost(request, None)
            counts.queued -= 1
            waited_s = time.monotonic() - started_s
            counts.waits[bisect_left(WAITS_S, waited_s)] += 1
            counts.waited_s += waited_s

    def _sweep(self) -> None:
        """Cancel whose time is over; look again while any is open."""
        self._timer = None
        if not self._open:
            return
        now_s, next_s = time.monotonic(), SWEEP_S
        for task, due_s in self._open.items():
            if due_s <= now_s and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
            elif due_s > now_s:
                next_s = min(next_s, due_s - now_s)
        self._timer = asyncio.get_running_loop().call_later(next_s, self._sweep)


def asked_timeout_s(text: str) -> float:
    """A Go duration such as `1m30s`; 0 for none. Raises `BadRequest`."""
    if text in ("", "0"):
        return 0.0
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        raise BadRequest(f'invalid timeout specified in the request URL - time: invalid duration "{text}"')
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(text))


def marked(answer: Response, flow: Flow) -> Response:
    """`answer` with the headers that say what the request was counted as; one that began has them already."""
    block = getattr(answer, "block", None)
    if isinstance(block, bytes):
        answer.block = block + flow.block  # type: ignore[attr-defined]
    return answer
