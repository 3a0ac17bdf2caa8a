"""A node runs the pods of its own files, and shows them in the API."""

import json
from functools import partial

import pytest

from orchestrator.agent.agent import Agent
from orchestrator.agent.static.pods import StaticSettings
from orchestrator.agent.static.source import MIRROR
from orchestrator.api.errors import ServiceUnavailable
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import PODS
from orchestrator.assembly.staticpods import static_pod
from tests.unit.agent.conftest import container, schemas


class Away:
    """A client of an API that does not answer for pods while `away`."""

    def __init__(self, client):
        self._client = client
        self.away = False

    def __getattr__(self, name):
        def call(resource, *arguments, **more):
            if self.away and resource is PODS:
                raise ServiceUnavailable("away")
            return getattr(self._client, name)(resource, *arguments, **more)

        return call


class Node:
    """The directory of one node, and what of it runs."""

    def __init__(self, world, directory):
        self.world, self.directory = world, directory
        self.client = Away(world.node_client)
        directory.mkdir()

    async def start(self) -> Agent:
        agent = await self.world.built(client=self.client)
        settings = StaticSettings(self.directory, partial(static_pod, schemas()))
        agent._settings = type(agent._settings)(**{
            **{name: getattr(agent._settings, name) for name in agent._settings.__slots__}, "static": settings,
        })  # fmt: skip
        await agent.start()
        self.agent = agent
        return agent

    def write(self, name="a.yaml", pod="web", **more):
        spec = {"containers": [container("app")], "terminationGracePeriodSeconds": 5, **more}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec}
        (self.directory / name).write_text(json.dumps(body))

    def running(self):
        """Of each running container the uid of its pod."""
        facts = (record.facts for record in self.world.runtime._containers.values())
        return [found.pod_uid for found in facts if found.state == "running"]

    async def mirror(self, name="web-n1"):
        return await self.world.pod(name)

    async def shown(self, name="web-n1"):
        return not await self.world.gone(name) and await self.world.ready(name)


@pytest.fixture
async def node(world, tmp_path):
    return Node(world, tmp_path / "manifests")


async def test_a_file_becomes_a_pod_with_a_mirror_and_goes_with_it(world, node):
    node.write()
    await node.start()
    await world.pass_until(node.shown)
    mirror, (uid,) = await node.mirror(), node.running()
    assert mirror["metadata"]["annotations"][MIRROR] == uid != mirror["metadata"]["uid"]
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert mirror["status"]["podIP"] and mirror["status"]["containerStatuses"][0]["ready"]
    (node.directory / "a.yaml").unlink()
    await world.pass_until(lambda: world.gone("web-n1"))
    await world.pass_until(world.empty)


async def test_a_mirror_that_is_deleted_comes_back_and_the_pod_runs_on(world, node):
    node.write()
    await node.start()
    await world.pass_until(node.shown)
    before, containers = await node.mirror(), node.running()
    for options in (DeleteOptions(), DeleteOptions(grace_period_s=0)):
        await world.admin.delete(PODS, "web-n1", "default", options)

        async def anew(uid=before["metadata"]["uid"]):
            return await node.shown() and (await node.mirror())["metadata"]["uid"] != uid

        await world.pass_until(anew)
        before = await node.mirror()
        assert "deletionTimestamp" not in before["metadata"]
    assert node.running() == containers


async def test_a_changed_file_is_another_pod_that_waits_for_the_first(world, node):
    node.write(hostNetwork=True, containers=[container("app", ports=[{"containerPort": 80, "hostPort": 80}])])
    await node.start()
    await world.pass_until(node.shown)
    (first,) = node.running()
    changed = container(
        "app", ports=[{"containerPort": 80, "hostPort": 80}], env=[{"name": "A", "value": "1"}]
    )
    node.write(hostNetwork=True, containers=[changed])

    async def replaced():
        now = node.running()
        assert len(now) <= 1
        return bool(now) and first not in now and await node.shown()

    await world.pass_until(replaced, step_s=0.5)
    assert (await node.mirror())["metadata"]["annotations"][MIRROR] == node.running()[0]


async def test_bad_files_and_second_ones_of_a_name_are_passed_over(world, node):
    node.write("a.yaml")
    node.write("b.yaml", dnsPolicy="Default")
    (node.directory / "c.yaml").write_text("kind: [")
    node.write("d.yaml", "other")
    await node.start()
    await world.pass_until(lambda: node.shown("other-n1"))
    assert len(node.running()) == 2
    node.write("c.yaml", "third")
    await world.pass_until(lambda: node.shown("third-n1"))


async def test_without_the_api_pods_start_and_are_shown_later(world, node):
    await node.start()
    node.client.away = True
    node.write()
    await world.pass_until(lambda: len(node.running()) == 1)
    assert await world.gone("web-n1")
    node.client.away = False
    await world.pass_until(node.shown)


async def test_a_restart_adopts_the_pod_and_its_mirror(world, node):
    node.write()
    await (await node.start()).stop()
    await node.start()
    await world.pass_until(node.shown)
    before, running = await node.mirror(), node.running()
    await node.agent.stop()
    await node.start()
    await world.pass_until(node.shown)
    after = await node.mirror()
    assert (after["metadata"]["uid"], after["status"]["startTime"]) == (
        before["metadata"]["uid"], before["status"]["startTime"],
    )  # fmt: skip
    assert node.running() == running


async def test_a_mirror_of_nothing_goes(world, node):
    await node.start()
    metadata = {"name": "lost", "annotations": {MIRROR: "x"}}
    spec = {"nodeName": "n1", "containers": [container("app")]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    await world.admin.create(PODS, body, "default")
    await world.pass_until(lambda: world.gone("lost"))
    assert node.running() == []
