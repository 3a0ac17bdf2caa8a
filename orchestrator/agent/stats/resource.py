"""`/metrics/resource`: what metrics-server asks for, CPU and memory and nothing else. Pure."""

from collections.abc import Callable

from orchestrator.agent.stats.exposition import Page, Sample, labels
from orchestrator.agent.stats.usage import ContainerUsage, PodUsage, Snapshot
from orchestrator.runtime.usage import Usage

_FAMILIES: tuple[tuple[str, str, str, Callable[[Usage], float]], ...] = (
    ("cpu_usage_seconds_total", "counter", "CPU time in core-seconds.", lambda usage: usage.cpu_ns / 1e9),
    (
        "memory_working_set_bytes",
        "gauge",
        "Memory in use that can't be reclaimed.",
        lambda usage: usage.working_set_bytes,
    ),
    ("swap_usage_bytes", "gauge", "Swap in use.", lambda usage: usage.swap_bytes),
)


def page(snapshot: Snapshot | None) -> bytes:
    """The answer; without a snapshot it says that the scrape failed."""
    out = Page()
    if snapshot is not None:
        _node(out, snapshot)
        pods = [(pod, labels(namespace=_namespace(pod), pod=_name(pod))) for pod in snapshot.pods]
        containers = [(each, _block(pod, each)) for pod in snapshot.pods for each in pod.containers]
        time_s = snapshot.node.time_s
        for name, kind, text, figure in _FAMILIES:
            rows: list[Sample] = [(block, figure(each.usage)) for each, block in containers]
            out.family(f"container_{name}", kind, f"Of a container: {text}", rows, time_s)
            rows = [(block, figure(pod.usage)) for pod, block in pods]
            out.family(f"pod_{name}", kind, f"Of a pod: {text}", rows, time_s)
        starts = [(block, each.container.started_s) for each, block in containers]
        out.family("container_start_time_seconds", "gauge", "When a container started (epoch).", starts)
    failed = 1.0 if snapshot is None else 0.0
    for name in ("resource_scrape_error", "scrape_error"):
        out.family(name, "gauge", "1 when figures could not be had, else 0.", [("", failed)])
    return out.render()


def _node(out: Page, snapshot: Snapshot) -> None:
    node = snapshot.node
    swap = node.swap_total_bytes - node.swap_free_bytes
    for (name, kind, text, _), value in zip(
        _FAMILIES, (node.cpu_ns / 1e9, node.working_set_bytes, swap), strict=True
    ):
        out.family(f"node_{name}", kind, f"Of the node: {text}", [("", value)], node.time_s)


def _namespace(pod: PodUsage) -> str:
    return str(pod.pod["metadata"]["namespace"])


def _name(pod: PodUsage) -> str:
    return str(pod.pod["metadata"]["name"])


def _block(pod: PodUsage, each: ContainerUsage) -> str:
    return labels(container=each.container.name, namespace=_namespace(pod), pod=_name(pod))
