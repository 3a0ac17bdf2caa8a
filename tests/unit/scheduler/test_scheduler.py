"""The loop on a real store: placements, failures, retries. Time stands still unless a test moves it."""

import asyncio
import random
from functools import cache

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import component
from orchestrator.api.errors import InternalError, NotFound
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import (
    EVENTS,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    STORAGECLASSES,
    ResourceTable,
)
from orchestrator.api.schema import Schemas
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.local import LocalClient
from orchestrator.informer.cache import Informers
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.scheduler.scheduler import Scheduler
from orchestrator.store.engine import LogStore

schemas = cache(Schemas.load)


class AllowAll:
    async def authorize(self, identity, attributes):
        return None


class World:
    """A scheduler over a registry."""

    def __init__(self, store, registry, clock, supervisor):
        self.store, self.clock = store, clock
        self.client = LocalClient(registry, AllowAll(), component("kube-scheduler"))
        self.informers = Informers(self.client, supervisor, clock, resync_s=0)
        recorder = EventRecorder(self.client, "default-scheduler", "", clock)
        self.scheduler = Scheduler(self.client, self.informers, clock, recorder, random.Random(3))
        supervisor.serve("events", recorder.run)
        supervisor.serve("scheduler", self.scheduler.run)
        self.informers.start()

    async def settle(self):
        revision, quiet = -1, 0
        async with asyncio.timeout(20):
            while quiet < 4:
                for _ in range(40):
                    await asyncio.sleep(0)
                await self.store.lease_grant(3600)  # durable after every write before it
                quiet = quiet + 1 if self.store.revision == revision else 0
                revision = self.store.revision

    async def node(self, name, cpu="4", **spec):
        amounts = {"cpu": cpu, "memory": "8Gi", "pods": "110"}
        body = {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec,
            "status": {"allocatable": amounts, "capacity": amounts},
        }  # fmt: skip
        await self.client.create(NODES, body)
        await self.client.patch(NODES, name, "", {"status": body["status"]}, subresource="status")
        await self.settle()

    async def pod(self, name, cpu="100m", labels=None, **spec):
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
        body = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}},
            "spec": {"containers": [container], **spec},
        }  # fmt: skip
        await self.client.create(PODS, body, "default")

    async def get(self, name):
        await self.settle()
        return await self.client.get(PODS, name, "default")

    async def place(self, name):
        return (await self.get(name))["spec"].get("nodeName")

    async def messages(self, reason):
        items = (await self.client.list(EVENTS, None)).items
        return [item.object["message"] for item in items if item.object["reason"] == reason]


@pytest.fixture
async def world(tmp_path):
    clock = VirtualClock()
    supervisor = Supervisor("test", clock)
    store = await LogStore.open(tmp_path / "store", clock, supervisor)
    rng = random.Random(7)
    strategies = built_in("10.43.0.0/16", range(30000, 30010), clock, rng)
    registry = Registry(store, ResourceTable(), schemas(), strategies, AdmissionChain(), clock, rng)
    made = World(store, registry, clock, supervisor)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    await made.client.create(NAMESPACES, namespace)
    yield made
    await supervisor.stop()
    await registry.close()
    await store.close()


async def test_a_pod_is_bound_and_told_so(world):
    await world.node("n1")
    await world.pod("a")
    pod = await world.get("a")
    assert pod["spec"]["nodeName"] == "n1"
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["PodScheduled"] == "True"
    assert await world.messages("Scheduled") == ["Successfully assigned default/a to n1"]


async def test_a_burst_never_overcommits_a_node(world):
    for name in ("n1", "n2", "n3"):
        await world.node(name, cpu="2")
    await asyncio.gather(*(world.pod(f"p{number}", cpu="500m") for number in range(20)))
    await world.settle()
    places = [
        item.object["spec"].get("nodeName") for item in (await world.client.list(PODS, "default")).items
    ]
    assert sorted(places, key=str) == [None] * 8 + ["n1"] * 4 + ["n2"] * 4 + ["n3"] * 4


async def test_a_pod_that_fits_nowhere_says_why_and_waits_for_room(world):
    await world.node("n1", cpu="1")
    await world.pod("a", cpu="900m")
    assert await world.place("a") == "n1"
    await world.pod("b", cpu="900m")
    message = (
        "0/1 nodes are available: 1 Insufficient cpu. "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    conditions = (await world.get("b"))["status"]["conditions"]
    found = next(c for c in conditions if c["type"] == "PodScheduled")
    assert (found["status"], found["reason"], found["message"]) == ("False", "Unschedulable", message)
    assert await world.messages("FailedScheduling") == [message]
    await world.client.delete(PODS, "a", "default", DeleteOptions(grace_period_s=0))
    await world.settle()
    await world.clock.advance(1.0)
    assert await world.place("b") == "n1"


async def test_waiting_pods_cause_no_writes(world):
    await world.node("n1", cpu="1")
    await world.pod("b", cpu="9")
    await world.settle()
    revision = world.store.revision
    await world.clock.advance(200.0)
    await world.settle()
    assert world.store.revision == revision


async def test_a_failed_binding_frees_the_room_and_is_tried_again(world):
    await world.node("n1", cpu="1")
    bind, failures = world.client.bind_many, []

    async def refuse(bindings):
        if not failures:
            failures.append(bindings)
            raise InternalError("no")
        return await bind(bindings)

    world.client.bind_many = refuse
    await world.pod("a", cpu="900m")
    assert await world.place("a") is None
    assert not world.scheduler.columns.placed
    await world.clock.advance(1.0)
    assert await world.place("a") == "n1"


async def test_a_new_node_takes_what_waited(world):
    await world.pod("a")
    assert await world.place("a") is None
    await world.clock.advance(2.0)
    await world.node("n1")
    assert await world.place("a") == "n1"


async def test_pods_of_other_schedulers_count_but_are_left_alone(world):
    await world.node("n1", cpu="1")
    await world.pod("other", cpu="900m", schedulerName="mine")
    assert await world.place("other") is None
    target = {"metadata": {"name": "other"}, "target": {"kind": "Node", "name": "n1"}}
    await world.client.create(PODS, target, "default", subresource="binding", name="other")
    await world.settle()
    await world.pod("a", cpu="900m")
    assert await world.place("a") is None


async def test_gated_pods_wait_for_their_gates(world):
    await world.node("n1")
    await world.pod("a", schedulingGates=[{"name": "example.com/gate"}])
    assert await world.place("a") is None
    await world.client.patch(PODS, "a", "default", {"spec": {"schedulingGates": None}})
    assert await world.place("a") == "n1"


async def test_finished_pods_free_their_room(world):
    await world.node("n1", cpu="1")
    await world.pod("a", cpu="900m")
    await world.settle()
    await world.client.patch(PODS, "a", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    await world.pod("b", cpu="900m")
    await world.settle()
    await world.clock.advance(1.0)
    assert await world.place("b") == "n1"


# ── preemption ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_more_urgent_pod_takes_the_place_of_another(world):
    await world.node("n1", cpu="1")
    await world.pod("low", cpu="900m", terminationGracePeriodSeconds=30)
    assert await world.place("low") == "n1"
    await world.pod("high", cpu="900m", priority=10)
    high = await world.get("high")
    assert high["status"]["nominatedNodeName"] == "n1"
    low = await world.get("low")
    assert low["metadata"]["deletionTimestamp"]
    condition = next(c for c in low["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "PreemptionByScheduler")
    assert await world.messages("Preempted") == [f"Preempted by pod {high['metadata']['uid']} on node n1"]
    await world.client.delete(PODS, "low", "default", DeleteOptions(grace_period_s=0))
    await world.settle()
    await world.clock.advance(1.0)
    high = await world.get("high")
    assert high["spec"]["nodeName"] == "n1"
    assert "nominatedNodeName" not in high["status"]


async def test_nobody_else_takes_the_room_that_was_made(world):
    await world.node("n1", cpu="1")
    await world.pod("low", cpu="900m", terminationGracePeriodSeconds=30)
    await world.settle()
    await world.pod("high", cpu="900m", priority=10)
    await world.settle()
    await world.pod("thief", cpu="900m")
    await world.client.delete(PODS, "low", "default", DeleteOptions(grace_period_s=0))
    await world.settle()
    await world.clock.advance(1.0)
    assert await world.place("high") == "n1"
    assert await world.place("thief") is None


async def test_a_nomination_that_came_to_nothing_holds_no_room(world):
    await world.node("n1", cpu="1")
    await world.pod("low", cpu="900m", terminationGracePeriodSeconds=30)
    await world.settle()
    await world.pod("high", cpu="900m", priority=10)
    assert (await world.get("high"))["status"]["nominatedNodeName"] == "n1"
    target = {"metadata": {"name": "rude"}, "target": {"kind": "Node", "name": "n1"}}
    await world.pod("rude", cpu="900m", priority=10, schedulerName="other")
    await world.client.create(PODS, target, "default", subresource="binding", name="rude")
    await world.client.delete(PODS, "low", "default", DeleteOptions(grace_period_s=0))
    await world.settle()
    await world.clock.advance(20.0)
    assert "nominatedNodeName" not in (await world.get("high"))["status"]
    assert [pod.name for _, pod in world.scheduler.columns.placed.values()] == ["rude"]
    assert not world.scheduler.nominated


async def test_a_nomination_survives_while_victims_end_also_for_a_scheduler_that_comes_later(world):
    await world.node("n1", cpu="2")
    for name in ("low", "lower"):
        await world.pod(name, cpu="900m", terminationGracePeriodSeconds=30)
    await world.settle()
    await world.pod("high", cpu="900m", priority=10)
    await world.settle()
    uid = (await world.get("high"))["metadata"]["uid"]
    world.scheduler._awaited.clear()  # as after a restart, when nobody knows whose victims are going
    world.scheduler.queue.activate(uid)
    world.scheduler._wake.set()
    assert (await world.get("high"))["status"]["nominatedNodeName"] == "n1"
    ending = [(await world.get(name))["metadata"].get("deletionTimestamp") for name in ("low", "lower")]
    assert sum(map(bool, ending)) == 1


# ── volumes that are made for a pod ─────────────────────────────────────────────────────────────────────


async def claim(world, name):
    storage_class = {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "slow"},
        "provisioner": "example.com/slow", "volumeBindingMode": "WaitForFirstConsumer",
    }  # fmt: skip
    if not (await world.client.list(STORAGECLASSES, None)).items:
        await world.client.create(STORAGECLASSES, storage_class)
    spec = {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
        "resources": {"requests": {"storage": "1Gi"}},
    }  # fmt: skip
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
    await world.client.create(PERSISTENTVOLUMECLAIMS, body, "default")
    await world.settle()
    return [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]


async def test_a_provisioner_that_hangs_holds_up_nobody_else(world, monkeypatch):
    monkeypatch.setattr("orchestrator.scheduler.scheduler.WRITES_MAX", 1)
    await world.node("n1")
    await world.pod("slow", volumes=await claim(world, "c"))
    assert await world.place("slow") is None
    await world.pod("quick")
    assert await world.place("quick") == "n1"


async def test_a_pod_that_is_deleted_while_its_volume_is_made_leaves_nothing(world):
    await world.node("n1")
    await world.pod("slow", volumes=await claim(world, "c"))
    await world.settle()
    assert world.scheduler._provisioning and world.scheduler.columns.placed
    await world.client.delete(PODS, "slow", "default", DeleteOptions(grace_period_s=0))
    await world.settle()
    assert not world.scheduler._provisioning and not world.scheduler._writing
    assert not world.scheduler.columns.placed


async def test_a_claim_that_goes_while_its_volume_is_made_lets_the_pod_wait_for_another(world):
    await world.node("n1")
    await world.pod("slow", volumes=await claim(world, "c"))
    await world.settle()
    assert world.scheduler._provisioning
    await world.client.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
    await world.settle()
    await world.clock.advance(2.0)
    uid = (await world.get("slow"))["metadata"]["uid"]
    assert uid in world.scheduler.queue
    conditions = (await world.get("slow"))["status"]["conditions"]
    message = next(c["message"] for c in conditions if c["type"] == "PodScheduled")
    assert 'persistentvolumeclaim "c" not found' in message


# ── groups ──────────────────────────────────────────────────────────────────────────────────────────────

GROUP = {
    "pod-group.scheduling.sigs.k8s.io/name": "g",
    "pod-group.scheduling.sigs.k8s.io/min-available": "3",
}


async def test_a_group_runs_together_or_not_at_all(world):
    await world.node("n1", cpu="2")
    for name in ("a", "b"):
        await world.pod(name, cpu="900m", labels=GROUP)
    assert [await world.place(name) for name in "ab"] == [None, None]
    await world.pod("c", cpu="900m", labels=GROUP)
    assert [await world.place(name) for name in "abc"] == [None, None, None]
    assert not world.scheduler.columns.placed
    conditions = (await world.get("c"))["status"]["conditions"]
    assert "needs 2 fit at once" in next(c["message"] for c in conditions if c["type"] == "PodScheduled")
    await world.clock.advance(20.0)
    await world.node("n2", cpu="2")
    assert {await world.place(name) for name in "abc"} == {"n1", "n2"}


# ── why ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_why_a_pod_is_where_it_is_or_nowhere(world):
    await world.node("full", cpu="1")
    await world.node("free", cpu="2")
    await world.pod("a", cpu="1500m")
    assert await world.place("a") == "free"
    why = world.scheduler.why("default", "a")
    assert why["node"] == "free"
    assert why["nodes"]["full"] == {"filter": "NodeResourcesFit", "reasons": ["Insufficient cpu"]}
    assert why["nodes"]["free"]["total"] == sum(why["nodes"]["free"]["scores"].values()) > 0
    assert list(world.scheduler.columns.placed) == [(await world.get("a"))["metadata"]["uid"]]
    with pytest.raises(NotFound):
        world.scheduler.why("default", "nobody")
