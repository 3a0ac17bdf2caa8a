"""What the engine has of one pod, as its worker last saw it. Owner: the pod's worker."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.runtime.interface import Container, Sandbox

HASH = "orchestrator.internal/container-hash"
IMAGE = "orchestrator.internal/image"
"""Of a container: what it was made from, by digest as its registry has it."""
"""Annotation of a container: what it was made from."""


@dataclass(slots=True)
class Observed:
    """Sandboxes by attempt and containers by name, each list newest first."""

    sandboxes: list[Sandbox] = field(default_factory=list)
    containers: dict[str, list[Container]] = field(default_factory=dict)
    renewed: set[str] = field(default_factory=set)
    """Ids of containers that were stopped to be followed by another, whatever the restart policy says."""

    @classmethod
    def of(cls, sandboxes: Iterable[Sandbox], containers: Iterable[Container]) -> "Observed":
        """Sorted from what the engine listed."""
        seen = cls(sorted(sandboxes, key=lambda s: -s.attempt))
        for container in sorted(containers, key=lambda c: (-c.attempt, -c.created_s)):
            seen.containers.setdefault(container.name, []).append(container)
        return seen

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox, running or not."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def live_sandbox(self) -> Sandbox | None:
        """The newest sandbox if it runs."""
        newest = self.sandbox
        return newest if newest is not None and newest.running else None

    def newest(self, name: str) -> Container | None:
        """The container's last incarnation."""
        history = self.containers.get(name)
        return history[0] if history else None

    def previous(self, name: str) -> Container | None:
        """The incarnation before the last."""
        history = self.containers.get(name, ())
        return history[1] if len(history) > 1 else None

    def in_sandbox(self, name: str) -> Container | None:
        """The last incarnation, if it belongs to the newest sandbox."""
        container, sandbox = self.newest(name), self.sandbox
        if container is None or sandbox is None or container.sandbox_id != sandbox.id:
            return None
        return container

    def find(self, container_id: str) -> Container | None:
        """One incarnation by its id."""
        return next((c for c in self.all_containers() if c.id == container_id), None)

    def all_containers(self) -> list[Container]:
        return [container for history in self.containers.values() for container in history]

    def running(self) -> list[Container]:
        return [container for container in self.all_containers() if container.state == "running"]

    def replace(self, container: Container) -> None:
        """Put in what is now known of one incarnation, or add it."""
        history = self.containers.setdefault(container.name, [])
        for place, known in enumerate(history):
            if known.id == container.id:
                history[place] = container
                return
        history.insert(0, container)

    def drop_sandbox(self, sandbox_id: str) -> None:
        """Forget a removed sandbox with its containers."""
        self.sandboxes = [sandbox for sandbox in self.sandboxes if sandbox.id != sandbox_id]
        for container in self.all_containers():
            if container.sandbox_id == sandbox_id:
                self.drop(container.id)

    def drop(self, container_id: str) -> None:
        """Forget a removed container."""
        self.renewed.discard(container_id)
        for name, history in list(self.containers.items()):
            self.containers[name] = [c for c in history if c.id != container_id]
            if not self.containers[name]:
                del self.containers[name]
