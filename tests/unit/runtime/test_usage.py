"""Figures from recorded cgroup trees of both versions, and what a process id of somebody else must not give."""

from pathlib import Path

import pytest

from orchestrator.runtime.interface import ContainerSpec, Resources
from orchestrator.runtime.simulated_usage import usage as simulated
from orchestrator.runtime.usage import Interface, Member, UsageReader

CID = "c" * 64
UID = "11111111-2222-3333-4444-555555555555"
NET_DEV = """Inter-|   Receive                            |  Transmit
 face |bytes    packets errs drop fifo frame |bytes packets
    lo:    100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
  eth0:   5000 50 1 2 0 0 0 0 7000 70 3 4 0 0 0 0
"""


def lay(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def process(root: Path, cgroup: str) -> UsageReader:
    lay(root / "proc", {"42/cgroup": cgroup, "42/net/dev": NET_DEV})
    return UsageReader(root / "cgroup", root / "proc")


def v1(root: Path) -> UsageReader:
    pod, names = f"orc/pod{UID}", ("memory", "cpuacct", "cpu", "pids", "blkio")
    lines = [f"{number}:{name}:/{pod}/{CID}" for number, name in enumerate(names, 1)]
    stat = (
        "cache 1\ntotal_cache 300\ntotal_rss 200\ntotal_swap 7\ntotal_mapped_file 50\ntotal_pgfault 11\n"
        "total_pgmajfault 3\ntotal_inactive_file 100\nhierarchical_memory_limit 4096\n"
    )
    for where, factor in ((f"{pod}/{CID}", 1), (pod, 2)):
        lay(
            root / "cgroup",
            {
                f"memory/{where}/memory.usage_in_bytes": f"{600 * factor}\n",
                f"memory/{where}/memory.stat": stat,
                f"memory/{where}/memory.oom_control": "oom_kill_disable 0\noom_kill 5\n",
                f"memory/{where}/memory.max_usage_in_bytes": "900\n",
                f"memory/{where}/memory.failcnt": "8\n",
                f"cpuacct/{where}/cpuacct.usage": f"{10**9 * factor}\n",
                f"cpuacct/{where}/cpuacct.stat": "user 60\nsystem 40\n",
                f"cpu/{where}/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 5000\n",
                f"cpu/{where}/cpu.cfs_quota_us": "-1\n",
                f"cpu/{where}/cpu.cfs_period_us": "100000\n",
                f"cpu/{where}/cpu.shares": "256\n",
                f"pids/{where}/pids.current": "3\n",
                f"blkio/{where}/blkio.throttle.io_service_bytes_recursive": (
                    "8:0 Read 4096\n8:0 Write 8192\n8:16 Read 1\nTotal 12289\n"
                ),
            },
        )
    return process(root, "\n".join([*lines, "0::/"]) + "\n")


def v2(root: Path) -> UsageReader:
    pod = f"kubepods.slice/pod{UID.replace('-', '_')}.slice"
    for where, factor in ((f"{pod}/docker-{CID}.scope", 1), (pod, 2)):
        lay(
            root / "cgroup",
            {
                f"{where}/memory.current": f"{600 * factor}\n",
                f"{where}/memory.stat": (
                    "anon 200\nfile 300\nfile_mapped 50\ninactive_file 100\npgfault 11\npgmajfault 3\n"
                ),
                f"{where}/memory.max": "4096\n",
                f"{where}/memory.swap.current": "7\n",
                f"{where}/memory.peak": "900\n",
                f"{where}/memory.events": "low 0\nhigh 0\nmax 8\noom 6\noom_kill 5\n",
                f"{where}/cpu.stat": (
                    f"usage_usec {10**6 * factor}\nuser_usec 600000\nsystem_usec 400000\n"
                    "nr_periods 10\nnr_throttled 4\nthrottled_usec 5\n"
                ),
                f"{where}/cpu.max": "max 100000\n",
                f"{where}/cpu.weight": "10\n",
                f"{where}/pids.current": "3\n",
                f"{where}/io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1\n8:16 rbytes=1 wbytes=0\n",
            },
        )
    return process(root, f"0::/{pod}/docker-{CID}.scope\n")


@pytest.mark.parametrize("lay_out", [v1, v2])
def test_both_versions_tell_the_same(tmp_path: Path, lay_out: object) -> None:
    reader = lay_out(tmp_path)  # type: ignore[operator]
    reading = reader.read([Member(CID, UID, 42)], detail=True)
    found = reading.containers[CID]
    shares = found.cpu_shares
    assert (found.cpu_ns, found.cpu_user_ns, found.cpu_system_ns) == (10**9, 600_000_000, 400_000_000)
    assert (found.periods, found.throttled_periods, found.throttled_ns) == (10, 4, 5000)
    assert (found.memory_bytes, found.working_set_bytes, found.rss_bytes) == (600, 500, 200)
    assert (found.cache_bytes, found.mapped_file_bytes, found.swap_bytes) == (300, 50, 7)
    assert (found.memory_limit_bytes, found.memory_peak_bytes, found.memory_failures) == (4096, 900, 8)
    assert (found.page_faults, found.major_page_faults, found.oom_kills, found.processes) == (11, 3, 5, 3)
    assert (found.read_bytes, found.written_bytes) == (4097, 8192)
    assert (found.cpu_quota_us, found.cpu_period_us) == (0, 100_000)
    assert 230 < shares < 260
    assert reading.pods[UID].memory_bytes == 1200
    assert reading.networks[UID] == (Interface("eth0", 5000, 50, 1, 2, 7000, 70, 3, 4),)


@pytest.mark.parametrize(
    "member",
    [
        Member("d" * 64, UID, 42),  # somebody else's process by now
        Member(CID, UID, 43),  # gone
        Member(CID, UID, 0),
    ],
)
def test_what_is_gone_is_left_out(tmp_path: Path, member: Member) -> None:
    assert v1(tmp_path).read([member]).containers == {}


def test_a_pod_without_a_cgroup_or_network_of_its_own_gets_none(tmp_path: Path) -> None:
    reading = v1(tmp_path).read([Member(CID, "another-pod", 42, own_network=False)])
    assert list(reading.containers) == [CID] and not reading.pods and not reading.networks


def test_a_cgroup_that_vanishes_is_looked_for_again(tmp_path: Path) -> None:
    reader = v1(tmp_path)
    member = Member(CID, UID, 42)
    assert reader.read([member]).containers
    usage = tmp_path / "cgroup" / "memory" / f"orc/pod{UID}/{CID}" / "memory.usage_in_bytes"
    usage.rename(usage.with_suffix(".away"))
    assert not reader.read([member]).containers
    usage.with_suffix(".away").rename(usage)
    assert reader.read([member]).containers


@pytest.mark.parametrize(
    ("env", "cores", "memory"),
    [
        ((), 0.25, 25),
        ((("SIMULATED_CPU", "500m"), ("SIMULATED_MEMORY", "77")), 0.5, 77),
        ((("SIMULATED_CPU", "1.5"),), 1.5, 25),
        ((("SIMULATED_CPU", "much"), ("SIMULATED_MEMORY", "-1")), 0.25, 25),
    ],
)
def test_simulated_containers_use_what_they_are_told(
    env: tuple[tuple[str, str], ...], cores: float, memory: int
) -> None:
    resources = Resources(cpu_shares=1024, memory_limit_bytes=100)
    spec = ContainerSpec("s", "u", "p", "default", "app", 0, "demo", env=env, resources=resources)
    found = simulated(spec, 10.0)
    assert (found.cpu_ns, found.working_set_bytes) == (int(cores * 10 * 1e9), memory)
