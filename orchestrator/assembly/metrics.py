"""What `/metrics` shows beside requests: the store's figures, controllers' queues, failed tasks."""

from collections.abc import Callable, Iterable

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from orchestrator.base.looptime import LoopTime
from orchestrator.base.tasks import Supervisor

_OF_PROCESS = ("python_", "process_")


class StoreCollector:
    """The store's figures as `orchestrator_store_…`; a name ending in `_total` is a counter."""

    def __init__(self, stats: Callable[[], dict[str, float]]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        for name, value in self._stats().items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(f"orchestrator_store_{name.removesuffix('_total')}", name.replace("_", " "), value)


class LoopCollector:
    """How long the event loop is held up."""

    def __init__(self, looptime: LoopTime) -> None:
        self._looptime = looptime

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "orchestrator_event_loop_longest_turn_seconds",
            "CPU time of the longest turn of the event loop in the last one to two minutes.",
            self._looptime.longest_s,
        )
        yield CounterMetricFamily(
            "orchestrator_event_loop_slow_turns",
            "Turns of the event loop that used more than 20 ms of CPU.",
            self._looptime.slow_turns,
        )


class ComponentCollector:
    """What components of this process count in the library's own registry (work queues, reconciles)."""

    def collect(self) -> Iterable[Metric]:
        for metric in REGISTRY.collect():
            if not metric.name.startswith(_OF_PROCESS):
                yield metric


class TaskCollector:
    """Failures of supervised tasks."""

    def __init__(self, supervisors: list[Supervisor]) -> None:
        self._supervisors = supervisors

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "orchestrator_task_failures", "Supervised tasks that failed.", labels=("supervisor", "task")
        )
        for supervisor in self._supervisors:
            for task, count in supervisor.failures.items():
                family.add_metric((supervisor.name, task), count)
        yield family
