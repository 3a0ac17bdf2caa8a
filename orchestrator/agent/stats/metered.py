"""A runtime whose calls are counted and timed under the CRI's names of them. Wraps any engine; keeps nothing."""

from typing import Any, cast

from orchestrator.agent.stats.meters import Meters
from orchestrator.runtime.interface import Runtime

OPERATIONS = {
    "version": "version",
    "create_sandbox": "run_podsandbox",
    "stop_sandbox": "stop_podsandbox",
    "remove_sandbox": "remove_podsandbox",
    "list_sandboxes": "list_podsandbox",
    "inspect_sandbox": "podsandbox_status",
    "create_container": "create_container",
    "start_container": "start_container",
    "stop_container": "stop_container",
    "remove_container": "remove_container",
    "list_containers": "list_containers",
    "inspect_container": "container_status",
    "update_resources": "update_container",
    "exec": "exec",
    "exec_sync": "exec_sync",
    "attach": "attach",
    "image": "image_status",
    "pull": "pull_image",
    "list_images": "list_images",
    "remove_image": "remove_image",
    "usage": "list_container_stats",
}


def metered(runtime: Runtime, meters: Meters) -> Runtime:
    """`runtime`, counted in `meters`."""
    return cast(Runtime, _Metered(runtime, meters))


class _Metered:
    """Hands everything through; what is in the table is counted."""

    def __init__(self, runtime: Runtime, meters: Meters) -> None:
        self._runtime = runtime
        self._meters = meters

    def __getattr__(self, name: str) -> Any:
        kind = OPERATIONS.get(name)
        if kind is None:
            return getattr(self._runtime, name)

        async def call(*args: Any, **options: Any) -> Any:
            with self._meters.operation(kind):
                return await getattr(self._runtime, name)(*args, **options)

        self.__dict__[name] = call
        return call
