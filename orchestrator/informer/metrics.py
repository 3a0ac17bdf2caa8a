"""Metrics of work queues and controllers, under client-go's names where it has them.

Source of the names: the `workqueue` metrics that every Kubernetes component serves. Registered once per
process in prometheus-client's default registry; a queue binds its label once and keeps the children.
"""

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS_S = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10)

DEPTH = Gauge("workqueue_depth", "Keys that wait in the queue.", ["name"])
ADDS = Counter("workqueue_adds_total", "Keys added to the queue.", ["name"])
RETRIES = Counter("workqueue_retries_total", "Keys added again after a failure.", ["name"])
REFUSED = Counter(
    "orchestrator_workqueue_refused_total", "Keys refused because the queue was full.", ["name"]
)
WAITED = Histogram(
    "workqueue_queue_duration_seconds", "Time from adding a key to taking it.", ["name"], buckets=_BUCKETS_S
)
WORKED = Histogram(
    "workqueue_work_duration_seconds", "Time from taking a key to done.", ["name"], buckets=_BUCKETS_S
)
RECONCILE_ERRORS = Counter(
    "orchestrator_reconcile_errors_total", "Failed reconciliations, conflicts included.", ["controller"]
)
LAST_ERROR = Gauge(
    "orchestrator_reconcile_last_error_timestamp_seconds",
    "When a reconciliation last failed, and with which reason; the log has its text and key.",
    ["controller", "reason"],
)
_reasons: dict[str, str] = {}


def note_error(controller: str, reason: str, now_s: float) -> None:
    """Show `reason` as the last error of `controller`, instead of the one before."""
    before = _reasons.get(controller, reason)
    if before != reason:
        LAST_ERROR.remove(controller, before)
    _reasons[controller] = reason
    LAST_ERROR.labels(controller, reason).set(now_s)
