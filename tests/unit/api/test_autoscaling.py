"""Autoscalers through v1 and back."""

import json

import pytest

from orchestrator.api import autoscaling

PREFIX = "autoscaling.alpha.kubernetes.io/"


def _v2(*metrics, status=None, **spec):
    reference = {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}
    obj = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "x"},
        "spec": {
            "scaleTargetRef": reference,
            "minReplicas": 2,
            "maxReplicas": 9,
            "metrics": list(metrics),
            **spec,
        },
    }
    return {**obj, "status": {"currentReplicas": 3, "desiredReplicas": 4, **(status or {})}}


def _resource(name, **target):
    return {"type": "Resource", "resource": {"name": name, "target": target}}


CPU = _resource("cpu", type="Utilization", averageUtilization=70)
MEMORY = _resource("memory", type="AverageValue", averageValue="1Gi")
POD = {"matchLabels": {"a": "b"}}
METRICS = [
    MEMORY,
    {"type": "ContainerResource", "containerResource": {
        "name": "cpu", "container": "main", "target": {"type": "Utilization", "averageUtilization": 5}}},
    {"type": "Pods", "pods": {
        "metric": {"name": "rps", "selector": POD}, "target": {"type": "AverageValue", "averageValue": "10"}}},
    {"type": "Object", "object": {
        "describedObject": {"kind": "Ingress", "name": "i", "apiVersion": "networking.k8s.io/v1"},
        "metric": {"name": "rps"}, "target": {"type": "Value", "value": "2k"}}},
    {"type": "External", "external": {
        "metric": {"name": "queue", "selector": POD}, "target": {"type": "AverageValue", "averageValue": "30"}}},
]  # fmt: skip
BEHAVIOR = {
    "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
    "scaleDown": {"selectPolicy": "Disabled", "policies": [], "tolerance": "50m"},
}  # fmt: skip
STATUS = {
    "currentMetrics": [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "current": {"averageUtilization": 42, "averageValue": "12m"}},
        },
        {
            "type": "External",
            "external": {"metric": {"name": "queue"}, "current": {"value": "0", "averageValue": "3"}},
        },
    ],
    "conditions": [{"type": "AbleToScale", "status": "True"}],
    "lastScaleTime": "2026-01-01T00:00:00Z",
    "observedGeneration": 1,
}


def test_v1_says_what_it_can():
    shown = autoscaling.to_v1(_v2(CPU, status={"currentMetrics": STATUS["currentMetrics"]}))
    assert shown["apiVersion"] == "autoscaling/v1" and shown["kind"] == "HorizontalPodAutoscaler"
    assert shown["spec"]["targetCPUUtilizationPercentage"] == 70 and "metrics" not in shown["spec"]
    assert shown["status"] == {
        "currentReplicas": 3,
        "desiredReplicas": 4,
        "currentCPUUtilizationPercentage": 42,
    }
    assert "annotations" not in autoscaling.to_v1(_v2(CPU))["metadata"]


def test_what_v1_can_not_say_travels_in_annotations_of_kubernetes_form():
    annotations = autoscaling.to_v1(_v2(CPU, *METRICS, behavior=BEHAVIOR))["metadata"]["annotations"]
    metrics = json.loads(annotations[f"{PREFIX}metrics"])
    assert metrics[0] == {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}
    assert metrics[3]["object"] == {
        "target": {"kind": "Ingress", "name": "i", "apiVersion": "networking.k8s.io/v1"},
        "metricName": "rps",
        "targetValue": "2k",
    }
    behavior = json.loads(annotations[f"{PREFIX}behavior"])
    assert behavior["ScaleDown"]["StabilizationWindowSeconds"] is None
    assert behavior["ScaleUp"]["Policies"] == [{"Type": "Pods", "Value": 4, "PeriodSeconds": 15}]


@pytest.mark.parametrize(
    "obj",
    [_v2(CPU), _v2(*METRICS), _v2(*METRICS, CPU), _v2(MEMORY, behavior=BEHAVIOR, status=STATUS)],
    ids=["cpu", "others", "both", "behavior and status"],
)
def test_nothing_is_lost_on_the_way_through_v1(obj):
    before = json.dumps(obj)
    shown = autoscaling.to_v1(obj)
    assert autoscaling.to_v2(shown) == obj
    assert json.dumps(obj) == before


def test_annotations_of_the_author_stay_and_forged_ones_do_not():
    obj = _v2(CPU)
    obj["metadata"]["annotations"] = {"mine": "1", f"{PREFIX}metrics": "[]"}
    assert autoscaling.to_v1(obj)["metadata"]["annotations"] == {"mine": "1"}


@pytest.mark.parametrize(
    "text",
    [
        '[{"type":"Pods","pods":{"targetAverageValue":"much"}}]',
        '[{"type":"Pods","pods":{"metricName":"x","selector":{"matchLabels":3}}}]',
        '[{"type":"Resource","resource":{"name":"cpu","targetAverageUtilization":"80"}}]',
        '[{"type":"Resource","resource":{"name":"cpu","targetAverageUtilization":99999999999}}]',
        '{"ScaleUp":{"Policies":[7]}}',
        '{"ScaleUp":{"Policies":{}}}',
        '[{"type":1}]',
    ],
)
def test_annotations_of_wrong_types_are_left_out(text):
    obj = {**autoscaling.to_v1(_v2(CPU))}
    obj["metadata"] = {
        "annotations": {f"{PREFIX}{name}": text for name in ("metrics", "behavior", "conditions")}
    }
    assert autoscaling.to_v2(obj)["spec"] == _v2(CPU)["spec"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a":1}', "null", '[{"type":"Pods","pods":3}]'])
def test_annotations_that_can_not_be_read_are_left_out(text):
    obj = {**autoscaling.to_v1(_v2(CPU))}
    obj["metadata"] = {
        "annotations": {f"{PREFIX}{name}": text for name in ("metrics", "behavior", "conditions")}
    }
    back = autoscaling.to_v2(obj)
    assert back["spec"]["metrics"][-1] == CPU and "annotations" not in back["metadata"]
