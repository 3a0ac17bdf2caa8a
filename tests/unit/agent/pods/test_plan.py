"""desired × observed → one operation, as a table in the order of the rules."""

import pytest

from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.plan import (
    FOREVER,
    CreateSandbox,
    Operation,
    Probed,
    StartContainer,
    StopContainer,
    StopPod,
    Wait,
)
from tests.unit.agent.builders import NOW_S, Json, container, decide, pod, sandbox, seen, spec_of

APP = spec_of("app")
INIT = spec_of("init")
SIDECAR = spec_of("side", restartPolicy="Always")


def deleted(desired: Json) -> Json:
    return {**desired, "metadata": {**desired["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


def finished(desired: Json) -> Json:
    return {**desired, "status": {"phase": "Succeeded"}}


CASES: list[tuple[str, Json, Observed, Operation]] = [
    ("a new pod gets its sandbox", pod(), seen(), CreateSandbox(0)),
    ("a dead sandbox is followed by a fresh one", pod(), seen(sandbox(0, running=False)), CreateSandbox(1)),
    ("then its container", pod(), seen(sandbox()), StartContainer(APP, 0)),
    ("then nothing", pod(), seen(sandbox(), container("app")), FOREVER),
    ("a deleted pod stops", deleted(pod()), seen(sandbox(), container("app")), StopPod(remove=True)),
    ("a deleted pod that never ran stops too", deleted(pod()), seen(), StopPod(remove=True)),
    (
        "a container that ended starts again",
        pod(),
        seen(sandbox(), container("app", "exited", code=1)),
        StartContainer(APP, 1),
    ),
    (
        "also after success, with Always",
        pod(),
        seen(sandbox(), container("app", "exited")),
        StartContainer(APP, 1),
    ),
    (
        "OnFailure restarts a failure",
        pod(policy="OnFailure"),
        seen(sandbox(), container("app", "exited", code=3)),
        StartContainer(APP, 1),
    ),
    (
        "OnFailure ends with success",
        pod(policy="OnFailure"),
        seen(sandbox(), container("app", "exited")),
        StopPod(remove=False),
    ),
    (
        "Never ends with failure",
        pod(policy="Never"),
        seen(sandbox(), container("app", "exited", code=1)),
        StopPod(remove=False),
    ),
    (
        "an ended pod without anything alive rests",
        pod(policy="Never"),
        seen(sandbox(running=False), container("app", "exited")),
        FOREVER,
    ),
    ("a finished pod does not come back", finished(pod()), seen(), FOREVER),
    (
        "a container that was created but not started is started under its number",
        pod(),
        seen(sandbox(), container("app", "created")),
        StartContainer(APP, 0),
    ),
    ("init containers first", pod(inits=(INIT,)), seen(sandbox()), StartContainer(INIT, 0)),
    ("one at a time", pod(inits=(INIT,)), seen(sandbox(), container("init")), FOREVER),
    (
        "regular containers after the last init",
        pod(inits=(INIT,)),
        seen(sandbox(), container("init", "exited")),
        StartContainer(APP, 0),
    ),
    (
        "a failed init is tried again",
        pod(inits=(INIT,)),
        seen(sandbox(), container("init", "exited", code=1)),
        StartContainer(INIT, 1),
    ),
    (
        "a failed init ends a pod that never restarts",
        pod(inits=(INIT,), policy="Never"),
        seen(sandbox(), container("init", "exited", code=1)),
        StopPod(remove=False),
    ),
    ("a sidecar starts", pod(inits=(SIDECAR,)), seen(sandbox()), StartContainer(SIDECAR, 0)),
    (
        "and stays while the pod runs",
        pod(inits=(SIDECAR,)),
        seen(sandbox(), container("side")),
        StartContainer(APP, 0),
    ),
    (
        "a sidecar that dies comes back",
        pod(inits=(SIDECAR,)),
        seen(sandbox(), container("side", "exited"), container("app")),
        StartContainer(SIDECAR, 1),
    ),
    (
        "sidecars do not keep a pod alive",
        pod(inits=(SIDECAR,), policy="Never"),
        seen(sandbox(), container("side"), container("app", "exited")),
        StopPod(remove=False),
    ),
    (
        "inits run anew in a fresh sandbox",
        pod(inits=(INIT,)),
        seen(sandbox(1), sandbox(0, running=False), container("init", "exited"), container("app", "exited")),
        StartContainer(INIT, 1),
    ),
    (
        "another image replaces the container",
        pod(spec_of("app", image="demo:2")),
        seen(sandbox(), container("app")),
        StopContainer("app-0", "app", "Container app definition changed, will be restarted", renew=True),
    ),
]


@pytest.mark.parametrize(("why", "desired", "observed", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_plan(why: str, desired: Json, observed: Observed, wanted: Operation) -> None:
    got = decide(desired, observed)
    if isinstance(wanted, StartContainer) and isinstance(got, StartContainer):
        assert (got.container["name"], got.attempt) == (wanted.container["name"], wanted.attempt)
    else:
        assert got == wanted


def test_back_off_holds_a_restart_until_it_is_due() -> None:
    observed = seen(sandbox(), container("app", "exited", code=1))
    assert decide(pod(), observed, due={"app": NOW_S + 10}) == Wait(NOW_S + 10)


def test_the_earliest_due_container_decides_how_long_to_wait() -> None:
    observed = seen(sandbox(), container("a", "exited", code=1), container("b", "exited", code=1))
    desired = pod(spec_of("a"), spec_of("b"))
    assert decide(desired, observed, due={"a": NOW_S + 40, "b": NOW_S + 20}) == Wait(NOW_S + 20)


def test_a_failed_liveness_probe_stops_the_container() -> None:
    operation = decide(pod(), seen(sandbox(), container("app")), {"app-0": Probed(failed="liveness")})
    why = "Container app failed liveness probe, will be restarted"
    assert operation == StopContainer("app-0", "app", why)
    once = decide(
        pod(policy="Never"), seen(sandbox(), container("app")), {"app-0": Probed(failed="liveness")}
    )
    assert once == StopContainer("app-0", "app", "Container app failed liveness probe")


def test_a_failed_probe_may_bring_its_own_grace_period() -> None:
    spec = spec_of(
        "app", livenessProbe={"terminationGracePeriodSeconds": 3}, startupProbe={"failureThreshold": 1}
    )
    observed = seen(sandbox(), container("app"))
    live = decide(pod(spec), observed, {"app-0": Probed(failed="liveness")})
    assert isinstance(live, StopContainer) and live.grace_s == 3
    begins = decide(pod(spec), observed, {"app-0": Probed(started=False, failed="startup")})
    assert isinstance(begins, StopContainer) and begins.grace_s is None


def test_a_sidecar_that_has_not_started_holds_back_what_follows() -> None:
    observed = seen(sandbox(), container("side"))
    assert decide(pod(inits=(SIDECAR,)), observed, {"side-0": Probed(started=False)}) == FOREVER


def test_a_pod_past_its_deadline_stops() -> None:
    desired = pod(activeDeadlineSeconds=5)
    desired["status"] = {"startTime": "2023-11-14T22:00:00Z"}
    assert decide(desired, seen(sandbox(), container("app"))) == StopPod(remove=False)
