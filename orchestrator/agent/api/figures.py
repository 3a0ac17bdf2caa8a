"""`/stats/summary` and the pages of metrics. Encoding of large answers is done in threads. Called by `routes`."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from orchestrator.agent.api.call import Call
from orchestrator.agent.node import hostfacts
from orchestrator.agent.stats import cadvisor, kubelet, resource
from orchestrator.agent.stats import summary as summaries
from orchestrator.agent.stats.cadvisor import Machine
from orchestrator.agent.stats.exposition import CONTENT_TYPE
from orchestrator.agent.stats.usage import Snapshot
from orchestrator.api.errors import NotFound
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.web.answer import JSON, Answer, Response, header

_TEXT = header("Content-Type", CONTENT_TYPE)


async def summary(call: Call) -> Response:
    """The Summary API."""
    if call.parts[1] != "summary":
        raise NotFound("404 page not found")
    brief = call.flag("only_cpu_and_memory")
    snapshot = await call.agent.stats.snapshot(disks=not brief)

    def encode() -> bytes:
        return msgspec.json.encode(
            summaries.summary(call.agent.settings.node_name, snapshot, only_cpu_and_memory=brief)
        )

    return Answer(200, await asyncio.to_thread(encode), JSON)


async def metrics(call: Call) -> Response:
    """`/metrics` and the pages below it."""
    handler = _PAGES.get(call.parts[1] if len(call.parts) > 1 else "")
    if handler is None:
        raise NotFound("404 page not found")
    return Answer(200, await handler(call), _TEXT)


async def _own(call: Call) -> bytes:
    snapshot = await _snapshot(call, disks=True)
    workers = call.agent.workers()
    return await asyncio.to_thread(
        kubelet.page, call.agent.settings.node_name, workers, call.agent.meters, snapshot
    )


async def _resource(call: Call) -> bytes:
    return await asyncio.to_thread(resource.page, await _snapshot(call))


async def _cadvisor(call: Call) -> bytes:
    snapshot = await call.agent.stats.snapshot(detail=True, disks=True)
    return await asyncio.to_thread(
        cadvisor.page, snapshot, await asyncio.to_thread(machine, call.agent.settings.directory)
    )


def machine(directory: Path) -> Machine:
    """What the host is. Blocking."""
    host = hostfacts.read(directory)
    return Machine(
        host.cpus,
        host.memory_bytes,
        host.machine_id,
        host.system_uuid,
        host.boot_id,
        host.kernel,
        host.os_image,
    )


async def _probes(call: Call) -> bytes:
    return call.agent.meters.probe_page()


async def _snapshot(call: Call, *, disks: bool = False) -> Snapshot | None:
    """None while the engine does not answer: the page says so, or leaves out what it can't know."""
    try:
        return await call.agent.stats.snapshot(disks=disks)
    except RuntimeFailure:
        return None


_PAGES: dict[str, Callable[[Call], Awaitable[bytes]]] = {
    "": _own,
    "resource": _resource,
    "cadvisor": _cadvisor,
    "probes": _probes,
}
