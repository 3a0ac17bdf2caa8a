"""One request to the agent, and what it means by its path."""

from dataclasses import dataclass

from orchestrator.agent.agent import Agent
from orchestrator.agent.pods.worker import PodWorker
from orchestrator.api.errors import NotFound
from orchestrator.web.answer import Request


@dataclass(frozen=True, slots=True)
class Call:
    """A request, its path in parts, and the agent that answers."""

    request: Request
    parts: tuple[str, ...]
    agent: Agent

    def flag(self, name: str) -> bool:
        return self.request.query.get(name, "") in ("1", "true")

    def worker(self) -> PodWorker:
        """Of the pod that second and third part name. Raises `NotFound`."""
        namespace, name = self.parts[1], self.parts[2]
        manager = self.agent.manager
        worker = manager.find(namespace, name) if manager is not None else None
        if worker is None:
            raise NotFound(f'pod "{name}" does not exist')
        return worker
