"""Pods that fail, and pods that talk to the API."""

import pytest

from tests.e2e import images
from tests.e2e.cluster import wait_for

pytestmark = pytest.mark.e2e


def path_of(namespace: str, kind: str = "pods") -> str:
    return f"/api/v1/namespaces/{namespace}/{kind}"


def pod(name: str, *command: str, **container: object) -> dict:
    main = {"name": "main", "image": images.WEB, "command": list(command), **container}
    return {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [main]}}


def status_of(api, namespace: str, name: str) -> dict:
    """The status of the pod's only container, empty until there is one."""
    statuses = api.get(f"{path_of(namespace)}/{name}")["status"].get("containerStatuses")
    return statuses[0] if statuses else {}


def events_of(api, namespace: str, name: str) -> dict[str, str]:
    """Reason → message of the pod's events."""
    found = api.items(path_of(namespace, "events"))
    return {e["reason"]: e.get("message", "") for e in found if e["involvedObject"]["name"] == name}


def test_a_killed_container_is_restarted_with_back_off(api, cluster, namespace):
    api.create(path_of(namespace), pod("victim", "sh", "-c", "sleep 1000 & wait"))
    wait_for(lambda: status_of(api, namespace, "victim").get("ready"), "the container runs")
    for restarts in (1, 2):
        found = cluster.containers(pod_name="victim", container_name="main")
        assert len(found) == 1
        cluster.engine_call("POST", f"containers/{found[0]['Id']}/kill")
        if restarts == 2:
            waiting = wait_for(
                lambda: status_of(api, namespace, "victim").get("state", {}).get("waiting"), "it waits"
            )
            assert waiting["reason"] == "CrashLoopBackOff"
            assert "back-off 10s" in waiting["message"]
        wait_for(
            lambda restarts=restarts: (
                (s := status_of(api, namespace, "victim")).get("restartCount") == restarts and s["ready"]
            ),
            f"restart {restarts}",
        )
    last = status_of(api, namespace, "victim")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "Error")
    assert "BackOff" in events_of(api, namespace, "victim")


def test_a_failing_image_says_why(api, namespace):
    api.create(path_of(namespace), pod("absent", "sh", image="127.0.0.1:1/nowhere/image:1"))
    seen = set()

    def look() -> bool:
        waiting = status_of(api, namespace, "absent").get("state", {}).get("waiting", {})
        seen.add(waiting.get("reason"))
        return {"ErrImagePull", "ImagePullBackOff"} <= seen

    wait_for(look, f"both reasons show: {seen}")
    events = wait_for(
        lambda: {"Failed", "BackOff"} <= set(e := events_of(api, namespace, "absent")) and e, "its events"
    )
    assert "127.0.0.1:1/nowhere/image:1" in events["BackOff"]
    assert api.get(f"{path_of(namespace)}/absent")["status"]["phase"] == "Pending"


IN_CLUSTER = """
import kubernetes
kubernetes.config.load_incluster_config()
api = kubernetes.client.CoreV1Api()
print(open('/var/run/secrets/kubernetes.io/serviceaccount/namespace').read())
print(api.api_client.configuration.host)
print(','.join(sorted(m.metadata.name for m in api.list_namespaced_config_map('NAMESPACE').items)))
try:
    api.list_namespaced_secret('NAMESPACE')
except kubernetes.client.ApiException as error:
    print(error.status)
"""


def test_an_in_cluster_client_works_and_may_do_what_its_roles_say(api, namespace):
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    api.create(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    binding = {"metadata": {"name": "reader"}, "subjects": [subject], "roleRef": reference}
    api.create(f"{rbac}/rolebindings", binding)
    script = IN_CLUSTER.replace("NAMESPACE", namespace)
    api.create(path_of(namespace), images.python_pod("client", script))
    ended = wait_for(
        lambda: (
            (p := api.get(f"{path_of(namespace)}/client"))["status"]["phase"] in ("Succeeded", "Failed") and p
        ),
        "the client ends",
    )
    output = api.call("GET", f"{path_of(namespace)}/client/log").text
    assert ended["status"]["phase"] == "Succeeded", output
    assert output.split("\n")[:4] == [namespace, "https://10.63.0.1:443", "kube-root-ca.crt", "403"]
