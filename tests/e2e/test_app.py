"""The main job: three web servers with configuration, secret, limits and probes behind two Services."""

import base64
import re
import subprocess
import urllib.request
from collections import Counter

import pytest

from tests.e2e import images
from tests.e2e.cluster import Api, Cluster, condition, wait_for

PODS = "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb"
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/web"

pytestmark = pytest.mark.e2e


def fetch(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as response:
        return response.read().decode()


def ready_pods(api: Api) -> list[dict]:
    pods = api.items(PODS)
    return [p for p in pods if condition(p, "Ready") == "True" and "deletionTimestamp" not in p["metadata"]]


def run_python(api: Api, name: str, script: str, namespace: str = "default") -> str:
    """The output of a script that runs in a pod of its own, which must end well."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    api.create(path, images.python_pod(name, script))
    try:
        ended = wait_for(
            lambda: (
                (pod := api.get(f"{path}/{name}"))["status"].get("phase") in ("Succeeded", "Failed") and pod
            ),
            f"pod {name} ends",
        )
        output = api.call("GET", f"{path}/{name}/log").text
        assert ended["status"]["phase"] == "Succeeded", output
        return output
    finally:
        api.delete(f"{path}/{name}")


@pytest.fixture(scope="module")
def app(cluster: Cluster):
    """The application in the namespace `default`, rolled out."""
    api, core = cluster.api, "/api/v1/namespaces/default"
    objects = {
        f"{core}/configmaps": {
            "metadata": {"name": "web"}, "data": {"colour": "green", "motd": "welcome\n"},
        },
        f"{core}/secrets": {
            "metadata": {"name": "web"}, "data": {"token": base64.b64encode(b"s3cret").decode()},
        },
        f"{core}/services": images.service(),
    }  # fmt: skip
    for path, obj in objects.items():
        api.create(path, obj)
    api.create(f"{core}/services", images.service("web-outside", type="NodePort"))
    deployment = images.web_deployment(
        env=[
            {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "colour"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "web", "key": "token"}}},
        ],
        resources={
            "requests": {"cpu": "10m", "memory": "8Mi"},
            "limits": {"cpu": "500m", "memory": "32Mi"},
        },
        livenessProbe={"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 10},
        volumeMounts=[
            {"name": "config", "mountPath": "/config"},
            {"name": "secret", "mountPath": "/secret"},
        ],
    )
    deployment["spec"]["template"]["spec"]["volumes"] = [
        {"name": "config", "configMap": {"name": "web"}},
        {"name": "secret", "secret": {"secretName": "web", "defaultMode": 0o400}},
    ]
    api.create("/apis/apps/v1/namespaces/default/deployments", deployment)
    wait_for(lambda: len(ready_pods(api)) == 3, "three ready pods")
    yield api
    api.delete(DEPLOYMENT)
    for path in (f"{core}/services/web", f"{core}/services/web-outside", f"{core}/configmaps/web"):
        api.delete(path)
    api.delete(f"{core}/secrets/web")
    wait_for(lambda: not api.items(PODS), "the pods are gone")


def test_containers_get_configuration_secret_and_limits(app, cluster, kubectl):
    pod = ready_pods(app)[0]["metadata"]["name"]
    assert kubectl("exec", pod, "--", "sh", "-c", 'echo "$COLOUR $TOKEN"') == "green s3cret\n"
    assert kubectl("exec", pod, "--", "cat", "/config/motd", "/secret/token") == "welcome\ns3cret"
    facts = cluster.containers(pod_name=pod, container_name="web")[0]
    limits = cluster.engine_call("GET", f"containers/{facts['Id']}/json")["HostConfig"]
    assert limits["Memory"] == 32 * 1024 * 1024
    assert limits["CpuQuota"] / limits["CpuPeriod"] == 0.5


def test_every_pod_has_its_own_address_and_is_reached_without_translation(app, cluster):
    addresses = [pod["status"]["podIP"] for pod in ready_pods(app)]
    assert len(set(addresses)) == 3
    assert all(address.startswith("10.62.") for address in addresses)
    for address in addresses:
        assert fetch(f"http://{address}:8080/").startswith("web-"), "the host does not reach a pod"
    seen = run_python(
        app,
        "neighbour",
        "import socket, urllib.request as r\n"
        f"for a in {addresses}: print(r.urlopen(f'http://{{a}}:8080/', timeout=5).read().decode().split()[2])\n"
        "print(socket.gethostbyname(socket.gethostname()))\n"
        f"print(socket.create_connection(('{cluster.node_ip}', {cluster.api.server.rsplit(':', 1)[1]}), 5) and 'host')",
    ).split()
    own = seen[3]
    assert [text.strip("[]").split(":")[-1] for text in seen[:3]] == [own] * 3, (
        "a pod saw another address than its peer's"
    )
    assert seen[4] == "host"


def test_names_resolve_and_requests_spread_over_the_ready_pods_only(app, cluster):
    urls = ("http://web/", "http://web.default.svc.cluster.local/")
    answers = run_python(
        app,
        "client",
        "import urllib.request as r\n"
        f"for n in range(60): print(r.urlopen({urls}[n % 2], timeout=5).read().decode().split()[0])",
    ).split()
    names = {pod["metadata"]["name"] for pod in ready_pods(app)}
    assert set(answers) == names
    assert min(Counter(answers).values()) >= 8, Counter(answers)


def test_cluster_address_and_node_port_answer_on_the_host(app, cluster):
    service = app.get("/api/v1/namespaces/default/services/web")["spec"]
    outside = app.get("/api/v1/namespaces/default/services/web-outside")["spec"]
    assert 30000 <= outside["ports"][0]["nodePort"] <= 32767
    names = {pod["metadata"]["name"] for pod in ready_pods(app)}
    urls = [f"http://{service['clusterIP']}/", f"http://{cluster.node_ip}:{outside['ports'][0]['nodePort']}/"]
    for url in urls:
        assert {fetch(url).split()[0] for _ in range(30)} == names, url


def _endpoints(app) -> dict[str, bool]:
    """Whether each pod behind the Service `web` is ready, by its slices."""
    slices = app.items(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dweb"
    )
    return {e["targetRef"]["name"]: e["conditions"]["ready"] for s in slices for e in s["endpoints"]}


def test_a_failing_readiness_probe_takes_the_pod_out_of_the_service(app, kubectl):
    victim = ready_pods(app)[0]["metadata"]["name"]
    url = f"http://{app.get('/api/v1/namespaces/default/services/web')['spec']['clusterIP']}/"
    kubectl("exec", victim, "--", "rm", "/www/ready")
    wait_for(lambda: len(ready_pods(app)) == 2, "one pod is not ready")
    wait_for(
        lambda: victim not in {fetch(url).split()[0] for _ in range(20)}, "the Service leaves the pod out"
    )
    pod = app.get(f"/api/v1/namespaces/default/pods/{victim}")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    others = {pod["metadata"]["name"]: True for pod in ready_pods(app)}
    wait_for(lambda: _endpoints(app) == {**others, victim: False}, "its endpoint says that it is not ready")
    kubectl("exec", victim, "--", "touch", "/www/ready")
    wait_for(lambda: len(ready_pods(app)) == 3, "the pod is ready again")
    wait_for(lambda: victim in {fetch(url).split()[0] for _ in range(20)}, "the Service takes it in again")


def test_a_deleted_pod_is_replaced(app):
    before = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in ready_pods(app)}
    victim = next(iter(before.values()))
    app.delete(f"/api/v1/namespaces/default/pods/{victim}")

    def replaced() -> bool:
        after = {pod["metadata"]["uid"] for pod in ready_pods(app)}
        return len(after) == 3 and len(after & set(before)) == 2

    wait_for(replaced, "a new pod is ready")
    wait_for(lambda: len(app.items(PODS)) == 3, "the old pod is gone")


LOAD = """
import signal, socket, sys, threading, time, urllib.request
done, counts, failures = threading.Event(), [0], []
signal.signal(signal.SIGTERM, lambda *_: done.set())
def work():
    while not done.is_set():
        try:
            text = urllib.request.urlopen('http://web/', timeout=5).read().decode()
            assert text.startswith('web-'), text
            counts[0] += 1
        except Exception as error:
            failures.append(repr(error))
        time.sleep(0.02)
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
print('started', flush=True)
done.wait(90)
[thread.join() for thread in threads]
print('requests', counts[0], 'failures', len(failures), failures[:5], flush=True)
"""


def test_a_rolling_update_under_load_fails_no_request(app, kubectl):
    path = "/api/v1/namespaces/default/pods"
    app.create(path, images.python_pod("load", LOAD, terminationGracePeriodSeconds=20, restartPolicy="Never"))
    try:
        wait_for(lambda: "started" in app.call("GET", f"{path}/load/log").text, "the load has started")
        kubectl("set", "env", "deployment/web", "VERSION=2")
        kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        wait_for(lambda: len(app.items(PODS)) == 3, "the old pods are gone")
        follower = kubectl.start("logs", "-f", "load", stdout=subprocess.PIPE)
        app.delete(f"{path}/load")
        output = follower.communicate(timeout=40)[0]
    finally:
        app.delete(f"{path}/load")
    found = re.search(r"requests (\d+) failures (\d+) (.*)", output)
    assert found, output
    assert int(found[1]) > 100, output
    assert found[2] == "0", output
    url = f"http://{app.get('/api/v1/namespaces/default/services/web')['spec']['clusterIP']}/"
    assert {fetch(url).split()[1] for _ in range(20)} == {"2"}
