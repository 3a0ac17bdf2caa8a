"""What the agent counts of its own work, under a kubelet's names. Owner: the agent of the node; told at `/metrics`.

Counting costs a dictionary's look; series appear when something happens for the first time.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from orchestrator.agent.stats.exposition import Histogram, Page, labels
from orchestrator.base.clock import Clock

OPERATION_S = (0.005, 0.0125, 0.03125, 0.078125, 0.1953125, 0.48828125, 1.220703125, 3.0517578125, 7.62939453125,
               19.073486328125, 47.6837158203125, 119.20928955078125, 298.0232238769531, 745.0580596923828)  # fmt: skip
WORKER_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
START_S = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
           480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0)  # fmt: skip
ProbeKey = tuple[str, str, str, str, str, str]
"""Result, kind, container, namespace, pod, pod uid."""


class Meters:
    """Counters and distributions of one agent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.operations: dict[str, Histogram] = {}
        self.operation_errors: Counter[str] = Counter()
        self.worker: dict[str, Histogram] = {}
        self.pod_start = Histogram(START_S)
        self.relist = Histogram(WORKER_S)
        self.evictions: Counter[str] = Counter()
        self.probes: dict[ProbeKey, int] = {}

    @contextmanager
    def operation(self, kind: str) -> Iterator[None]:
        """A call of the engine, with its name in the CRI."""
        begin_s = self._clock.monotonic_s()
        try:
            yield
        except Exception:
            self.operation_errors[kind] += 1
            raise
        finally:
            self._observe(self.operations, kind, OPERATION_S, begin_s)

    def listing(self) -> AbstractContextManager[None]:
        """A list of all that the engine has."""
        return self._timed(self.relist)

    @contextmanager
    def _timed(self, histogram: Histogram) -> Iterator[None]:
        begin_s = self._clock.monotonic_s()
        yield
        histogram.observe(self._clock.monotonic_s() - begin_s)

    def start(self, *, adopted: bool) -> "PodStart":
        """For a pod that is seen for the first time; one that runs already is not counted."""
        return PodStart(self._clock, None if adopted else self.pod_start)

    @contextmanager
    def sync(self, kind: str) -> Iterator[None]:
        """A round of a pod's worker: `create`, `sync`, `update` or `kill`."""
        begin_s = self._clock.monotonic_s()
        try:
            yield
        finally:
            self._observe(self.worker, kind, WORKER_S, begin_s)

    def _observe(
        self, series: dict[str, Histogram], kind: str, bounds: tuple[float, ...], begin_s: float
    ) -> None:
        found = series.get(kind)
        if found is None:
            found = series[kind] = Histogram(bounds)
        found.observe(self._clock.monotonic_s() - begin_s)

    def probed(self, result: str, kind: str, container: str, pod: tuple[str, str, str]) -> None:
        """One probe's result (`successful`, `failed`); `pod` is namespace, name, uid."""
        key = (result, kind.capitalize(), container, *pod)
        self.probes[key] = self.probes.get(key, 0) + 1

    def forget(self, pod_uid: str) -> None:
        """A pod is gone: so are its series."""
        if self.probes:
            self.probes = {key: count for key, count in self.probes.items() if key[5] != pod_uid}

    def _succeeded(self, kind: str) -> int:
        found = self.operations.get(kind)
        return sum(found.counts) - self.operation_errors[kind] if found is not None else 0

    def write(self, out: Page) -> None:
        """All but the probes, which have a page of their own."""
        kinds = sorted(self.operations)
        totals = [(labels(operation_type=kind), sum(self.operations[kind].counts)) for kind in kinds]
        out.family("kubelet_runtime_operations_total", "counter", "Calls of the engine.", totals)
        errors = [(labels(operation_type=kind), count) for kind, count in self.operation_errors.items()]
        out.family(
            "kubelet_runtime_operations_errors_total", "counter", "Failed calls of the engine.", errors
        )
        series = [({"operation_type": kind}, self.operations[kind]) for kind in kinds]
        out.histogram(
            "kubelet_runtime_operations_duration_seconds", "How long calls of the engine took.", series
        )
        series = [({"operation_type": kind}, found) for kind, found in sorted(self.worker.items())]
        out.histogram(
            "kubelet_pod_worker_duration_seconds", "How long a round of a pod's worker took.", series
        )
        out.histogram("kubelet_pod_start_duration_seconds", "From first sight of a pod until it ran.",
                      [({}, self.pod_start)])  # fmt: skip
        out.histogram("kubelet_pleg_relist_duration_seconds", "How long a list of the engine took.",
                      [({}, self.relist)])  # fmt: skip
        pods, containers = self._succeeded("run_podsandbox"), self._succeeded("start_container")
        out.family("kubelet_started_pods_total", "counter", "Pods started.", [("", pods)])
        started = [(labels(container_type="container"), float(containers))]
        out.family("kubelet_started_containers_total", "counter", "Containers started.", started)
        evictions = [(labels(eviction_signal=kind), count) for kind, count in self.evictions.items()]
        out.family("kubelet_evictions", "counter", "Pods evicted, by signal.", evictions)

    def probe_page(self) -> bytes:
        """`/metrics/probes`."""
        out = Page()
        samples = [
            (
                labels(
                    result=key[0],
                    probe_type=key[1],
                    container=key[2],
                    namespace=key[3],
                    pod=key[4],
                    pod_uid=key[5],
                ),
                float(count),
            )
            for key, count in self.probes.items()
        ]
        out.family("prober_probe_total", "counter", "Probes of containers, by result.", samples)
        return out.render()


class PodStart:
    """From first sight of a pod until it runs. Owner: its worker."""

    __slots__ = ("_begin_s", "_clock", "_histogram")

    def __init__(self, clock: Clock, histogram: Histogram | None) -> None:
        self._clock = clock
        self._histogram = histogram
        self._begin_s = clock.monotonic_s()

    @property
    def kind(self) -> str:
        """What a round of the worker is."""
        return "create" if self._histogram is not None else "sync"

    def ran(self) -> None:
        """Counted once."""
        if self._histogram is not None:
            self._histogram.observe(self._clock.monotonic_s() - self._begin_s)
            self._histogram = None
