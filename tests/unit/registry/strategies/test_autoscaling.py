"""HorizontalPodAutoscalers: defaults and refusals."""

import pytest


@pytest.fixture
def autoscalers(kind):
    return kind("autoscaling", "horizontalpodautoscalers")


def scaler(*metrics, **spec):
    reference = {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}
    spec = {"scaleTargetRef": reference, "maxReplicas": 5, **spec}
    return {"spec": {**spec, "metrics": list(metrics)} if metrics else spec}


def _resource(**target):
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def test_defaults(autoscalers):
    created = autoscalers.create({**scaler(), "status": {"currentReplicas": 4}})
    assert created["spec"]["minReplicas"] == 1 and "behavior" not in created["spec"]
    assert created["spec"]["metrics"] == [_resource(type="Utilization", averageUtilization=80)]
    assert created["status"] == {"desiredReplicas": 0} and "generation" not in created["metadata"]
    assert autoscalers.causes(created) == []


def test_a_behavior_is_whole(autoscalers):
    given = {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    behavior = autoscalers.create(scaler(behavior=given))["spec"]["behavior"]
    assert behavior["scaleDown"] == {"selectPolicy": "Max", **given["scaleDown"]}
    assert behavior["scaleUp"] == {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    }


PODS = {
    "type": "Pods",
    "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "1"}},
}
EXTERNAL = {
    "type": "External",
    "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}},
}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (scaler(PODS, EXTERNAL), ""),
        (scaler(EXTERNAL, minReplicas=0), "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"),
        (
            scaler(minReplicas=6),
            "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
        ),
        (scaler(scaleTargetRef={"kind": "a/b", "name": "n"}), "spec.scaleTargetRef.kind: Invalid value: \"a/b\""),
        (scaler(scaleTargetRef={"kind": "Deployment"}), "spec.scaleTargetRef.name: Required value"),
        (scaler({"type": "Magic"}), 'spec.metrics[0].type: Unsupported value: "Magic"'),
        (
            scaler({"type": "Pods"}),
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        ),
        (
            scaler({**PODS, "external": EXTERNAL["external"]}),
            "spec.metrics[0].external: Forbidden: must populate the given metric source only",
        ),
        (scaler(_resource(type="Utilization")), "must set either a target raw value or a target utilization"),
        (
            scaler(_resource(type="Utilization", averageUtilization=0)),
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        ),
        (
            scaler(_resource(type="AverageValue", averageValue="1", averageUtilization=1)),
            "may not set both a target raw value and a target utilization",
        ),
        (scaler(_resource(type="AverageValue", averageValue="-1")), "must be positive"),
        (
            scaler(_resource(type="Odd", averageValue="1")),
            'Invalid value: "Odd": must be either Utilization, Value, or AverageValue',
        ),
        (
            scaler(behavior={"scaleUp": {"stabilizationWindowSeconds": 3601}}),
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or"
            " equal to 3600",
        ),
        (
            scaler(behavior={"scaleDown": {"policies": []}}),
            "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy",
        ),
        (
            scaler(behavior={"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}}),
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or"
            " equal to 1800",
        ),
        (scaler(behavior={"scaleUp": {"selectPolicy": "Most"}}),
         "spec.behavior.scaleUp.selectPolicy: Unsupported value"),
        (
            scaler(behavior={"scaleUp": {"tolerance": "-1"}}),
            "spec.behavior.scaleUp.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
    ],
)  # fmt: skip
def test_an_autoscaler(autoscalers, obj, expected):
    found = autoscalers.problems(obj)
    assert len(found) == bool(expected) and (not expected or expected in found[0]), found


def test_bounds_are_both_named(autoscalers):
    assert autoscalers.problems(scaler(maxReplicas=0)) == [
        "spec.maxReplicas: Invalid value: 0: must be greater than 0",
        "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
    ]


def test_zero_replicas_are_kept_and_need_a_metric_from_elsewhere(autoscalers):
    old = autoscalers.create(scaler(EXTERNAL, minReplicas=0))
    assert autoscalers.update_problems({**old, "spec": {**old["spec"], "maxReplicas": 6}}, old) == []
    found = autoscalers.update_problems({**old, "spec": {**old["spec"], "metrics": [PODS]}}, old)
    assert found == [
        "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero"
        " replicas"
    ]
