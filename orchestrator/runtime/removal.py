"""Takes an instance's containers out of the engine when no daemon of it runs any more.

Called by `orchestrator cleanup`. Knows the instance by its label only, so what other instances made stays.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from orchestrator.runtime import cgroups, docker_specs, podcgroups
from orchestrator.runtime.docker_engine import WORK_DEADLINE_S, Engine, EngineError


async def remove_containers(engine: Engine, instance: str) -> int:
    """Kill and remove every container and sandbox of the instance; returns how many there were."""
    rows = await _rows(engine, f"{docker_specs.INSTANCE}={instance}")
    # A sandbox holds the namespaces of its pod's containers, so it goes last.
    rows.sort(key=lambda row: row["Labels"].get(docker_specs.KIND) == docker_specs.SANDBOX_KIND)
    for row in rows:
        await _delete(engine, f"containers/{row['Id']}", {"force": 1, "v": 1})
    top = podcgroups.absolute(instance, "")
    for path in (top, podcgroups.slice_path(top)):
        await asyncio.to_thread(cgroups.remove, path)
    return len(rows)


async def remove_unused_images(engine: Engine, tags: Iterable[str]) -> list[str]:
    """Remove images that no container uses, of this instance or another's; returns the tags that went."""
    used = {row["ImageID"] for row in await _rows(engine)}
    gone = []
    for tag in tags:
        try:
            facts = await engine.call("GET", f"images/{tag}/json")
        except EngineError as error:
            if error.status != 404:
                raise
            continue
        if facts["Id"] not in used:
            await _delete(engine, f"images/{tag}", {})
            gone.append(tag)
    return gone


async def _rows(engine: Engine, *labels: str) -> list[dict[str, Any]]:
    filters = msgspec.json.encode({"label": labels}).decode()
    rows = await engine.call("GET", "containers/json", params={"all": 1, "filters": filters})
    return list(rows or ())


async def _delete(engine: Engine, path: str, params: dict[str, int]) -> None:
    """Absent, or on its way out already, counts as deleted."""
    try:
        await engine.call("DELETE", path, params=params, deadline_s=WORK_DEADLINE_S)
    except EngineError as error:
        if error.status not in (404, 409):
            raise
