import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.errors import Forbidden
from orchestrator.api.item import Object
from orchestrator.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from orchestrator.controllers.deployment import DeploymentController, plan
from orchestrator.controllers.replicaset import ReplicaSetController
from orchestrator.controllers.replicasets import find_new
from orchestrator.controllers.rollout import bounds
from orchestrator.controllers.templates import template_hash

NOW_S = 1_700_000_000.0


@pytest.fixture
async def rolling(cluster):
    """A cluster that runs Deployments."""
    controllers = (DeploymentController, ReplicaSetController)
    await cluster.start(*(make(cluster.client, cluster.clock, cluster.recorder) for make in controllers))
    return cluster


def deployment(replicas=3, image="one", **spec) -> Object:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    selector = {"matchLabels": {"app": "web"}}
    base = {"replicas": replicas, "selector": selector, "template": template, "progressDeadlineSeconds": 600}
    metadata = {"name": "web", "namespace": "default", "uid": "d", "generation": 1, "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {**base, **spec}, "status": {}}


class Simulation:
    """ReplicaSets in memory: runs plans, and reports availability as a test dictates."""

    def __init__(self, deployment: Object) -> None:
        self.deployment = deployment
        self.sets: dict[str, Object] = {}
        self.now_s = NOW_S
        self.pods_run = False

    def step(self) -> bool:
        """One reconcile; False when nothing was done."""
        self.now_s += 1
        steps = plan(self.deployment, list(self.sets.values()), self.pods_run, self.now_s)
        if steps.create is not None:
            name = steps.create["metadata"]["name"]
            made = {"creationTimestamp": f"2023-11-14T{len(self.sets):02}:00:00Z", "generation": 1}
            self.sets[name] = {
                **steps.create, "metadata": {**steps.create["metadata"], **made, "uid": name}, "status": {},
            }  # fmt: skip
        for write in steps.writes:
            self.sets[write.new["metadata"]["name"]] = write.new
        for gone in steps.delete:
            del self.sets[gone["metadata"]["name"]]
        changed = bool(steps.create or steps.writes or steps.delete)
        self.deployment = {**self.deployment, "status": steps.status}
        return changed

    def report(self, name: str, available: int) -> None:
        current = self.sets[name]
        size = current["spec"]["replicas"]
        status = {"replicas": size, "readyReplicas": available, "availableReplicas": min(available, size)}
        self.sets[name] = {**current, "status": {**status, "observedGeneration": 1}}

    def report_all(self) -> None:
        for name, current in self.sets.items():
            self.report(name, current["spec"]["replicas"])

    def finish(self) -> None:
        for _ in range(200):
            changed = self.step()
            self.report_all()
            if not changed and not self.step():
                return
        raise AssertionError("the rollout does not end")

    def change(self, **spec) -> None:
        metadata = {
            **self.deployment["metadata"],
            "generation": self.deployment["metadata"]["generation"] + 1,
        }
        self.deployment = {
            **self.deployment,
            "metadata": metadata,
            "spec": {**self.deployment["spec"], **spec},
        }

    @property
    def sizes(self) -> list[int]:
        return [current["spec"]["replicas"] for current in self.sets.values()]


def image(name: str) -> Object:
    return deployment(image=name)["spec"]["template"]


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "wanted"),
    [
        (10, "25%", "25%", (3, 2)),
        (3, "25%", "25%", (1, 0)),
        (1, "25%", "25%", (1, 0)),
        (4, 0, "10%", (0, 1)),
        (4, 2, 1, (2, 1)),
        (2, 0, 9, (0, 2)),
        (0, "25%", "25%", (0, 0)),
    ],
)
def test_percents_round_up_for_surge_and_down_for_unavailable(replicas, surge, unavailable, wanted):
    strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    assert bounds(deployment(replicas, strategy=strategy))[1:] == wanted


def test_the_hash_depends_on_content_and_collisions_only():
    one = {"spec": {"a": 1, "b": 2}, "metadata": {}}
    other = {"metadata": {}, "spec": {"b": 2, "a": 1}}
    assert template_hash(one, 0) == template_hash(other, 0) != template_hash(one, 1)
    assert len(template_hash(one, 0)) == 10


def test_a_rolling_update_moves_in_the_documented_steps():
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    run = Simulation(deployment(strategy=strategy))
    run.finish()
    run.change(template=image("two"))
    seen = [run.sizes]
    for _ in range(12):
        run.step()
        run.report_all()
        if run.sizes != seen[-1]:
            seen.append(run.sizes)
    assert seen == [[3], [3, 1], [2, 1], [2, 2], [1, 2], [1, 3], [0, 3]]


def test_unhealthy_old_pods_go_before_healthy_ones():
    strategy = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    run = Simulation(deployment(4, strategy=strategy))
    run.finish()
    run.report(next(iter(run.sets)), 3)
    run.change(template=image("two"))
    for _ in range(3):
        run.step()
    assert run.sizes == [3, 1]


def test_scaling_in_the_middle_of_a_rollout_is_proportional():
    strategy = {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    run = Simulation(deployment(10, strategy=strategy))
    run.finish()
    run.change(template=image("two"))
    for _ in range(3):
        run.step()  # the new pods never become available
    assert run.sizes == [8, 5]
    run.change(replicas=15)
    run.step()
    assert run.sizes == [11, 7]
    assert not any(run.step() for _ in range(3))


def test_paused_scales_but_does_not_roll():
    run = Simulation(deployment())
    run.finish()
    run.change(paused=True, template=image("two"), replicas=5)
    run.finish()
    assert run.sizes == [5]
    reasons = {c["type"]: c["reason"] for c in run.deployment["status"]["conditions"]}
    assert reasons["Progressing"] == "DeploymentPaused"
    run.change(paused=False)
    run.finish()
    assert run.sizes == [0, 5]


def test_recreate_waits_for_the_last_old_pod():
    run = Simulation(deployment(strategy={"type": "Recreate"}))
    run.finish()
    run.change(template=image("two"))
    run.pods_run = True
    run.step()
    run.report_all()
    assert not run.step()
    assert run.sizes == [0]
    run.pods_run = False
    run.finish()
    assert run.sizes == [0, 3]


def test_history_keeps_the_newest_empty_sets():
    run = Simulation(deployment(revisionHistoryLimit=1))
    for name in ("one", "two", "three", "four"):
        run.change(template=image(name))
        run.finish()
    images = [s["spec"]["template"]["spec"]["containers"][0]["image"] for s in run.sets.values()]
    assert images == ["three", "four"]


def test_a_template_used_again_gets_a_new_revision_and_remembers_the_old_one():
    run = Simulation(deployment())
    for name in ("one", "two", "one"):
        run.change(template=image(name))
        run.finish()
    annotations = find_new(run.deployment, list(run.sets.values()))["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert run.sizes == [3, 0]


def test_a_stuck_rollout_is_reported_after_its_deadline_and_recovers():
    run = Simulation(deployment(progressDeadlineSeconds=60))
    run.step()
    run.step()
    run.now_s += 70
    run.step()
    progressing = {c["type"]: c for c in run.deployment["status"]["conditions"]}["Progressing"]
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    run.finish()
    progressing = {c["type"]: c for c in run.deployment["status"]["conditions"]}["Progressing"]
    assert (progressing["status"], progressing["reason"]) == ("True", "NewReplicaSetAvailable")


_portion = st.one_of(st.integers(0, 6), st.integers(0, 100).map(lambda n: f"{n}%"))


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(0, 12),
    surge=_portion,
    unavailable=_portion,
    events=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 14)), max_size=40),
)
def test_never_too_few_available_and_never_too_many_pods(replicas, surge, unavailable, events):
    strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    run = Simulation(deployment(replicas, strategy=strategy))
    run.finish()
    limits = bounds(run.deployment)
    for number, (kind, value) in enumerate(events):
        if kind == 0:
            run.change(template=image(f"v{value % 4}"))
        names = sorted(run.sets)
        # Pods become available over time, and never stop being so in this test.
        grown = names[value % len(names)]
        before = run.sets[grown].get("status", {}).get("availableReplicas", 0)
        run.report(grown, before + number % 3)
        run.step()
        assert sum(run.sizes) <= limits.total_max
        kept = sum(
            min(s["spec"]["replicas"], s.get("status", {}).get("availableReplicas", 0))
            for s in run.sets.values()
        )
        assert kept >= limits.available_min
    run.finish()
    assert sum(run.sizes) == replicas
    new = find_new(run.deployment, list(run.sets.values()))
    assert new["spec"]["replicas"] == replicas


async def test_a_deployment_becomes_available_rolls_and_rests(rolling):
    await rolling.deployment()
    await rolling.settle()
    status = (await rolling.get(DEPLOYMENTS, "web"))["status"]
    assert {c["type"]: c["reason"] for c in status["conditions"]} == {
        "Available": "MinimumReplicasAvailable",
        "Progressing": "NewReplicaSetAvailable",
    }
    assert (status["replicas"], status["availableReplicas"], status["updatedReplicas"]) == (3, 3, 3)
    assert await rolling.is_at_rest()

    change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "busybox:2"}]}}}}
    await rolling.patch(DEPLOYMENTS, "web", change)
    await rolling.settle()
    pods = await rolling.pods()
    assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["busybox:2"] * 3
    live = await rolling.get(DEPLOYMENTS, "web")
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert live["status"]["observedGeneration"] == live["metadata"]["generation"] == 2
    messages = await rolling.events("ScalingReplicaSet")
    assert any(
        text.startswith("Scaled up replica set web-") and text.endswith("from 0 to 3") for text in messages
    )
    assert await rolling.is_at_rest()


async def test_undo_brings_the_old_set_back(rolling):
    first = await rolling.deployment()
    await rolling.settle()
    change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "two"}]}}}}
    await rolling.patch(DEPLOYMENTS, "web", change)
    await rolling.settle()
    old = first["spec"]["template"]
    await rolling.patch(
        DEPLOYMENTS, "web", [{"op": "replace", "path": "/spec/template", "value": old}], type="json"
    )
    await rolling.settle()
    assert sorted(s["spec"]["replicas"] for s in await rolling.sets()) == [0, 3]
    live = await rolling.get(DEPLOYMENTS, "web")
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert len(await rolling.sets()) == 2


async def test_recreate_never_runs_two_templates_at_once(rolling):
    await rolling.deployment(strategy={"type": "Recreate"})
    await rolling.settle()
    rolling.kubelet.hold = lambda pod: bool(pod.meta.deletion_timestamp)
    change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "two"}]}}}}
    await rolling.patch(DEPLOYMENTS, "web", change)
    await rolling.settle()
    assert {pod["spec"]["containers"][0]["image"] for pod in await rolling.pods()} == {"busybox"}
    rolling.kubelet.hold = lambda pod: False
    await rolling.advance(2.0)
    assert [pod["spec"]["containers"][0]["image"] for pod in await rolling.pods()] == ["two"] * 3


async def test_a_name_that_somebody_else_took_raises_the_collision_count(rolling):
    wanted = await rolling.deployment("other", replicas=1, paused=True)  # paused makes no set
    digest = template_hash(wanted["spec"]["template"], 0)
    labels = {"app": "squatter"}
    squatter = {
        "metadata": {"name": f"other-{digest}"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {**wanted["spec"]["template"], "metadata": {"labels": labels}},
        },
    }  # fmt: skip
    await rolling.create(REPLICASETS, squatter)
    await rolling.patch(DEPLOYMENTS, "other", {"spec": {"paused": False}})
    await rolling.settle()
    status = (await rolling.get(DEPLOYMENTS, "other"))["status"]
    assert (status["collisionCount"], status["availableReplicas"]) == (1, 1)
    assert len(await rolling.list(PODS)) == 1


async def test_scaling_changes_the_one_set(rolling):
    await rolling.deployment()
    await rolling.settle()
    await rolling.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}})
    await rolling.settle()
    assert [s["spec"]["replicas"] for s in await rolling.sets()] == [5]
    await rolling.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}})
    await rolling.settle()
    assert await rolling.pods() == []
    assert await rolling.is_at_rest()


def progressing(run: Simulation) -> tuple[str, str, str]:
    """Status, reason and message of the condition."""
    found = {c["type"]: c for c in run.deployment["status"]["conditions"]}["Progressing"]
    return found["status"], found["reason"], found["message"]


def test_a_set_that_was_there_before_a_deadline_was_asked_for_is_reported_as_found():
    run = Simulation(deployment(progressDeadlineSeconds=2**31 - 1))
    run.finish()
    assert {c["type"] for c in run.deployment["status"]["conditions"]} == {"Available"}
    run.change(progressDeadlineSeconds=60)
    run.step()
    (name,) = run.sets
    assert progressing(run) == ("True", "FoundNewReplicaSet", f'Found new replica set "{name}"')
    run.finish()
    assert progressing(run)[1:] == (
        "NewReplicaSetAvailable",
        f'ReplicaSet "{name}" has successfully progressed.',
    )


def test_recreate_waits_for_pods_that_only_the_old_set_knows_of():
    run = Simulation(deployment(strategy={"type": "Recreate"}))
    run.finish()
    run.change(template=image("two"))
    run.step()  # scaled to 0, and its status still says 3
    assert not run.step()
    assert run.sizes == [0]
    run.report_all()
    run.finish()
    assert run.sizes == [0, 3]


async def test_a_set_that_the_api_refuses_is_told_once_and_made_later(rolling):
    create = rolling.client.create

    async def refuse(resource, *args, **options) -> Object:
        if resource is REPLICASETS:
            raise Forbidden("exceeded quota: sets")
        return await create(resource, *args, **options)

    rolling.client.create = refuse
    await rolling.deployment()
    await rolling.settle()
    conditions = (await rolling.get(DEPLOYMENTS, "web"))["status"]["conditions"]
    (told,) = [c for c in conditions if c["type"] == "Progressing"]
    assert (told["status"], told["reason"]) == ("False", "ReplicaSetCreateError")
    assert told["message"].startswith('Failed to create new replica set "web-')
    assert told["message"].endswith(": exceeded quota: sets")
    assert await rolling.events("ReplicaSetCreateError") == [told["message"]]
    rolling.client.create = create
    await rolling.advance(10)
    status = (await rolling.get(DEPLOYMENTS, "web"))["status"]
    assert status["availableReplicas"] == 3
    assert {c["reason"] for c in status["conditions"]} == {
        "MinimumReplicasAvailable",
        "NewReplicaSetAvailable",
    }


async def test_deployments_of_one_selector_do_not_disturb_each_other(rolling):
    for name in ("one", "two"):
        selector = {"matchLabels": {"app": "same"}}
        body = {"template": image("v1") | {"metadata": {"labels": {"app": "same"}}}, "selector": selector}
        await rolling.deployment(name, replicas=2, **body)
    await rolling.settle()
    assert [s["spec"]["replicas"] for s in await rolling.sets()] == [2, 2]
    assert len(await rolling.pods()) == 4
    assert await rolling.is_at_rest()


@pytest.mark.parametrize(
    "conditions",
    [
        [{"type": "Progressing", "status": "True"}],
        [{"type": "Progressing", "status": "False", "lastUpdateTime": None, "reason": "ReplicaSetUpdated"}],
        [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
        [{"type": "Available", "status": "True"}, {"type": "Mine", "status": "True"}],
    ],
)
def test_conditions_that_somebody_wrote_without_all_fields_do_not_stop_a_rollout(conditions):
    run = Simulation(deployment())
    run.finish()
    run.deployment = {
        **deployment(image="two"),
        "status": {**run.deployment["status"], "conditions": conditions},
    }
    run.finish()
    run.report_all()
    run.finish()
    assert progressing(run)[:2] == ("True", "NewReplicaSetAvailable")
    told = run.deployment["status"]
    run.step()
    assert run.deployment["status"] == told


def test_a_condition_without_a_time_gets_one_so_that_the_deadline_passes():
    run = Simulation(deployment())
    run.step()
    conditions = [
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "moves"}
    ]
    run.deployment = {**run.deployment, "status": {**run.deployment["status"], "conditions": conditions}}
    run.step()
    run.now_s += 500
    run.step()
    assert progressing(run)[0] == "True"
    run.now_s += 101
    run.step()
    assert progressing(run)[:2] == ("False", "ProgressDeadlineExceeded")


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 19, "\u00b2", "-5", "x", ""])
def test_annotations_that_hold_no_count_and_failures_without_a_time_do_not_stop_a_rollout(text):
    run = Simulation(deployment())
    run.finish()
    (name, made), failure = next(iter(run.sets.items())), {"type": "ReplicaFailure", "status": "True"}
    names = ("revision", "desired-replicas", "max-replicas")
    annotations = {f"deployment.kubernetes.io/{each}": text for each in names}
    run.sets[name] = {
        **made, "metadata": {**made["metadata"], "annotations": annotations}, "status": {"conditions": [failure]},
    }  # fmt: skip
    run.deployment = {**deployment(replicas=5, image="two"), "status": run.deployment["status"]}
    run.step()
    assert [c["type"] for c in run.deployment["status"]["conditions"]].count("ReplicaFailure") == 1
    for _ in range(10):
        run.report_all()
        run.finish()
    assert sorted(s["spec"]["replicas"] for s in run.sets.values()) == [0, 5]
