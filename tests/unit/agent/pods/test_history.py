"""What a container's end means: policies, rules, what was lost, and the restart of all."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.agent.pods.history import is_done, restarts
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.plan import FOREVER, Operation, StartContainer, StopContainer, StopPod, Wait
from tests.unit.agent.builders import NOW_S, Json, container, decide, pod, sandbox, seen, spec_of


def rule(action: str, operator: str, *codes: int) -> Json:
    return {"action": action, "exitCodes": {"operator": operator, "values": list(codes)}}


RETRY = [rule("Restart", "In", 42)]
ENDS = [
    ("Always", {}, 0, True),
    ("OnFailure", {}, 0, False),
    ("OnFailure", {}, 1, True),
    ("Never", {}, 1, False),
    ("Never", {"restartPolicy": "Always"}, 0, True),
    ("Always", {"restartPolicy": "Never"}, 1, False),
    ("Always", {"restartPolicy": "OnFailure"}, 0, False),
    ("Never", {"restartPolicy": "Never", "restartPolicyRules": RETRY}, 42, True),
    ("Never", {"restartPolicy": "Never", "restartPolicyRules": RETRY}, 1, False),
    ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule("Restart", "NotIn", 1)]}, 7, True),
    ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule("Restart", "NotIn", 1)]}, 1, False),
    ("Never", {"restartPolicy": "OnFailure", "restartPolicyRules": RETRY}, 3, True),
]


@pytest.mark.parametrize(("policy", "own", "code", "again"), ENDS)
def test_whether_a_container_is_started_again(policy: str, own: Json, code: int, again: bool) -> None:
    spec = spec_of("app", **own)
    assert restarts(pod(spec, policy=policy), spec, container("app", "exited", code=code)) is again


@pytest.mark.parametrize(
    ("policy", "code", "again"), [("Always", 0, False), ("Always", 1, True), ("Never", 1, False)]
)
def test_init_containers_run_to_success(policy: str, code: int, again: bool) -> None:
    spec = spec_of("init")
    assert restarts(pod(inits=(spec,), policy=policy), spec, container("init", "exited", code=code)) is again


ALL = spec_of("app", restartPolicy="Never", restartPolicyRules=[rule("RestartAllContainers", "In", 42)])
OTHER, INIT = spec_of("other"), spec_of("init")
EVERYTHING = pod(ALL, OTHER, inits=(INIT,), policy="Never")


def at(made: Any, began_s: float, ended_s: float = 0.0) -> Any:
    return replace(
        made, created_s=NOW_S + began_s, started_s=NOW_S + began_s, finished_s=ended_s and NOW_S + ended_s
    )


TRIGGER = at(container("app", "exited", code=42), -60, -10)
DONE = at(container("init", "exited"), -70, -65)
RESTARTS = [
    (
        "what still runs is stopped first",
        seen(sandbox(), DONE, TRIGGER, at(container("other"), -59)),
        StopContainer("other-0", "other", "Container other will be restarted with all containers of the pod"),
    ),
    (
        "then everything begins anew with the init containers",
        seen(sandbox(), DONE, TRIGGER, at(container("other", "exited", code=137), -59, -5)),
        StartContainer(INIT, 1),
    ),
    (
        "in the same sandbox, until all have come back",
        seen(
            sandbox(), DONE, TRIGGER, at(container("other", "exited", code=137), -59, -5),
            at(container("init", "exited", attempt=1), -4, -3), at(container("app", attempt=1), -2),
        ),
        StartContainer(OTHER, 1),
    ),
    (
        "and then rests",
        seen(
            sandbox(), TRIGGER, at(container("init", "exited", attempt=1), -4, -3),
            at(container("app", attempt=1), -2), at(container("other", attempt=1), -1),
        ),
        FOREVER,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("why", "observed", "wanted"), RESTARTS, ids=[case[0] for case in RESTARTS])
def test_a_restart_of_all_containers(why: str, observed: Observed, wanted: Operation) -> None:
    got = decide(EVERYTHING, observed)
    if isinstance(wanted, StartContainer):
        assert isinstance(got, StartContainer)
        assert (got.container["name"], got.attempt) == (wanted.container["name"], wanted.attempt)
    else:
        assert got == wanted


DEBUG = {"ephemeralContainers": [spec_of("debug")]}


@pytest.mark.parametrize(
    ("why", "observed", "wanted"),
    [
        ("beside a running init container", seen(sandbox(), container("init")), "debug"),
        ("never twice", seen(sandbox(), container("init"), container("debug", "exited")), FOREVER),
        ("not without a sandbox", seen(), None),
    ],
)
def test_ephemeral_containers(why: str, observed: Observed, wanted: Any) -> None:
    got = decide(pod(inits=(INIT,), **DEBUG), observed)
    if wanted == "debug":
        assert isinstance(got, StartContainer) and got.container["name"] == "debug"
    elif wanted is not None:
        assert got == wanted


def test_a_sidecar_in_back_off_is_waited_for() -> None:
    sidecar = spec_of("side", restartPolicy="Always")
    observed = seen(sandbox(), container("side", "exited", code=1), container("app"))
    assert decide(pod(inits=(sidecar,)), observed, due={"side": NOW_S + 7}) == Wait(NOW_S + 7)


def test_a_completed_container_that_was_lost_stays_completed() -> None:
    ended = {"name": "a", "containerID": "docker://gone", "state": {"terminated": {"exitCode": 0}}}
    both = {**pod(spec_of("a"), spec_of("b"), policy="Never"), "status": {"containerStatuses": [ended]}}
    assert decide(both, seen(sandbox(), container("b"))) == FOREVER
    after = seen(sandbox(), container("b", "exited"))
    assert is_done(both, after)
    assert decide(both, after) == StopPod(remove=False)


def test_a_replaced_container_starts_again_whatever_the_policy() -> None:
    observed = seen(sandbox(), container("app", "exited", code=143))
    observed.renewed.add("app-0")
    got = decide(pod(policy="Never"), observed)
    assert isinstance(got, StartContainer) and got.attempt == 1
