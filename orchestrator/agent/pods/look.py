"""Looking at the engine for one pod: everything after a start or a doubt, else only what an event named.

Called by the pod's worker, which owns the `Observed` that is brought up to date here.
"""

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.agent import podspec
from orchestrator.agent.context import Context
from orchestrator.agent.pods.observed import Observed
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container, LogOptions, Runtime, Sandbox

LOG_LINES = 80
LOG_BYTES = 2048
"""How much of its log stands in for the termination message of a failed container that wrote none."""


async def everything(runtime: Runtime, seen: Observed) -> None:
    """Bring `seen` up to date for everything that may still change or is not known in full."""
    for sandbox in list(seen.sandboxes):
        await _sandbox(runtime, sandbox, seen)
    for container in seen.all_containers():
        if container.state != "exited" or not container.finished_s:
            await _container(runtime, container.id, seen)


async def only(runtime: Runtime, ids: Iterable[str], seen: Observed) -> None:
    """Bring these containers and sandboxes up to date, those of them that are known."""
    sandboxes = {sandbox.id: sandbox for sandbox in seen.sandboxes}
    for known_id in ids:
        if sandbox := sandboxes.get(known_id):
            await _sandbox(runtime, sandbox, seen)
        elif seen.find(known_id) is not None:
            await _container(runtime, known_id, seen)


async def _sandbox(runtime: Runtime, sandbox: Sandbox, seen: Observed) -> None:
    """This one alone: with a list of all, many pods that end together would cost their number's square."""
    fresh = await runtime.inspect_sandbox(sandbox.id)
    newest = seen.sandbox
    if fresh is None and newest is not None and newest.id == sandbox.id:
        # Somebody took it from the engine: it stays known, as ended, until the next one has taken its place or the
        # pod ends, for only then its address is given back.
        fresh = replace(newest, running=False, netns_path="")
    changed = {sandbox.id: fresh}
    seen.sandboxes = [known for each in seen.sandboxes if (known := changed.get(each.id, each)) is not None]


async def _container(runtime: Runtime, container_id: str, seen: Observed) -> None:
    fresh = await runtime.inspect_container(container_id)
    if fresh is None:
        seen.drop(container_id)
    else:
        seen.replace(fresh)


async def last_words(context: Context, pod: Object, container: Container) -> str:
    """The termination message of a container that has ended: its file, else by policy the end of its log."""
    text = await context.volumes.last_words(container)
    spec = podspec.find_container(pod, container.name) or {}
    if text or container.exit_code == 0 or spec.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        return text
    logs = context.runtime.logs(container.id, LogOptions(tail_lines=LOG_LINES))
    lines = [line.data + (b"" if line.partial else b"\n") async for line in logs]
    return b"".join(lines)[-LOG_BYTES:].decode(errors="replace")
