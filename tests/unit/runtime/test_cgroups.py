"""Both versions of cgroups, as file trees recorded from hosts."""

from pathlib import Path

import pytest

from orchestrator.runtime import cgroups
from orchestrator.runtime.interface import Stats

V1 = {
    "proc/7/cgroup": "4:memory:/docker/abc\n2:cpuacct,cpu:/docker/abc\n0::/docker/abc\n",
    "sys/memory/docker/abc/memory.usage_in_bytes": "1000\n",
    "sys/memory/docker/abc/memory.stat": "cache 1\ninactive_file 1\ntotal_inactive_file 300\n",
    "sys/cpuacct/docker/abc/cpuacct.usage": "5000\n",
}
V2 = {
    "proc/7/cgroup": "0::/system.slice/docker-abc.scope\n",
    "sys/system.slice/docker-abc.scope/memory.current": "1000\n",
    "sys/system.slice/docker-abc.scope/memory.stat": "anon 5\ninactive_file 300\n",
    "sys/system.slice/docker-abc.scope/cpu.stat": "usage_usec 5\nuser_usec 3\n",
}


@pytest.mark.parametrize("tree", [V1, V2], ids=["v1", "v2"])
def test_usage_is_read(tmp_path: Path, tree: dict[str, str]) -> None:
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroups.read(7, tmp_path / "sys", tmp_path / "proc") == Stats(5000, 1000, 700)


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert cgroups.read(7, tmp_path / "sys", tmp_path / "proc") is None
