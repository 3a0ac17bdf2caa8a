import pytest

from orchestrator.api.item import Object
from orchestrator.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from orchestrator.controllers.deployment import DeploymentController
from orchestrator.controllers.replicaset import ReplicaSetController
from orchestrator.controllers.rollback import COMPLETED, FAILED, ROLLBACK, ROLLED_BACK

BAD = ("broken", "worse")


@pytest.fixture
async def rolling(cluster):
    """A cluster that runs Deployments; pods of some images never run."""
    controllers = (DeploymentController, ReplicaSetController)
    await cluster.start(*(make(cluster.client, cluster.clock, cluster.recorder) for make in controllers))
    broken.clear()
    broken.update(BAD)
    cluster.kubelet.hold = lambda pod: (
        not pod.meta.deletion_timestamp and pod.object["spec"]["containers"][0]["image"] in broken
    )
    return cluster


broken: set[str] = set()


async def deployed(cluster, **annotations: str) -> None:
    body = {
        "metadata": {"name": "web", "annotations": {ROLLBACK: "on-deadline", **annotations}},
        "spec": {
            "replicas": 3,
            "progressDeadlineSeconds": 60,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("good"),
        },
    }
    await cluster.create(DEPLOYMENTS, body)
    await cluster.settle()


def template(image: str) -> Object:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }


async def roll(cluster, image: str) -> None:
    await cluster.patch(DEPLOYMENTS, "web", {"spec": {"template": template(image)}})
    await cluster.settle()


async def live(cluster) -> tuple[str, dict[str, Object]]:
    """The image that the Deployment asks for, and its conditions."""
    current = await cluster.get(DEPLOYMENTS, "web")
    conditions = {c["type"]: c for c in current["status"]["conditions"]}
    return current["spec"]["template"]["spec"]["containers"][0]["image"], conditions


async def test_a_stuck_rollout_returns_to_the_last_complete_revision_and_rests(rolling):
    await deployed(rolling)
    await roll(rolling, "better")
    await roll(rolling, "broken")
    await rolling.advance(80, step_s=20)
    image, conditions = await live(rolling)
    assert image == "better"
    assert conditions["Progressing"]["reason"] == "NewReplicaSetAvailable"
    told = conditions[ROLLED_BACK]
    assert (told["status"], told["reason"]) == ("True", "ProgressDeadlineExceeded")
    assert told["message"].startswith('Revision 3 (ReplicaSet "web-')
    assert await rolling.events("DeploymentRollback") == ['Rolled back deployment "web" to revision 2']
    assert {pod["spec"]["containers"][0]["image"] for pod in await rolling.pods()} == {"better"}
    assert await rolling.is_at_rest(300)
    await roll(rolling, "best")
    assert ROLLED_BACK not in (await live(rolling))[1]


async def test_without_the_annotation_or_paused_nothing_is_undone(rolling):
    await deployed(rolling)
    await rolling.patch(DEPLOYMENTS, "web", {"metadata": {"annotations": {ROLLBACK: None}}})
    await roll(rolling, "broken")
    await rolling.advance(80, step_s=20)
    image, conditions = await live(rolling)
    assert (image, conditions["Progressing"]["reason"]) == ("broken", "ProgressDeadlineExceeded")
    assert await rolling.is_at_rest()
    paused = {"metadata": {"annotations": {ROLLBACK: "on-deadline"}}, "spec": {"paused": True}}
    await rolling.patch(DEPLOYMENTS, "web", paused)
    await rolling.settle()
    assert (await live(rolling))[0] == "broken"


async def test_a_first_revision_that_is_bad_has_nothing_to_return_to(rolling):
    broken.add("good")
    await deployed(rolling)
    await rolling.advance(80, step_s=20)
    image, conditions = await live(rolling)
    assert image == "good"
    assert (conditions[ROLLED_BACK]["status"], conditions[ROLLED_BACK]["reason"]) == (
        "False",
        "NoCompleteRevision",
    )


async def test_two_bad_revisions_in_turn_both_lead_back_to_the_good_one(rolling):
    await deployed(rolling)
    for image in BAD:
        await roll(rolling, image)
        await rolling.advance(80, step_s=20)
        assert (await live(rolling))[0] == "good"
    assert await rolling.is_at_rest(300)
    assert len(await rolling.events("DeploymentRollback")) == 2


async def test_a_revision_that_was_good_and_breaks_is_left_for_the_one_before_and_never_tried_again(rolling):
    await deployed(rolling)
    await roll(rolling, "better")
    broken.update(("better", "good"))
    await roll(rolling, "broken")
    await rolling.client.delete_collection(PODS, "default")
    await rolling.advance(600, step_s=50)
    image, conditions = await live(rolling)
    assert image == "good"
    assert conditions["Progressing"]["reason"] == "ProgressDeadlineExceeded"
    marks = {
        s["spec"]["template"]["spec"]["containers"][0]["image"]: {COMPLETED, FAILED}
        & s["metadata"]["annotations"].keys()
        for s in await rolling.list(REPLICASETS)
    }
    assert marks == {"good": {COMPLETED}, "better": {COMPLETED, FAILED}, "broken": {FAILED}}
    assert len(await rolling.events("DeploymentRollback")) == 2
    assert await rolling.is_at_rest(300)


async def test_a_bad_template_that_is_asked_for_again_gets_another_try_and_is_left_again(rolling):
    await deployed(rolling)
    for _ in range(2):
        await roll(rolling, "broken")
        assert (await live(rolling))[0] == "broken"
        await rolling.advance(80, step_s=20)
        assert (await live(rolling))[0] == "good"
    broken.discard("broken")
    await roll(rolling, "broken")
    await rolling.advance(80, step_s=20)
    assert (await live(rolling))[0] == "broken"
