"""ComponentStatuses: how the parts of this process are, as `kubectl get componentstatuses` shows.

The names are those of Kubernetes' components; a part is well as long as its check raises nothing.
"""

from collections.abc import Mapping

from orchestrator.api.item import Object
from orchestrator.server.health import Check, Unhealthy


async def component_statuses(checks: Mapping[str, Check]) -> list[Object]:
    """One object per check, by name."""
    return [await _status(name, check) for name, check in sorted(checks.items())]


async def _status(name: str, check: Check) -> Object:
    condition: Object = {"type": "Healthy", "status": "True", "message": "ok"}
    try:
        condition["message"] = await check() or "ok"
    except Unhealthy as error:
        condition = {"type": "Healthy", "status": "False", "message": str(error), "error": str(error)}
    return {"metadata": {"name": name}, "conditions": [condition]}
