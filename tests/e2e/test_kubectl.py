"""What people type, with the oldest and the newest kubectl; judged by the objects that result.

`test_matrix` runs a shorter script with all of them.
"""

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import time

import pytest
import yaml

from tests.e2e import images
from tests.e2e.cluster import condition, wait_for

pytestmark = pytest.mark.e2e


class Bound:
    """`kubectl --namespace <that of the test>`."""

    def __init__(self, kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace

    def run(self, *arguments: str, **settings: object):
        return self._kubectl.run("--namespace", self._namespace, *arguments, **settings)

    def __call__(self, *arguments: str, **settings: object) -> str:
        return self._kubectl("--namespace", self._namespace, *arguments, **settings)

    def json(self, *arguments: str, **settings: object):
        return self._kubectl.json("--namespace", self._namespace, *arguments, **settings)

    def start(self, *arguments: str, **settings: object):
        return self._kubectl.start("--namespace", self._namespace, *arguments, **settings)


@pytest.fixture
def k(oldest_and_newest_kubectl, namespace):
    return Bound(oldest_and_newest_kubectl, namespace)


def rows(table: str) -> list[dict[str, str]]:
    """A table of `kubectl get` by column."""
    head, *lines = table.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+(?: \S+)*", head)]
    ends = [*starts[1:], None]
    names = [head[a:b].strip() for a, b in zip(starts, ends, strict=True)]
    return [
        {name: line[a:b].strip() for name, a, b in zip(names, starts, ends, strict=True)}
        for line in lines
        if line
    ]


def read_until(descriptor: int, wanted: bytes, timeout_s: float = 20) -> bytes:
    seen, until_s = b"", time.monotonic() + timeout_s
    while wanted not in seen:
        assert time.monotonic() < until_s, f"{wanted!r} not in {seen!r}"
        if select.select([descriptor], [], [], 0.2)[0]:
            data = os.read(descriptor, 4096)
            assert data, f"ended without {wanted!r}: {seen!r}"
            seen += data
    return seen


def test_looking_around(k, oldest_and_newest_kubectl, cluster):
    name = cluster.node["metadata"]["name"]
    node = rows(oldest_and_newest_kubectl("get", "nodes", "-o", "wide"))[0]
    assert (node["NAME"], node["STATUS"], node["INTERNAL-IP"]) == (name, "Ready", cluster.node_ip)
    assert node["VERSION"].startswith("v1.36.")
    assert node["CONTAINER-RUNTIME"].startswith("docker://")
    services = oldest_and_newest_kubectl("get", "all", "-A")
    assert re.search(r"default +service/kubernetes +ClusterIP +10\.63\.0\.1", services)
    text = oldest_and_newest_kubectl("describe", "node", name)
    assert re.search(r"Ready +True .*KubeletReady", text)
    resources = oldest_and_newest_kubectl("api-resources", "--no-headers", "-o", "name").split()
    assert {"pods", "services", "deployments.apps", "endpointslices.discovery.k8s.io"} <= set(resources)
    assert "RESTART" in oldest_and_newest_kubectl("explain", "pod.spec.restartPolicy").upper()
    assert "replicas" in oldest_and_newest_kubectl("explain", "deployment.spec")
    version = json.loads(oldest_and_newest_kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"].startswith("v1.36.")


def test_creating_and_changing_objects(k, oldest_and_newest_kubectl, namespace, api, tmp_path):
    core = f"/api/v1/namespaces/{namespace}"
    k("create", "configmap", "settings", "--from-literal=colour=red")
    k("create", "secret", "generic", "token", "--from-literal=key=s3cret")
    assert api.get(f"{core}/configmaps/settings")["data"] == {"colour": "red"}
    assert api.get(f"{core}/secrets/token")["data"] == {"key": "czNjcmV0"}
    k("create", "namespace", f"{namespace}-x")
    assert condition_free(api.get(f"/api/v1/namespaces/{namespace}-x")) == "Active"
    oldest_and_newest_kubectl("delete", "namespace", f"{namespace}-x", "--timeout=60s")
    assert api.call("GET", f"/api/v1/namespaces/{namespace}-x").code == 404

    k("label", "configmap", "settings", "tier=front")
    k("annotate", "configmap", "settings", "note=hello")
    k("patch", "configmap", "settings", "-p", '{"data":{"size":"big"}}')
    k("patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"colour":null}}')
    patch = '[{"op":"add","path":"/data/shape","value":"round"}]'
    k("patch", "configmap", "settings", "--type=json", "-p", patch)
    found = api.get(f"{core}/configmaps/settings")
    assert found["data"] == {"size": "big", "shape": "round"}
    assert found["metadata"]["labels"] == {"tier": "front"}
    assert found["metadata"]["annotations"]["note"] == "hello"

    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/round/square/ "$1"\n')
    editor.chmod(0o755)
    k("edit", "configmap", "settings", env={"KUBE_EDITOR": str(editor)})
    assert api.get(f"{core}/configmaps/settings")["data"]["shape"] == "square"

    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "applied"},
        "data": {"a": "1", "b": "2"},
    }
    assert "created" in k("apply", "-f", "-", stdin=yaml.safe_dump(wanted))
    wanted["data"] = {"a": "1", "c": "3"}
    assert "configured" in k("apply", "-f", "-", stdin=yaml.safe_dump(wanted))
    assert api.get(f"{core}/configmaps/applied")["data"] == {"a": "1", "c": "3"}
    assert "unchanged" in k("apply", "-f", "-", stdin=yaml.safe_dump(wanted))
    code, _, errors = k.run("apply", "-f", "-", stdin=yaml.safe_dump({**wanted, "colour": "red"}))
    assert code != 0
    assert "colour" in errors
    k("delete", "configmap", "applied")
    assert api.call("GET", f"{core}/configmaps/applied").code == 404


def condition_free(namespace: dict) -> str:
    return namespace["status"]["phase"]


def test_a_deployment_from_creation_to_undo(k, namespace, api, cleared):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    watcher = cleared(k.start("get", "pods", "-w", "-o", "name", stdout=subprocess.PIPE))
    k("create", "deployment", "web", f"--image={images.WEB}", "--replicas=2")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    k("scale", "deployment", "web", "--replicas=1")
    k("wait", "deployment/web", "--for=condition=Available", "--timeout=60s")
    wait_for(lambda: api.get(path)["status"].get("replicas") == 1, "scaled down")
    container = "e2e-web"
    k("set", "env", "deployment/web", "VERSION=2")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    k("set", "image", "deployment/web", f"{container}={images.WEB}-absent")
    assert api.get(path)["spec"]["template"]["spec"]["containers"][0]["image"].endswith("-absent")
    k("rollout", "undo", "deployment/web")
    assert api.get(path)["spec"]["template"]["spec"]["containers"][0]["image"] == images.WEB
    k("rollout", "restart", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    template = api.get(path)["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]
    assert template["spec"]["containers"][0]["env"] == [{"name": "VERSION", "value": "2"}]
    k("expose", "deployment", "web", "--port=80", "--target-port=8080")
    service = api.get(f"/api/v1/namespaces/{namespace}/services/web")["spec"]
    assert (service["selector"], service["ports"][0]["targetPort"]) == ({"app": "web"}, 8080)
    row = rows(k("get", "deployments"))[0]
    assert (row["NAME"], row["READY"], row["UP-TO-DATE"], row["AVAILABLE"]) == ("web", "1/1", "1", "1")
    assert "Scaled" in k("describe", "deployment", "web")
    k("delete", "deployment", "web")
    watcher.terminate()
    assert "pod/web-" in watcher.communicate(timeout=20)[0]


TALK = """
echo first
trap 'exit 0' TERM
n=0
while sleep 0.2; do n=$((n + 1)); echo line $n; done
"""


@pytest.fixture
def cleared():
    """Processes that are ended whatever happens."""
    with contextlib.ExitStack() as stack:

        def add(process):
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield add


def test_a_pod_its_logs_and_commands_inside(k, namespace, api, cleared):
    k("run", "shell", f"--image={images.WEB}", "--restart=Never", "--", "sh", "-c", TALK)
    k("wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
    pod = api.get(f"/api/v1/namespaces/{namespace}/pods/shell")
    assert condition(pod, "Ready") == "True"
    row = rows(k("get", "pod", "shell", "-o", "wide"))[0]
    assert (row["READY"], row["STATUS"], row["IP"]) == ("1/1", "Running", pod["status"]["podIP"])
    assert "Started" in k("describe", "pod", "shell")
    wait_for(lambda: k("logs", "shell").startswith("first\nline 1\n"), "the pod's output")
    follower = cleared(k.start("logs", "-f", "shell", stdout=subprocess.PIPE))
    assert [follower.stdout.readline() for _ in range(3)] == ["first\n", "line 1\n", "line 2\n"]

    assert k("exec", "shell", "--", "sh", "-c", "hostname; echo oops >&2") == "shell\n"
    assert k("exec", "-i", "shell", "--", "cat", stdin="through\n" * 1000) == "through\n" * 1000
    assert k.run("exec", "shell", "--", "sh", "-c", "exit 7")[0] == 7
    # Older engines say it on the output, as if the program had.
    code, output, errors = k.run("exec", "shell", "--", "/no/such/program")
    assert code != 0
    assert "no such file" in (output + errors).lower()
    interactive(k)
    k("delete", "pod", "shell", "--grace-period=1")
    assert follower.wait(20) == 0, "logs -f did not end with the pod"


def interactive(k) -> None:
    """`exec -it` on a terminal of ours."""
    ours, theirs = pty.openpty()
    process = k.start("exec", "-it", "shell", "--", "sh", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        read_until(ours, b"#")
        os.write(ours, b"tty; echo $((20+22))\n")
        assert b"/dev/pts/" in read_until(ours, b"42")
        os.write(ours, b"exit 3\n")
        assert process.wait(20) == 3
    finally:
        process.kill()
        process.wait()
        os.close(ours)
