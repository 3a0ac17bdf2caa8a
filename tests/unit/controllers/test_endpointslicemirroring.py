"""Endpoints that users write become slices, follow every change, and go with them."""

from typing import Any

from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from orchestrator.controllers.endpointslicemirroring import EndpointSliceMirroringController, plan

SUBSETS = [
    {
        "addresses": [{"ip": "10.1.2.3", "nodeName": "n1"}, {"ip": "fd00::1"}],
        "notReadyAddresses": [{"ip": "10.1.2.4"}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }
]


async def _start(cluster: Any, **metadata: Any) -> None:
    controller = EndpointSliceMirroringController(cluster.client, cluster.clock, cluster.recorder)
    await cluster.start(controller, kubelet=False)
    await cluster.create(
        SERVICES, {"metadata": {"name": "own"}, "spec": {"ports": [{"name": "http", "port": 80}]}}
    )
    await cluster.create(ENDPOINTS, {"metadata": {"name": "own", **metadata}, "subsets": SUBSETS})
    await cluster.settle()


async def test_endpoints_are_mirrored_through_their_life(cluster: Any) -> None:
    await _start(cluster, labels={"team": "a"}, annotations={"note": "x"})
    four, six = sorted(await cluster.list(ENDPOINTSLICES), key=lambda s: s["addressType"])
    assert four["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "own",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert four["metadata"]["annotations"] == {"note": "x"}
    assert four["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
    assert four["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]
    assert [(e["addresses"], e["conditions"]["ready"]) for e in four["endpoints"]] == [
        (["10.1.2.3"], True), (["10.1.2.4"], False),
    ]  # fmt: skip
    assert [e["addresses"] for e in six["endpoints"]] == [["fd00::1"]]
    changed = [
        {"addresses": [{"ip": "10.9.9.9"}], "ports": [{"name": "http", "port": 81, "protocol": "TCP"}]}
    ]
    await cluster.patch(ENDPOINTS, "own", {"subsets": changed})
    await cluster.settle()
    (only,) = await cluster.list(ENDPOINTSLICES)
    assert (only["endpoints"][0]["addresses"], only["ports"][0]["port"]) == (["10.9.9.9"], 81)
    assert await cluster.is_at_rest()
    await cluster.client.delete(ENDPOINTS, "own", "default")
    await cluster.settle()
    assert await cluster.list(ENDPOINTSLICES) == []


async def test_nothing_is_mirrored_where_somebody_else_makes_slices(cluster: Any) -> None:
    await _start(cluster)
    assert len(await cluster.list(ENDPOINTSLICES)) == 2
    await cluster.patch(SERVICES, "own", {"spec": {"selector": {"app": "x"}}})
    await cluster.settle()
    assert await cluster.list(ENDPOINTSLICES) == []
    await cluster.patch(SERVICES, "own", {"spec": {"selector": None}})
    await cluster.settle()
    assert len(await cluster.list(ENDPOINTSLICES)) == 2
    label = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    await cluster.patch(ENDPOINTS, "own", {"metadata": {"labels": label}})
    await cluster.settle()
    assert await cluster.list(ENDPOINTSLICES) == []


def test_what_does_not_fit_is_left_out_and_told() -> None:
    many = [{"ip": f"10.0.{n // 250}.{n % 250 + 1}"} for n in range(1002)]
    metadata = {"name": "own", "namespace": "default", "uid": "u"}
    endpoints = {"metadata": metadata, "subsets": [{"addresses": [{"ip": "bad"}, *many]}]}
    steps, told = plan(endpoints, [])
    assert [len(made["endpoints"]) for made in steps.create] == [1000]
    assert told == [
        ("InvalidIPAddress", "Skipped 1 invalid IP addresses when mirroring to EndpointSlices"),
        (
            "TooManyAddressesToMirror",
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 2 addresses were skipped",
        ),
    ]
