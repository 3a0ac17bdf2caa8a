"""Crash back-off of one pod's containers: at once after the first end, then 10 s, doubled up to 300 s.

A container that ran ten minutes starts anew, and so does one whose image was changed. Pure bookkeeping; owner:
the pod's `Operations`. Source: the container restart policy of Kubernetes v1.36.
"""

from orchestrator.agent import podspec
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container

INITIAL_S = 10.0
MAX_S = 300.0
STABLE_AFTER_S = 600.0


class RestartBackoff:
    """Delays by container name, each with the hash of what the container was made from."""

    def __init__(self) -> None:
        self._delays: dict[str, tuple[str, float]] = {}

    def delay_s(self, spec: Object, ended: Container | None) -> float:
        """How long after its end the container must wait."""
        made_from, delay_s = self._delays.get(spec["name"], ("", 0.0))
        if ended is None or made_from != podspec.container_hash(spec):
            return 0.0
        stable = ended.started_s > 0 and ended.finished_s - ended.started_s >= STABLE_AFTER_S
        return 0.0 if stable else delay_s

    def due_s(self, spec: Object, newest: Container | None) -> float:
        """When the container may start again (seconds since the epoch); 0 when it has not ended."""
        if newest is None or newest.state != "exited":
            return 0.0
        return newest.finished_s + self.delay_s(spec, newest)

    def count(self, spec: Object, ended: Container | None) -> None:
        """The container starts again after `ended`; the next time it waits longer."""
        if ended is not None:
            delay_s = min(max(INITIAL_S, self.delay_s(spec, ended) * 2), MAX_S)
            self._delays[spec["name"]] = (podspec.container_hash(spec), delay_s)


def duration(seconds: float) -> str:
    """As Kubernetes prints it: `40s`, `1m20s`, `5m0s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
