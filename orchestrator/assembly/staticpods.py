"""What the API does to a new pod, for those that it does not make: decoded, completed, checked. Called by `daemon`."""

from orchestrator.api.errors import invalid
from orchestrator.api.item import Object
from orchestrator.api.resources import PODS
from orchestrator.api.schema import Schemas
from orchestrator.registry.strategies.pods import PodStrategy


def static_pod(schemas: Schemas, pod: Object) -> Object:
    """The pod with defaults. Raises `BadRequest` for wrong types and unknown fields, `Invalid` for wrong values."""
    strategy = PodStrategy(PODS)
    decoded, _ = schemas.check(PODS, pod, "Strict")
    complete = strategy.prepare_create(decoded)
    causes = strategy.validate(complete, None, "")
    if causes:
        raise invalid("", PODS.kind, complete["metadata"]["name"], tuple(causes))
    return complete
