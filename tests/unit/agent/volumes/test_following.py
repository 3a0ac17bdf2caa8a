"""Written volumes of a pod that runs follow the cluster by themselves: the whole agent, a clock that stands still."""

from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS, PODS
from tests.unit.agent.conftest import World, container

MOUNTS = [{"name": "v", "mountPath": "/v"}]


def config(value: str) -> Object:
    metadata = {"name": "settings", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": value}}


def volume(**source: Object) -> list[Object]:
    return [{"name": "v", **source}]


def shown(world: World, pod: Object, name: str) -> str:
    path = world.directory / "agent" / "pods" / pod["metadata"]["uid"] / "volumes" / "v" / name
    return path.read_text() if path.exists() else ""


async def test_a_pod_starts_when_what_it_waits_for_comes_and_sees_its_changes(world: World) -> None:
    await world.agent(simulated=False)
    pod = await world.create(
        "web", container("app", volumeMounts=MOUNTS), volumes=volume(configMap={"name": "settings"})
    )
    why = (
        "Warning",
        "FailedMount",
        'MountVolume.SetUp failed for volume "v" : configmap "settings" not found',
    )
    await world.until(lambda: why in world.notes.written, "the missing config map is told of")
    await world.calm()
    await world.admin.create(CONFIGMAPS, config("1"), "default")
    await world.until(lambda: world.ready("web"), "the pod is ready")
    assert shown(world, pod, "k") == "1"
    await world.admin.update(CONFIGMAPS, config("2"))
    await world.until(lambda: shown(world, pod, "k") == "2", "the change is there")


async def test_a_pod_that_has_ended_keeps_its_last_words_and_no_volume(world: World) -> None:
    await world.agent(simulated=False)
    done = container("app", "true", volumeMounts=MOUNTS)
    pod = await world.create("job", done, volumes=volume(emptyDir={}), restartPolicy="Never")

    async def succeeded() -> bool:
        return (await world.status("job")).get("phase") == "Succeeded"

    await world.pass_until(succeeded)
    await world.pass_until(lambda: kept(world, pod) == ["containers", "hosts", "resolv.conf"])


def kept(world: World, pod: Object) -> list[str]:
    directory = world.directory / "agent" / "pods" / pod["metadata"]["uid"]
    return sorted(entry.name for entry in directory.iterdir())


async def test_labels_that_change_are_seen_by_the_pod(world: World) -> None:
    await world.agent(simulated=False)
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    pod = await world.create(
        "web", container("app", volumeMounts=MOUNTS), volumes=volume(downwardAPI={"items": items})
    )
    await world.until(lambda: world.ready("web"), "the pod is ready")
    await world.admin.patch(PODS, "web", "default", {"metadata": {"labels": {"a": "b"}}})
    await world.until(lambda: shown(world, pod, "labels") == 'a="b"', "the label is there")


async def test_a_part_that_can_not_be_named_holds_the_container_and_not_the_pod(world: World) -> None:
    await world.agent(simulated=False)
    mounts = [{**MOUNTS[0], "subPathExpr": "$(NONE)"}]
    await world.create("web", container("app", volumeMounts=mounts), volumes=volume(emptyDir={}))

    async def held() -> bool:
        waiting = (await world.state("web")).get("state", {}).get("waiting", {})
        return waiting == {"reason": "CreateContainerConfigError", "message": "missing value for NONE"}

    await world.until(held, "the container says why it waits")
