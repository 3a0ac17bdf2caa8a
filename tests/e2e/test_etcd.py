"""Two servers on one real etcd: one API, one leader, and both come back from whatever dies.

A leads, since it was there first; the (simulated) nodes are B's, so that pods run on when A is killed. The tests are
one story, in order.
"""

import contextlib
import http.client
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.contract.etcd_support import Etcd, etcd_running
from tests.e2e.cluster import ROOT, Api, Object, free_port, wait_for

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
TAKEOVER_S = 40.0
"""A lease ends after 15 s and is looked at every 2 to 4.4 s; the rest is for a machine that is often paused."""


class Server:
    """One `orchestrator server` without an agent, on an etcd."""

    def __init__(self, directory: Path, etcd: Etcd, simulated_nodes: int) -> None:
        self.kubeconfig = directory / "kubeconfig"
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            *(sys.executable, "-m", "orchestrator", "server", "--no-agent", "--store", "etcd"),
            *("--etcd-endpoints", etcd.endpoint, "--simulated-nodes", str(simulated_nodes)),
            *("--data-dir", str(directory / "data"), "--run-dir", str(directory / "run")),
            *("--port", str(free_port()), "--write-kubeconfig", str(self.kubeconfig)),
        ]

    @property
    def api(self) -> Api:
        return Api(self.kubeconfig)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)
        wait_for(lambda: self.says("/readyz") == 200, "the server is ready")

    def says(self, path: str) -> int:
        """The status of a GET; 0 without an answer."""
        assert self._process is not None
        assert self._process.poll() is None, f"the server has ended: {self.tail()}"
        if not self.kubeconfig.exists():
            return 0
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.api.call("GET", path).code
        return 0

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(20)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])


class Pair:
    def __init__(self, etcd: Etcd, a: Server, b: Server) -> None:
        self.etcd, self.a, self.b = etcd, a, b

    def leaders(self) -> dict[str, str]:
        return {
            lease["metadata"]["name"]: lease["spec"].get("holderIdentity", "")
            for lease in self.b.api.items(LEASES)
        }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with etcd_running() as etcd:
        a = Server(tmp_path_factory.mktemp("a"), etcd, 0)
        b = Server(tmp_path_factory.mktemp("b"), etcd, 2)
        try:
            a.start()
            wait_for(lambda: len(a.api.items(LEASES)) == 2, "the first server leads")
            b.start()
            yield Pair(etcd, a, b)
        finally:
            a.stop()
            b.stop()
            print("--- a\n" + a.tail() + "\n--- b\n" + b.tail())


def watched(api: Api, path: str, until: int, found: list[Object]) -> None:
    """Collects that many events; ends with the stream."""
    address = urlsplit(api.server)
    connection = http.client.HTTPSConnection(
        str(address.hostname), address.port, context=api._context, timeout=30
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        while len(found) < until and (line := response.readline()):
            found.append(json.loads(line))
    finally:
        connection.close()


def at_other(own: Api, other: Api) -> Api:
    """The credentials of one server at the other's address."""
    moved = object.__new__(Api)
    moved.server, moved._context = other.server, own._context
    return moved


def test_what_one_server_acknowledges_the_other_has_at_once_and_in_order(pair: Pair) -> None:
    a, b = pair.a.api, pair.b.api
    start = b.get(CONFIGMAPS)["metadata"]["resourceVersion"]
    events: list[Object] = []
    path = f"{CONFIGMAPS}?watch=1&resourceVersion={start}&fieldSelector=metadata.name!=kube-root-ca.crt"
    watching = threading.Thread(target=watched, args=(b, path, 40, events))
    watching.start()
    for number in range(20):
        name = f"c-{number}"
        made = a.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {"n": str(number)}})
        assert b.get(f"{CONFIGMAPS}/{name}")["metadata"]["uid"] == made["metadata"]["uid"]
        changed = b.merge(f"{CONFIGMAPS}/{name}", {"data": {"n": "changed"}})
        version = changed["metadata"]["resourceVersion"]
        listed = a.get(f"{CONFIGMAPS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan")
        assert int(listed["metadata"]["resourceVersion"]) >= int(version)
    watching.join(30)
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert len(versions) == 40 and versions == sorted(set(versions))
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED"] * 20


def test_credentials_of_one_server_are_good_at_the_other(pair: Pair) -> None:
    a, b = pair.a.api, pair.b.api
    assert at_other(a, b).call("GET", "/api/v1/nodes").code == 200
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    wait_for(lambda: a.call("GET", account).code == 200, "the default service account")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = a.create(f"{account}/token", request)["status"]["token"]
    address = urlsplit(b.server)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(str(address.hostname), address.port, context=context, timeout=30)
    connection.request(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"


def test_both_servers_are_endpoints_of_the_api(pair: Pair) -> None:
    assert len(endpoints(pair)) == 2


def endpoints(pair: Pair) -> set[int]:
    """The ports that the Service `kubernetes` leads to, said alike by both kinds of endpoints."""
    found = pair.b.api.get("/api/v1/namespaces/default/endpoints/kubernetes")
    ports = {port["port"] for subset in found["subsets"] for port in subset["ports"]}
    slices = pair.b.api.items("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices")
    sliced = {port["port"] for slice in slices for port in slice["ports"]}
    return ports if ports == sliced else set()


def ready_replicas(api: Api) -> int:
    return int(api.get(f"{DEPLOYMENTS}/web")["status"].get("readyReplicas", 0))


def test_pods_of_a_deployment_become_ready(pair: Pair) -> None:
    labels = {"app": "web"}
    container = {"name": "web", "image": "example.org/web:1"}
    pair.a.api.create(
        DEPLOYMENTS,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    )
    wait_for(lambda: ready_replicas(pair.b.api) == 2, "two ready replicas")


def test_when_the_leader_dies_the_other_leads_and_its_address_goes(pair: Pair) -> None:
    before = pair.leaders()
    pair.a.kill()
    killed_s = time.monotonic()
    pair.b.api.merge(f"{DEPLOYMENTS}/web", {"spec": {"replicas": 4}})
    wait_for(lambda: ready_replicas(pair.b.api) == 4, "four ready replicas", TAKEOVER_S)
    print(f"scaled {time.monotonic() - killed_s:.1f} s after the leader's death")
    after = pair.leaders()
    assert before.keys() == after.keys() and all(before[name] != after[name] for name in before)
    wait_for(lambda: len(endpoints(pair)) == 1, "the dead server's address is gone", TAKEOVER_S)


def test_both_servers_outlive_an_etcd_that_dies_and_comes_back(pair: Pair) -> None:
    pair.a.start()
    wait_for(lambda: len(endpoints(pair)) == 2, "both are endpoints again")
    servers = (pair.a, pair.b)
    pair.etcd.kill()
    wait_for(lambda: all(s.says("/readyz") == 500 for s in servers), "none is ready without etcd")
    assert all(s.says("/livez") == 200 for s in servers)
    pair.etcd.start()
    wait_for(lambda: all(s.says("/readyz") == 200 for s in servers), "both are ready again")
    made = pair.a.api.create(CONFIGMAPS, {"metadata": {"name": "after"}})
    assert pair.b.api.get(f"{CONFIGMAPS}/after")["metadata"]["uid"] == made["metadata"]["uid"]
    pair.a.api.merge(f"{DEPLOYMENTS}/web", {"spec": {"replicas": 5}})
    wait_for(lambda: ready_replicas(pair.a.api) == 5, "five ready replicas", TAKEOVER_S)


def test_a_clean_stop_of_the_leader_hands_over_at_once(pair: Pair) -> None:
    holders = set(pair.leaders().values())
    assert len(holders) <= 2
    pair.b.stop()
    others = lambda: {lease["spec"].get("holderIdentity", "") for lease in pair.a.api.items(LEASES)}  # noqa: E731
    wait_for(lambda: not holders & others(), "the other leads before the lease would have ended", 12)


def test_a_data_directory_of_another_cluster_is_refused(pair: Pair, tmp_path: Path) -> None:
    server = Server(tmp_path, pair.etcd, 0)
    (tmp_path / "data/pki").mkdir(parents=True)
    (tmp_path / "data/pki/ca.crt").write_text("another\n")
    done = subprocess.run(server._command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "belongs to another cluster" in done.stderr
    assert not (tmp_path / "run").exists()
