"""Deployments, ReplicaSets, ControllerRevisions."""

import pytest


@pytest.fixture
def deployments(kind):
    return kind("apps", "deployments")


def _workload(pod=None, **spec):
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "web:1"}], **(pod or {})},
    }
    return {"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}}


def test_deployment_defaults(deployments):
    created = deployments.create({**_workload(), "status": {"replicas": 7}})
    spec = created["spec"]
    assert created["metadata"]["generation"] == 1 and created["status"] == {}
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Always" and pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert "enableServiceLinks" not in pod, "set on pods, not on templates"
    assert deployments.causes(created) == []


def test_replicaset_defaults(kind):
    created = kind("apps", "replicasets").create(_workload())
    assert created["spec"]["replicas"] == 1 and created["status"] == {"replicas": 0}
    assert kind("apps", "replicasets").causes(created) == []


def test_requests_are_not_copied_from_limits_in_templates(deployments):
    pod = {"containers": [{"name": "a", "image": "b", "resources": {"limits": {"cpu": "1"}}}]}
    container = deployments.create(_workload(pod))["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"limits": {"cpu": "1"}}


def test_generation_counts_spec_and_annotations_but_not_status(deployments):
    old = deployments.create(_workload())

    def generation(**changes):
        return deployments.update({**old, **changes}, old)["metadata"]["generation"]

    assert generation() == 1
    assert generation(status={"replicas": 3}) == 1
    assert generation(metadata={**old["metadata"], "labels": {"a": "b"}}) == 1
    assert generation(metadata={**old["metadata"], "annotations": {"a": "b"}}) == 2
    assert generation(spec={**old["spec"], "replicas": 5}) == 2


def test_status_writes_leave_spec_and_labels_alone(deployments):
    old = deployments.create(_workload())
    new = {
        "metadata": {**old["metadata"], "labels": {"new": "label"}, "annotations": {"rev": "1"}},
        "spec": {"replicas": 9},
        "status": {"replicas": 2},
    }
    written = deployments.update(new, old, "status")
    assert written["spec"] == old["spec"] and written["status"] == {"replicas": 2}
    assert written["metadata"]["annotations"] == {"rev": "1"} and "labels" not in written["metadata"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"unavailableReplicas": -1},
         ["status.unavailableReplicas: Invalid value: -1: must be greater than or equal to 0"]),
        ({"replicas": 1, "updatedReplicas": 2},
         ["status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas"]),
        ({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2},
         ["status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas"]),
        ({"collisionCount": 1}, ["status.collisionCount: Invalid value: 1: cannot be decremented"]),
        ({"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "collisionCount": 3}, []),
    ],
)  # fmt: skip
def test_a_status_counts_what_can_be(deployments, status, expected):
    old = {**deployments.create(_workload()), "status": {"collisionCount": 2}}
    status = {"collisionCount": 2, **status}
    assert deployments.update_problems({**old, "status": status}, old, "status") == expected


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (_workload(selector=None), "spec.selector: Required value"),
        (
            _workload(selector={}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            _workload(selector={"matchLabels": {"app": "other"}}),
            'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
        ),
        (
            _workload({"restartPolicy": "Never"}),
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
        (_workload({"containers": []}), "spec.template.spec.containers: Required value"),
        (_workload({"activeDeadlineSeconds": 5}), "activeDeadlineSeconds in ReplicaSet is not Supported"),
        (_workload(replicas=-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            _workload(progressDeadlineSeconds=5, minReadySeconds=5),
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ),
        (_workload(strategy={"type": "Magic"}), 'spec.strategy: Unsupported value: {"type":"Magic"}'),
        (
            _workload(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            _workload(strategy={"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": 0}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            _workload(strategy={"rollingUpdate": {"maxSurge": "x%"}}),
            'spec.strategy.rollingUpdate.maxSurge: Invalid value: "x%": a valid percent string',
        ),
        (_workload(strategy={"rollingUpdate": {"maxUnavailable": "150%"}}), "must not be greater than 100%"),
    ],
)
def test_a_fault_is_named(deployments, workload, expected):
    found = deployments.problems(workload)
    assert len(found) == 1, found
    assert expected in found[0]


def test_the_selector_never_changes(deployments):
    old = deployments.create(_workload())
    other = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]}
    (text,) = deployments.update_problems({**old, "spec": {**old["spec"], "selector": other}}, old)
    assert text.startswith("spec.selector: Invalid value: ") and text.endswith("field is immutable")


def test_data_of_a_controller_revision_never_changes(kind):
    revisions = kind("apps", "controllerrevisions")
    old = revisions.create({"revision": 1, "data": {"a": 1}})
    assert revisions.update_problems({**old, "revision": 2}, old) == []
    assert "field is immutable" in revisions.update_problems({**old, "data": {"a": 2}}, old)[0]
    assert revisions.problems({"revision": -1}) == [
        "data: Required value: data is mandatory",
        "revision: Invalid value: -1: must be greater than or equal to 0",
    ]


def test_a_selector_without_a_key_is_refused_not_an_error_of_ours(deployments):
    found = deployments.problems(_workload(selector={"matchExpressions": [{"operator": "Exists"}]}))
    assert found[0].startswith('spec.selector.matchExpressions[0].key: Invalid value: ""')
