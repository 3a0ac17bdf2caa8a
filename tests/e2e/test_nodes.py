"""What a pod may ask of its node, on both engines: each story runs once on Docker and once on containerd."""

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import images
from tests.e2e.cluster import Api, Cluster, Object, condition, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["docker", "containerd"])
def node(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = request.getfixturevalue("cluster" if request.param == "docker" else "containerd_cluster")
    return found


@pytest.fixture
def here(node: Cluster, request: pytest.FixtureRequest) -> Iterator["Here"]:
    """A namespace on the node, and short ways to what is in it."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:50].strip("-")
    with node.namespace(name) as made:
        yield Here(node.api, made)


class Here:
    """One namespace of one cluster."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def path(self, kind: str = "pods", name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def run(self, name: str, *containers: Object, **spec: Any) -> None:
        body = {"terminationGracePeriodSeconds": 2, "containers": containers, **spec}
        self.api.create(self.path(), {"metadata": {"name": name}, "spec": body})

    def pod(self, name: str) -> Object:
        return self.api.get(self.path(name=name))

    def ready(self, name: str) -> Object:
        return self._when(name, lambda pod: condition(pod, "Ready") == "True", "is Ready")

    def ended(self, name: str) -> Object:
        return self._when(name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"), "has ended")

    def _when(self, name: str, holds: Any, what: str) -> Object:
        def look() -> Object | None:
            pod = self.pod(name)
            self.last = pod["status"]
            return pod if holds(pod) else None

        try:
            found: Object = wait_for(look, f"{name} {what}")
        except AssertionError as error:
            raise AssertionError(f"{error} {json.dumps(self.last)} {self.events(name)}") from None
        return found

    def events(self, name: str) -> dict[str, str]:
        """Reason to message."""
        found = self.api.items(self.path("events"))
        return {e["reason"]: e.get("message", "") for e in found if e["involvedObject"]["name"] == name}

    def log(self, name: str, container: str = "main") -> str:
        answer = self.api.call("GET", f"{self.path(name=name)}/log?container={container}")
        assert answer.code == 200, answer.text
        return answer.text

    def gone(self, name: str) -> None:
        wait_for(lambda: self.api.call("GET", self.path(name=name)).code == 404, f"{name} is gone")


def sh(script: str, name: str = "main", **more: Any) -> Object:
    return {"name": name, "image": images.WEB, "command": ["sh", "-c", script], **more}


def state(pod: Object, name: str, kind: str = "containerStatuses") -> Object:
    found: Object = next(s for s in pod["status"][kind] if s["name"] == name)
    return found


def test_init_containers_sidecars_and_hooks_have_their_order(here: Here, tmp_path: Path) -> None:
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    note = "echo {} >> /shared/order"
    sidecar = sh(
        "trap 'echo sidecar-ends >> /shared/order; exit 0' TERM; touch /shared/up; while true; do sleep 0.1; done",
        "sidecar",
        restartPolicy="Always",
        startupProbe={"exec": {"command": ["cat", "/shared/up"]}, "periodSeconds": 1},
        **mount,
    )
    main = sh(
        f"trap '{note.format('main-ends')}; exit 0' TERM; {note.format('main')}; while true; do sleep 0.1; done",
        lifecycle={
            "postStart": {"exec": {"command": ["sh", "-c", "touch /shared/started"]}},
            "preStop": {"exec": {"command": ["sh", "-c", note.format("pre-stop")]}},
        },
        **mount,
    )
    inits = [sh(note.format("init"), "first", **mount), sidecar, sh(note.format("second"), "second", **mount)]
    volumes = [{"name": "shared", "hostPath": {"path": f"{tmp_path}/shared", "type": "DirectoryOrCreate"}}]
    here.run("ordered", main, initContainers=inits, volumes=volumes, terminationGracePeriodSeconds=10)
    pod = here.ready("ordered")
    first = state(pod, "first", "initContainerStatuses")
    assert first["state"]["terminated"]["reason"] == "Completed"
    assert state(pod, "sidecar", "initContainerStatuses")["started"] is True
    assert condition(pod, "Initialized") == condition(pod, "PodReadyToStartContainers") == "True"
    here.api.delete(here.path(name="ordered"))
    here.gone("ordered")
    here.run(
        "reader",
        sh("cat /shared/order; ls /shared", **mount),
        volumes=volumes,
        restartPolicy="Never",
    )
    here.ended("reader")
    lines = here.log("reader").split()
    assert lines[:6] == ["init", "second", "main", "pre-stop", "main-ends", "sidecar-ends"]
    assert "started" in lines


def test_identity_limits_and_surroundings_are_as_asked(here: Here) -> None:
    script = """
id -u; id -g; id -G
touch /refused 2>/dev/null || echo read-only
grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status
cat /proc/sys/net/ipv4/ip_local_port_range
hostname; cat /etc/hosts /etc/resolv.conf
stat -c 'group %g' /data
echo "cpu $CPU of $NODE at $ADDRESS label $LABEL"
sleep 1000
"""
    env = [
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['colour']"}}},
    ]
    security = {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    limits = {"limits": {"cpu": "250m", "memory": "64Mi"}}
    main = sh(script, env=env, securityContext=security, resources=limits,
              volumeMounts=[{"name": "data", "mountPath": "/data"}])  # fmt: skip
    pod_security = {
        "runAsUser": 1234,
        "runAsGroup": 2345,
        "fsGroup": 3456,
        "supplementalGroups": [4567],
        "sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "30000 31000"}],
    }
    spec = {
        "securityContext": pod_security,
        "hostname": "chosen",
        "subdomain": "below",
        "hostAliases": [{"ip": "10.9.8.7", "hostnames": ["alias.test"]}],
        "dnsConfig": {"searches": ["more.test"], "options": [{"name": "ndots", "value": "3"}]},
        "volumes": [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    }
    here.api.create(
        here.path(),
        {"metadata": {"name": "asked", "labels": {"colour": "blue"}}, "spec": {"containers": [main], **spec}},
    )
    pod = here.ready("asked")
    said = wait_for(lambda: text if "label" in (text := here.log("asked")) else None, "it has said all")
    lines = said.splitlines()
    assert lines[:2] == ["1234", "2345"]
    assert {"2345", "3456", "4567"} <= {*lines[2].split()}
    assert "read-only" in lines and "group 3456" in lines and "chosen" in lines
    assert re.search(r"CapEff:\s+0+$", said, re.M), said  # A user that is not root has none in force.
    assert re.search(r"NoNewPrivs:\s+1", said) and re.search(r"Seccomp:\s+2", said)
    assert re.search(r"30000\s+31000", said)
    assert re.search(r"10\.9\.8\.7\s+alias\.test", said)
    assert f"chosen.below.{here.namespace}.svc.cluster.local" in said
    assert "more.test" in said and "ndots:3" in said
    assert f"cpu 250 of {pod['spec']['nodeName']} at {pod['status']['podIP']} label blue" in lines
    assert pod["status"]["qosClass"] == "Guaranteed"


def test_volumes_follow_their_sources(here: Here) -> None:
    api = here.api
    api.create(
        here.path("configmaps"), {"metadata": {"name": "settings"}, "data": {"key": "one", "other": "2"}}
    )
    secret = {"metadata": {"name": "hidden"}, "data": {"word": base64.b64encode(b"open sesame").decode()}}
    api.create(here.path("secrets"), secret)
    projected = [
        {"configMap": {"name": "settings", "items": [{"key": "other", "path": "deep/other"}]}},
        {"secret": {"name": "hidden"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "token", "audience": "somebody", "expirationSeconds": 700}},
    ]
    mounts = [
        {"name": "settings", "mountPath": "/settings"},
        {"name": "all", "mountPath": "/all", "readOnly": True},
        {"name": "scratch", "mountPath": "/inner", "subPathExpr": "$(NAME)"},
        {"name": "scratch", "mountPath": "/outer"},
        {"name": "settings", "mountPath": "/single", "subPath": "key"},
    ]
    script = """
cat /single; echo; cat /all/deep/other /all/word; echo; cat /all/labels; echo; wc -c < /all/token
touch /inner/file; ls /outer/*; stat -c 'mode %a' /all/..data/word
touch /all/new 2>/dev/null || echo refused
while true; do cat /settings/key; echo; sleep 0.5; done
"""
    main = sh(script, env=[{"name": "NAME", "value": "below"}], volumeMounts=mounts)
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "all", "projected": {"sources": projected, "defaultMode": 0o400}},
        {"name": "scratch", "emptyDir": {}},
    ]
    body = {"containers": [main], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    api.create(here.path(), {"metadata": {"name": "reader", "labels": {"colour": "red"}}, "spec": body})
    here.ready("reader")
    said = wait_for(lambda: text if "refused" in (text := here.log("reader")) else None, "it has said all")
    lines = said.splitlines()
    assert lines[0] == "one" and lines[1] == "2open sesame" and 'colour="red"' in lines
    assert "file" in lines
    assert "mode 400" in lines
    api.merge(here.path("configmaps", "settings"), {"data": {"key": "two"}})
    wait_for(lambda: "two" in here.log("reader").splitlines(), "the change is seen", 120)


def test_what_ends_badly_says_how(here: Here) -> None:
    message = {"terminationMessagePath": "/end"}
    here.run(
        "words",
        sh("echo bad luck > /end; exit 3", "told", **message),
        sh("echo last line; exit 4", "logged", terminationMessagePolicy="FallbackToLogsOnError"),
        sh("exit 0", "fine"),
        restartPolicy="Never",
    )
    hungry = "x=a; while true; do x=$x$x; done"
    here.run("hungry", sh(hungry, resources={"limits": {"memory": "16Mi"}}), restartPolicy="Never")
    here.run("late", sh("sleep 1000"), restartPolicy="Never", activeDeadlineSeconds=1)
    here.run("absent", {"name": "main", "image": images.WEB, "command": ["/nowhere"]}, restartPolicy="Never")
    pod = here.ended("words")
    assert pod["status"]["phase"] == "Failed"
    told, logged, fine = (state(pod, name)["state"]["terminated"] for name in ("told", "logged", "fine"))
    assert (told["exitCode"], told["reason"], told["message"]) == (3, "Error", "bad luck\n")
    assert (logged["exitCode"], logged["message"]) == (4, "last line\n")
    assert (fine["exitCode"], fine["reason"]) == (0, "Completed")
    killed = state(here.ended("hungry"), "main")["state"]["terminated"]
    assert (killed["reason"], killed["exitCode"]) == ("OOMKilled", 137)
    late = here.ended("late")["status"]
    assert (late["phase"], late["reason"]) == ("Failed", "DeadlineExceeded")
    absent = state(here.ended("absent"), "main")["state"]["terminated"]
    assert absent["exitCode"] in (127, 128) and absent["reason"] in ("StartError", "ContainerCannotRun")


def test_probes_hold_back_kill_and_let_in(here: Here) -> None:
    script = "httpd -p 8080 -h /www; sleep 2; touch /tmp/ready; while true; do sleep 1; done"
    main = sh(
        script,
        ports=[{"name": "http", "containerPort": 8080}],
        startupProbe={"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 30},
        readinessProbe={"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1, "timeoutSeconds": 10},
        livenessProbe={"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10,
                       "failureThreshold": 2},
    )  # fmt: skip
    here.run("probed", main)
    pod = here.ready("probed")
    assert state(pod, "main")["restartCount"] == 0
    here.run("sick", sh("sleep 1000", livenessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1,
                        "failureThreshold": 1, "terminationGracePeriodSeconds": 1}))  # fmt: skip
    wait_for(
        lambda: (s := here.pod("sick")["status"].get("containerStatuses")) and s[0]["restartCount"] > 0,
        "it was killed",
    )
    assert "Liveness probe failed" in here.events("sick")["Unhealthy"]
    assert "failed liveness probe, will be restarted" in here.events("sick")["Killing"]


def test_a_container_gets_other_limits_while_it_runs(here: Here) -> None:
    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    here.run("resized", sh("sleep 1000", resources=resources))
    before = here.ready("resized")
    wanted = {"requests": {"cpu": "150m", "memory": "48Mi"}, "limits": {"cpu": "300m", "memory": "96Mi"}}
    patch = {"spec": {"containers": [{"name": "main", "resources": wanted}]}}
    answer = here.api.call(
        "PATCH", here.path(name="resized") + "/resize", patch, "application/strategic-merge-patch+json"
    )
    assert answer.code == 200, answer.text
    wait_for(
        lambda: state(here.pod("resized"), "main").get("resources", {}).get("limits") == wanted["limits"],
        "the new limits are in force",
    )
    after = here.pod("resized")
    assert state(after, "main")["containerID"] == state(before, "main")["containerID"]
    assert state(after, "main")["restartCount"] == 0


def test_pods_outlive_a_crash_of_the_daemon(here: Here, node: Cluster) -> None:
    here.run("steady", sh("i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done"))
    before = here.ready("steady")
    node.kill()
    time.sleep(1)
    node.start()
    wait_for(lambda: condition(here.pod("steady"), "Ready") == "True", "it is ready again")
    after = here.pod("steady")
    assert state(after, "main")["containerID"] == state(before, "main")["containerID"]
    assert state(after, "main")["restartCount"] == 0
    path = f"{here.path(name='steady')}/log"
    wait_for(lambda: here.api.call("GET", path).code == 200, "the agent answers again")
    numbers = [int(line.split()[1]) for line in here.log("steady").splitlines()]
    assert numbers == [*range(1, len(numbers) + 1)]


def test_an_ephemeral_container_looks_into_a_running_pod(here: Here) -> None:
    here.run("watched", sh("sleep 1000"))
    here.ready("watched")
    looker = {**sh("ps | grep -c 'sleep 1000'; sleep 1000", "looker"), "targetContainerName": "main"}
    patch = {"spec": {"ephemeralContainers": [looker]}}
    path = here.path(name="watched") + "/ephemeralcontainers"
    answer = here.api.call("PATCH", path, patch, "application/strategic-merge-patch+json")
    assert answer.code == 200, answer.text
    wait_for(
        lambda: (
            "running"
            in (
                (here.pod("watched")["status"].get("ephemeralContainerStatuses") or [{}])[0].get("state")
                or {}
            )
        ),
        "the looker runs",
    )
    wait_for(lambda: here.log("watched", "looker").strip() not in ("", "0"), "it sees the other's process")
