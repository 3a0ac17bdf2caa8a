import random

import pytest

from orchestrator.api.item import Object
from orchestrator.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from orchestrator.controllers.backends import backends
from orchestrator.controllers.endpointslice import ENDPOINTS_MAX, EndpointSliceController, plan
from orchestrator.controllers.slices import pack

READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


def service(**spec) -> Object:
    base = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    metadata = {"name": "web", "namespace": "default", "uid": "s", "labels": {"team": "a"}}
    return {"metadata": metadata, "spec": {"ipFamilies": ["IPv4"], **base, **spec}}


def backend_pod(pod_item, name="p", ip="10.0.0.1", status=READY, spec=None, **meta):
    return pod_item(
        name, meta={"labels": {"app": "web"}, **meta}, spec={"nodeName": "n1", **(spec or {})},
        status={**status, "podIP": ip, "podIPs": [{"ip": ip}]},
    )  # fmt: skip


def spread(endpoints, slices):
    return pack(endpoints, slices, lambda entry: entry["targetRef"]["uid"], ENDPOINTS_MAX)


def made(owner: Object, *pods) -> list[Object]:
    return plan(owner, backends(owner, list(pods)), [], lambda node: "z1").create


@pytest.mark.parametrize(
    ("status", "meta", "spec", "conditions"),
    [
        (READY, {}, {}, (True, True, False)),
        ({"phase": "Running"}, {}, {}, (False, False, False)),
        (READY, {"deletionTimestamp": "2023-11-14T22:13:20Z"}, {}, (False, True, True)),
        ({"phase": "Running"}, {"deletionTimestamp": "2023-11-14T22:13:20Z"}, {}, (False, False, True)),
        ({"phase": "Running"}, {}, {"publishNotReadyAddresses": True}, (True, False, False)),
        (
            READY, {"deletionTimestamp": "2023-11-14T22:13:20Z"}, {"publishNotReadyAddresses": True},
            (True, True, True),
        ),
    ],
)  # fmt: skip
def test_conditions_of_an_endpoint(pod_item, status, meta, spec, conditions):
    (created,) = made(service(**spec), backend_pod(pod_item, status=status, **meta))
    found = created["endpoints"][0]["conditions"]
    assert (found["ready"], found["serving"], found["terminating"]) == conditions


def test_a_slice_says_who_made_it_and_where_its_endpoints_are(pod_item):
    (created,) = made(service(), backend_pod(pod_item))
    assert created["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert created["metadata"]["ownerReferences"][0]["uid"] == "s"
    assert created["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    entry = created["endpoints"][0]
    assert (entry["addresses"], entry["nodeName"], entry["zone"]) == (["10.0.0.1"], "n1", "z1")
    assert entry["targetRef"] == {"kind": "Pod", "namespace": "default", "name": "p", "uid": "uid-p"}


def test_a_slice_tells_when_its_newest_cause_was(pod_item):
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:20Z"}
    pod = backend_pod(pod_item, status={"phase": "Running", "conditions": [ready]})
    (created,) = made(service(), pod)
    name = "endpoints.kubernetes.io/last-change-trigger-time"
    assert created["metadata"]["annotations"] == {name: "2023-11-14T22:13:20Z"}
    created["metadata"]["annotations"] = {"mine": "kept"}
    steps = plan(service(), backends(service(), [pod]), [created], lambda node: "z1")
    assert not steps.update
    steps = plan(service(), backends(service(), [pod]), [created], lambda node: "z2")
    assert steps.update[0]["metadata"]["annotations"] == {"mine": "kept", name: "2023-11-14T22:13:20Z"}


@pytest.mark.parametrize(
    ("distribution", "status", "hints"),
    [
        (None, READY, None),
        ("PreferClose", READY, {"forZones": [{"name": "z1"}]}),
        ("PreferSameZone", READY, {"forZones": [{"name": "z1"}]}),
        ("PreferSameNode", READY, {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}),
        ("PreferSameNode", {"phase": "Running"}, None),
    ],
)
def test_ready_endpoints_are_meant_for_those_near_them(pod_item, distribution, status, hints):
    owner = service(**({"trafficDistribution": distribution} if distribution else {}))
    (created,) = made(owner, backend_pod(pod_item, status=status))
    assert created["endpoints"][0].get("hints") == hints


def test_finished_pods_and_pods_without_address_are_no_endpoints(pod_item):
    pods = [backend_pod(pod_item, "a", status={"phase": "Failed"}), backend_pod(pod_item, "b", ip="")]
    (created,) = made(service(), *pods)
    assert created["endpoints"] == []


def test_pods_that_name_the_port_differently_stand_in_different_slices(pod_item):
    def with_port(name, number):
        ports = [{"name": "web", "containerPort": number}]
        return backend_pod(pod_item, name, spec={"containers": [{"name": "c", "image": "i", "ports": ports}]})

    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    slices = made(
        named, with_port("a", 8080), with_port("b", 9090), with_port("c", 8080), backend_pod(pod_item, "d")
    )
    assert sorted((s["ports"][0]["port"], len(s["endpoints"])) for s in slices) == [(8080, 2), (9090, 1)]


def test_headless_dual_stack_and_hostnames(pod_item):
    both = pod_item(
        "p", meta={"labels": {"app": "web"}}, spec={"hostname": "db-0", "subdomain": "web"},
        status={**READY, "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    )  # fmt: skip
    headless = service(clusterIP="None", ipFamilies=["IPv4", "IPv6"], ports=[])
    slices = made(headless, both)
    assert [(s["addressType"], s["endpoints"][0]["addresses"]) for s in slices] == [
        ("IPv4", ["10.0.0.1"]),
        ("IPv6", ["fd00::1"]),
    ]
    assert all(s["endpoints"][0]["hostname"] == "db-0" for s in slices)
    assert all(s["metadata"]["labels"]["service.kubernetes.io/headless"] == "" for s in slices)


def entry(uid: str, ready: bool = True) -> Object:
    return {"addresses": [uid], "conditions": {"ready": ready}, "targetRef": {"uid": uid}}


def existing(name: str, *uids: str) -> Object:
    return {"metadata": {"name": name}, "endpoints": [entry(uid) for uid in uids]}


def test_packing_changes_as_few_slices_as_possible():
    full = existing("full", *(f"a{n}" for n in range(ENDPOINTS_MAX)))
    half = existing("half", *(f"b{n}" for n in range(50)))
    less = existing("less", *(f"c{n}" for n in range(10)))
    keep = {e["targetRef"]["uid"]: e for s in (full, half, less) for e in s["endpoints"]}
    contents, surplus = spread({**keep, "new": entry("new")}, [full, half, less])
    changed = {s["metadata"]["name"]: len(e) for s, e in contents if e != s["endpoints"]}
    assert (changed, surplus) == ({"half": 51}, [])
    del keep["c3"]  # a slice that must be written anyway takes the new one
    contents, _ = spread({**keep, "new": entry("new")}, [full, half, less])
    assert {s["metadata"]["name"] for s, e in contents if e != s["endpoints"]} == {"less"}


def test_packing_holds_every_endpoint_once_and_at_most_a_hundred_per_slice():
    rng = random.Random(5)
    slices: list[Object] = []
    for _ in range(60):
        wanted = {
            f"p{n}": entry(f"p{n}", rng.random() < 0.9) for n in rng.sample(range(700), rng.randrange(600))
        }
        contents, surplus = spread(wanted, slices)
        gone = {id(s) for s in surplus}
        assert not gone & {id(s) for s, _ in contents}
        listed = [e["targetRef"]["uid"] for _, entries in contents for e in entries]
        assert sorted(listed) == sorted(wanted)
        assert all(0 < len(entries) <= ENDPOINTS_MAX for _, entries in contents)
        slices = [{"metadata": {"name": str(n)}, "endpoints": e} for n, (_, e) in enumerate(contents)]
        again, rest = spread(wanted, slices)
        assert rest == [] and all(e == s["endpoints"] for s, e in again)


@pytest.fixture
async def serving(cluster):
    await cluster.start(EndpointSliceController(cluster.client, cluster.clock, cluster.recorder))
    return cluster


async def make_service(cluster, name="web", **spec) -> Object:
    base = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return await cluster.create(SERVICES, {"metadata": {"name": name}, "spec": {**base, **spec}})


async def make_pod(cluster, name, app="web") -> Object:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return await cluster.create(PODS, {"metadata": {"name": name, "labels": {"app": app}}, "spec": spec})


async def endpoints(cluster) -> dict[str, bool]:
    slices = await cluster.list(ENDPOINTSLICES)
    return {e["targetRef"]["name"]: e["conditions"]["ready"] for s in slices for e in s["endpoints"]}


async def test_slices_follow_pods_and_rest_in_between(serving):
    await serving.node("n1", podCIDR="10.42.0.0/24")
    await make_service(serving)
    for name in ("a", "b"):
        await make_pod(serving, name)
    await serving.settle()
    assert await endpoints(serving) == {"a": True, "b": True}
    assert await serving.is_at_rest()
    await serving.patch(PODS, "a", {"metadata": {"labels": {"app": "other"}}})
    await serving.settle()
    assert await endpoints(serving) == {"b": True}
    serving.kubelet.hold = lambda pod: True
    await serving.client.delete(PODS, "b", "default")
    await serving.settle()
    assert await endpoints(serving) == {"b": False}
    serving.kubelet.hold = lambda pod: False
    await serving.advance(1.0)
    assert await endpoints(serving) == {}
    assert len(await serving.list(ENDPOINTSLICES)) == 1


async def test_a_changed_zone_reaches_the_endpoints(serving):
    await serving.node("n1")
    await make_service(serving)
    await make_pod(serving, "a")
    await serving.settle()
    await serving.patch(NODES, "n1", {"metadata": {"labels": {"topology.kubernetes.io/zone": "z9"}}})
    await serving.settle()
    (made_slice,) = await serving.list(ENDPOINTSLICES)
    assert made_slice["endpoints"][0]["zone"] == "z9"


async def test_slices_go_with_their_service_and_foreign_ones_stay(serving):
    await make_service(serving)
    foreign = {
        "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": [], "ports": [],
    }  # fmt: skip
    await serving.create(ENDPOINTSLICES, foreign)
    await serving.settle()
    assert len(await serving.list(ENDPOINTSLICES)) == 2
    await serving.client.delete(SERVICES, "web", "default")
    await serving.settle()
    assert [s["metadata"]["name"] for s in await serving.list(ENDPOINTSLICES)] == ["mine"]


async def test_a_burst_of_pods_makes_no_duplicate_slices(serving):
    await make_service(serving)
    for number in range(130):
        await make_pod(serving, f"p{number}")
    await serving.settle()
    slices = await serving.list(ENDPOINTSLICES)
    assert sorted(len(s["endpoints"]) for s in slices) == [30, 100]
    assert len(await endpoints(serving)) == 130
