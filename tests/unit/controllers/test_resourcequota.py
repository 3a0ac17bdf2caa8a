"""Quotas: charged in the transaction of the write, given back by the controller, exact under races."""

import asyncio
import random
from typing import Any

import pytest

from orchestrator.api.errors import AlreadyExists, Forbidden, NotFound
from orchestrator.api.options import DeleteOptions, ListOptions, WriteOptions
from orchestrator.api.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
)
from orchestrator.controllers.resourcequota import ResourceQuotaController, plan


async def _quota(cluster: Any, hard: dict[str, str], name: str = "q", **spec: Any) -> None:
    await cluster.create(RESOURCEQUOTAS, {"metadata": {"name": name}, "spec": {"hard": hard, **spec}})
    await cluster.settle()


async def _used(cluster: Any, name: str = "q") -> Any:
    await cluster.settle()
    return (await cluster.get(RESOURCEQUOTAS, name))["status"]["used"]


def _pod(name: str, cpu: str = "100m", memory: str = "64Mi", **spec: Any) -> Any:
    requests = {"cpu": cpu, "memory": memory} if cpu else {}
    container = {"name": "main", "image": "busybox", "resources": {"requests": requests}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


@pytest.fixture
async def started(cluster: Any) -> Any:
    await cluster.start(
        ResourceQuotaController(cluster.client, cluster.clock, cluster.recorder, cluster.table), kubelet=False
    )
    return cluster


async def test_life_of_a_pod_is_charged_and_given_back(started: Any) -> None:
    await _quota(started, {"pods": "2", "requests.cpu": "1", "memory": "200Mi", "count/pods": "9"})
    assert await _used(started) == {"pods": "0", "requests.cpu": "0", "memory": "0", "count/pods": "0"}
    await started.create(PODS, _pod("a", "300m", "150Mi"))
    used = (await started.get(RESOURCEQUOTAS, "q"))["status"]["used"]
    assert used == {"pods": "1", "requests.cpu": "300m", "memory": "150Mi", "count/pods": "1"}
    with pytest.raises(Forbidden) as caught:
        await started.create(PODS, _pod("b", "800m", "100Mi"))
    assert caught.value.message == (
        'pods "b" is forbidden: exceeded quota: q, requested: memory=100Mi,requests.cpu=800m, '
        "used: memory=150Mi,requests.cpu=300m, limited: memory=200Mi,requests.cpu=1"
    )
    with pytest.raises(
        Forbidden, match=r"failed quota: q: must specify memory for: main; requests.cpu for: main"
    ):
        await started.create(PODS, _pod("c", ""))
    await started.patch(PODS, "a", {"status": {"phase": "Succeeded"}}, subresource="status")
    assert await _used(started) == {"pods": "0", "requests.cpu": "0", "memory": "0", "count/pods": "1"}
    await started.client.delete(PODS, "a", "default", DeleteOptions(grace_period_s=0))
    assert (await _used(started))["count/pods"] == "0"
    assert await started.is_at_rest()


async def test_no_race_exceeds_a_quota(started: Any) -> None:
    await _quota(started, {"configmaps": "10", "count/secrets": "3"})

    async def make(number: int) -> bool:
        resource = SECRETS if number % 4 == 0 else CONFIGMAPS
        try:
            await started.create(resource, {"metadata": {"name": f"x{number}"}})
        except Forbidden as error:
            assert "exceeded quota: q" in error.message
            return False
        return True

    made = await asyncio.gather(*map(make, range(60)))
    assert sum(made) == 13
    assert await _used(started) == {"configmaps": "10", "count/secrets": "3"}
    await started.client.delete_collection(CONFIGMAPS, "default")
    assert await _used(started) == {"configmaps": "0", "count/secrets": "3"}


async def test_many_writers_share_rounds_and_a_taken_name_takes_nothing(started: Any) -> None:
    """Whoever is charged on top of a write that fails is charged anew, and refused only for what is there."""
    await _quota(started, {"configmaps": "40"})
    await started.create(CONFIGMAPS, {"metadata": {"name": "x3"}})
    await started.settle()
    before = started.store.revision

    async def make(number: int) -> str:
        try:
            await started.create(CONFIGMAPS, {"metadata": {"name": f"x{number % 45}"}})
        except (AlreadyExists, Forbidden) as error:
            return error.reason
        return "made"

    ends = await asyncio.gather(*(make(number) for number in range(90)))
    assert ends.count("made") == 39
    assert len(await started.list(CONFIGMAPS)) == 40 and (await _used(started)) == {"configmaps": "40"}
    assert started.store.revision == before + 39
    await asyncio.gather(*(started.client.delete(CONFIGMAPS, f"x{n}", "default") for n in (3,)))
    assert (await _used(started)) == {"configmaps": "39"}


async def test_who_goes_away_while_in_line_keeps_nobody(started: Any) -> None:
    await _quota(started, {"configmaps": "40"})
    creating = [
        asyncio.ensure_future(started.create(CONFIGMAPS, {"metadata": {"name": f"x{n}"}})) for n in range(20)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in creating[::2]:
        task.cancel()
    ends = await asyncio.gather(*creating, return_exceptions=True)
    assert [end["metadata"]["name"] for end in ends[1::2]] == [f"x{n}" for n in range(1, 20, 2)]  # type: ignore[index,call-overload]
    await started.settle()
    assert (await _used(started)) == {"configmaps": str(len(await started.list(CONFIGMAPS)))}


async def test_charging_leaves_the_owners_of_a_quotas_fields(started: Any) -> None:
    await _quota(started, {"configmaps": "40"})
    key = RESOURCEQUOTAS.key("default", "q")
    owners = (await started.store.get(key)).item.whole["metadata"]["managedFields"]
    assert owners
    await started.create(CONFIGMAPS, {"metadata": {"name": "a"}})
    assert (await started.store.get(key)).item.whole["metadata"]["managedFields"] == owners


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_usage_is_what_there_is_after_any_history(started: Any, seed: int) -> None:
    """Makers, removers and an owner who changes the limit, all at once; `used` never lies below what there is."""
    rng = random.Random(seed)
    await _quota(started, {"configmaps": "12"})

    async def live() -> tuple[int, int]:
        answer = await started.registry.list(CONFIGMAPS, "default", ListOptions())
        quota = (await started.get(RESOURCEQUOTAS, "q"))["status"]["used"]["configmaps"]
        return len(answer.items), int(quota)

    async def step(number: int) -> None:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        try:
            match rng.randrange(5):
                case 0 | 1 | 2:
                    await started.create(CONFIGMAPS, {"metadata": {"name": f"x{rng.randrange(30)}"}})
                case 3:
                    await started.client.delete(CONFIGMAPS, f"x{rng.randrange(30)}", "default")
                case 4:
                    hard = {"hard": {"configmaps": str(rng.randrange(5, 15))}}
                    await started.patch(RESOURCEQUOTAS, "q", {"spec": hard})
        except (AlreadyExists, Forbidden, NotFound):
            pass

    for start in range(0, 120, 20):
        await asyncio.gather(*map(step, range(start, start + 20)))
        there, used = await live()
        assert used >= there
        if rng.random() < 0.5:
            await started.settle()
    await started.settle()
    there, used = await live()
    assert used == there
    assert await started.is_at_rest()


async def test_refused_and_dry_writes_charge_nothing(started: Any) -> None:
    await _quota(started, {"configmaps": "1"})
    options = WriteOptions(dry_run=True)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dry"}}
    registry, identity = started.registry, started.client.identity
    await registry.create(CONFIGMAPS, "default", body, options, identity)
    await started.create(CONFIGMAPS, {"metadata": {"name": "real"}})
    with pytest.raises(Forbidden, match="exceeded quota"):
        await registry.create(CONFIGMAPS, "default", body, options, identity)
    assert await _used(started) == {"configmaps": "1"}


async def test_a_service_that_changes_its_type_is_charged_for_what_it_adds(started: Any) -> None:
    await _quota(started, {"services": "2", "services.nodeports": "1", "services.loadbalancers": "0"})
    spec = {"ports": [{"port": 80}], "selector": {"app": "x"}}
    await started.create(SERVICES, {"metadata": {"name": "s"}, "spec": {**spec, "type": "NodePort"}})
    assert await _used(started) == {"services": "1", "services.nodeports": "1", "services.loadbalancers": "0"}
    with pytest.raises(Forbidden, match=r"requested: services.loadbalancers=1, used: .*=0, limited: .*=0"):
        await started.patch(SERVICES, "s", {"spec": {"type": "LoadBalancer"}})
    await started.patch(SERVICES, "s", {"spec": {"type": "ClusterIP"}})
    assert (await _used(started))["services.nodeports"] == "0"


async def test_storage_counts_by_class(started: Any) -> None:
    gold = "gold.storageclass.storage.k8s.io/requests.storage"
    await _quota(started, {"requests.storage": "10Gi", gold: "2Gi", "count/deployments.apps": "1"})

    def claim(name: str, size: str, kind: str) -> Any:
        spec = {
            "accessModes": ["ReadWriteOnce"], "storageClassName": kind, "resources": {"requests": {"storage": size}},
        }  # fmt: skip
        return {"metadata": {"name": name}, "spec": spec}

    await started.create(PERSISTENTVOLUMECLAIMS, claim("a", "2Gi", "gold"))
    await started.create(PERSISTENTVOLUMECLAIMS, claim("b", "3Gi", "tin"))
    with pytest.raises(Forbidden, match="exceeded quota"):
        await started.create(PERSISTENTVOLUMECLAIMS, claim("c", "1Gi", "gold"))
    await started.deployment("one")
    with pytest.raises(Forbidden, match=r"requested: count/deployments.apps=1"):
        await started.deployment("two")
    assert await _used(started) == {"requests.storage": "5Gi", gold: "2Gi", "count/deployments.apps": "1"}
    assert len(await started.list(DEPLOYMENTS)) == 1


async def test_scopes_see_their_pods_only(started: Any) -> None:
    await _quota(started, {"pods": "5"}, "best", scopes=["BestEffort"])
    await _quota(started, {"pods": "5"}, "rest", scopes=["NotBestEffort"])
    await _quota(started, {"pods": "5"}, "ends", scopes=["Terminating"])
    match = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
    await _quota(started, {"pods": "0"}, "high", scopeSelector={"matchExpressions": [match]})
    await started.create(PODS, _pod("a", ""))
    await started.create(PODS, _pod("b", activeDeadlineSeconds=60))
    with pytest.raises(Forbidden, match="exceeded quota: high"):
        await started.create(PODS, _pod("c", priorityClassName="high"))
    for name, count in {"best": "1", "rest": "1", "ends": "1", "high": "0"}.items():
        assert await _used(started, name) == {"pods": count}


async def test_a_changed_spec_is_measured_anew(started: Any) -> None:
    await started.create(SECRETS, {"metadata": {"name": "old"}})
    await _quota(started, {"configmaps": "1"})
    await started.patch(RESOURCEQUOTAS, "q", {"spec": {"hard": {"configmaps": None, "secrets": "4"}}})
    assert await _used(started) == {"secrets": "1"}
    await started.patch(RESOURCEQUOTAS, "q", {"status": {"hard": {"secrets": "9"}}}, subresource="status")
    await started.settle()
    assert (await started.get(RESOURCEQUOTAS, "q"))["status"]["hard"] == {"secrets": "4"}


async def test_a_quota_that_was_not_measured_refuses(cluster: Any) -> None:
    await cluster.create(RESOURCEQUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"secrets": "1"}}})
    await cluster.patch(RESOURCEQUOTAS, "q", {"status": {"hard": {"secrets": "1"}}}, subresource="status")
    with pytest.raises(Forbidden, match="status unknown for quota: q, resources: secrets"):
        await cluster.create(SECRETS, {"metadata": {"name": "x"}})


@pytest.mark.parametrize(
    ("status", "used", "written"),
    [
        ({}, {"pods": "1"}, {"pods": "1"}),
        ({"hard": {"pods": "2"}, "used": {"pods": "1"}}, {"pods": "1"}, None),
        ({"hard": {"pods": "2k"}, "used": {"pods": "1"}}, {"pods": "1"}, {"pods": "1"}),
        ({"hard": {"pods": "2"}, "used": {"pods": "1", "cpu": "1"}}, {"pods": "1"}, {"pods": "1"}),
        ({"hard": {"pods": "2"}, "used": {}}, {}, None),
    ],
)
def test_plan_writes_only_differences(status: Any, used: Any, written: Any) -> None:
    found = plan({"spec": {"hard": {"pods": "2"}}, "status": status}, used)
    assert (found and found["status"]["used"]) == written
