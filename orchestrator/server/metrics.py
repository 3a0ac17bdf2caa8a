"""The API server's own metrics, cheap enough for every request: one dictionary lookup and a few additions.

Names and labels are those of kube-apiserver. prometheus-client renders them; its own counters and histograms
would cost more than the rest of the dispatch.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from orchestrator.server.paths import RequestInfo

BUCKETS_S = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
)  # fmt: skip
SERIES_MAX = 5000
"""Beyond this, requests count under no name of their own: a client must not fill the memory with labels."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CONNECTING = ("exec", "attach", "portforward", "proxy")
_METHODS = {"create": "POST", "update": "PUT"}

Labels = tuple[str, str, str, str, str, str]
"""verb, group, version, resource, subresource, scope"""


class _Series:
    """Requests of one label set: durations by bucket, and a count per status code."""

    __slots__ = ("buckets", "codes", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.codes: dict[int, int] = {}
        self.sum_s = 0.0


class Metrics:
    """Owner of the counters. `registry` takes further collectors of the process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._series: dict[Labels, _Series] = {}
        self.inflight: dict[str, int] = {"mutating": 0, "readOnly": 0}
        self.watches = 0
        self.sources: list[Callable[[], Iterable[Metric]]] = []
        """Further families of the server, read with its own."""
        self._snapshot: list[Metric] = []
        self.registry.register(self)
        if registry is None:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)

    def observe(self, info: RequestInfo, code: int, duration_s: float) -> None:
        """Count one answered request; `duration_s` is until the answer was made, not sent."""
        scope = "" if not info.resource else "resource" if info.name else _scope(info)
        key = (info.verb, info.group, info.version, info.resource, info.subresource, scope)
        series = self._series.get(key)
        if series is None:
            series = self._new(key)
        series.codes[code] = series.codes.get(code, 0) + 1
        series.buckets[bisect_left(BUCKETS_S, duration_s)] += 1
        series.sum_s += duration_s

    def _new(self, key: Labels) -> _Series:
        if len(self._series) >= SERIES_MAX:
            key = ("other", "", "", "", "", "")
        return self._series.setdefault(key, _Series())

    async def render(self) -> bytes:
        """The text exposition; counters are read at once, rendered in a thread."""
        self._snapshot = list(self._families())
        return await asyncio.to_thread(generate_latest, self.registry)

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks for, from the last snapshot (it may ask from another thread)."""
        return iter(self._snapshot)

    def _families(self) -> Iterator[Metric]:
        labels = ["verb", "group", "version", "resource", "subresource", "scope", "component"]
        total = CounterMetricFamily(
            "apiserver_request", "Requests by verb, resource and code.", labels=[*labels, "code"]
        )
        duration = HistogramMetricFamily(
            "apiserver_request_duration_seconds", "Time until the answer was made.", labels=labels
        )
        for key, series in self._series.items():
            names = [_verb(key), *key[1:], "apiserver"]
            for code, count in series.codes.items():
                total.add_metric([*names, str(code)], count)
            duration.add_metric(names, _cumulated(series.buckets), series.sum_s)
        yield total
        yield duration
        inflight = GaugeMetricFamily(
            "apiserver_current_inflight_requests", "Requests being worked on.", labels=["request_kind"]
        )
        for kind, count in self.inflight.items():
            inflight.add_metric([kind], count)
        yield inflight
        yield GaugeMetricFamily("apiserver_longrunning_requests", "Open watches.", value=self.watches)
        for source in self.sources:
            yield from source()


def _verb(key: Labels) -> str:
    if key[4] in _CONNECTING:
        return "CONNECT"
    return _METHODS.get(key[0], key[0].upper())


def _scope(info: RequestInfo) -> str:
    return "namespace" if info.namespace else "cluster"


def _cumulated(buckets: list[int]) -> list[tuple[str, float]]:
    total = 0
    result = []
    for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], buckets, strict=True):
        total += count
        result.append((bound, float(total)))
    return result
