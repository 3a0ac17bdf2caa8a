"""`/metrics`: the agent itself, under a kubelet's names. Reads memory only, but for the process's own figures."""

import os
import resource
from collections.abc import Callable, Iterable

from orchestrator import KUBERNETES_VERSION
from orchestrator.agent.stats.collector import Worked
from orchestrator.agent.stats.exposition import Page, Sample, labels
from orchestrator.agent.stats.meters import Meters
from orchestrator.agent.stats.usage import DiskUse, Snapshot

STATES = ("created", "running", "exited")


def page(node_name: str, workers: Iterable[Worked], meters: Meters, snapshot: Snapshot | None) -> bytes:
    """The answer; `snapshot`, where there is one, tells how full claims are."""
    out = Page()
    out.family("kubelet_node_name", "gauge", "The node's name.", [(labels(node=node_name), 1)])
    version = labels(gitVersion=KUBERNETES_VERSION, major="1", minor=KUBERNETES_VERSION.split(".")[1])
    out.family("kubernetes_build_info", "gauge", "The version.", [(version, 1)])
    _running(out, list(workers))
    meters.write(out)
    if snapshot is not None:
        _claims(out, snapshot)
    _process(out)
    return out.render()


def _running(out: Page, workers: list[Worked]) -> None:
    counts = dict.fromkeys(STATES, 0)
    for worker in workers:
        for container in worker.seen.all_containers():
            counts[container.state] += 1
    running = sum(worker.seen.live_sandbox is not None for worker in workers)
    out.family("kubelet_running_pods", "gauge", "Pods with a running sandbox.", [("", running)])
    states: list[Sample] = [(labels(container_state=state), counts[state]) for state in STATES]
    out.family("kubelet_running_containers", "gauge", "Containers by state.", states)
    out.family("kubelet_desired_pods", "gauge", "Pods bound to the node.", [("", len(workers))])


def _claims(out: Page, snapshot: Snapshot) -> None:
    rows = [
        (
            labels(namespace=str(pod.pod["metadata"]["namespace"]), persistentvolumeclaim=volume.claim),
            volume.disk,
        )
        for pod in snapshot.pods
        for volume in pod.volumes
        if volume.claim
    ]
    seen = dict(rows)
    families: tuple[tuple[str, str, Callable[[DiskUse], float]], ...] = (
        ("capacity_bytes", "Size", lambda disk: disk.file_system.capacity_bytes),
        ("available_bytes", "Free bytes", lambda disk: disk.file_system.available_bytes),
        ("used_bytes", "Used bytes", lambda disk: disk.used_bytes),
        ("inodes", "Inodes", lambda disk: disk.file_system.inodes),
        ("inodes_free", "Free inodes", lambda disk: disk.file_system.inodes_free),
        ("inodes_used", "Used inodes", lambda disk: disk.inodes_used),
    )
    for name, text, figure in families:
        samples: list[Sample] = [(block, float(figure(disk))) for block, disk in seen.items()]
        out.family(f"kubelet_volume_stats_{name}", "gauge", f"{text} of a claimed volume.", samples)


def _process(out: Page) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    out.family("process_cpu_seconds_total", "counter", "CPU time of this process.",
               [("", used.ru_utime + used.ru_stime)])  # fmt: skip
    with open("/proc/self/statm") as file:
        virtual, resident = file.read().split()[:2]
    size = os.sysconf("SC_PAGE_SIZE")
    out.family("process_resident_memory_bytes", "gauge", "Resident memory of this process.",
               [("", int(resident) * size)])  # fmt: skip
    out.family("process_virtual_memory_bytes", "gauge", "Virtual memory of this process.",
               [("", int(virtual) * size)])  # fmt: skip
    out.family(
        "process_open_fds", "gauge", "Open file descriptors.", [("", len(os.listdir("/proc/self/fd")))]
    )
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    out.family("process_max_fds", "gauge", "Most file descriptors.", [("", limit)])
