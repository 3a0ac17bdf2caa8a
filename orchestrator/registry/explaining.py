"""Why a pod is where it is, or nowhere: asked of whoever schedules in this process. Kubernetes has no such question.

Served as `GET /api/v1/namespaces/NAMESPACE/pods/NAME/why`, with the right to get `pods/why`. The scheduler's answer
is connected when it starts, and again by each one that follows.
"""

from collections.abc import Callable

from orchestrator.api.errors import ServiceUnavailable
from orchestrator.api.item import Object

Explain = Callable[[str, str], Object]
"""(namespace, name) -> per node the filter that refuses, or the scores. Raises `NotFound`."""


class Explanations:
    """Owner: the registry."""

    def __init__(self) -> None:
        self._explain: Explain | None = None

    def connect(self, explain: Explain) -> None:
        """Ask `explain` from now on."""
        self._explain = explain

    def why(self, namespace: str, name: str) -> Object:
        """Raises `NotFound`, or `ServiceUnavailable` where nobody schedules."""
        if self._explain is None:
            raise ServiceUnavailable("no scheduler runs in this process", retry_after_s=5)
        return self._explain(namespace, name)
