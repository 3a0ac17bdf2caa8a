"""Takes an instance out of containerd when no daemon of it runs any more: containers, images, its namespace.

Called by `orchestrator cleanup`. Everything that is ours lies in the instance's own containerd namespace, so other
people's containers, images and namespaces stay. The log keeper ends by itself when it keeps nothing.
"""

import asyncio
from pathlib import Path

from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import cgroups
from orchestrator.runtime.containerd import ContainerdRuntime
from orchestrator.runtime.containerd_api import WORK_DEADLINE_S, ContainerdApi, ContainerdError

TRIES = 10
RETRY_S = 0.3


async def knows(path: str, instance: str) -> bool:
    """Whether the containerd at `path` has anything of the instance."""
    api = ContainerdApi(path, f"orc{instance}")
    try:
        return await api.maybe("get_namespace", {"name": api.namespace}) is not None
    finally:
        await api.close()


async def remove_instance(path: str, instance: str, run_dir: Path, log_dir: Path, clock: Clock) -> int:
    """Remove everything of the instance at the containerd of `path`; returns how many containers there were."""
    supervisor = Supervisor("removal", clock)
    runtime = ContainerdRuntime(path, instance, run_dir, log_dir, clock, supervisor)
    try:
        await runtime.connect()
        sandboxes, containers = await runtime.list_sandboxes(), await runtime.list_containers()
        for sandbox in sandboxes:
            await runtime.remove_sandbox(sandbox.id)
        for container in containers:
            await runtime.remove_container(container.id)
    finally:
        await runtime.close()
        await supervisor.stop()
    await _remove_namespace(ContainerdApi(path, f"orc{instance}"), clock)
    await asyncio.to_thread(cgroups.remove, f"/orchestrator-{instance}")
    return len(sandboxes) + len(containers)


async def _remove_namespace(api: ContainerdApi, clock: Clock) -> None:
    """Blobs and layers go with the last image's name, some moment later; then the namespace is empty."""
    try:
        images = (await api.call("list_images", {})).get("images", ())
        for image in images:
            request = {"name": image["name"], "sync": image is images[-1]}
            await api.maybe("delete_image", request, deadline_s=WORK_DEADLINE_S)
        for _ in range(TRIES):
            try:
                await api.maybe("delete_namespace", {"name": api.namespace})
                return
            except ContainerdError as error:
                if error.code != "FAILED_PRECONDITION":
                    raise
            await clock.sleep(RETRY_S)
    finally:
        await api.close()
