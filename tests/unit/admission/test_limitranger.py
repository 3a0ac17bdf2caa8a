"""LimitRanger: defaults and bounds, in Kubernetes' words."""

from typing import Any

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.limitranger import ANNOTATION, LimitRanger
from orchestrator.api.errors import Forbidden
from orchestrator.api.resources import LIMITRANGES, PERSISTENTVOLUMECLAIMS, PODS


def _range(objects: Any, **limit: Any) -> Any:
    metadata = {"name": "limits", "namespace": "default"}
    limit.setdefault("type", "Container")
    spec = {"limits": [limit]}
    objects.put(LIMITRANGES, {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": spec})
    return AdmissionChain((LimitRanger(objects),))


def _pod(*containers: Any, **spec: Any) -> Any:
    listed = [{"name": f"c{at}", "resources": resources} for at, resources in enumerate(containers)]
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": listed, **spec}}


async def test_containers_get_what_they_do_not_say(objects: Any, request_for: Any) -> None:
    chain = _range(objects, default={"cpu": "2", "memory": "1Gi"}, defaultRequest={"cpu": "1"})
    pod = _pod({}, {"limits": {"cpu": "3"}, "requests": {"cpu": "3"}})
    pod["spec"]["initContainers"] = [{"name": "init"}]
    admitted = await chain.admit(request_for("CREATE", PODS, pod))
    first, second = (entry["resources"] for entry in admitted["spec"]["containers"])
    assert first == {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}
    assert second == {"limits": {"cpu": "3", "memory": "1Gi"}, "requests": {"cpu": "3"}}
    assert admitted["spec"]["initContainers"][0]["resources"] == first
    assert admitted["metadata"]["annotations"][ANNOTATION] == (
        "LimitRanger plugin set: cpu request for container c0; cpu, memory limit for container c0; "
        "memory limit for container c1; cpu request for init container init; "
        "cpu, memory limit for init container init"
    )
    assert "resources" not in pod["spec"]["initContainers"][0]


async def test_a_pod_that_says_all_stays_as_it_is(objects: Any, request_for: Any) -> None:
    chain = _range(objects, default={"cpu": "2"}, defaultRequest={"cpu": "1"})
    pod = _pod({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})
    assert await chain.admit(request_for("CREATE", PODS, pod)) is pod


@pytest.mark.parametrize(
    ("limit", "resources", "text"),
    [
        ({"min": {"cpu": "100m"}}, {}, "minimum cpu usage per Container is 100m.  No request is specified"),
        ({"min": {"cpu": "100m"}}, {"requests": {"cpu": "50m"}},
         "minimum cpu usage per Container is 100m, but request is 50m"),
        ({"min": {"cpu": "100m"}}, {"requests": {"cpu": "1"}, "limits": {"cpu": "10m"}},
         "minimum cpu usage per Container is 100m, but limit is 10m"),
        ({"max": {"memory": "1Gi"}}, {}, "maximum memory usage per Container is 1Gi.  No limit is specified"),
        ({"max": {"memory": "1Gi"}}, {"limits": {"memory": "2Gi"}},
         "maximum memory usage per Container is 1Gi, but limit is 2Gi"),
        ({"max": {"cpu": "1"}}, {"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}},
         "maximum cpu usage per Container is 1, but request is 1500m"),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}},
         "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {"limits": {"cpu": "3"}},
         "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"),
        ({"type": "Pod", "max": {"cpu": "1"}}, {"limits": {"cpu": "600m"}},
         "maximum cpu usage per Pod is 1, but limit is 1200m"),
        ({"max": {"cpu": "1", "memory": "1"}}, {"limits": {"cpu": "2", "memory": "1"}, "requests": {"memory": "2"}},
         "[maximum cpu usage per Container is 1, but limit is 2, "
         "maximum memory usage per Container is 1, but request is 2, "
         "maximum cpu usage per Container is 1, but limit is 2, "
         "maximum memory usage per Container is 1, but request is 2]"),
    ],
)  # fmt: skip
async def test_bounds(objects: Any, request_for: Any, limit: Any, resources: Any, text: str) -> None:
    pod = _pod(resources, resources) if limit.get("type") == "Pod" or text[0] == "[" else _pod(resources)
    with pytest.raises(Forbidden) as caught:
        await _range(objects, **limit).admit(request_for("CREATE", PODS, pod))
    assert caught.value.message == f'pods "p" is forbidden: {text}'


def test_pods_are_looked_at_when_they_are_made_and_resized(objects: Any) -> None:
    asked = [
        ("CREATE", ""),
        ("UPDATE", ""),
        ("UPDATE", "resize"),
        ("UPDATE", "status"),
        ("CREATE", "eviction"),
    ]
    plugin = LimitRanger(objects)
    looked_at = [pair for pair in asked if plugin.handles(pair[0], PODS, pair[1])]  # type: ignore[arg-type]
    assert looked_at == [("CREATE", ""), ("UPDATE", "resize")]


def _claim(size: str) -> Any:
    spec = {"resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": "c", "namespace": "default"}, "spec": spec}


async def test_claims_are_held_to_what_they_change(objects: Any, request_for: Any) -> None:
    chain = _range(objects, type="PersistentVolumeClaim", min={"storage": "2Gi"}, max={"storage": "4Gi"})
    for size, text in (("1Gi", "minimum storage .* is 2Gi, but request is 1Gi"),
                       ("5Gi", "maximum storage .* is 4Gi, but request is 5Gi")):  # fmt: skip
        with pytest.raises(Forbidden, match=text):
            await chain.admit(request_for("CREATE", PERSISTENTVOLUMECLAIMS, _claim(size)))
        await chain.admit(request_for("UPDATE", PERSISTENTVOLUMECLAIMS, _claim(size), _claim(size)))
    await chain.admit(request_for("UPDATE", PERSISTENTVOLUMECLAIMS, _claim("3Gi"), _claim("1Gi")))
