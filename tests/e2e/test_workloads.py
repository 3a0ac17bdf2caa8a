"""One story per workload controller, with real containers and the newest kubectl."""

import json
from typing import Any

import pytest

from tests.e2e import images
from tests.e2e.cluster import Api, Cluster, Kubectl, condition, wait_for

pytestmark = pytest.mark.e2e

SERVE = {"name": "web", "image": images.WEB, "ports": [{"name": "http", "containerPort": images.PORT}]}


def pod_template(app: str, *, command: str = "", **spec: Any) -> dict[str, Any]:
    """Of a web server, or of a container that runs a shell command."""
    container = {"name": "main", "image": images.WEB, "command": ["sh", "-c", command]} if command else SERVE
    labels = {"labels": {"app": app}}
    return {
        "metadata": labels,
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def workload(kind: str, name: str, group: str = "apps/v1", **spec: Any) -> dict[str, Any]:
    """With the selector that kinds of the group `apps` want."""
    if group == "apps/v1":
        spec = {"selector": {"matchLabels": {"app": name}}, **spec}
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}


def pods_of(api: Api, namespace: str, app: str) -> list[dict[str, Any]]:
    found = api.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def ready_names(api: Api, namespace: str, app: str) -> list[str]:
    ready = [pod for pod in pods_of(api, namespace, app) if condition(pod, "Ready") == "True"]
    return sorted(pod["metadata"]["name"] for pod in ready)


def test_a_stateful_set_has_names_addresses_and_claims_that_stay(
    cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    api = cluster.api
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    template = pod_template("db")
    template["spec"]["containers"] = [{**SERVE, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]
    stateful_set = workload(
        "StatefulSet", "db", serviceName="db", replicas=2, template=template, volumeClaimTemplates=[claim],
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"},
    )  # fmt: skip
    service = images.service("db", clusterIP="None", selector={"app": "db"})
    kubectl("-n", namespace, "apply", "-f", "-", stdin=images.manifest(service, stateful_set))
    kubectl("-n", namespace, "rollout", "status", "statefulset/db", "--timeout=60s")
    assert ready_names(api, namespace, "db") == ["db-0", "db-1"]
    kubectl("-n", namespace, "exec", "db-1", "--", "sh", "-c", "echo kept > /data/file")
    kubectl("-n", namespace, "delete", "pod", "db-1")
    wait_for(lambda: ready_names(api, namespace, "db") == ["db-0", "db-1"], "db-1 is back")
    assert kubectl("-n", namespace, "exec", "db-1", "--", "cat", "/data/file") == "kept\n"
    subsets = api.get(f"/api/v1/namespaces/{namespace}/endpoints/db")["subsets"]
    assert sorted(address["hostname"] for address in subsets[0]["addresses"]) == ["db-0", "db-1"]
    kubectl("-n", namespace, "scale", "statefulset/db", "--replicas=1")
    wait_for(lambda: ready_names(api, namespace, "db") == ["db-0"], "the last pod goes first")
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    assert sorted(c["metadata"]["name"] for c in api.items(claims)) == ["data-db-0", "data-db-1"]
    kubectl("-n", namespace, "delete", "statefulset", "db")
    names = ("data-db-1",)  # Scaled away before, and kept by whenScaled.
    wait_for(lambda: {c["metadata"]["name"] for c in api.items(claims)} <= set(names), "its claims went")


def test_a_daemon_set_runs_where_it_may(cluster: Cluster, kubectl: Kubectl, namespace: str) -> None:
    api = cluster.api
    node = api.items("/api/v1/nodes")[0]["metadata"]["name"]
    daemon_set = workload("DaemonSet", "agent", template=pod_template("agent", nodeSelector={"role": "edge"}))
    kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(daemon_set))
    path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/agent"
    wait_for(lambda: (api.get(path).get("status") or {}).get("observedGeneration"), "it was looked at")
    assert api.get(path)["status"]["desiredNumberScheduled"] == 0
    try:
        kubectl("label", "node", node, "role=edge")
        kubectl("-n", namespace, "rollout", "status", "daemonset/agent", "--timeout=60s")
        wait_for(lambda: len(ready_names(api, namespace, "agent")) == 1, "a pod on the labelled node")
        before = ready_names(api, namespace, "agent")
        kubectl("-n", namespace, "set", "env", "daemonset/agent", "VERSION=2")
        kubectl("-n", namespace, "rollout", "status", "daemonset/agent", "--timeout=60s")
        assert ready_names(api, namespace, "agent") != before
        assert "REVISION" in kubectl("-n", namespace, "rollout", "history", "daemonset/agent")
    finally:
        kubectl("label", "node", node, "role-", "--overwrite")
    wait_for(lambda: not pods_of(api, namespace, "agent"), "the pod leaves with the label")


def test_jobs_count_their_pods_and_cron_jobs_make_jobs(
    cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    api = cluster.api
    indexed = workload(
        "Job", "parts", "batch/v1", completions=3, parallelism=2, completionMode="Indexed",
        ttlSecondsAfterFinished=600,
        template=pod_template("parts", command="echo part $JOB_COMPLETION_INDEX", restartPolicy="Never"),
    )  # fmt: skip
    failing = workload(
        "Job", "fails", "batch/v1", backoffLimit=0,
        template=pod_template("fails", command="exit 3", restartPolicy="Never"),
    )  # fmt: skip
    kubectl("-n", namespace, "apply", "-f", "-", stdin=images.manifest(indexed, failing))
    kubectl("-n", namespace, "wait", "--for=condition=complete", "job/parts", "--timeout=60s")
    status = api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/parts")["status"]
    assert (status["succeeded"], status["completedIndexes"]) == (3, "0-2")
    logs = [
        kubectl("-n", namespace, "logs", pod["metadata"]["name"]) for pod in pods_of(api, namespace, "parts")
    ]
    assert sorted(logs) == ["part 0\n", "part 1\n", "part 2\n"]
    kubectl("-n", namespace, "wait", "--for=condition=failed", "job/fails", "--timeout=60s")
    reason = api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/fails")["status"]["conditions"][-1][
        "reason"
    ]
    assert reason == "BackoffLimitExceeded"
    cron = workload(
        "CronJob", "tick", "batch/v1", schedule="* * * * *",
        jobTemplate={"spec": {"template": pod_template("tick", command="echo tick", restartPolicy="Never")}},
    )  # fmt: skip
    kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(cron))
    kubectl("-n", namespace, "create", "job", "now", "--from=cronjob/tick")
    kubectl("-n", namespace, "wait", "--for=condition=complete", "job/now", "--timeout=60s")
    path = f"/apis/batch/v1/namespaces/{namespace}"
    wait_for(
        lambda: api.get(f"{path}/cronjobs/tick").get("status", {}).get("lastSuccessfulTime"), "it ticked", 90
    )


def test_a_disruption_budget_holds_evictions_and_drains(
    cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    api = cluster.api
    deployment = workload("Deployment", "guarded", replicas=2, template=pod_template("guarded"))
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "guarded"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "guarded"}}},
    }
    kubectl("-n", namespace, "apply", "-f", "-", stdin=images.manifest(deployment, budget))
    kubectl("-n", namespace, "rollout", "status", "deployment/guarded", "--timeout=60s")
    path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/guarded"
    wait_for(lambda: api.get(path).get("status", {}).get("currentHealthy") == 2, "the budget counts its pods")
    name = ready_names(api, namespace, "guarded")[0]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    evict = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    refused = api.call("POST", evict, eviction)
    assert refused.code == 429, refused.text
    assert refused.body["details"]["causes"][0]["reason"] == "DisruptionBudget"
    kubectl("-n", namespace, "patch", "pdb", "guarded", "-p", '{"spec":{"minAvailable":1}}')
    wait_for(lambda: api.get(path)["status"]["disruptionsAllowed"] == 1, "one may go")
    assert api.call("POST", evict, eviction).code == 201
    wait_for(lambda: name not in ready_names(api, namespace, "guarded"), "it went")
    wait_for(lambda: len(ready_names(api, namespace, "guarded")) == 2, "another took its place")


def test_a_bad_rollout_returns_by_itself_where_it_is_asked_to(
    cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    api = cluster.api
    deployment = workload(
        "Deployment", "careful", replicas=1, progressDeadlineSeconds=5, template=pod_template("careful")
    )
    deployment["metadata"]["annotations"] = {"orchestrator.internal/rollback": "on-deadline"}
    kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(deployment))
    kubectl("-n", namespace, "rollout", "status", "deployment/careful", "--timeout=60s")
    kubectl("-n", namespace, "set", "image", "deployment/careful", "web=registry.invalid/none:1")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/careful"

    def image() -> str:
        return str(api.get(path)["spec"]["template"]["spec"]["containers"][0]["image"])

    wait_for(lambda: image() == images.WEB, "it returned to the image that worked")
    kubectl("-n", namespace, "rollout", "status", "deployment/careful", "--timeout=60s")
    assert "RolledBack" in kubectl("-n", namespace, "describe", "deployment", "careful")


def test_a_replication_controller_keeps_its_pods(cluster: Cluster, kubectl: Kubectl, namespace: str) -> None:
    template = pod_template("old")
    controller = workload(
        "ReplicationController", "old", "v1", replicas=2, selector={"app": "old"}, template=template
    )
    kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(controller))
    names = wait_for(
        lambda: len(found := ready_names(cluster.api, namespace, "old")) == 2 and found, "two ready pods"
    )
    kubectl("-n", namespace, "delete", "pod", names[0])
    wait_for(lambda: len(ready_names(cluster.api, namespace, "old")) == 2, "the deleted one is replaced")
    kubectl("-n", namespace, "delete", "rc", "old")
    wait_for(lambda: not pods_of(cluster.api, namespace, "old"), "they go with it")


def test_a_quota_holds_pods_back_until_there_is_room(
    cluster: Cluster, kubectl: Kubectl, namespace: str
) -> None:
    api = cluster.api
    kubectl("-n", namespace, "create", "quota", "small", "--hard=pods=1")
    path = f"/api/v1/namespaces/{namespace}/resourcequotas/small"
    wait_for(lambda: (api.get(path).get("status") or {}).get("used"), "the quota is measured")
    kubectl("-n", namespace, "apply", "-f", "-",
            stdin=json.dumps(workload("Deployment", "many", replicas=2, template=pod_template("many"))))  # fmt: skip
    wait_for(lambda: len(ready_names(api, namespace, "many")) == 1, "the one that fits")
    deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/many"
    wait_for(lambda: condition(api.get(deployment), "ReplicaFailure") == "True", "the refusal is told")
    assert "exceeded quota: small" in json.dumps(api.get(deployment)["status"])
    kubectl("-n", namespace, "patch", "quota", "small", "-p", '{"spec":{"hard":{"pods":"2"}}}')
    wait_for(lambda: len(ready_names(api, namespace, "many")) == 2, "there is room now")
    assert api.get(path)["status"]["used"]["pods"] == "2"
