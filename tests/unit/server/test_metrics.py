"""The metrics that dashboards read by kube-apiserver's names."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.server import metrics as measured
from orchestrator.server.metrics import Metrics
from orchestrator.server.paths import parse


async def test_requests_are_counted_by_kubernetes_labels() -> None:
    metrics = Metrics()
    for duration_s, code in ((0.001, 200), (0.03, 200), (100.0, 504)):
        metrics.observe(parse("GET", "/api/v1/namespaces/n/pods/p"), code, duration_s)
    metrics.observe(parse("POST", "/api/v1/namespaces/n/pods"), 201, 0.01)
    families = {f.name: f for f in text_string_to_metric_families((await metrics.render()).decode())}
    counts = {(s.labels["verb"], s.labels["code"]): s.value for s in families["apiserver_request"].samples}
    assert counts == {("GET", "200"): 2, ("GET", "504"): 1, ("POST", "201"): 1}
    buckets = {
        s.labels["le"]: s.value
        for s in families["apiserver_request_duration_seconds"].samples
        if s.name.endswith("_bucket") and s.labels["verb"] == "GET"
    }
    assert (buckets["0.005"], buckets["0.025"], buckets["0.05"], buckets["60.0"], buckets["+Inf"]) == (
        1, 1, 2, 2, 3,
    )  # fmt: skip
    assert "process_resident_memory_bytes" in families


async def test_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "SERIES_MAX", 20)
    metrics = Metrics()
    for number in range(measured.SERIES_MAX + 50):
        metrics.observe(parse("GET", f"/api/v1/r{number}"), 404, 0.0)
    text = (await metrics.render()).decode()
    assert 'verb="OTHER"' in text
    assert f'resource="r{measured.SERIES_MAX + 10}"' not in text
