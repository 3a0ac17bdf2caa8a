"""One request cannot hold up or exhaust the server, whatever it holds.

Every body is answered below 500, refusals with a `Status`. No turn of the event loop takes more than `CALLS_MAX`
calls, which is 20 to 30 ms of a slow processor: calls are counted, since a machine that others use too counts theirs
as ours. No request makes a server in a process of its own grow by more than `GROWTH_BYTES_MAX`.
"""

import asyncio
import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.contract.api_support import Cluster
from tests.contract.conftest import load_schemas
from tests.contract.custom_support import answers, custom_cluster
from tests.contract.test_bad_input import BODIES, JSON, MAPS, MIB
from tests.e2e.cluster import Api, wait_for

CALLS_MAX = 50_000
GROWTH_BYTES_MAX = 128 * MIB
START_S_MAX = 60.0
SETTLED_S = 0.05
ROOT = Path(__file__).parents[2]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
APPLY = "application/apply-patch+yaml"
SMP, MERGE, PATCH = (f"application/{name}-patch+json" for name in ("strategic-merge", "merge", "json"))
"""Content types of patches."""

Json = dict[str, Any]
Case = tuple[str, str, bytes, str, tuple[int, ...]]
"""Method, path, body, content type, codes that are right."""


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def custom(plural: str, schema: Json, **fields: Any) -> bytes:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **fields}
    return body({
        "metadata": {"name": f"{plural}.limits.example"},
        "spec": {
            "group": "limits.example", "scope": "Namespaced",
            "names": {"plural": plural, "kind": plural.capitalize(), "singular": f"{plural}x"},
            "versions": [version],
        },
    })  # fmt: skip


def struct(properties: Json, **more: Any) -> Json:
    return {"type": "object", "properties": properties, **more}


TEXT = {"type": "string", "maxLength": 9, "pattern": "^[a-z]*$"}
WIDE = struct({f"f{i}": struct({f"g{j}": TEXT for j in range(60)}) for i in range(60)})
BRANCHES = struct({"l": {"type": "array", "items": struct(
    {f"a{i}": {"type": "string"} for i in range(1000)}, anyOf=[{"required": [f"a{i}"]} for i in range(1000)]
)}})  # fmt: skip
PATTERNS = struct({f"p{i}": {"type": "string", "pattern": f"^(a{{1,20}}b?){{1,30}}{i}$"} for i in range(150)})
LISTS = struct({
    "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": struct({"k": {"type": "string"}, "v": {"type": "integer"}}, required=["k"])},
    "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
    "deep": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "kept": {"type": "array", "items": struct({"a": {"type": "integer", "default": 1}})},
})  # fmt: skip


def things(plural: str, name: str, **fields: Any) -> bytes:
    kind = {"apiVersion": "limits.example/v1", "kind": plural.capitalize()}
    return body({**kind, "metadata": {"name": name}, **fields})


def at(plural: str, name: str = "") -> str:
    return f"/apis/limits.example/v1/namespaces/default/{plural}" + (f"/{name}" if name else "")


def pod(name: str, **spec: Any) -> bytes:
    container = {"name": "c", "image": "i"}
    return body({"metadata": {"name": name}, "spec": {"containers": [container], **spec}})


ENV = [{"name": f"E{i}", "value": "x"} for i in range(3000)]
KEYED = [{"k": f"k{i}", "v": i} for i in range(3000)]
LABELS = {f"l{i}": "v" for i in range(3000)}
NS = "/api/v1/namespaces/default"
TAKEN, REFUSED = (200, 201), (400, 413, 422)
EITHER = (*TAKEN, *REFUSED)

CASES: dict[str, Case] = {
    **{name: ("POST", MAPS, data, kind, (code,)) for name, (kind, data, code, _) in BODIES.items()},
    "a schema of many places": ("POST", CRDS, custom("wide", WIDE), JSON, EITHER),
    "many alternatives": ("POST", CRDS, custom("branches", BRANCHES), JSON, EITHER),
    "patterns that unfold": ("POST", CRDS, custom("patterns", PATTERNS), JSON, EITHER),
    "every kind of list": ("POST", CRDS, custom("lists", LISTS), JSON, TAKEN),
    "an item for each alternative": (
        "POST", at("branches"), things("branches", "a", l=[{"b": 1}] * 100), JSON, EITHER,
    ),
    "a text for each pattern": (
        "POST", at("patterns"), things("patterns", "a", **{f"p{i}": "a" * 500 for i in range(150)}), JSON, EITHER,
    ),
    "every place": (
        "POST", at("wide"),
        things("wide", "a", **{f"f{i}": {f"g{j}": "x" for j in range(60)} for i in range(60)}), JSON, EITHER,
    ),
    "a long map": ("POST", at("lists"), things("lists", "a", map=KEYED), JSON, EITHER),
    "a long set": (
        "POST", at("lists"), things("lists", "b", set=[each["k"] for each in KEYED]), JSON, EITHER,
    ),
    "a megabyte of anything": (
        "POST", at("lists"), things("lists", "c", deep={f"k{i}": {"a": [1, 2]} for i in range(10_000)}), JSON, EITHER,
    ),
    "defaults for each": ("POST", at("lists"), things("lists", "d", kept=[{}] * 3000), JSON, EITHER),
    "fields that nobody knows": (
        "POST", at("lists"), things("lists", "e", **{f"x{i}": 1 for i in range(3000)}), JSON, EITHER,
    ),
    "an apply of a map": (
        "PATCH", at("lists", "f") + "?fieldManager=m", things("lists", "f", map=KEYED), APPLY, EITHER,
    ),
    "the same again": (
        "PATCH", at("lists", "f") + "?fieldManager=m", things("lists", "f", map=KEYED[1:]), APPLY, EITHER,
    ),
    "by somebody else": (
        "PATCH", at("lists", "f") + "?fieldManager=o", things("lists", "f", map=[{"k": each["k"], "v": 0} for each in
        KEYED]), APPLY, (*EITHER, 409),
    ),
    "a pod of many variables": (
        "POST", f"{NS}/pods", pod("p", containers=[{"name": "c", "image": "i", "env": ENV}]), JSON, EITHER,
    ),
    "many containers": (
        "POST", f"{NS}/pods", pod("q", containers=[{"name": f"c{i}", "image": "i"} for i in range(1000)]), JSON, EITHER,
    ),
    "many volumes": (
        "POST", f"{NS}/pods",
        pod("r", volumes=[{"name": f"v{i}", "configMap": {"name": "x"}} for i in range(3000)]), JSON, EITHER,
    ),
    "many tolerations": (
        "POST", f"{NS}/pods",
        pod("s", tolerations=[{"key": f"t{i}", "operator": "Exists"} for i in range(10_000)]), JSON, EITHER,
    ),
    "many labels": ("POST", MAPS, body({"metadata": {"name": "l", "labels": LABELS}}), JSON, EITHER),
    "many keys": ("POST", MAPS, body({"metadata": {"name": "k"}, "data": LABELS}), JSON, EITHER),
    "fields that a map does not have": (
        "POST", MAPS, body({"metadata": {"name": "m"}, **{f"x{i}": i for i in range(20_000)}}), JSON, EITHER,
    ),
    "finalizers": (
        "POST", MAPS, body({"metadata": {"name": "n", "finalizers": [f"a.b/f{i}" for i in range(3000)]}}), JSON, EITHER,
    ),
    "a long JSON patch": (
        "PATCH", f"{MAPS}/k", body([{"op": "add", "path": f"/data/l{i}", "value": "w"} for i in range(10_000)]), PATCH,
        (*EITHER, 404),
    ),
    "a JSON patch that doubles": (
        "PATCH", f"{MAPS}/k", body([{"op": "copy", "from": "/data", "path": f"/data/n{i}"} for i in range(60)]), PATCH,
        (*EITHER, 404),
    ),
    "a merge patch of all": ("PATCH", f"{MAPS}/k", body({"data": dict.fromkeys(LABELS, "w")}), MERGE, (*EITHER, 404)),
    "a strategic patch of lists": (
        "PATCH", f"{NS}/pods/p", body({"spec": {"containers": [{"name": "c", "env": ENV}]}}), SMP, (*EITHER, 404),
    ),
    "rules": (
        "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        body({"metadata": {"name": "r"}, "rules": [{"apiGroups": ["a"], "resources": ["b"], "verbs": ["c"]}] * 10_000}),
        JSON, EITHER,
    ),
    "addresses": (
        "POST", f"{NS}/endpoints",
        body({"metadata": {"name": "e"}, "subsets": [
            {"addresses": [{"ip": f"10.1.{i >> 8}.{i & 255}"} for i in range(10_000)], "ports": [{"port": 1}]}]}),
        JSON, EITHER,
    ),
    "a long selector": (
        "POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
        body({"metadata": {"name": "n"}, "spec": {"podSelector": {"matchLabels": LABELS}}}), JSON, EITHER,
    ),
    "rules of policies": (
        "POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
        body({"metadata": {"name": "o"}, "spec": {"podSelector": {}, "ingress": [
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}] * 3000}}), JSON, EITHER,
    ),
    "ports of a service": (
        "POST", f"{NS}/services",
        body({"metadata": {"name": "s"}, "spec": {"ports": [{"name": f"p{i}", "port": i + 1} for i in range(3000)]}}),
        JSON, EITHER,
    ),
}  # fmt: skip


class Server:
    """`orchestrator server` without a node."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "log"
        kubeconfig = directory / "kubeconfig"
        flags = {
            "data-dir": directory / "data", "run-dir": directory / "run", "write-kubeconfig": kubeconfig, "port": 0,
            "agent-port": 0, "pod-cidr": "10.72.0.0/16", "service-cidr": "10.73.0.0/16", "dns-address": "10.73.0.10",
            "config": directory / "none.toml",
        }  # fmt: skip
        (directory / "none.toml").write_text("")
        command = [sys.executable, "-m", "orchestrator", "server", "--no-agent"]
        for name, value in flags.items():
            command += [f"--{name}", str(value)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        self.api = self._ready(kubeconfig)

    def _ready(self, kubeconfig: Path) -> Api:
        until_s = time.monotonic() + START_S_MAX
        while time.monotonic() < until_s:
            assert self.process.poll() is None, self._log.read_text()[-3000:]
            try:
                api = Api(kubeconfig)
                if api.call("GET", f"{NS}/serviceaccounts/default").code == 200:
                    return api
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(self._log.read_text()[-3000:])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def peak_bytes(self) -> int:
        """The most that was ever resident."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def forget_peak(self) -> None:
        """From now on the peak is that of what follows."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def wrong(case: Case, code: int, answer: bytes) -> str:
    """What is wrong with an answer; empty when it is as it should be."""
    if code not in case[4]:
        return f"{code}: {answer[:300]!r}"
    if code >= 400 and json.loads(answer).get("kind") != "Status":
        return f"no Status: {answer[:300]!r}"
    return ""


def test_no_request_takes_much_memory(server: Server) -> None:
    surprises = []
    for name, case in CASES.items():
        method, path, data, kind, _ = case
        if kind == JSON and method == "POST" and "limits.example" in path:
            wait_for(lambda at=path: server.api.call("GET", at).code == 200, f"{path} is served")
        server.forget_peak()
        before = server.peak_bytes()
        answer = server.api.call(method, path, data, kind)
        grown = server.peak_bytes() - before
        if grown > GROWTH_BYTES_MAX:
            surprises.append((name, f"{grown / MIB:.0f} MiB"))
        if text := wrong(case, answer.code, answer.text.encode()):
            surprises.append((name, text))
    assert surprises == []


class Turns:
    """Counts the calls that the loop's own thread makes in one turn: `with Turns() as turns:`."""

    def __init__(self) -> None:
        self.longest = 0
        self._calls = 0

    def _count(self, frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code is asyncio.Handle._run.__code__:
            self._calls = 0
        self._calls += 1
        if self._calls > self.longest:
            self.longest = self._calls

    def __enter__(self) -> "Turns":
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


async def test_no_request_holds_the_loop(tmp_path: Path) -> None:
    async with custom_cluster(tmp_path, load_schemas()) as cluster:
        await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}})
        surprises = []
        for name, case in CASES.items():
            if case[0] == "POST" and "limits.example" in case[1]:
                await answers(cluster, case[1], 200)
            with Turns() as turns:
                code, answer = await asyncio.to_thread(send, cluster, case)
                await asyncio.sleep(SETTLED_S)  # what follows from it: informers, controllers
            if text := wrong(case, code, answer):
                surprises.append((name, text))
            if turns.longest > CALLS_MAX:
                surprises.append((name, f"{turns.longest} calls in one turn"))
    assert surprises == []


def send(cluster: Cluster, case: Case) -> tuple[int, bytes]:
    method, path, data, kind, _ = case
    connection = http.client.HTTPSConnection("127.0.0.1", cluster.port, context=cluster.admin_tls, timeout=60)
    try:
        connection.request(method, path, data, {"Content-Type": kind})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
