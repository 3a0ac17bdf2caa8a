"""Which of the engine's runtimes a pod's RuntimeClass names. Called before its sandbox is made."""

from orchestrator.agent.containers.env import ConfigError, Fetch
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import RUNTIMECLASSES


async def handler(pod: Object, fetch: Fetch) -> str:
    """The handler, empty for the default. Raises `ConfigError` for a class that is gone."""
    name = pod["spec"].get("runtimeClassName")
    if not name:
        return ""
    try:
        found = await fetch(RUNTIMECLASSES, "", str(name))
    except NotFound as error:
        text = f'failed to lookup RuntimeClass {name}: runtimeclass.node.k8s.io "{name}" not found'
        raise ConfigError(text) from error
    return str(found.get("handler", ""))
