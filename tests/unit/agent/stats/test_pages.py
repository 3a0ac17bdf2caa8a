"""Answers as Prometheus, metrics-server and dashboards read them, from a snapshot made by hand."""

import math
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.agent.stats import cadvisor, host, kubelet, resource
from orchestrator.agent.stats.exposition import Histogram, Page, labels, number
from orchestrator.agent.stats.metered import metered
from orchestrator.agent.stats.meters import Meters
from orchestrator.agent.stats.summary import summary
from orchestrator.agent.stats.usage import (
    ContainerUsage,
    DiskUse,
    FileSystem,
    NodeUsage,
    PodUsage,
    Snapshot,
    VolumeUse,
)
from orchestrator.base.clock import VirtualClock
from orchestrator.runtime.interface import Container, RuntimeFailure, SandboxSpec
from orchestrator.runtime.simulated import SimulatedRuntime
from orchestrator.runtime.usage import Interface, Usage

NOW_S = 1_800_000_000.25
FS = FileSystem(NOW_S, 1000, 400, 600, 100, 30, device=7)
DISK = DiskUse(NOW_S, 50, 5, FS)
USAGE = Usage(
    cpu_ns=2_500_000_000, memory_bytes=300, working_set_bytes=200, rss_bytes=100, cache_bytes=90, swap_bytes=3,
    memory_limit_bytes=1000, page_faults=11, major_page_faults=2, processes=4, cpu_period_us=100_000,
    cpu_quota_us=50_000, cpu_shares=512, throttled_ns=500_000_000,
)  # fmt: skip
WHERE = {"namespace": "shop", "pod": "web-1"}


def snapshot() -> Snapshot:
    container = Container("c1", "s1", "u1", "web-1", "shop", "app", 0, "demo:1", "sha256:1", "running",
                          started_s=NOW_S - 60)  # fmt: skip
    mine = ContainerUsage(container, NOW_S, USAGE, 7, "/orc/podu1/c1", DISK, DISK)
    pod = PodUsage(
        {"metadata": {"name": "web-1", "namespace": "shop", "uid": "u1"}, "spec": {}, "status": {}},
        NOW_S, USAGE, 7, (mine,), (Interface("eth0", 10, 1, 2, 3, 20, 4, 5, 6),),
        (VolumeUse("data", DISK, "claim-1"), VolumeUse("scratch", DISK, local=True)), DISK,
    )  # fmt: skip
    node = NodeUsage(NOW_S, NOW_S - 900, 9_000_000_000, 70, 8000, 5000, 3000, 2000, 1, 2, 55, 32768, 100, 40,
                     (Interface("ens3", 1, 1, 0, 0, 1, 1),))  # fmt: skip
    return Snapshot(node, (pod,), FS, FS, 77)


def samples(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], tuple[float, float | None]]:
    """Through the real parser; every series once."""
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value, float(sample.timestamp) if sample.timestamp else None
    return found


def value(page: bytes, metric: str, /, **names: str) -> float:
    return samples(page)[metric, frozenset(names.items())][0]


def test_metrics_server_finds_what_it_reads() -> None:
    page = resource.page(snapshot())
    app = {"container": "app", **WHERE}
    assert value(page, "node_cpu_usage_seconds_total") == 9.0
    assert value(page, "node_memory_working_set_bytes") == 3000
    assert value(page, "container_cpu_usage_seconds_total", **app) == 2.5
    assert value(page, "container_memory_working_set_bytes", **app) == 200
    assert value(page, "container_start_time_seconds", **app) == NOW_S - 60
    assert value(page, "pod_cpu_usage_seconds_total", **WHERE) == 2.5
    assert value(page, "pod_memory_working_set_bytes", **WHERE) == 200
    assert value(page, "resource_scrape_error") == value(page, "scrape_error") == 0
    stamped = samples(page)["container_cpu_usage_seconds_total", frozenset(app.items())]
    assert stamped[1] == pytest.approx(NOW_S, abs=0.01)


def test_without_figures_the_page_says_so() -> None:
    assert samples(resource.page(None)) == {
        ("resource_scrape_error", frozenset()): (1.0, None),
        ("scrape_error", frozenset()): (1.0, None),
    }


def test_dashboards_find_containers_pods_and_the_machine() -> None:
    page = cadvisor.page(snapshot(), cadvisor.Machine(4, 8000, "m", "s", "b", "6.1", "Debian"))
    app = {"container": "app", "id": "/orc/podu1/c1", "image": "demo:1", "name": "c1", **WHERE}
    pod = {"container": "", "id": "/orc/podu1", "image": "", "name": "", **WHERE}
    assert value(page, "container_cpu_usage_seconds_total", cpu="total", **app) == 2.5
    for name, figure in (
        ("memory_working_set_bytes", 200), ("memory_rss", 100), ("memory_cache", 90), ("memory_usage_bytes", 300),
        ("spec_memory_limit_bytes", 1000), ("spec_cpu_quota", 50_000), ("spec_cpu_period", 100_000),
        ("spec_cpu_shares", 512), ("cpu_cfs_throttled_seconds_total", 0.5), ("processes", 4),
    ):  # fmt: skip
        assert value(page, f"container_{name}", **app) == figure
        assert value(page, f"container_{name}", **pod) == figure
    assert value(page, "container_network_receive_bytes_total", interface="eth0", **pod) == 10
    assert value(page, "container_network_transmit_packets_dropped_total", interface="eth0", **pod) == 6
    assert value(page, "container_fs_usage_bytes", device="7", **app) == 100
    failures = {"failure_type": "pgmajfault", "scope": "container"}
    assert value(page, "container_memory_failures_total", **failures, **app) == 2
    machine = {"machine_id": "m", "system_uuid": "s", "boot_id": "b"}
    assert value(page, "machine_cpu_cores", **machine) == 4
    assert value(page, "machine_memory_bytes", **machine) == 8000
    root = {"container": "", "id": "/", "image": "", "name": "", "namespace": "", "pod": ""}
    assert value(page, "container_memory_working_set_bytes", **root) == 3000


async def test_the_agent_tells_of_its_own_work() -> None:
    clock = VirtualClock()
    meters = Meters(clock)
    runtime = metered(SimulatedRuntime(clock, missing=["absent"]), meters)
    await runtime.version()
    with pytest.raises(RuntimeFailure):
        await runtime.pull("absent")
    assert runtime.name == "simulated"
    with meters.sync("create"):
        await clock.advance(0.2)
    meters.pod_start.observe(2.5)
    await runtime.create_sandbox(SandboxSpec("u", "web", "shop", "web"))
    page = kubelet.page("n1", [], meters, snapshot())
    assert value(page, "kubelet_node_name", node="n1") == 1
    assert value(page, "kubelet_runtime_operations_total", operation_type="version") == 1
    assert value(page, "kubelet_runtime_operations_errors_total", operation_type="pull_image") == 1
    rounds = {"operation_type": "create"}
    assert value(page, "kubelet_pod_worker_duration_seconds_bucket", le="0.1", **rounds) == 0
    assert value(page, "kubelet_pod_worker_duration_seconds_bucket", le="0.25", **rounds) == 1
    assert value(page, "kubelet_pod_start_duration_seconds_count") == 1
    assert value(page, "kubelet_pod_start_duration_seconds_bucket", le="+Inf") == 1
    assert value(page, "kubelet_started_pods_total") == 1
    assert value(page, "kubelet_running_containers", container_state="running") == 0
    claim = {"namespace": "shop", "persistentvolumeclaim": "claim-1"}
    for name, figure in (("capacity_bytes", 1000), ("available_bytes", 400), ("used_bytes", 50),
                         ("inodes", 100), ("inodes_free", 30), ("inodes_used", 5)):  # fmt: skip
        assert value(page, f"kubelet_volume_stats_{name}", **claim) == figure
    assert value(page, "process_resident_memory_bytes") > 0


def test_probes_are_told_until_their_pod_is_gone() -> None:
    meters = Meters(VirtualClock())
    for result in ("successful", "failed", "failed"):
        meters.probed(result, "liveness", "app", ("shop", "web-1", "u1"))
    names = {"probe_type": "Liveness", "container": "app", "pod_uid": "u1", **WHERE}
    assert value(meters.probe_page(), "prober_probe_total", result="failed", **names) == 2
    meters.forget("u1")
    assert meters.probe_page() == b""


def test_the_summary_has_what_its_readers_look_for() -> None:
    found = summary("n1", snapshot())
    node, (pod,) = found["node"], found["pods"]
    assert (node["nodeName"], node["cpu"]["usageCoreNanoSeconds"]) == ("n1", 9_000_000_000)
    assert node["memory"]["availableBytes"] == 5000
    assert node["fs"]["capacityBytes"] == 1000 and node["runtime"]["imageFs"]["usedBytes"] == 77
    assert (node["rlimit"]["maxpid"], node["rlimit"]["curproc"]) == (32768, 55)
    assert pod["podRef"] == {"name": "web-1", "namespace": "shop", "uid": "u1"}
    assert pod["memory"]["workingSetBytes"] == 200 and pod["memory"]["availableBytes"] == 800
    assert (pod["network"]["name"], pod["network"]["rxBytes"]) == ("eth0", 10)
    assert pod["volume"][0]["pvcRef"] == {"name": "claim-1", "namespace": "shop"}
    assert pod["ephemeral-storage"]["usedBytes"] == 50 and pod["process_stats"]["process_count"] == 4
    assert pod["containers"][0]["rootfs"]["inodesUsed"] == 5


def test_a_brief_summary_has_cpu_and_memory_only() -> None:
    found = summary("n1", snapshot(), only_cpu_and_memory=True)
    assert set(found["node"]) == {"nodeName", "systemContainers", "startTime", "cpu", "memory", "swap"}
    assert set(found["pods"][0]) == {"podRef", "startTime", "containers", "cpu", "memory", "swap"}
    assert set(found["pods"][0]["containers"][0]) == {"name", "startTime", "cpu", "memory", "swap"}


def test_labels_and_numbers_survive_the_parser() -> None:
    out = Page()
    strange = 'a"b\\c\nd'
    out.family("x", "gauge", "Text.", [(labels(name=strange), 1.5)])
    out.family("empty", "gauge", "Text.", [])
    ((key, (found, _)),) = samples(out.render()).items()
    assert dict(key[1]) == {"name": strange} and found == 1.5
    assert [number(each) for each in (1.0, 0.5, math.inf, -math.inf, math.nan, 1e18)] == [
        "1", "0.5", "+Inf", "-Inf", "NaN", "1e+18",
    ]  # fmt: skip
    histogram = Histogram((1.0, 2.0))
    for each in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(each)
    assert (histogram.counts, histogram.total) == ([2, 1, 1], 12.0)


def test_the_host_from_its_proc(tmp_path: Path) -> None:
    for name, text in {
        "meminfo": "MemTotal: 8000 kB\nMemFree: 3000 kB\nInactive(file): 1000 kB\nAnonPages: 500 kB\n",
        "vmstat": "pgfault 7\npgmajfault 2\n",
        "loadavg": "0.1 0.2 0.3 2/345 999\n",
        "uptime": "100.5 50\n",
        "stat": "cpu  100 0 50 1000 10 0 5 0 0 0\ncpu0 1 1 1 1\n",
        "net/dev": "h\nh\n ens3: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n veth1: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n",
        "sys/kernel/pid_max": "4096\n",
        "sys/kernel/threads-max": "2048\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = host.read(NOW_S, tmp_path)
    assert (found.working_set_bytes, found.memory_available_bytes) == (4000 * 1024, 4000 * 1024)
    assert (found.cpu_ns, found.processes, found.processes_max) == (1_550_000_000, 345, 2048)
    assert [each.name for each in found.interfaces] == ["ens3"] and found.boot_s == NOW_S - 100.5
