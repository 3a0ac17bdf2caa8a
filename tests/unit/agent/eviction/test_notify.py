"""The kernel's early warning, as far as this kernel gives one."""

import asyncio
import os
from pathlib import Path

from orchestrator.agent.eviction.notify import PSI, V1, MemoryAlarm


async def test_it_starts_where_the_kernel_warns_and_leaves_nothing_open() -> None:
    alarm = MemoryAlarm(lambda: None)
    before = len(os.listdir("/proc/self/fd"))
    started = alarm.start()
    offered = os.geteuid() == 0 and (PSI.exists() or (V1 / "memory.pressure_level").exists())
    assert started or not offered or not os.access(PSI, os.W_OK)
    alarm.close()
    alarm.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_kernel_that_offers_nothing_is_no_fault(tmp_path: Path) -> None:
    alarm = MemoryAlarm(lambda: None, tmp_path / "none", tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    assert not alarm.start()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_warning_rings(tmp_path: Path) -> None:
    rung = asyncio.Event()
    (tmp_path / "memory.pressure_level").write_text("")
    (tmp_path / "cgroup.event_control").write_text("")
    alarm = MemoryAlarm(rung.set, tmp_path / "none", tmp_path)
    assert alarm.start()
    event, level, kind = (tmp_path / "cgroup.event_control").read_text().split()
    assert kind == "medium" and int(level) > 0
    os.eventfd_write(int(event), 1)
    await asyncio.wait_for(rung.wait(), 10)
    alarm.close()
