"""The `resize` subresource of pods: what it takes from a request, and the words of what it refuses."""

import pytest

_SIDECAR = {"name": "s", "image": "s", "restartPolicy": "Always"}


@pytest.fixture
def pods(kind):
    return kind("", "pods")


def _of(requests=None, limits=None, **more):
    given = {"requests": requests, "limits": limits}
    return {"name": "a", "image": "a", "resources": {k: v for k, v in given.items() if v}, **more}


def _pod(container, **spec):
    return {"spec": {"containers": [container], **spec}}


_HALF = _of({"cpu": "500m", "memory": "1Gi"})
_POLICY = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
_CASES = [
    # container before, container after, other fields of the spec, expected causes
    ("more cpu", _HALF, _of({"cpu": "1", "memory": "1Gi"}), {}, []),
    ("less memory", _HALF, _of({"cpu": "500m", "memory": "1Mi"}), {}, []),
    ("limits added", _HALF, _of({"cpu": "500m", "memory": "1Gi"}, {"cpu": "1"}), {}, []),
    ("removed", _HALF, _of({"memory": "1Gi"}), {},
     ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]),
    ("class", _of(), _HALF, {},
     ['spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing']),
    ("other amounts", _HALF, _of({"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi"}), {},
     ["spec: Forbidden: only cpu and memory resources are mutable"]),
    ("policy", _HALF, {**_HALF, "resizePolicy": _POLICY}, {},
     ["spec: Forbidden: only cpu and memory resources are mutable"]),
    ("unsound", _HALF, _of({"cpu": "2", "memory": "1Gi"}, {"cpu": "1"}), {},
     ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
    ("renamed", _HALF, {**_HALF, "name": "b"}, {},
     ["spec.containers: Forbidden: containers may not be renamed or reordered on resize"]),
    ("whole pod", _HALF, _HALF, {"resources": {"requests": {"cpu": "1", "memory": "2Gi"}}},
     [": Forbidden: pods with pod-level resources cannot be resized"]),
    ("windows", _HALF, _of({"cpu": "1", "memory": "1Gi"}), {"os": {"name": "windows"}},
     [": Forbidden: windows pods cannot be resized"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "spec", "expected"), [row[1:] for row in _CASES], ids=[row[0] for row in _CASES]
)
def test_resize(pods, before, after, spec, expected):
    old = pods.create(_pod(before, **spec))
    new = pods.update({**old, "spec": {**old["spec"], "containers": [after]}}, old, "resize")
    assert pods.update_problems(new, old, "resize") == expected


def test_only_sidecars_among_the_init_containers_are_resized(pods):
    old = pods.create(_pod(_HALF, initContainers=[{"name": "i", "image": "i"}, _SIDECAR]))
    more = {"requests": {"cpu": "1"}}
    init = [{**container, "resources": more} for container in old["spec"]["initContainers"]]
    new = pods.update({**old, "spec": {**old["spec"], "initContainers": init}}, old, "resize")
    assert pods.update_problems(new, old, "resize") == [
        "spec: Forbidden: resources for non-sidecar init containers are immutable"
    ]
    init = [old["spec"]["initContainers"][0], init[1]]
    new = pods.update({**old, "spec": {**old["spec"], "initContainers": init}}, old, "resize")
    assert pods.update_problems(new, old, "resize") == []


def test_nothing_else_is_taken_from_the_request(pods):
    old = pods.create({**_pod(_HALF), "metadata": {"labels": {"a": "b"}}})
    container = {**_of({"cpu": "1", "memory": "1Gi"}), "image": "other", "command": ["x"]}
    wish = {
        "metadata": {**old["metadata"], "labels": {}, "annotations": {"a": "b"}},
        "spec": {**old["spec"], "containers": [container], "nodeName": "n"},
        "status": {"phase": "Running"},
    }
    new = pods.update({**old, **wish}, old, "resize")
    (kept,) = new["spec"]["containers"]
    assert kept == {**old["spec"]["containers"][0], "resources": container["resources"]}
    assert {**new, "spec": None, "metadata": None} == {**old, "spec": None, "metadata": None}
    assert new["metadata"] == {**old["metadata"], "generation": 2}
    assert {**new["spec"], "containers": None} == {**old["spec"], "containers": None}


@pytest.mark.parametrize(("told", "refused"), [({}, True), ({"resources": {}}, False)])
def test_a_running_pod_needs_an_agent_that_tells_what_its_containers_have(pods, told, refused):
    old = pods.create(_pod(_HALF))
    running = {"name": "a", "state": {"running": {}}, **told}
    old = {**old, "status": {**old["status"], "containerStatuses": [running]}}
    after = _of({"cpu": "1", "memory": "1Gi"})
    new = pods.update({**old, "spec": {**old["spec"], "containers": [after]}}, old, "resize")
    expected = ["spec: Forbidden: Pod running on node without support for resize"]
    assert pods.update_problems(new, old, "resize") == (expected if refused else [])
