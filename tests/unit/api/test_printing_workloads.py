"""Rows of workloads and of what scales and bounds them."""

import json

import pytest

from orchestrator.api import autoscaling, printing
from orchestrator.api import resources as table
from orchestrator.api.item import Item, encode

NOW_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z
CREATED = "2023-11-14T22:10:00Z"
SPEC = {
    "replicas": 3,
    "selector": {"matchLabels": {"app": "web"}},
    "template": {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}]},
    },
}


def _table(resource, obj):
    metadata = {"name": "x", "creationTimestamp": CREATED, **obj.get("metadata", {})}
    return json.loads(printing.table(resource, [Item(encode({**obj, "metadata": metadata}), 7)], NOW_S))


def _row(resource, **obj):
    body = _table(resource, obj)
    cells = body["rows"][0]["cells"]
    return dict(zip([column["name"] for column in body["columnDefinitions"]], cells, strict=True))


@pytest.mark.parametrize(
    ("resource", "narrow", "broad"),
    [
        (table.STATEFULSETS, "Name Ready Age", "Containers Images"),
        (
            table.DAEMONSETS,
            "Name Desired Current Ready Up-to-date Available Node_Selector Age",
            "Containers Images Selector",
        ),
        (table.REPLICATIONCONTROLLERS, "Name Desired Current Ready Age", "Containers Images Selector"),
        (table.PODTEMPLATES, "Name Containers Images Pod_Labels", ""),
        (table.JOBS, "Name Status Completions Duration Age", "Containers Images Selector"),
        (
            table.CRONJOBS,
            "Name Schedule Timezone Suspend Active Last_Schedule Age",
            "Containers Images Selector",
        ),
        (table.HORIZONTALPODAUTOSCALERS, "Name Reference Targets MinPods MaxPods Replicas Age", ""),
        (table.PODDISRUPTIONBUDGETS, "Name Min_Available Max_Unavailable Allowed_Disruptions Age", ""),
        (table.RESOURCEQUOTAS, "Name Age Request Limit", ""),
        (table.PRIORITYCLASSES, "Name Value Global-Default Age PreemptionPolicy", ""),
        (table.LIMITRANGES, "Name Created_At", ""),
    ],
    ids=lambda value: getattr(value, "plural", ""),
)
def test_columns_are_those_that_users_know(resource, narrow, broad):
    columns = _table(resource, {})["columnDefinitions"]
    for priority, names in ((0, narrow), (1, broad)):
        found = [column["name"] for column in columns if column["priority"] == priority]
        assert found == [name.replace("_", " ") for name in names.split()]


def _true(*names):
    return [{"type": name, "status": "True"} for name in names]


@pytest.mark.parametrize(
    ("resource", "fields", "expected"),
    [
        (
            table.STATEFULSETS,
            {"spec": SPEC, "status": {"readyReplicas": 2}},
            {"Ready": "2/3", "Age": "3m20s", "Containers": "a,b", "Images": "i:1,j:2"},
        ),
        (
            table.DAEMONSETS,
            {"spec": SPEC, "status": {"desiredNumberScheduled": 4, "numberReady": 3}},
            {"Desired": 4, "Current": 0, "Ready": 3, "Node Selector": "<none>", "Selector": "app=web"},
        ),
        (
            table.REPLICATIONCONTROLLERS,
            {"spec": {**SPEC, "selector": {"app": "web"}}, "status": {"replicas": 1}},
            {"Desired": 3, "Current": 1, "Ready": 0, "Selector": "app=web"},
        ),
        (table.PODTEMPLATES, SPEC, {"Containers": "a,b", "Pod Labels": "app=web"}),
        (
            table.JOBS,
            {
                "spec": {**SPEC, "completions": 5},
                "status": {"succeeded": 2, "startTime": "2023-11-14T22:12:20Z"},
            },
            {"Status": "Running", "Completions": "2/5", "Duration": "60s", "Selector": "app=web"},
        ),
        (
            table.JOBS,
            {
                "spec": {"parallelism": 3},
                "status": {
                    "startTime": "2023-11-14T22:10:00Z",
                    "completionTime": "2023-11-14T22:10:07Z",
                    "conditions": _true("SuccessCriteriaMet", "Complete"),
                },
            },
            {"Status": "Complete", "Completions": "0/1 of 3", "Duration": "7s"},
        ),
        (table.JOBS, {"status": {"conditions": _true("FailureTarget", "Failed")}}, {"Status": "Failed"}),
        (table.JOBS, {"status": {"conditions": _true("Suspended")}}, {"Status": "Suspended", "Duration": ""}),
        (
            table.JOBS,
            {"metadata": {"deletionTimestamp": CREATED}},
            {"Status": "Terminating", "Completions": "0/1"},
        ),
        (
            table.CRONJOBS,
            {
                "spec": {"schedule": "* * * * *", "suspend": False, "jobTemplate": {"spec": SPEC}},
                "status": {"active": [{}], "lastScheduleTime": "2023-11-14T22:13:00Z"},
            },
            {
                "Schedule": "* * * * *",
                "Timezone": "<none>",
                "Suspend": "False",
                "Active": 1,
                "Last Schedule": "20s",
            },
        ),
        (
            table.PODDISRUPTIONBUDGETS,
            {"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}},
            {"Min Available": "50%", "Max Unavailable": "N/A", "Allowed Disruptions": 2},
        ),
        (
            table.RESOURCEQUOTAS,
            {"status": {"hard": {"pods": "4", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "3"}}},
            {"Request": "cpu: 0/1, pods: 3/4", "Limit": "limits.cpu: 0/2"},
        ),
        (
            table.PRIORITYCLASSES,
            {"value": 9, "preemptionPolicy": "Never"},
            {"Value": 9, "Global-Default": False, "PreemptionPolicy": "Never"},
        ),
    ],
)
def test_row(resource, fields, expected):
    row = _row(resource, **fields)
    assert {name: row[name] for name in expected} == expected


def _resource(name, **target):
    return {"type": "Resource", "resource": {"name": name, "target": target}}


CPU = _resource("cpu", type="Utilization", averageUtilization=80)
MEMORY = _resource("memory", type="AverageValue", averageValue="1Gi")
EXTERNAL = {"type": "External", "external": {"target": {"type": "Value", "value": "5"}}}
PODS = {"type": "Pods", "pods": {"target": {"type": "AverageValue", "averageValue": "7"}}}


@pytest.mark.parametrize(
    ("metrics", "currents", "expected"),
    [
        ([], [], "<none>"),
        ([CPU], [], "cpu: <unknown>/80%"),
        (
            [CPU],
            [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 3}}}],
            "cpu: 3%/80%",
        ),
        ([MEMORY, PODS], [], "memory: <unknown>/1Gi, <unknown>/7"),
        ([PODS, EXTERNAL, CPU], [], "<unknown>/7, <unknown>/5 + 1 more..."),
        (
            [{"type": "External", "external": {"target": {"averageValue": "5"}}}],
            [{"type": "External", "external": {"current": {"averageValue": "2"}}}],
            "2/5 (avg)",
        ),
    ],
)
def test_targets_of_an_autoscaler(metrics, currents, expected):
    scaler = {
        "apiVersion": autoscaling.V2,
        "metadata": {},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "maxReplicas": 3,
            "metrics": metrics,
        },
        "status": {"currentMetrics": currents},
    }
    row = _row(table.HORIZONTALPODAUTOSCALERS, **scaler)
    assert row["Targets"] == expected
    assert (row["Reference"], row["MinPods"], row["MaxPods"], row["Replicas"]) == (
        "Deployment/web",
        "<unset>",
        3,
        0,
    )


def test_v1_of_an_autoscaler_has_the_same_row():
    scaler = {
        "apiVersion": autoscaling.V2,
        "metadata": {},
        "spec": {"maxReplicas": 3, "metrics": [PODS, MEMORY]},
    }
    old = autoscaling.to_v1(scaler)
    assert _row(table.HORIZONTALPODAUTOSCALERS_V1, **old) == _row(table.HORIZONTALPODAUTOSCALERS, **scaler)
