"""The metrics of fairness, under Kubernetes' names. Read on the event loop when somebody asks for `/metrics`."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from orchestrator.server.fairness.fairness import WAITS_S, Counts, Fairness

_LABELS = ["priority_level", "flow_schema"]
_PREFIX = "apiserver_flowcontrol"


def families(fairness: Fairness) -> Iterator[Metric]:
    """Every family, as of now."""
    yield from _requests(fairness)
    yield _waits(fairness)
    yield from _levels(fairness)


def _requests(fairness: Fairness) -> Iterator[Metric]:
    dispatched = CounterMetricFamily(
        f"{_PREFIX}_dispatched_requests", "Requests that began executing.", labels=_LABELS
    )
    rejected = CounterMetricFamily(
        f"{_PREFIX}_rejected_requests", "Requests that were refused.", labels=[*_LABELS, "reason"]
    )
    queued = GaugeMetricFamily(
        f"{_PREFIX}_current_inqueue_requests", "Requests waiting in queues.", labels=_LABELS
    )
    executing = GaugeMetricFamily(
        f"{_PREFIX}_current_executing_requests", "Requests being executed.", labels=_LABELS
    )
    for labels, counts in fairness.counts.items():
        dispatched.add_metric(labels, counts.dispatched)
        queued.add_metric(labels, counts.queued)
        executing.add_metric(labels, counts.executing)
        for reason, count in counts.rejected.items():
            rejected.add_metric([*labels, reason], count)
    yield from (dispatched, rejected, queued, executing)


def _waits(fairness: Fairness) -> Metric:
    waits = HistogramMetricFamily(
        f"{_PREFIX}_request_wait_duration_seconds", "Time spent waiting in queues.", labels=_LABELS
    )
    for labels, counts in fairness.counts.items():
        waits.add_metric(labels, _cumulated(counts), counts.waited_s)
    return waits


def _cumulated(counts: Counts) -> list[tuple[str, float]]:
    total, result = 0, []
    for bound, count in zip([*map(str, WAITS_S), "+Inf"], counts.waits, strict=True):
        total += count
        result.append((bound, float(total)))
    return result


_SEATS = (
    ("current_executing_seats", "Seats taken.", "seats"),
    ("nominal_limit_seats", "Seats that are a level's own.", "nominal"),
    ("lower_limit_seats", "Seats that a level never lends.", "lower"),
    ("upper_limit_seats", "Seats that a level may have with borrowed ones.", "upper"),
)


def _levels(fairness: Fairness) -> Iterator[Metric]:
    for name, text, attribute in _SEATS:
        gauge = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=_LABELS[:1])
        for level in fairness.pool.levels.values():
            gauge.add_metric([level.name], getattr(level, attribute))
        yield gauge
