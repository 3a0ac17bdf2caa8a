"""Deployments, ReplicaSets and ReplicationControllers converge whatever is done to them, and then write nothing."""

from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.item import Object
from orchestrator.api.resources import DEPLOYMENTS, PODS, REPLICASETS, REPLICATIONCONTROLLERS, Resource
from orchestrator.controllers.deployment import DeploymentController
from orchestrator.controllers.replicaset import ReplicaSetController
from orchestrator.controllers.replicationcontroller import ReplicationControllerController
from orchestrator.controllers.rollout import available, bounds, size
from tests.unit.controllers.convergence import World, run, steps


def template(image: str = "v0") -> Object:
    containers = [{"name": "main", "image": image}]
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}


def owned_by(owner: Object, objects: list[Object]) -> list[Object]:
    uid = owner["metadata"]["uid"]
    return [o for o in objects if any(r["uid"] == uid for r in o["metadata"].get("ownerReferences") or ())]


class Replicas(World):
    """One ReplicaSet."""

    resource: Resource = REPLICASETS
    selector: ClassVar[Object] = {"matchLabels": {"app": "web"}}

    def controllers(self, client):
        return [
            ReplicaSetController(client, self.clock, self.recorder),
            ReplicationControllerController(client, self.clock, self.recorder),
        ]

    async def begin(self):
        spec = {"replicas": 3, "selector": self.selector, "template": template()}
        await self.cluster.create(self.resource, {"metadata": {"name": "web"}, "spec": spec})

    async def do_scale(self, replicas):
        await self.cluster.patch(self.resource, "web", {"spec": {"replicas": replicas}})

    async def do_patience(self, seconds):
        await self.cluster.patch(self.resource, "web", {"spec": {"minReadySeconds": seconds}})

    async def final(self):
        current = await self.cluster.get(self.resource, "web")
        wanted = current["spec"]["replicas"]
        pods = owned_by(current, await self.cluster.pods())
        assert [pod["status"]["phase"] for pod in pods].count("Running") == wanted
        status = current["status"]
        assert status.get("replicas") == wanted
        assert status.get("availableReplicas", 0) == status.get("readyReplicas", 0)
        assert status["observedGeneration"] == current["metadata"]["generation"]
        assert "conditions" not in status


class Controllers(Replicas):
    """One ReplicationController."""

    resource = REPLICATIONCONTROLLERS
    selector: ClassVar[Object] = {"app": "web"}


class Deployments(World):
    """Two Deployments of one selector; the script edits `web`, and `rival` must not be disturbed."""

    quiet_s = 90.0  # longer than the progress deadline

    def controllers(self, client):
        return [
            DeploymentController(client, self.clock, self.recorder),
            ReplicaSetController(client, self.clock, self.recorder),
        ]

    async def begin(self):
        spec = {
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "progressDeadlineSeconds": 60,
            "revisionHistoryLimit": 2,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
        }
        for name, replicas in (("web", 4), ("rival", 2)):
            await self.cluster.create(
                DEPLOYMENTS, {"metadata": {"name": name}, "spec": {**spec, "replicas": replicas}}
            )

    async def _edit(self, **spec):
        self.sure = self.sure and spec.keys() <= {"template", "paused"}
        await self.cluster.patch(DEPLOYMENTS, "web", {"spec": spec})

    async def do_scale(self, replicas):
        await self._edit(replicas=replicas)

    async def do_image(self, number):
        await self._edit(template=template(f"v{number}"))

    async def do_pause(self, paused):
        await self._edit(paused=paused)

    async def do_bounds(self, surge, unavailable):
        rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
        await self._edit(strategy={"type": "RollingUpdate", "rollingUpdate": rolling})

    async def do_recreate(self):
        await self._edit(strategy={"type": "Recreate", "rollingUpdate": None})

    async def do_ready_after(self, seconds):
        await self._edit(minReadySeconds=seconds)

    async def do_edit_set(self, number, patch):
        for replica_set in await self._set(number):
            await self.cluster.patch(REPLICASETS, replica_set["metadata"]["name"], patch)

    async def do_delete_set(self, number):
        for replica_set in await self._set(number):
            await self.cluster.client.delete(REPLICASETS, replica_set["metadata"]["name"], "default")

    async def _patch_pod(self, number, patch, **more):
        self.sure = False
        await super()._patch_pod(number, patch, **more)

    async def do_delete_pod(self, number):
        self.sure = False
        await super().do_delete_pod(number)

    async def do_lag(self, lags):
        self.sure = False
        await super().do_lag(lags)

    async def _set(self, number):
        self.sure = False
        sets = sorted(await self.cluster.list(REPLICASETS), key=lambda s: s["metadata"]["name"])
        return [sets[number % len(sets)]] if sets else []

    async def play(self, script):
        self.sure = False
        await super().play(script)

    async def do_settle(self):
        await super().do_settle()
        self.sure = self.client.going.is_set()

    async def observe(self, write):
        """No step of a rollout takes more pods or leaves fewer available ones than the strategy says."""
        if write.resource is not REPLICASETS or write.subresource or write.verb == "delete" or not self.sure:
            return
        name = (write.answer["metadata"].get("ownerReferences") or [{"name": ""}])[0]["name"]
        deployment = await self.cluster.get(DEPLOYMENTS, name)
        if deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            return
        limits = bounds(deployment)
        after = owned_by(deployment, await self.cluster.list(REPLICASETS))
        before = [write.before if s["metadata"]["name"] == write.name else s for s in after]
        before = [replica_set for replica_set in before if replica_set is not None]
        assert sum(map(size, after)) <= max(limits.total_max, sum(map(size, before)))
        assert sum(map(available, after)) >= min(limits.available_min, sum(map(available, before)))

    async def final(self):
        for name in ("web", "rival"):
            deployment = await self.cluster.get(DEPLOYMENTS, name)
            sets = owned_by(deployment, await self.cluster.list(REPLICASETS))
            if deployment["spec"].get("paused"):
                continue
            self._check(deployment, sets)
        await self._check_pods()

    def _check(self, deployment, sets):
        wanted = deployment["spec"]["replicas"]
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        sizes = {
            s["spec"]["template"]["spec"]["containers"][0]["image"]: s["spec"]["replicas"]
            for s in sorted(sets, key=lambda s: s["spec"]["replicas"])
        }
        assert {key: size for key, size in sizes.items() if size or key == image} == {image: wanted}
        assert sum(s["spec"]["replicas"] for s in sets) == wanted
        assert sum(not s["spec"]["replicas"] for s in sets) <= 3
        status = deployment["status"]
        assert status["observedGeneration"] == deployment["metadata"]["generation"]
        counted = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        assert [status.get(name, 0) for name in counted] == [wanted] * 4
        reasons = {c["type"]: c["reason"] for c in status["conditions"]}
        assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}
        revisions = [int(s["metadata"]["annotations"]["deployment.kubernetes.io/revision"]) for s in sets]
        assert len(set(revisions)) == len(sets)
        assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == str(
            max(revisions)
        )

    async def _check_pods(self):
        """Every set has exactly its pods; nothing but sets owns any."""
        pods = [pod for pod in await self.cluster.list(PODS) if pod["status"]["phase"] == "Running"]
        for replica_set in await self.cluster.list(REPLICASETS):
            assert len(owned_by(replica_set, pods)) == replica_set["spec"]["replicas"]


_few = st.integers(0, 5)
_set_edits = st.sampled_from(
    [
        {"spec": {"replicas": 0}},
        {"spec": {"replicas": 6}},
        {"spec": {"template": {"metadata": {"annotations": {"edited": "yes"}}}}},
        {"metadata": {"ownerReferences": None}},
        {"metadata": {"annotations": {"deployment.kubernetes.io/desired-replicas": "9"}}},
        {"metadata": {"annotations": {"deployment.kubernetes.io/max-replicas": "x"}}},
        {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "7"}}},
    ]
)
_deployment_steps = (
    st.tuples(st.just("scale"), _few),
    st.tuples(st.just("image"), st.integers(0, 2)),
    st.tuples(st.just("image"), st.integers(0, 2)),
    st.tuples(st.just("pause"), st.booleans()),
    st.tuples(st.just("bounds"), st.sampled_from([0, 1, 3, "50%"]), st.sampled_from([1, 2, "25%", "100%"])),
    st.tuples(st.just("recreate")),
    st.tuples(st.just("ready_after"), st.sampled_from([0, 5])),
    st.tuples(st.just("edit_set"), _few, _set_edits),
    st.tuples(st.just("delete_set"), _few),
)


@settings(max_examples=6)
@given(steps(st.tuples(st.just("scale"), _few), st.tuples(st.just("patience"), st.integers(0, 9))))
def test_a_replica_set_has_its_pods_in_the_end(script):
    run(Replicas, script)


@settings(max_examples=6)
@given(steps(st.tuples(st.just("scale"), _few)))
def test_a_replication_controller_has_its_pods_in_the_end(script):
    run(Controllers, script)


@settings(max_examples=15)
@given(steps(*_deployment_steps, max_size=14))
def test_a_deployment_is_complete_in_the_end(script):
    run(Deployments, script)
