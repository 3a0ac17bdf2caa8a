"""Deployments and ReplicaSets converge whatever is done to them, and then write nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.resources import PODS, REPLICASETS
from orchestrator.controllers.replicaset import ReplicaSetController
from tests.unit.controllers.convergence import World, run, steps


class Sets(World):
    """One ReplicaSet."""

    def controllers(self, client):
        return [ReplicaSetController(client, self.clock, self.recorder)]

    async def begin(self):
        labels = {"app": "rs"}
        pod = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "busybox"}]},
        }
        spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": pod}
        await self.cluster.create(REPLICASETS, {"metadata": {"name": "rs"}, "spec": spec})

    async def do_scale(self, replicas):
        await self.cluster.patch(REPLICASETS, "rs", {"spec": {"replicas": replicas}})

    async def final(self):
        current = await self.cluster.get(REPLICASETS, "rs")
        wanted = current["spec"]["replicas"]
        owned = [
            pod
            for pod in await self.cluster.list(PODS)
            if (pod["metadata"].get("ownerReferences") or [{}])[0].get("uid") == current["metadata"]["uid"]
            and pod["status"]["phase"] == "Running"
        ]
        assert len(owned) == wanted
        assert current["status"].get("replicas") == wanted
        assert current["status"]["observedGeneration"] == current["metadata"]["generation"]


@settings(max_examples=15)
@given(steps(st.tuples(st.just("scale"), st.integers(0, 6))))
def test_a_replica_set_has_its_pods_in_the_end(script):
    run(Sets, script)
