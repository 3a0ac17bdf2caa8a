"""A pod's way through its worker, seen from the API and from the engine."""

import itertools
from pathlib import Path

import pytest

from orchestrator.agent.agent import Agent
from orchestrator.api.item import Object
from orchestrator.api.resources import PODS
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.runtime.simulated import SimulatedRuntime
from tests.unit.agent.conftest import World, container


def waiting(state: Object) -> str:
    return str(((state.get("state") or {}).get("waiting") or {}).get("reason", ""))


async def test_a_bound_pod_becomes_ready_with_one_status_write(world: World) -> None:
    await world.agent()
    created = await world.create("web")
    await world.until(lambda: world.ready("web"))
    pod = await world.pod("web")
    assert int(pod["metadata"]["resourceVersion"]) == int(created["metadata"]["resourceVersion"]) + 1
    status = pod["status"]
    assert (status["phase"], status["podIP"], status["hostIP"]) == ("Running", "10.42.0.2", "192.0.2.7")
    (only,) = world.containers(pod)
    assert status["containerStatuses"][0]["containerID"] == f"simulated://{only.id}"


async def test_a_pod_at_rest_costs_no_writes(world: World) -> None:
    agent = await world.agent()
    await world.create("web")
    await world.until(lambda: world.ready("web"))
    before = (await world.pod("web"))["metadata"]["resourceVersion"]
    assert agent.manager is not None
    agent.manager._workers[(await world.pod("web"))["metadata"]["uid"]].wake(look=True)
    await world.clock.advance(100)
    await world.calm()
    assert (await world.pod("web"))["metadata"]["resourceVersion"] == before


async def test_init_containers_run_in_turn_before_the_rest(world: World) -> None:
    await world.agent()
    inits = [container("first", "sleep", "5"), container("second", "true")]
    await world.create("web", initContainers=inits)
    await world.until(lambda: _has(world, "first", "running"))
    assert waiting(await world.state("web", "app")) == "PodInitializing"
    await world.clock.advance(6)
    await world.until(lambda: world.ready("web"))
    pod = await world.pod("web")
    assert [c.name for c in world.containers(pod)] == ["first", "second", "app"]
    assert all(entry["ready"] for entry in pod["status"]["initContainerStatuses"])


async def _has(world: World, name: str, state: str, pod: str = "web") -> bool:
    return state in ((await world.state(pod, name)).get("state") or {})


async def test_crashes_back_off_at_once_then_10_s_doubled(world: World) -> None:
    await world.agent()
    pod = await world.create("web", container("app", "false"))
    starts: list[float] = []
    for attempt in range(5):
        await world.pass_until(lambda attempt=attempt: len(starts_of(world, pod, starts)) > attempt)
    waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
    # The clock may move on by a second or two while the worker is at work.
    assert all(due <= wait <= due + 4 for wait, due in zip(waits, (0, 10, 20, 40), strict=True)), waits
    await world.until(lambda: _crash_loops(world))
    state = await world.state("web")
    assert state["state"]["waiting"]["message"].startswith("back-off 1m20s restarting failed container=app")
    assert state["lastState"]["terminated"]["exitCode"] == 1
    assert state["restartCount"] == 4
    assert "BackOff" in world.notes.reasons()


def starts_of(world: World, pod: Object, starts: list[float]) -> list[float]:
    """Collects the start of every attempt, also of those that the engine no longer has."""
    starts += [c.started_s for c in world.containers(pod) if c.attempt >= len(starts) and c.started_s]
    return starts


async def _crash_loops(world: World) -> bool:
    return waiting(await world.state("web")) == "CrashLoopBackOff"


async def test_a_new_image_ends_the_back_off(world: World) -> None:
    await world.agent()
    await world.create("web", container("app", "sleep", "1"))
    await world.pass_until(lambda: _restarted(world, 2))
    await world.pass_until(lambda: _crash_loops(world))
    pod = await world.pod("web")
    fixed = {**pod["spec"], "containers": [{**pod["spec"]["containers"][0], "image": "demo:2"}]}
    await world.admin.update(PODS, {**pod, "spec": fixed})
    await world.until(lambda: _restarted(world, 3))


async def _restarted(world: World, times: int) -> bool:
    state = await world.state("web")
    return bool(state) and state["restartCount"] == times


async def test_a_pod_that_runs_to_its_end_succeeds_and_keeps_its_status(world: World) -> None:
    agent = await world.agent()
    await world.create("job", container("app", "sleep", "3"), restartPolicy="Never")
    await world.until(lambda: world.ready("job"))
    await world.clock.advance(4)
    await world.until(lambda: _phase(world, "job", "Succeeded"))
    await world.calm()
    status = await world.status("job")
    assert status["podIP"] == "10.42.0.2"
    assert not world.network._held
    for known in world.containers(await world.pod("job")):
        await world.runtime.remove_container(known.id)
    await agent.stop()
    await world.agent()
    await world.calm()
    assert await world.status("job") == status


async def _phase(world: World, name: str, phase: str) -> bool:
    return (await world.status(name)).get("phase") == phase


async def test_a_pod_past_its_deadline_fails_in_time(world: World) -> None:
    await world.agent()
    await world.create("web", activeDeadlineSeconds=20)
    await world.until(lambda: world.ready("web"))
    took_s = await world.pass_until(lambda: _phase(world, "web", "Failed"))
    assert 19 <= took_s < 60
    assert (await world.status("web"))["reason"] == "DeadlineExceeded"


async def test_a_deleted_pod_shows_its_end_and_leaves_nothing(world: World) -> None:
    await world.agent()
    seen: list[Object] = []
    world.informers.of(PODS).on_change(lambda old, new: seen.append((new or old).object))  # type: ignore[union-attr]
    await world.create("web")
    await world.until(lambda: world.ready("web"))
    await world.delete("web")
    await world.until(lambda: world.gone("web"))
    await world.until(world.empty)
    assert world.drained == ["10.42.0.2"]
    last = seen[-1]["status"]
    assert last["phase"] == "Failed"
    assert last["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143


async def test_a_deleted_pod_that_never_ran_goes_too(world: World) -> None:
    world.runtime._missing.add("absent:1")
    await world.agent()
    await world.create("web", {**container("app"), "image": "absent:1", "imagePullPolicy": "Never"})
    await world.until(lambda: _waits(world, "ErrImageNeverPull"))
    await world.delete("web")
    await world.until(lambda: world.gone("web"))
    await world.until(world.empty)


async def _waits(world: World, reason: str) -> bool:
    return waiting(await world.state("web")) == reason


async def test_a_pod_whose_object_is_gone_is_ended_all_the_same(world: World) -> None:
    await world.agent()
    await world.create("web")
    await world.until(lambda: world.ready("web"))
    await world.delete("web", grace_s=0)
    assert await world.gone("web")
    await world.until(world.empty)


async def test_a_pod_made_anew_under_its_name_is_another_pod(world: World) -> None:
    agent = await world.agent()
    await world.create("web")
    await world.until(lambda: world.ready("web"))
    await world.delete("web", grace_s=0)
    fresh = await world.create("web")
    await world.until(lambda: world.ready("web"))
    assert agent.manager is not None
    worker = agent.manager.find("default", "web")
    assert worker is not None and worker.uid == fresh["metadata"]["uid"]
    await world.until(lambda: len(world.runtime._sandboxes) == 1)


async def test_a_failed_image_shows_its_error_then_the_back_off(world: World) -> None:
    world.runtime._missing.add("absent:1")
    await world.agent()
    await world.create("web", {**container("app"), "image": "absent:1"})
    await world.until(lambda: _waits(world, "ErrImagePull"))
    await world.pass_until(lambda: _waits(world, "ImagePullBackOff"))
    assert world.notes.reasons().count("Pulling") == 1
    world.runtime._missing.clear()
    await world.pass_until(lambda: world.ready("web"))


async def test_a_missing_config_map_holds_the_container_and_says_which(world: World) -> None:
    await world.agent()
    wants = {**container("app"), "envFrom": [{"configMapRef": {"name": "settings"}}]}
    await world.create("web", wants)
    await world.until(lambda: _waits(world, "CreateContainerConfigError"))
    state = await world.state("web")
    assert state["state"]["waiting"]["message"] == 'configmap "settings" not found'


async def test_a_missing_volume_leaves_the_pod_in_creation(world: World) -> None:
    await world.agent(simulated=False)
    volume = {"name": "v", "configMap": {"name": "settings"}}
    mounts = [{"name": "v", "mountPath": "/v"}]
    await world.create("web", {**container("app"), "volumeMounts": mounts}, volumes=[volume])
    await world.until(lambda: "FailedMount" in world.notes.reasons())
    await world.until(lambda: _waits(world, "ContainerCreating"))
    assert "Failed" not in world.notes.reasons()


async def test_a_volume_that_fails_is_tried_less_and_less_often(world: World, tmp_path: Path) -> None:
    await world.agent(simulated=False)
    volume = {"name": "v", "hostPath": {"path": str(tmp_path / "late"), "type": "Directory"}}
    await world.create(
        "web", {**container("app"), "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[volume]
    )
    await world.until(lambda: "FailedMount" in world.notes.reasons())
    await world.pass_until(lambda: world.notes.reasons().count("FailedMount") == 7)
    # Half a second, then twice as long each time: 32 s after six tries.
    assert await world.pass_until(lambda: world.notes.reasons().count("FailedMount") == 8) >= 32
    (tmp_path / "late").mkdir()
    await world.pass_until(lambda: world.ready("web"))


async def test_a_failed_liveness_probe_restarts_the_container(world: World) -> None:
    await world.agent(simulated=False)
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 3}
    await world.create("web", {**container("app"), "livenessProbe": probe})
    await world.pass_until(lambda: _restarted(world, 1))
    killing = [message for _, reason, message in world.notes.written if reason == "Killing"]
    assert killing == ["Container app failed liveness probe, will be restarted"]
    assert world.notes.reasons().count("Unhealthy") >= 3


async def test_a_sandbox_that_died_is_followed_by_another(world: World) -> None:
    await world.agent()
    pod = await world.create("web")
    await world.until(lambda: world.ready("web"))
    (first,) = world.runtime._sandboxes
    await world.runtime.stop_sandbox(first)
    await world.until(lambda: _restarted(world, 1))
    live = [s for s in world.runtime._sandboxes.values() if s.running]
    assert [s.attempt for s in live] == [1]
    assert set(world.network._held) == {live[0].id}
    assert len([c for c in world.containers(pod) if c.state == "running"]) == 1


async def test_a_container_that_somebody_removed_keeps_its_count(world: World) -> None:
    await world.agent()
    pod = await world.create("web", container("app", "sleep", "5"))
    await world.pass_until(lambda: _restarted(world, 1))
    for known in world.containers(pod):
        await world.runtime.remove_container(known.id)
    await world.until(lambda: _restarted(world, 2))


async def test_a_shorter_grace_period_takes_effect_while_a_hook_runs(world: World) -> None:
    await world.agent()
    slow = {"preStop": {"sleep": {"seconds": 500}}}
    await world.create("web", {**container("app"), "lifecycle": slow}, terminationGracePeriodSeconds=600)
    await world.until(lambda: world.ready("web"))
    await world.delete("web")
    await world.calm()
    await world.clock.advance(50)
    assert not await world.gone("web")
    await world.delete("web", grace_s=60)
    await world.calm()
    took_s = await world.pass_until(lambda: world.gone("web"))
    # The clock may run some steps ahead of a slow disk; without the shorter period 450 s were left.
    assert took_s < 120


async def test_a_failed_post_start_hook_ends_the_container(world: World) -> None:
    await world.agent()
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 4"]}}}
    await world.create("web", {**container("app"), "lifecycle": hook}, restartPolicy="Never")
    await world.until(lambda: _phase(world, "web", "Failed"))
    assert "FailedPostStartHook" in world.notes.reasons()


async def test_the_end_of_the_log_stands_in_for_last_words(world: World) -> None:
    await world.agent()
    talks = container(
        "app", "sh", "-c", "echo it broke; exit 2", terminationMessagePolicy="FallbackToLogsOnError"
    )
    await world.create("web", talks, restartPolicy="Never")
    await world.until(lambda: _phase(world, "web", "Failed"))
    assert (await world.state("web"))["state"]["terminated"]["message"] == "it broke\n"


class Unwell(SimulatedRuntime):
    """An engine that can refuse sandboxes."""

    refuses = 0
    asked = 0

    async def create_sandbox(self, spec):  # type: ignore[no-untyped-def]
        self.asked += 1
        if self.refuses:
            self.refuses -= 1
            sandbox = await super().create_sandbox(spec)
            await self.remove_sandbox(sandbox.id)
            raise RuntimeFailure("out of order", "CreatePodSandboxError")
        return await super().create_sandbox(spec)


async def test_a_failing_step_is_tried_again_with_back_off(world: World) -> None:
    """Also when the failed step itself makes the engine report something."""
    runtime = Unwell(world.clock, world.supervisor)
    runtime.refuses = 3
    world.runtime = runtime
    await world.agent()
    await world.create("web")
    took_s = await world.pass_until(lambda: world.ready("web"), step_s=0.5)
    assert runtime.asked == 4
    assert took_s >= 1 + 2 + 4
    assert world.notes.reasons().count("FailedCreatePodSandBox") == 3


async def test_a_pod_in_back_off_is_deleted_at_once(world: World) -> None:
    runtime = Unwell(world.clock, world.supervisor)
    runtime.refuses = 1000
    world.runtime = runtime
    await world.agent()
    await world.create("web")
    await world.until(lambda: "FailedCreatePodSandBox" in world.notes.reasons())
    await world.delete("web")
    await world.until(lambda: world.gone("web"))


@pytest.mark.parametrize("simulated", [True, False])
async def test_a_status_that_somebody_else_changed_is_written_on_top(world: World, simulated: bool) -> None:
    agent: Agent = await world.agent(simulated=simulated)
    await world.create("web", readinessGates=[{"conditionType": "example.com/gate"}])
    await world.until(lambda: _phase(world, "web", "Running"))
    assert not await world.ready("web")
    pod = await world.pod("web")
    gate = {"type": "example.com/gate", "status": "True"}
    status = {**pod["status"], "conditions": [*pod["status"]["conditions"], gate]}
    await world.admin.update(PODS, {**pod, "status": status}, subresource="status")
    await world.until(lambda: world.ready("web"))
    types = [c["type"] for c in (await world.status("web"))["conditions"]]
    assert "example.com/gate" in types
    assert agent.ready
