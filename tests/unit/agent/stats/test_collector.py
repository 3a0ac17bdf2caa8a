"""What is collected of pods on a simulated engine: rates, sharing, sizes on disk."""

import os
from pathlib import Path

import pytest

from orchestrator.agent.stats.disk import Disks, measure
from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Places
from tests.unit.agent.conftest import World, container

LOAD = [{"name": "SIMULATED_CPU", "value": "250m"}, {"name": "SIMULATED_MEMORY", "value": "1000"}]


async def test_rates_and_sums_of_a_pod(world: World) -> None:
    agent = await world.agent()
    await world.create("web", container("app", env=LOAD), container("side", env=LOAD))
    await world.until(lambda: world.ready("web"))
    await world.clock.advance(10)
    (pod,) = (await agent.stats.snapshot()).pods
    assert (pod.usage.cpu_ns, pod.usage.working_set_bytes, len(pod.containers)) == (5 * 10**9, 2000, 2)
    assert pod.rate_nanocores == pytest.approx(500_000_000, rel=0.01)
    assert pod.containers[0].rate_nanocores == pytest.approx(250_000_000, rel=0.01)
    assert pod.interfaces[0].name == "eth0" and pod.ephemeral is None


async def test_two_that_ask_at_once_share_a_look(world: World) -> None:
    agent = await world.agent()
    rich = await agent.stats.snapshot(detail=True, disks=True)
    assert await agent.stats.snapshot() is rich
    await world.clock.advance(1)
    plain = await agent.stats.snapshot()
    assert plain is not rich
    assert await agent.stats.snapshot(disks=True) is not plain
    assert rich.node_fs is not None and rich.node_fs.capacity_bytes > 0


async def test_a_pod_that_ended_is_left_out(world: World) -> None:
    agent = await world.agent()
    await world.create("done", container("app", "sh", "-c", "echo bye"), restartPolicy="Never")
    await world.until(lambda: _phase(world, "done", "Succeeded"))
    assert (await agent.stats.snapshot()).pods == ()


async def _phase(world: World, name: str, phase: str) -> bool:
    return (await world.status(name)).get("phase") == phase


async def test_what_a_pod_stores_counts_as_its_ephemeral_storage(world: World, tmp_path: Path) -> None:
    rootfs, logs = tmp_path / "rootfs", tmp_path / "logs"
    for directory in (rootfs, logs):
        directory.mkdir()
        (directory / "file").write_bytes(b"x" * 100_000)

    async def places(container_id: str) -> Places:
        return Places(rootfs, logs)

    world.runtime.places = places  # type: ignore[method-assign]
    agent = await world.agent(simulated=False)
    volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "made", "secret": {"secretName": "s"}}]
    pod = await world.create("web", container("app"), volumes=volumes[:1])
    await world.until(lambda: world.ready("web"))
    scratch = world.directory / "agent" / "pods" / pod["metadata"]["uid"] / "volumes" / "scratch"
    (scratch / "data").write_bytes(b"x" * 50_000)
    found = (await agent.stats.snapshot(disks=True)).pods[0]
    assert found.containers[0].rootfs is not None and found.containers[0].rootfs.used_bytes >= 100_000
    assert [(each.name, each.local) for each in found.volumes] == [("scratch", True)]
    assert found.ephemeral is not None and 250_000 <= found.ephemeral.used_bytes < 400_000


async def test_a_tree_is_measured_once_a_minute(tmp_path: Path) -> None:
    clock = VirtualClock()
    supervisor = Supervisor("disks", clock)
    disks = Disks(clock, supervisor)
    (tmp_path / "one").write_bytes(b"x" * 8192)
    await disks.refresh([tmp_path], 5)
    first = disks.get(tmp_path)
    (tmp_path / "two").write_bytes(b"x" * 8192)
    await disks.refresh([tmp_path], 5)
    assert disks.get(tmp_path) is first
    await clock.advance(61)
    await disks.refresh([tmp_path], 5)
    assert disks._work is not None
    await disks._work
    second = disks.get(tmp_path)
    assert first is not None and second is not None and second.inodes_used == first.inodes_used + 1
    await disks.refresh([], 5)
    assert disks.get(tmp_path) is None
    await supervisor.stop()


def test_names_of_one_file_count_once_and_links_are_not_followed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x" * 65_536)
    os.link(tree / "file", tree / "same")
    (tmp_path / "elsewhere").write_bytes(b"x" * 1_000_000)
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    found = measure(tree, SystemClock().now_s())
    assert found is not None and 65_536 <= found.used_bytes < 131_072
    assert found.inodes_used == 3
    assert measure(tmp_path / "nothing", 0) is None


async def test_the_agent_counts_its_work(world: World) -> None:
    agent = await world.agent()
    pod = await world.create("web")
    await world.until(lambda: world.ready("web"))
    meters = agent.meters
    assert (meters.pod_start.counts and sum(meters.pod_start.counts), set(meters.worker)) == (1, {"create"})
    assert sum(meters.operations["run_podsandbox"].counts) == 1 and sum(meters.relist.counts) >= 1
    meters.probed("failed", "liveness", "app", ("default", "web", pod["metadata"]["uid"]))
    await world.delete("web")
    await world.pass_until(lambda: world.gone("web"))
    await world.until(lambda: agent.workers() == [])
    assert "kill" in meters.worker and meters.probes == {}
