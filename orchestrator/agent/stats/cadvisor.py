"""`/metrics/cadvisor`: containers in the names and labels that dashboards know from cAdvisor. Pure.

A row for each container (its image and name given), one for each pod's cgroup (neither given) and one for the host
(`id="/"`), as there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.agent import podspec
from orchestrator.agent.stats.exposition import Page, Sample, labels
from orchestrator.agent.stats.usage import ContainerUsage, NodeUsage, PodUsage, Snapshot
from orchestrator.runtime.usage import Interface, Usage

_USAGE: tuple[tuple[str, str, str, Callable[[Usage], float]], ...] = (
    ("container_cpu_user_seconds_total", "counter", "CPU time in user mode.", lambda u: u.cpu_user_ns / 1e9),
    (
        "container_cpu_system_seconds_total",
        "counter",
        "CPU time in the kernel.",
        lambda u: u.cpu_system_ns / 1e9,
    ),
    ("container_cpu_cfs_periods_total", "counter", "Periods of CPU quota.", lambda u: u.periods),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Periods of CPU quota that were throttled.",
        lambda u: u.throttled_periods,
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "How long it was throttled.",
        lambda u: u.throttled_ns / 1e9,
    ),
    ("container_memory_usage_bytes", "gauge", "Memory in use, caches included.", lambda u: u.memory_bytes),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Memory in use that can't be reclaimed.",
        lambda u: u.working_set_bytes,
    ),
    ("container_memory_rss", "gauge", "Anonymous memory.", lambda u: u.rss_bytes),
    ("container_memory_cache", "gauge", "Page cache.", lambda u: u.cache_bytes),
    ("container_memory_mapped_file", "gauge", "Mapped files.", lambda u: u.mapped_file_bytes),
    ("container_memory_swap", "gauge", "Swap in use.", lambda u: u.swap_bytes),
    ("container_memory_max_usage_bytes", "gauge", "The most memory so far.", lambda u: u.memory_peak_bytes),
    (
        "container_memory_failcnt",
        "counter",
        "How often the memory limit was hit.",
        lambda u: u.memory_failures,
    ),
    ("container_oom_events_total", "counter", "How often the kernel killed in it.", lambda u: u.oom_kills),
    ("container_processes", "gauge", "Processes and threads.", lambda u: u.processes),
    ("container_threads", "gauge", "Processes and threads.", lambda u: u.processes),
    ("container_fs_reads_bytes_total", "counter", "Bytes read from disks.", lambda u: u.read_bytes),
    ("container_fs_writes_bytes_total", "counter", "Bytes written to disks.", lambda u: u.written_bytes),
    (
        "container_spec_memory_limit_bytes",
        "gauge",
        "Memory limit, 0 for none.",
        lambda u: u.memory_limit_bytes,
    ),
    ("container_spec_cpu_shares", "gauge", "CPU shares.", lambda u: u.cpu_shares),
)
_NETWORK: tuple[tuple[str, str, Callable[[Interface], float]], ...] = (
    ("receive_bytes", "Bytes received.", lambda i: i.rx_bytes),
    ("receive_packets", "Packets received.", lambda i: i.rx_packets),
    ("receive_errors", "Errors while receiving.", lambda i: i.rx_errors),
    ("receive_packets_dropped", "Packets dropped while receiving.", lambda i: i.rx_dropped),
    ("transmit_bytes", "Bytes sent.", lambda i: i.tx_bytes),
    ("transmit_packets", "Packets sent.", lambda i: i.tx_packets),
    ("transmit_errors", "Errors while sending.", lambda i: i.tx_errors),
    ("transmit_packets_dropped", "Packets dropped while sending.", lambda i: i.tx_dropped),
)
_PAGE_FAULTS: tuple[tuple[str, Callable[[Usage], float]], ...] = (
    ("pgfault", lambda u: u.page_faults),
    ("pgmajfault", lambda u: u.major_page_faults),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the host is."""

    cpus: int
    memory_bytes: int
    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""
    kernel: str = ""
    os_image: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    names: dict[str, str]
    block: str
    usage: Usage
    container: ContainerUsage | None = None


def page(snapshot: Snapshot, machine: Machine) -> bytes:
    """The answer, for a snapshot with details and disks."""
    out, time_s = Page(), snapshot.node.time_s
    rows = [_host(snapshot.node), *(row for pod in snapshot.pods for row in _rows(pod))]
    cpu: list[Sample] = [(labels(**row.names, cpu="total"), row.usage.cpu_ns / 1e9) for row in rows]
    out.family("container_cpu_usage_seconds_total", "counter", "CPU time.", cpu, time_s)
    for name, kind, text, figure in _USAGE:
        out.family(name, kind, text, [(row.block, figure(row.usage)) for row in rows], time_s)
    _quota(out, rows, time_s)
    _faults(out, rows, time_s)
    _disks(out, snapshot, rows, time_s)
    _networks(out, snapshot, time_s)
    own = [row for row in rows if row.container is not None]
    starts = [(row.block, row.container.container.started_s) for row in own if row.container is not None]
    out.family("container_start_time_seconds", "gauge", "When it started (epoch).", starts, time_s)
    out.family("container_last_seen", "gauge", "When it was seen last (epoch).",
               [(row.block, int(time_s)) for row in rows], time_s)  # fmt: skip
    _machine(out, machine)
    out.family("container_scrape_error", "gauge", "1 when figures could not be had, else 0.", [("", 0)])
    return out.render()


def _host(node: NodeUsage) -> _Row:
    names = {"container": "", "id": "/", "image": "", "name": "", "namespace": "", "pod": ""}
    usage = Usage(
        cpu_ns=node.cpu_ns,
        memory_bytes=node.memory_usage_bytes,
        working_set_bytes=node.working_set_bytes,
        rss_bytes=node.rss_bytes,
        memory_limit_bytes=node.memory_capacity_bytes,
        page_faults=node.page_faults,
        major_page_faults=node.major_page_faults,
        processes=node.processes,
    )
    return _Row(names, labels(**names), usage)


def _rows(pod: PodUsage) -> list[_Row]:
    metadata = pod.pod["metadata"]
    where = {"namespace": str(metadata["namespace"]), "pod": str(metadata["name"])}
    parent = next((each.cgroup.rpartition("/")[0] for each in pod.containers), "")
    names = {"container": "", "id": parent or f"/pod{pod.uid}", "image": "", "name": "", **where}
    rows = [_Row(names, labels(**names), pod.usage)]
    for each in pod.containers:
        facts = each.container
        own = {
            "container": facts.name,
            "id": each.cgroup or f"/{facts.id}",
            "image": str((podspec.find_container(pod.pod, facts.name) or {}).get("image") or facts.image),
            "name": facts.id,
            **where,
        }
        rows.append(_Row(own, labels(**own), each.usage, each))
    return rows


def _quota(out: Page, rows: list[_Row], time_s: float) -> None:
    """Of what has a period; a quota only where there is one."""
    timed = [row for row in rows if row.usage.cpu_period_us]
    out.family("container_spec_cpu_period", "gauge", "CPU period in µs.",
               [(row.block, row.usage.cpu_period_us) for row in timed], time_s)  # fmt: skip
    out.family("container_spec_cpu_quota", "gauge", "CPU time in each period, in µs.",
               [(row.block, row.usage.cpu_quota_us) for row in timed if row.usage.cpu_quota_us], time_s)  # fmt: skip


def _faults(out: Page, rows: list[_Row], time_s: float) -> None:
    samples = [
        (labels(**row.names, failure_type=kind, scope="container"), figure(row.usage))
        for row in rows
        for kind, figure in _PAGE_FAULTS
    ]
    out.family("container_memory_failures_total", "counter", "Page faults.", samples, time_s)


def _disks(out: Page, snapshot: Snapshot, rows: list[_Row], time_s: float) -> None:
    """The host's disk, and what each container wrote: its layer and its logs."""
    used: list[Sample] = []
    limits: list[Sample] = []
    inodes: list[Sample] = []
    if snapshot.node_fs is not None:
        block = labels(**rows[0].names, device=str(snapshot.node_fs.device))
        used.append((block, snapshot.node_fs.used_bytes))
        limits.append((block, snapshot.node_fs.capacity_bytes))
        inodes.append((block, snapshot.node_fs.inodes))
    for row in rows:
        rootfs = row.container.rootfs if row.container is not None else None
        if rootfs is not None:
            logs = row.container.logs if row.container is not None else None
            block = labels(**row.names, device=str(rootfs.file_system.device))
            used.append((block, rootfs.used_bytes + (logs.used_bytes if logs else 0)))
            limits.append((block, rootfs.file_system.capacity_bytes))
    out.family("container_fs_usage_bytes", "gauge", "Bytes stored.", used, time_s)
    out.family("container_fs_limit_bytes", "gauge", "Size of the disk.", limits, time_s)
    out.family("container_fs_inodes_total", "gauge", "Inodes of the disk.", inodes, time_s)


def _networks(out: Page, snapshot: Snapshot, time_s: float) -> None:
    blocks: list[tuple[str, Interface]] = []
    hosts = _host(snapshot.node).names
    blocks += [(labels(**hosts, interface=each.name), each) for each in snapshot.node.interfaces]
    for pod in snapshot.pods:
        names = _rows(pod)[0].names if pod.interfaces else {}
        blocks += [(labels(**names, interface=each.name), each) for each in pod.interfaces]
    for name, text, figure in _NETWORK:
        samples = [(block, figure(each)) for block, each in blocks]
        out.family(f"container_network_{name}_total", "counter", text, samples, time_s)


def _machine(out: Page, machine: Machine) -> None:
    block = labels(boot_id=machine.boot_id, machine_id=machine.machine_id, system_uuid=machine.system_uuid)
    out.family("machine_cpu_cores", "gauge", "CPUs of the host.", [(block, machine.cpus)])
    out.family("machine_memory_bytes", "gauge", "Memory of the host.", [(block, machine.memory_bytes)])
    version = labels(kernelVersion=machine.kernel, osVersion=machine.os_image)
    out.family("cadvisor_version_info", "gauge", "Of the host.", [(version, 1)])
