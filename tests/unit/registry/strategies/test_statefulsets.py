"""StatefulSets and DaemonSets: defaults, what may change, refusals."""

import pytest


def workload(pod=None, **spec):
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "web:1"}], **(pod or {})},
    }
    return {"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}}


@pytest.fixture
def statefulsets(kind):
    return kind("apps", "statefulsets")


@pytest.fixture
def daemonsets(kind):
    return kind("apps", "daemonsets")


def test_statefulset_defaults(statefulsets):
    created = statefulsets.create({**workload(), "status": {"replicas": 7}})
    spec = created["spec"]
    assert created["metadata"]["generation"] == 1
    assert created["status"] == {"replicas": 0, "availableReplicas": 0}
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["podManagementPolicy"]) == (
        1,
        10,
        "OrderedReady",
    )
    assert spec["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"partition": 0, "maxUnavailable": 1},
    }
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["template"]["spec"]["restartPolicy"] == "Always"
    assert statefulsets.causes(created) == []


def test_claim_templates_are_claims_that_containers_may_mount(statefulsets):
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}},
    }
    mount = {"name": "data", "mountPath": "/data"}
    pod = {"containers": [{"name": "a", "image": "b", "volumeMounts": [mount]}]}
    created = statefulsets.create(workload(pod, volumeClaimTemplates=[claim]))
    assert created["spec"]["volumeClaimTemplates"] == [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "volumeMode": "Filesystem",
            },
            "status": {"phase": "Pending"},
        }
    ]
    assert statefulsets.causes(created) == []
    assert "Not found" in statefulsets.problems(workload(pod))[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("replicas", 5),
        ("minReadySeconds", 3),
        ("ordinals", {"start": 2}),
        ("revisionHistoryLimit", 2),
        ("updateStrategy", {"type": "OnDelete"}),
        ("persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Delete"}),
    ],
)
def test_what_of_a_statefulset_may_change(statefulsets, field, value):
    old = statefulsets.create(workload())
    new = {**old, "spec": {**old["spec"], field: value}}
    assert statefulsets.update_problems(new, old) == []
    assert statefulsets.update(new, old)["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("serviceName", "other"),
        ("podManagementPolicy", "Parallel"),
        ("volumeClaimTemplates", [{"metadata": {"name": "more"}}]),
        (
            "selector",
            {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]},
        ),
    ],
)
def test_what_of_a_statefulset_may_not_change(statefulsets, field, value):
    old = statefulsets.create(workload())
    assert statefulsets.update_problems({**old, "spec": {**old["spec"], field: value}}, old) == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template',"
        " 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and"
        " 'minReadySeconds' are forbidden"
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"podManagementPolicy": "Chaos"},
            "spec.podManagementPolicy: Invalid value: \"Chaos\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            {"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}},
            'spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy'
            " 'RollingUpdate'",
        ),
        (
            {"updateStrategy": {"type": "Magic"}},
            "spec.updateStrategy: Invalid value: {\"type\":\"Magic\"}: must be 'RollingUpdate' or 'OnDelete'",
        ),
        (
            {"updateStrategy": {"rollingUpdate": {"partition": -1}}},
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "0%"}}},
            'spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "0%": cannot be 0',
        ),
        (
            {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Maybe"}},
            'spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Maybe": supported values:'
            ' "Delete", "Retain"',
        ),
        (
            {"ordinals": {"start": -1}},
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ),
        ({"selector": {}}, "spec.selector: Invalid value: {}: empty selector is invalid for statefulset"),
        ({"selector": None}, "spec.selector: Required value"),
        (
            {"selector": {"matchLabels": {"app": "x"}}},
            'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template'
            " `labels`",
        ),
    ],
)
def test_a_fault_of_a_statefulset_is_named(statefulsets, spec, expected):
    assert statefulsets.problems(workload(**spec)) == [expected]


def test_a_statefulset_is_named_like_a_host(statefulsets):
    (text,) = statefulsets.problems({**workload(), "metadata": {"name": "a.b"}})
    assert text.startswith('metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label')


def test_endless_history_deserves_a_warning(statefulsets):
    created = statefulsets.create(workload(revisionHistoryLimit=-1))
    assert statefulsets.causes(created) == []
    assert (
        "a negative value retains all historical revisions"
        in statefulsets.strategy.warnings(created, None)[0]
    )


def test_daemonset_defaults(daemonsets):
    created = daemonsets.create(workload())
    spec = created["spec"]
    assert "replicas" not in spec and spec["revisionHistoryLimit"] == 10
    assert spec["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
    }
    assert created["metadata"]["annotations"] == {"deprecated.daemonset.template.generation": "1"}
    assert created["status"]["desiredNumberScheduled"] == 0
    assert daemonsets.causes(created) == []


def test_the_template_of_a_daemonset_is_counted(daemonsets):
    old = daemonsets.create(workload())
    template = {**old["spec"]["template"], "metadata": {"labels": {"app": "web", "v": "2"}}}
    new = {**old, "metadata": {"labels": {"a": "b"}}, "spec": {**old["spec"], "template": template}}
    changed = daemonsets.update(new, old)
    assert changed["metadata"]["annotations"] == {"deprecated.daemonset.template.generation": "2"}
    slower = daemonsets.update({**changed, "spec": {**changed["spec"], "minReadySeconds": 5}}, changed)
    assert slower["metadata"]["annotations"] == changed["metadata"]["annotations"]
    assert slower["metadata"]["generation"] == 3


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is"
            " non-zero",
        ),
        (
            {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}},
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        ),
        (
            {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "101%"}}},
            'spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%',
        ),
        ({"updateStrategy": {"type": "Magic"}}, "spec.updateStrategy: Unsupported value"),
        ({"selector": None}, "`selector` does not match template `labels`"),
    ],
)
def test_a_fault_of_a_daemonset_is_named(daemonsets, spec, expected):
    (found,) = daemonsets.problems(workload(**spec))
    assert expected in found


def test_the_selector_of_a_daemonset_never_changes(daemonsets):
    old = daemonsets.create(workload())
    other = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    (text,) = daemonsets.update_problems({**old, "spec": {**old["spec"], "selector": other}}, old)
    assert text.startswith("spec.selector: Invalid value: ") and text.endswith("field is immutable")
