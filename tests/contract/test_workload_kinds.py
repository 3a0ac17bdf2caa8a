"""Workloads over HTTP: defaults as clients see them, scale, both versions of autoscalers, one default class."""

import json

import pytest

APPS, BATCH = "/apis/apps/v1/namespaces/default", "/apis/batch/v1/namespaces/default"
SCALERS = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
LABELS = {"app": "web"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
ONCE = {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
SELECTED = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}


def _named(name, **fields):
    return {"metadata": {"name": name}, **fields}


async def _row(cluster, path):
    _, body, _ = await cluster.call("GET", path, headers=TABLE)
    names = [column["name"] for column in body["columnDefinitions"]]
    return dict(zip(names, body["rows"][0]["cells"], strict=True))


@pytest.mark.parametrize(
    ("path", "spec", "selector"),
    [
        (f"{APPS}/statefulsets", {**SELECTED, "replicas": 2}, "app=web"),
        (f"{APPS}/deployments", {**SELECTED, "replicas": 2}, "app=web"),
        (
            "/api/v1/namespaces/default/replicationcontrollers",
            {"template": TEMPLATE, "replicas": 2},
            "app=web",
        ),
    ],
    ids=["statefulset", "deployment", "replicationcontroller"],
)
async def test_scale(cluster, path, spec, selector):
    code, _, _ = await cluster.call("POST", path, _named("w", spec=spec))
    assert code == 201
    _, scale, _ = await cluster.call("GET", f"{path}/w/scale")
    assert scale["spec"] == {"replicas": 2} and scale["status"] == {"replicas": 0, "selector": selector}
    code, scale, _ = await cluster.call("PUT", f"{path}/w/scale", {**scale, "spec": {"replicas": 5}})
    assert code == 200 and scale["spec"] == {"replicas": 5}
    _, stored, _ = await cluster.call("GET", f"{path}/w")
    assert stored["spec"]["replicas"] == 5 and stored["metadata"]["generation"] == 2


async def test_a_statefulset_that_may_not_change(cluster):
    _, stored, _ = await cluster.call("POST", f"{APPS}/statefulsets", _named("db", spec=SELECTED))
    changed = {**stored, "spec": {**stored["spec"], "serviceName": "other"}}
    code, status, _ = await cluster.call("PUT", f"{APPS}/statefulsets/db", changed)
    assert (code, status["reason"]) == (422, "Invalid")
    assert status["message"] == (
        'StatefulSet.apps "db" is invalid: spec: Forbidden: updates to statefulset spec for fields other than'
        " 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit',"
        " 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )
    (cause,) = status["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldValueForbidden", "spec")


async def test_a_job_and_its_row(cluster):
    code, job, _ = await cluster.call("POST", f"{BATCH}/jobs", _named("once", spec={"template": ONCE}))
    assert code == 201, job
    uid = job["metadata"]["uid"]
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert job["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "once"
    row = await _row(cluster, f"{BATCH}/jobs/once")
    assert (row["Status"], row["Completions"], row["Duration"]) == ("Running", "0/1", "")
    code, _, _ = await cluster.call("PUT", f"{BATCH}/jobs/once", job)
    assert code == 200, "what was read can be written"
    for successes, count in ((0, 1), (1, 0)):
        _, found, _ = await cluster.call("GET", f"{BATCH}/jobs?fieldSelector=status.successful={successes}")
        assert len(found["items"]) == count
    patch = json.dumps({"spec": {"suspend": True}}).encode()
    headers = {"Content-Type": "application/merge-patch+json"}
    code, job, _ = await cluster.call("PATCH", f"{BATCH}/jobs/once", patch, headers=headers)
    assert code == 200 and job["metadata"]["generation"] == 2


async def test_a_job_of_a_cronjob_can_be_made_by_hand(cluster):
    spec = {"schedule": "@every 5m", "jobTemplate": {"spec": {"template": ONCE}}}
    code, cronjob, _ = await cluster.call("POST", f"{BATCH}/cronjobs", _named("tick", spec=spec))
    assert code == 201, cronjob
    job = _named("tick-manual", spec=cronjob["spec"]["jobTemplate"]["spec"])
    code, _, _ = await cluster.call("POST", f"{BATCH}/jobs", job)
    assert code == 201
    row = await _row(cluster, f"{BATCH}/cronjobs/tick")
    assert (row["Schedule"], row["Suspend"], row["Last Schedule"]) == ("@every 5m", "False", "<none>")


async def test_a_warning_about_a_name_that_is_no_host(cluster):
    body = _named("a.b", spec=SELECTED)
    code, _, answer = await cluster.call("POST", f"{APPS}/deployments", body)
    assert code == 201 and "a DNS label is recommended" in answer.headers["Warning"]


def _scaler(name, **spec):
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return _named(name, spec={"scaleTargetRef": reference, "maxReplicas": 4, **spec})


async def test_an_autoscaler_of_v1_is_one_of_v2(cluster):
    v1, v2 = SCALERS.format("v1"), SCALERS.format("v2")
    code, made, _ = await cluster.call("POST", v1, _scaler("a", targetCPUUtilizationPercentage=60))
    assert code == 201 and made["apiVersion"] == "autoscaling/v1"
    assert made["spec"]["targetCPUUtilizationPercentage"] == 60 and made["spec"]["minReplicas"] == 1
    _, shown, _ = await cluster.call("GET", f"{v2}/a")
    assert shown["apiVersion"] == "autoscaling/v2" and shown["metadata"]["uid"] == made["metadata"]["uid"]
    target = {"type": "Utilization", "averageUtilization": 60}
    assert shown["spec"]["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    _, bare, _ = await cluster.call("POST", v1, _scaler("b"))
    assert bare["spec"]["targetCPUUtilizationPercentage"] == 80


async def test_a_client_of_v1_loses_nothing_of_v2(cluster):
    v1, v2 = SCALERS.format("v1"), SCALERS.format("v2")
    memory = {"type": "Resource", "resource": {"name": "memory", "target": {
        "type": "AverageValue", "averageValue": "1Gi"}}}  # fmt: skip
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    _, before, _ = await cluster.call("POST", v2, _scaler("c", metrics=[memory], behavior=behavior))
    _, shown, _ = await cluster.call("GET", f"{v1}/c")
    code, _, _ = await cluster.call("PUT", f"{v1}/c", {**shown, "spec": {**shown["spec"], "maxReplicas": 7}})
    assert code == 200
    _, after, _ = await cluster.call("GET", f"{v2}/c")
    assert after["spec"] == {**before["spec"], "maxReplicas": 7}
    assert "annotations" not in after["metadata"]
    rows = [await _row(cluster, f"{path}/c") for path in (v1, v2)]
    assert rows[0] == rows[1] and rows[0]["Targets"] == "memory: <unknown>/1Gi"


async def test_v2_is_the_preferred_version_of_autoscaling(cluster):
    _, groups, _ = await cluster.call("GET", "/apis")
    (group,) = [group for group in groups["groups"] if group["name"] == "autoscaling"]
    assert [version["version"] for version in group["versions"]] == ["v2", "v1"]
    assert group["preferredVersion"]["version"] == "v2"


async def test_one_priority_class_is_the_default(cluster):
    first = _named("one", value=1, globalDefault=True)
    assert (await cluster.call("POST", CLASSES, first))[0] == 201
    second = _named("two", value=2, globalDefault=True)
    code, status, _ = await cluster.call("POST", CLASSES, second)
    assert (code, status["reason"]) == (403, "Forbidden") and "Only one default can exist" in status[
        "message"
    ]
    assert (await cluster.call("DELETE", f"{CLASSES}/one"))[0] == 200
    assert (await cluster.call("POST", CLASSES, second))[0] == 201


async def test_a_budget_and_a_quota(cluster):
    path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    code, status, _ = await cluster.call(
        "POST", path, _named("b", spec={"minAvailable": 1, "maxUnavailable": 1})
    )
    assert code == 422 and "minAvailable and maxUnavailable cannot be both set" in status["message"]
    assert (await cluster.call("POST", path, _named("b", spec={"minAvailable": 1})))[0] == 201
    path = "/api/v1/namespaces/default/resourcequotas"
    code, quota, _ = await cluster.call("POST", path, _named("q", spec={"hard": {"cpu": "0.5", "pods": 4}}))
    assert code == 201 and quota["spec"]["hard"] == {"cpu": "500m", "pods": "4"}
    used = {"hard": {"pods": "4"}, "used": {"pods": "1"}}
    code, quota, _ = await cluster.call("PUT", f"{path}/q/status", {**quota, "status": used})
    assert code == 200 and (await _row(cluster, f"{path}/q"))["Request"] == "pods: 1/4"
