"""What containers use, read from the kernel's files of their cgroups (v1 and v2) and network namespaces.

Not asked of the engine: its answers cost more than the files, and one process for each container far more. Paths
are found through a member's process once and kept; `root` and `proc` are parameters for recorded file trees. All
of it blocks for as long as the kernel takes (about 0.1 ms for a container), so it is called in a thread. Called by
the real runtimes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

NO_LIMIT = 1 << 60
"""What the kernel writes for "no limit" is larger."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One cgroup's figures. Times in ns since its start, sizes in bytes; `_limit` of 0 means none."""

    cpu_ns: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    memory_bytes: int = 0
    working_set_bytes: int = 0
    rss_bytes: int = 0
    cache_bytes: int = 0
    mapped_file_bytes: int = 0
    swap_bytes: int = 0
    memory_limit_bytes: int = 0
    memory_peak_bytes: int = 0
    memory_failures: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    oom_kills: int = 0
    processes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 0
    cpu_shares: int = 0


@dataclass(frozen=True, slots=True)
class Interface:
    """Counters of one network interface since it exists."""

    name: str
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Member:
    """A running container: its first process, and whether its network is the pod's own."""

    container_id: str
    pod_uid: str
    pid: int
    own_network: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """Figures of one moment. A pod is missing where no cgroup is its own."""

    containers: dict[str, Usage] = field(default_factory=dict)
    pods: dict[str, Usage] = field(default_factory=dict)
    networks: dict[str, tuple[Interface, ...]] = field(default_factory=dict)
    """By pod uid; pods on the host's network have none."""
    paths: dict[str, str] = field(default_factory=dict)
    """Container id → its cgroup below the mount."""


class _Groups(NamedTuple):
    """Where one cgroup lies; v2 has all in one place."""

    path: str
    memory: Path
    cpuacct: Path
    cpu: Path
    pids: Path
    blkio: Path

    def parent(self) -> "_Groups":
        return _Groups(self.path.rpartition("/")[0], *(place.parent for place in self[1:]))


class UsageReader:
    """Reads for one engine; remembers where cgroups lie."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> None:
        self._root = root
        self._proc = proc
        self._places: dict[str, _Groups] = {}

    def read(self, members: Sequence[Member], *, detail: bool = False) -> Reading:
        """What these use now; who is gone is left out. Without `detail` CPU, memory and processes only. Blocking."""
        reading = Reading()
        asked = {member.container_id for member in members}
        self._places = {key: place for key, place in self._places.items() if key in asked}
        for member in members:
            try:
                self._one(member, reading, detail)
            except (OSError, ValueError, KeyError):
                self._places.pop(member.container_id, None)
        return reading

    def _one(self, member: Member, reading: Reading, detail: bool) -> None:
        groups = self._places.get(member.container_id) or self._find(member)
        if groups is None:
            return
        self._places[member.container_id] = groups
        reading.containers[member.container_id] = self._usage(groups, detail)
        reading.paths[member.container_id] = groups.path
        if member.pod_uid not in reading.pods and _is_of_pod(groups.path.rpartition("/")[0], member.pod_uid):
            reading.pods[member.pod_uid] = self._usage(groups.parent(), detail)
        if member.own_network and member.pod_uid not in reading.networks:
            text = (self._proc / str(member.pid) / "net" / "dev").read_text()
            reading.networks[member.pod_uid] = interfaces(text)

    def _find(self, member: Member) -> _Groups | None:
        """Through its process; a process id may be another's by now, whose cgroup does not name the container."""
        if member.pid <= 0:
            return None
        text = (self._proc / str(member.pid) / "cgroup").read_text()
        paths = _paths(text)
        if "memory" not in paths:
            path = paths[""].lstrip("/")
            place = self._root / path
            return _Groups(f"/{path}", *([place] * 5)) if member.container_id in path else None
        path = paths["memory"].lstrip("/")
        if member.container_id not in path:
            return None
        names = ("memory", "cpuacct", "cpu", "pids", "blkio")
        places = [self._root / name / paths.get(name, "/").lstrip("/") for name in names]
        return _Groups(f"/{path}", *places)

    def _usage(self, groups: _Groups, detail: bool) -> Usage:
        return _v2(groups.memory, detail) if groups.memory == groups.cpu else _v1(groups, detail)


def _is_of_pod(path: str, pod_uid: str) -> bool:
    """Whether a cgroup is a pod's own; systemd writes its uid with underscores."""
    name = path.rpartition("/")[2]
    return bool(pod_uid) and (pod_uid in name or pod_uid.replace("-", "_") in name)


def _paths(text: str) -> dict[str, str]:
    paths = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _v1(groups: _Groups, detail: bool) -> Usage:
    usage = _number(groups.memory / "memory.usage_in_bytes")
    stat = _table(groups.memory / "memory.stat")
    limit = stat.get("hierarchical_memory_limit", 0)
    basic = Usage(
        cpu_ns=_number(groups.cpuacct / "cpuacct.usage"),
        memory_bytes=usage,
        working_set_bytes=max(0, usage - stat.get("total_inactive_file", 0)),
        rss_bytes=stat.get("total_rss", 0),
        cache_bytes=stat.get("total_cache", 0),
        mapped_file_bytes=stat.get("total_mapped_file", 0),
        swap_bytes=stat.get("total_swap", 0),
        memory_limit_bytes=limit if limit < NO_LIMIT else 0,
        page_faults=stat.get("total_pgfault", 0),
        major_page_faults=stat.get("total_pgmajfault", 0),
        processes=_number(groups.pids / "pids.current", 0),
    )
    return _v1_detail(groups, basic) if detail else basic


def _v1_detail(groups: _Groups, basic: Usage) -> Usage:
    cpu = _table(groups.cpu / "cpu.stat", absent=True)
    split = _table(groups.cpuacct / "cpuacct.stat", absent=True)
    read, written = _blkio(groups.blkio / "blkio.throttle.io_service_bytes_recursive")
    return _with(
        basic,
        cpu_user_ns=split.get("user", 0) * 10_000_000,
        cpu_system_ns=split.get("system", 0) * 10_000_000,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_ns=cpu.get("throttled_time", 0),
        memory_peak_bytes=_number(groups.memory / "memory.max_usage_in_bytes", 0),
        memory_failures=_number(groups.memory / "memory.failcnt", 0),
        oom_kills=_table(groups.memory / "memory.oom_control", absent=True).get("oom_kill", 0),
        read_bytes=read,
        written_bytes=written,
        cpu_quota_us=max(0, _number(groups.cpu / "cpu.cfs_quota_us", 0)),
        cpu_period_us=_number(groups.cpu / "cpu.cfs_period_us", 0),
        cpu_shares=_number(groups.cpu / "cpu.shares", 0),
    )


def _v2(place: Path, detail: bool) -> Usage:
    usage = _number(place / "memory.current")
    stat, cpu = _table(place / "memory.stat"), _table(place / "cpu.stat")
    basic = Usage(
        cpu_ns=cpu["usage_usec"] * 1000,
        cpu_user_ns=cpu.get("user_usec", 0) * 1000,
        cpu_system_ns=cpu.get("system_usec", 0) * 1000,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_ns=cpu.get("throttled_usec", 0) * 1000,
        memory_bytes=usage,
        working_set_bytes=max(0, usage - stat.get("inactive_file", 0)),
        rss_bytes=stat.get("anon", 0),
        cache_bytes=stat.get("file", 0),
        mapped_file_bytes=stat.get("file_mapped", 0),
        swap_bytes=_number(place / "memory.swap.current", 0),
        memory_limit_bytes=_number(place / "memory.max", 0),
        page_faults=stat.get("pgfault", 0),
        major_page_faults=stat.get("pgmajfault", 0),
        processes=_number(place / "pids.current", 0),
    )
    return _v2_detail(place, basic) if detail else basic


def _v2_detail(place: Path, basic: Usage) -> Usage:
    events = _table(place / "memory.events", absent=True)
    read, written = _io(place / "io.stat")
    quota, _, period = _text(place / "cpu.max", "max 100000").partition(" ")
    weight = _number(place / "cpu.weight", 0)
    return _with(
        basic,
        memory_peak_bytes=_number(place / "memory.peak", 0),
        memory_failures=events.get("max", 0),
        oom_kills=events.get("oom_kill", 0),
        read_bytes=read,
        written_bytes=written,
        cpu_quota_us=int(quota) if quota.isdecimal() else 0,
        cpu_period_us=int(period or 0),
        # As engines turn shares into a weight, backwards.
        cpu_shares=2 + (weight - 1) * 262_142 // 9_999 if weight else 0,
    )


def _with(basic: Usage, **more: int) -> Usage:
    known = {name: getattr(basic, name) for name in Usage.__slots__}
    return Usage(**{**known, **more})


def _text(path: Path, absent: str | None = None) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        if absent is None:
            raise
        return absent


def _number(path: Path, absent: int | None = None) -> int:
    """One number; `max` is no limit, 0."""
    text = _text(path, None if absent is None else str(absent))
    return int(text) if text != "max" else 0


def _table(path: Path, *, absent: bool = False) -> dict[str, int]:
    """Lines of a name and a number."""
    table = {}
    for line in _text(path, "" if absent else None).splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            table[name] = int(value)
    return table


def _blkio(path: Path) -> tuple[int, int]:
    """`8:0 Read 4096` lines, a device each: bytes read and written."""
    read = written = 0
    for line in _text(path, "").splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] == "Read":
            read += int(parts[2])
        elif len(parts) == 3 and parts[1] == "Write":
            written += int(parts[2])
    return read, written


def _io(path: Path) -> tuple[int, int]:
    """`8:0 rbytes=1 wbytes=2 …` lines, a device each: bytes read and written."""
    read = written = 0
    for line in _text(path, "").splitlines():
        facts = dict(part.split("=", 1) for part in line.split()[1:] if "=" in part)
        read += int(facts.get("rbytes", 0))
        written += int(facts.get("wbytes", 0))
    return read, written


def interfaces(text: str) -> tuple[Interface, ...]:
    """The interfaces that `/proc/net/dev` lists, without the loopback."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(part) for part in rest.split()]
        if name.strip() != "lo" and len(numbers) >= 12:
            found.append(Interface(name.strip(), *numbers[:4], *numbers[8:12]))
    return tuple(found)
