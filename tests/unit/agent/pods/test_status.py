"""Observed → status: phases, states, conditions, and what must not flicker."""

from typing import Any

import pytest

from orchestrator.agent import podspec
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.plan import Probed
from orchestrator.agent.pods.status import Facts, pod_status
from tests.unit.agent.builders import NOW_S, Json, container, pod, sandbox, seen, spec_of

INIT, SIDECAR = spec_of("init"), spec_of("side", restartPolicy="Always")


def status_of(desired: Json, observed: Observed, **facts: Any) -> Json:
    given = {
        "probed": {},
        "waiting": {},
        "node_ip": "192.0.2.7",
        "pod_ip": "10.42.0.2",
        "now_s": NOW_S,
        **facts,
    }
    return dict(pod_status(desired, Facts(seen=observed, **given)))


def with_status(desired: Json, status: Json) -> Json:
    return {**desired, "status": status}


def conditions(status: Json) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


BOTH = (spec_of("a"), spec_of("b"))
ONCE = pod(*BOTH, policy="Never")
INIT_FAILED = container("init", "exited", code=1)
PHASES = [
    ("nothing yet", pod(), seen(), "Pending"),
    ("a sandbox only", pod(), seen(sandbox()), "Pending"),
    ("created, not started", pod(), seen(sandbox(), container("app", "created")), "Pending"),
    ("running", pod(), seen(sandbox(), container("app")), "Running"),
    ("one of two runs", pod(*BOTH), seen(sandbox(), container("a")), "Pending"),
    ("init runs", pod(inits=(INIT,)), seen(sandbox(), container("init")), "Pending"),
    ("a crash loop", pod(), seen(sandbox(), container("app", "exited", code=1)), "Running"),
    ("succeeded", pod(policy="Never"), seen(sandbox(), container("app", "exited")), "Succeeded"),
    ("failed", pod(policy="Never"), seen(sandbox(), container("app", "exited", code=2)), "Failed"),
    ("OnFailure goes on", pod(policy="OnFailure"), seen(sandbox(), container("app", "exited", code=2)), "Running"),
    ("one of two ended", ONCE, seen(sandbox(), container("a", "exited"), container("b")), "Running"),
    ("one failed", ONCE, seen(sandbox(), container("a", "exited"), container("b", "exited", code=1)), "Failed"),
    ("init failed for good", pod(inits=(INIT,), policy="Never"), seen(sandbox(), INIT_FAILED), "Failed"),
    ("init failed, tried again", pod(inits=(INIT,)), seen(sandbox(), INIT_FAILED), "Pending"),
    ("a final phase stays", with_status(pod(), {"phase": "Succeeded"}), seen(), "Succeeded"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "desired", "observed", "phase"), PHASES, ids=[case[0] for case in PHASES])
def test_phase(why: str, desired: Json, observed: Observed, phase: str) -> None:
    assert status_of(desired, observed)["phase"] == phase


@pytest.mark.parametrize(
    ("observed", "phase"),
    [
        (seen(sandbox(), container("app", "exited", code=143)), "Failed"),
        (seen(sandbox(), container("app", "exited")), "Succeeded"),
        (seen(), "Failed"),
    ],
)
def test_a_pod_that_was_stopped_for_good_has_a_final_phase(observed: Observed, phase: str) -> None:
    assert status_of(pod(), observed, stopped=True)["phase"] == phase


def only(status: Json) -> Json:
    (entry,) = status["containerStatuses"]
    return dict(entry)


def test_ids_carry_the_engines_name() -> None:
    observed = seen(sandbox(), container("app", attempt=1), container("app", "exited", attempt=0, code=1))
    entry = only(status_of(pod(), observed, engine="containerd"))
    assert entry["containerID"] == "containerd://app-1"
    assert entry["lastState"]["terminated"]["containerID"] == "containerd://app-0"
    assert entry["restartCount"] == 1


def test_a_crash_loop_waits_and_shows_the_end_as_its_last_state() -> None:
    observed = seen(sandbox(), container("app", "exited", code=7))
    entry = only(status_of(pod(), observed, waiting={"app": ("CrashLoopBackOff", "back-off 10s")}))
    assert entry["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert entry["lastState"]["terminated"]["exitCode"] == 7
    assert not entry["ready"] and not entry["started"]


def test_an_init_container_that_succeeded_after_a_crash_is_done() -> None:
    """A hold that is still known of an earlier crash does not make it wait."""
    observed = seen(
        sandbox(), container("init", "exited", attempt=1), container("init", "exited", attempt=0, code=1)
    )
    status = status_of(pod(inits=(INIT,)), observed, waiting={"init": ("CrashLoopBackOff", "")})
    (entry,) = status["initContainerStatuses"]
    assert entry["ready"] and entry["state"]["terminated"]["reason"] == "Completed"


@pytest.mark.parametrize(
    ("probed", "started", "ready"),
    [
        (None, True, True),
        (Probed(started=False, ready=False), False, False),
        (Probed(started=True, ready=False), True, False),
        (Probed(started=True, ready=True), True, True),
    ],
)
def test_probes_decide_what_is_started_and_ready(probed: Probed | None, started: bool, ready: bool) -> None:
    status = status_of(pod(), seen(sandbox(), container("app")), probed={"app-0": probed} if probed else {})
    assert (only(status)["started"], only(status)["ready"]) == (started, ready)
    found = conditions(status)
    assert found["Ready"] == found["ContainersReady"] == str(ready)


def test_a_sidecar_counts_for_readiness() -> None:
    observed = seen(sandbox(), container("side"), container("app"))
    desired = pod(inits=(SIDECAR,))
    assert conditions(status_of(desired, observed))["Ready"] == "True"
    unready = status_of(desired, observed, probed={"side-0": Probed(ready=False)})
    assert conditions(unready)["Ready"] == "False"


def test_a_readiness_gate_holds_back_ready_alone() -> None:
    desired = pod(readinessGates=[{"conditionType": "example.com/gate"}])
    observed = seen(sandbox(), container("app"))
    status = status_of(desired, observed)
    assert (conditions(status)["ContainersReady"], conditions(status)["Ready"]) == ("True", "False")
    gate = {"conditions": [{"type": "example.com/gate", "status": "True"}]}
    assert conditions(status_of(with_status(desired, gate), observed))["Ready"] == "True"


def test_an_unchanged_condition_keeps_its_time_and_a_changed_one_does_not() -> None:
    observed = seen(sandbox(), container("app"))
    first = status_of(pod(), observed)
    later = status_of(with_status(pod(), first), observed, now_s=NOW_S + 60)
    assert later == first
    unready = status_of(
        with_status(pod(), first), observed, now_s=NOW_S + 60, probed={"app-0": Probed(ready=False)}
    )
    times = {c["type"]: c["lastTransitionTime"] for c in unready["conditions"]}
    assert times["Ready"] != times["Initialized"] == first["startTime"]


def test_the_address_stays_on_record_after_the_end() -> None:
    running = status_of(pod(policy="Never"), seen(sandbox(), container("app")))
    ended = seen(sandbox(running=False), container("app", "exited"))
    assert status_of(with_status(pod(policy="Never"), running), ended, pod_ip="")["podIP"] == "10.42.0.2"


def test_a_deadline_that_passes_after_the_end_changes_nothing() -> None:
    desired = pod(policy="Never", activeDeadlineSeconds=30)
    observed = seen(sandbox(running=False), container("app", "exited"))
    ended = status_of(desired, observed)
    later = status_of(with_status(desired, ended), observed, now_s=NOW_S + 3600)
    assert later["phase"] == "Succeeded" and "reason" not in later


def test_what_a_finished_pod_showed_outlives_its_containers() -> None:
    desired = pod(policy="Never")
    ended = status_of(desired, seen(sandbox(), container("app", "exited", code=3)))
    assert status_of(with_status(desired, ended), seen())["containerStatuses"] == ended["containerStatuses"]


def test_a_container_that_the_engine_lost_is_said_to_be_unknown() -> None:
    running = status_of(pod(), seen(sandbox(), container("app", attempt=2)))
    entry = only(status_of(with_status(pod(), running), seen(sandbox())))
    assert entry["restartCount"] == 2 and not entry["ready"]
    assert entry["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert entry["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    stopped = only(status_of(with_status(pod(), running), seen(), stopped=True))
    assert stopped["state"]["terminated"]["exitCode"] == 137


def test_the_last_state_outlives_the_container_that_it_is_about() -> None:
    both = seen(sandbox(), container("app", attempt=1), container("app", "exited", attempt=0, code=9))
    before = status_of(pod(), both)
    after = status_of(with_status(pod(), before), seen(sandbox(), container("app", attempt=1)))
    assert only(after)["lastState"] == only(before)["lastState"]


def test_last_words_are_cut_to_4096() -> None:
    observed = seen(sandbox(), container("app", "exited", code=1))
    status = status_of(pod(policy="Never"), observed, messages={"app-0": "x" * 5000})
    assert len(only(status)["state"]["terminated"]["message"]) == 4096


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"requests": {"cpu": "0", "memory": "0"}}, "BestEffort"),
        ({"limits": {"cpu": "0", "memory": "0"}}, "BestEffort"),
        ({"limits": {"cpu": "1", "memory": "0"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Mi"}}, "Guaranteed"),
    ],
)
def test_amounts_of_zero_do_not_count_for_the_quality_of_service(
    resources: dict[str, object], expected: str
) -> None:
    assert podspec.qos_class({"spec": {"containers": [{"name": "a", "resources": resources}]}}) == expected
