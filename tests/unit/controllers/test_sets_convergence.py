"""StatefulSets and DaemonSets converge whatever is done to them, and then write nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.resources import (
    CONTROLLERREVISIONS,
    DAEMONSETS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    STATEFULSETS,
)
from orchestrator.controllers.daemonnodes import Placement, node_facts
from orchestrator.controllers.daemonset import DaemonSetController
from orchestrator.controllers.revisions import HASH_LABEL
from orchestrator.controllers.statefulset import StatefulSetController
from tests.unit.controllers.convergence import World, run, steps

LABELS = {"app": "web"}
CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def template(image: str) -> dict:
    return {
        "metadata": {"labels": LABELS},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }


def owned(objects: list[dict], owner: dict) -> list[dict]:
    return [
        obj
        for obj in objects
        if any(ref["uid"] == owner["metadata"]["uid"] for ref in obj["metadata"].get("ownerReferences") or ())
    ]


def ready(pod: dict) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


class StatefulSets(World):
    """One StatefulSet with claims; a place never has two pods, for names are unique."""

    management = "OrderedReady"

    def controllers(self, client):
        return [StatefulSetController(client, self.clock, self.recorder)]

    async def begin(self):
        spec = {
            "replicas": 3,
            "serviceName": "svc",
            "podManagementPolicy": self.management,
            "selector": {"matchLabels": LABELS},
            "template": template("v1"),
            "volumeClaimTemplates": [CLAIM],
            "revisionHistoryLimit": 1,
        }
        await self.cluster.create(STATEFULSETS, {"metadata": {"name": "web"}, "spec": spec})

    async def do_spec(self, spec):
        await self.cluster.patch(STATEFULSETS, "web", {"spec": spec}, type="strategic")

    async def do_image(self, image):
        await self.do_spec(template_patch(image))

    async def do_drop_revision(self, number):
        revisions = await self.cluster.list(CONTROLLERREVISIONS)
        for revision in revisions[number % max(len(revisions), 1) :][:1]:
            await self.cluster.client.delete(CONTROLLERREVISIONS, revision["metadata"]["name"], "default")

    async def final(self):
        current = await self.cluster.get(STATEFULSETS, "web")
        spec, status = current["spec"], current["status"]
        start = (spec.get("ordinals") or {}).get("start", 0)
        names = [f"web-{start + index}" for index in range(spec["replicas"])]
        everybody = await self.cluster.list(PODS)
        mine = {pod["metadata"]["name"]: pod for pod in owned(everybody, current)}
        strange = {pod["metadata"]["name"] for pod in everybody} - mine.keys()
        # Somebody else's pod on a place, or one that never becomes ready, halts the rest by design.
        sick = [pod for pod in mine.values() if not ready(pod)]
        if strange.isdisjoint(names) and (not sick or self.management == "Parallel"):
            assert sorted(mine) == sorted(names)
            if not sick:
                self._settled(current, names, mine)
        claims = {claim["metadata"]["name"] for claim in await self.cluster.list(PERSISTENTVOLUMECLAIMS)}
        assert {f"data-{name}" for name in mine} <= claims
        assert status["observedGeneration"] == current["metadata"]["generation"]
        live = {status["currentRevision"], status["updateRevision"]}
        revisions = {
            r["metadata"]["name"] for r in owned(await self.cluster.list(CONTROLLERREVISIONS), current)
        }
        assert status["updateRevision"] in revisions
        assert len(revisions - live) <= 1 + len(
            {pod["metadata"]["labels"][HASH_LABEL] for pod in mine.values()}
        )

    def _settled(self, current, names, mine):
        status, update = current["status"], current["spec"]["updateStrategy"]
        assert status["replicas"] == status.get("availableReplicas", 0) == len(names)
        if update["type"] == "OnDelete":
            return
        partition = update["rollingUpdate"]["partition"]
        assert all(
            mine[n]["metadata"]["labels"][HASH_LABEL] == status["updateRevision"] for n in names[partition:]
        )
        if not partition:
            assert status["currentRevision"] == status["updateRevision"]


class ParallelSets(StatefulSets):
    management = "Parallel"


class DaemonSets(World):
    """One DaemonSet on three nodes that are tainted and labelled back and forth."""

    def controllers(self, client):
        return [DaemonSetController(client, self.clock, self.recorder)]

    async def begin(self):
        for name in ("n1", "n2", "n3"):
            await self.cluster.node(name)
        spec = {"selector": {"matchLabels": LABELS}, "template": template("v1"), "revisionHistoryLimit": 1}
        await self.cluster.create(DAEMONSETS, {"metadata": {"name": "agent"}, "spec": spec})

    async def do_spec(self, spec):
        await self.cluster.patch(DAEMONSETS, "agent", {"spec": spec}, type="strategic")

    async def do_image(self, image):
        await self.do_spec(template_patch(image))

    async def do_taint(self, number, effect):
        taints = [{"key": "k", "value": "v", "effect": effect}] if effect else None
        await self.cluster.client.patch(NODES, f"n{number}", "", {"spec": {"taints": taints}})

    async def do_label(self, number, value):
        await self.cluster.client.patch(NODES, f"n{number}", "", {"metadata": {"labels": {"zone": value}}})

    async def do_add_node(self, number):
        await self.cluster.node(f"n{number}")

    async def do_drop_revision(self, number):
        revisions = await self.cluster.list(CONTROLLERREVISIONS)
        for revision in revisions[number % max(len(revisions), 1) :][:1]:
            await self.cluster.client.delete(CONTROLLERREVISIONS, revision["metadata"]["name"], "default")

    async def do_copy_revision(self, number):
        """A second revision of one template, as somebody may make one by hand."""
        revisions = await self.cluster.list(CONTROLLERREVISIONS)
        for old in revisions[number % max(len(revisions), 1) :][:1]:
            meta = {key: old["metadata"][key] for key in ("labels", "ownerReferences")}
            copy = {**old, "metadata": {**meta, "generateName": "copy-"}, "revision": old["revision"] + 1}
            await self.cluster.create(CONTROLLERREVISIONS, copy)

    async def final(self):
        current = await self.cluster.get(DAEMONSETS, "agent")
        placement = Placement(current["spec"]["template"])
        fits = {
            node.meta.name: placement.ask(node_facts(node))
            for node in (await self.cluster.client.list(NODES)).items
        }
        mine = [
            pod for pod in owned(await self.cluster.pods(), current) if pod["status"]["phase"] != "Failed"
        ]
        nodes = [pod["spec"]["nodeName"] for pod in mine]
        assert {node for node, fit in fits.items() if fit.run} <= set(nodes)
        assert all(fits[node].stay for node in nodes)
        status, kind = current["status"], current["spec"]["updateStrategy"]["type"]
        assert status["desiredNumberScheduled"] == status["currentNumberScheduled"]
        assert status["desiredNumberScheduled"] == sum(fit.run for fit in fits.values())
        assert status["observedGeneration"] == current["metadata"]["generation"]
        if kind == "RollingUpdate" and all(map(ready, mine)):
            assert len(set(nodes)) == len(nodes)
            assert status.get("updatedNumberScheduled", 0) == status["desiredNumberScheduled"]
            assert status.get("numberAvailable", 0) == status["desiredNumberScheduled"]


def template_patch(image: str) -> dict:
    return {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}


rolling = st.builds(
    lambda partition, unavailable: {
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"partition": partition, "maxUnavailable": unavailable},
        }
    },
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([1, 2, "50%"]),
)
spec = st.one_of(
    st.builds(lambda replicas: {"replicas": replicas}, st.integers(0, 4)),
    st.builds(lambda start: {"ordinals": {"start": start}}, st.integers(0, 2)),
    st.builds(lambda seconds: {"minReadySeconds": seconds}, st.sampled_from([0, 10])),
    st.just({"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}),
    rolling,
)
own = (
    st.tuples(st.just("spec"), spec),
    st.tuples(st.just("image"), st.sampled_from(["v1", "v2", "v3"])),
    st.tuples(st.just("drop_revision"), st.integers(0, 3)),
)


@pytest.mark.parametrize("world", [StatefulSets, ParallelSets])
@settings(max_examples=3, deadline=None)
@given(script=steps(*own))
def test_a_stateful_set_has_each_of_its_pods_in_the_end(world, script):
    run(world, script)


daemon_spec = st.one_of(
    st.builds(
        lambda unavailable: {
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": 0}}
        },
        st.sampled_from([1, 2, "50%"]),
    ),
    st.just({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}),
    st.just({"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}),
    st.builds(lambda seconds: {"minReadySeconds": seconds}, st.sampled_from([0, 10])),
    st.builds(
        lambda selector: {"template": {"spec": {"nodeSelector": selector}}},
        st.sampled_from([{"zone": "a"}, None]),
    ),
)
daemon_steps = (
    st.tuples(st.just("spec"), daemon_spec),
    st.tuples(st.just("image"), st.sampled_from(["v1", "v2", "v3"])),
    st.tuples(st.sampled_from(["drop_revision", "copy_revision"]), st.integers(0, 3)),
    st.tuples(
        st.just("taint"),
        st.integers(1, 3),
        st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule", ""]),
    ),
    st.tuples(st.just("label"), st.integers(1, 3), st.sampled_from(["a", "b"])),
    st.tuples(st.just("add_node"), st.integers(4, 5)),
)


@settings(max_examples=3, deadline=None)
@given(script=steps(*daemon_steps))
def test_a_daemon_set_has_a_pod_on_each_node_that_fits_in_the_end(script):
    run(DaemonSets, script)
