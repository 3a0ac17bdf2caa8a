"""Updates of pods: what passes, and the field and words of what does not."""

import pytest

_CONTAINER = {"name": "a", "image": "web:1"}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_TERMS = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
_OTHER = "spec: Forbidden: pod updates may not change fields other than"
_GATES = [{"name": "a/one"}, {"name": "a/two"}]


@pytest.fixture
def pods(kind):
    return kind("", "pods")


def _pod(**spec):
    return {"spec": {"containers": [_CONTAINER], **spec}}


def _zone(*values, key="zone"):
    return {"key": key, "operator": "In", "values": list(values)}


def _affinity(*terms):
    selector = {"nodeSelectorTerms": [{"matchExpressions": list(term)} for term in terms]}
    return {"nodeAffinity": {_REQUIRED: selector}}


_HELD = [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]
UPDATES = [
    # the pod before, changes of its spec, expected causes (the beginning of each)
    ("image", {}, {"containers": [{**_CONTAINER, "image": "b:2"}]}, []),
    ("empty is absent", {}, {"volumes": [], "nodeSelector": {}, "hostNetwork": False}, []),
    ("no image", {}, {"containers": [{**_CONTAINER, "image": ""}]}, ["spec.containers[0].image: Required"]),
    ("command", {}, {"containers": [{**_CONTAINER, "command": ["x"]}]}, [_OTHER]),
    ("resources", {}, {"containers": [{**_CONTAINER, "resources": {"requests": {"cpu": "1"}}}]}, [_OTHER]),
    ("more", {}, {"containers": [_CONTAINER, {"name": "b", "image": "b"}]},
     ["spec.containers: Forbidden: pod updates may not add or remove containers"]),
    ("more init", {}, {"initContainers": [{"name": "b", "image": "b"}]},
     ["spec.initContainers: Forbidden: pod updates may not add or remove containers"]),
    ("deadline", {}, {"activeDeadlineSeconds": 9}, []),
    ("less", {"activeDeadlineSeconds": 9}, {"activeDeadlineSeconds": 8}, []),
    ("later", {"activeDeadlineSeconds": 9}, {"activeDeadlineSeconds": 10},
     ["spec.activeDeadlineSeconds: Invalid value: 10: must be less than or equal to previous value"]),
    ("no deadline", {"activeDeadlineSeconds": 9}, {"activeDeadlineSeconds": None},
     ["spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"]),
    ("toleration added", {"tolerations": _HELD}, {"tolerations": [*_HELD, {"operator": "Exists"}]}, []),
    ("seconds", {"tolerations": _HELD}, {"tolerations": [{**_HELD[0], "tolerationSeconds": 1}]}, []),
    ("toleration gone", {"tolerations": _HELD}, {"tolerations": []},
     ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]),
    ("grace", {}, {"terminationGracePeriodSeconds": 1}, [_OTHER]),
    ("negative grace", {"terminationGracePeriodSeconds": -5}, {"terminationGracePeriodSeconds": 1}, []),
    ("negative to 2", {"terminationGracePeriodSeconds": -5}, {"terminationGracePeriodSeconds": 2}, [_OTHER]),
    ("gate gone", {"schedulingGates": _GATES}, {"schedulingGates": _GATES[:1]}, []),
    ("gate new", {"schedulingGates": _GATES[:1]}, {"schedulingGates": _GATES},
     ["spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a/two'"]),
    ("node", {}, {"nodeName": "n"}, [_OTHER]),
    ("selector", {}, {"nodeSelector": {"a": "b"}}, [_OTHER]),
    ("gated selector", {"schedulingGates": _GATES}, {"nodeSelector": {"a": "b"}}, []),
    ("gated selector changed", {"schedulingGates": _GATES, "nodeSelector": {"a": "b"}},
     {"nodeSelector": {"a": "c"}},
     ['spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed']),
    ("gated affinity", {"schedulingGates": _GATES}, {"affinity": _affinity([_zone("z")])}, []),
    ("gated affinity tighter", {"schedulingGates": _GATES, "affinity": _affinity([_zone("z")])},
     {"affinity": _affinity([_zone("z"), _zone("y", key="k")])}, []),
    ("gated affinity looser", {"schedulingGates": _GATES, "affinity": _affinity([_zone("z")])},
     {"affinity": _affinity([_zone("z", "y")])}, [f"{_TERMS}[0]: Invalid value:"]),
    ("gated terms", {"schedulingGates": _GATES, "affinity": _affinity([_zone("z")])},
     {"affinity": _affinity([_zone("z")], [_zone("y")])}, [f"{_TERMS}: Invalid value:"]),
    ("gated spread", {"schedulingGates": _GATES}, {"priority": 3}, [_OTHER]),
    ("ungated affinity", {}, {"affinity": _affinity([_zone("z")])}, [_OTHER]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "changes", "expected"), [row[1:] for row in UPDATES], ids=[row[0] for row in UPDATES]
)
def test_updates(pods, before, changes, expected):
    old = pods.create(_pod(**before))
    spec = {name: value for name, value in {**old["spec"], **changes}.items() if value is not None}
    found = pods.update_problems({**old, "spec": spec}, old)
    assert len(found) >= len(expected) and bool(found) == bool(expected), found
    for text in expected:
        assert any(problem.startswith(text) for problem in found), found


_DEBUG = {"name": "debug", "image": "sh:1"}
EPHEMERAL = [
    ("added", [], [_DEBUG], []),
    ("added beside", [_DEBUG], [_DEBUG, {**_DEBUG, "name": "two"}], []),
    ("removed", [_DEBUG], [],
     ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed\n']),
    ("changed", [_DEBUG], [{**_DEBUG, "image": "sh:2"}],
     ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be changed\n']),
    ("name taken", [], [{**_DEBUG, "name": "a"}], ['spec.ephemeralContainers[0].name: Duplicate value: "a"']),
    ("unknown target", [], [{**_DEBUG, "targetContainerName": "b"}],
     ['spec.ephemeralContainers[0].targetContainerName: Not found: "b"']),
    ("ports", [], [{**_DEBUG, "ports": [{"containerPort": 1}]}],
     ["spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "expected"), [row[1:] for row in EPHEMERAL], ids=[row[0] for row in EPHEMERAL]
)
def test_ephemeral_containers(pods, before, after, expected):
    plain = pods.create(_pod())
    old = pods.update({**plain, "spec": {"ephemeralContainers": before}}, plain, "ephemeralcontainers")
    new = {**old, "spec": {**old["spec"], "ephemeralContainers": after}}
    assert pods.update_problems(new, old, "ephemeralcontainers") == expected


def test_a_mirror_pod_stays_one(pods):
    mark = {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}
    old = pods.create({**_pod(nodeName="n"), **mark})
    assert pods.causes(old) == []
    (text,) = pods.problems({**_pod(), **mark})
    assert text.endswith('"x": must set spec.nodeName if mirror pod annotation is set')
    bare = {**old, "metadata": {**old["metadata"], "annotations": {}}}
    path = "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: "
    removed, added = "may not remove or update mirror pod annotation", "may not add mirror pod annotation"
    assert pods.update_problems(bare, old) == [path + removed]
    assert pods.update_problems(old, bare, "status") == [path + added]
    debug = {**old, "spec": {**old["spec"], "ephemeralContainers": [_DEBUG]}}
    (text,) = pods.update_problems(debug, old, "ephemeralcontainers")
    assert text.endswith("Forbidden: static pods do not support ephemeral containers")


_ENDED = {"terminated": {"exitCode": 1}}
_RUNNING = {"running": {}}
STATUSES = [
    # restartPolicy, status before, status after, expected
    ("Always", {"containerStatuses": [{"name": "a", "state": _ENDED}]},
     {"containerStatuses": [{"name": "a", "state": _RUNNING}]}, []),
    ("OnFailure", {"containerStatuses": [{"name": "a", "state": _ENDED}]},
     {"containerStatuses": [{"name": "a", "state": _RUNNING}]}, []),
    ("Never", {"initContainerStatuses": [{"name": "i", "state": _ENDED}]},
     {"initContainerStatuses": [{"name": "i", "state": _RUNNING}]},
     ["status.initContainerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]),
    ("Always", {"ephemeralContainerStatuses": [{"name": "e", "state": _ENDED}]},
     {"ephemeralContainerStatuses": [{"name": "e", "state": _RUNNING}]},
     ["status.ephemeralContainerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]),
    ("Always", {}, {"qosClass": "Guaranteed"},
     ['status.qosClass: Invalid value: "Guaranteed": field is immutable']),
    ("Always", {}, {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, []),
    ("Always", {}, {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]},
     ['status.podIPs: Invalid value: [{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]:'
      " may specify no more than one IP for each IP family"]),
    ("Always", {}, {"podIP": "x"},
     ['status.podIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']),
    ("Always", {}, {"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]},
     ['status.hostIPs[0].ip: Invalid value: "10.0.0.2": must be equal to `hostIP`']),
    ("Always", {}, {"nominatedNodeName": "A"}, ["status.nominatedNodeName: Invalid value"]),
    ("Always", {}, {"conditions": [{"type": "ex.com/ok"}, {"type": "Ready"}]}, []),
    ("Always", {}, {"conditions": [{"type": "a b"}]}, ["metadata.conditions[0].Type: Invalid value"]),
    ("Always", {}, {"resourceClaimStatuses": [{"name": "c"}]},
     ['status.resourceClaimStatuses[0].name: Invalid value: "c": must match the name of an entry']),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "before", "after", "expected"), STATUSES)
def test_status(pods, policy, before, after, expected):
    old = pods.create(_pod(restartPolicy=policy))
    old["status"].update(before)
    found = pods.update_problems({**old, "status": after}, old, "status")
    assert len(found) == len(expected), found
    assert all(problem.startswith(text) for problem, text in zip(found, expected, strict=True)), found
