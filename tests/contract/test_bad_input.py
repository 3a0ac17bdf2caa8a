"""Whatever stands in a body: an answer below 500, a `Status` that says why, and a server that goes on.

Valid objects of every kind are bent in one place each: every field once, with values drawn from all that ever
broke a decoder. The draws are the same in every run; `BAD_INPUT_SEED` draws others, for long campaigns.
"""

import asyncio
import copy
import json
import os
import random
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from yarl import URL

from orchestrator.api.resources import BUILT_IN, Resource
from orchestrator.wire.raw import bytes_field as _pb
from tests.contract.api_support import Cluster
from tests.contract.kind_examples import EXAMPLES, NAMES

SEED = int(os.environ.get("BAD_INPUT_SEED", "7"))
REQUESTS_MAX = int(os.environ.get("BAD_INPUT_REQUESTS", "1500"))
AT_ONCE = 16

META = {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["e.f/g"], "ownerReferences": [
    {"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u", "controller": True, "blockOwnerDeletion": True}
]}  # fmt: skip
PROBE = {
    "httpGet": {"path": "/", "port": "http", "httpHeaders": [{"name": "A", "value": "b"}]},
    "periodSeconds": 5,
}
CONTAINER = {
    "name": "c", "image": "i", "command": ["a"], "args": ["b"], "ports": [{"name": "http", "containerPort": 80}],
    "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
            {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}],
    "envFrom": [{"secretRef": {"name": "s"}, "prefix": "P_"}],
    "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "2Mi"}},
    "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}],
    "livenessProbe": PROBE, "readinessProbe": {"exec": {"command": ["a"]}}, "startupProbe": {"tcpSocket": {"port": 1}},
    "lifecycle": {"preStop": {"exec": {"command": ["a"]}}},
    "securityContext": {"runAsUser": 1, "capabilities": {"add": ["NET_ADMIN"]}, "privileged": False},
}  # fmt: skip
POD_SPEC = {
    "containers": [CONTAINER], "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always"}],
    "serviceAccountName": "default",
    "volumes": [
        {"name": "v", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}, {"name": "h", "hostPath": {"path": "/x"}},
        {"name": "m", "configMap": {"name": "m", "defaultMode": 420, "items": [{"key": "k", "path": "p"}]}},
        {"name": "p", "projected": {"sources": [
            {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
            {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
    ],
    "nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "t"}]},
    },
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule",
                                   "labelSelector": {"matchLabels": {"a": "b"}}}],
    "securityContext": {"fsGroup": 1, "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]},
    "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["h"]}], "imagePullSecrets": [{"name": "s"}],
    "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}, "dnsPolicy": "None",
    "terminationGracePeriodSeconds": 1, "restartPolicy": "Always", "priority": 0, "hostNetwork": False,
    "schedulingGates": [{"name": "g"}], "readinessGates": [{"conditionType": "t"}], "overhead": {"cpu": "1m"},
}  # fmt: skip
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {
    key: value for key, value in POD_SPEC.items() if key not in ("priority", "overhead", "schedulingGates")
}}  # fmt: skip
JOB_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {
    "containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"
}}  # fmt: skip
SELECTOR = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["x"]}]
SUBJECTS = [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]
REFERENCE = {"kind": "Pod", "name": "p", "namespace": "default", "apiVersion": "v1", "uid": "u"}
ATTRIBUTES = {
    "verb": "get",
    "group": "",
    "resource": "pods",
    "namespace": "default",
    "name": "x",
    "subresource": "",
}

FIELDS: dict[str, dict[str, Any]] = {
    "bindings": {"target": {"kind": "Node", "name": "n"}},
    "configmaps": {"data": {"a": "b"}, "binaryData": {"c": "AAAA"}, "immutable": False},
    "endpoints": {"subsets": [{"addresses": [{"ip": "10.0.0.1", "nodeName": "n", "targetRef": REFERENCE}],
                               "ports": [{"name": "p", "port": 1, "protocol": "TCP"}]}]},
    "events": {"involvedObject": REFERENCE, "reason": "r", "message": "m", "type": "Normal", "count": 1,
               "firstTimestamp": "2026-01-01T00:00:00Z", "eventTime": "2026-01-01T00:00:00.000000Z",
               "reportingComponent": "c", "reportingInstance": "i", "action": "a", "series": {"count": 2},
               "source": {"component": "c", "host": "h"}},
    "namespaces": {"spec": {"finalizers": ["kubernetes"]}},
    "nodes": {"spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"], "unschedulable": True,
                       "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
              "status": {"capacity": {"cpu": "1"}, "allocatable": {"cpu": "1"},
                         "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                         "conditions": [{"type": "Ready", "status": "True"}]}},
    "pods": {"spec": POD_SPEC, "status": {"phase": "Running"}},
    "secrets": {"data": {"a": "AAAA"}, "stringData": {"b": "c"}, "type": "Opaque"},
    "serviceaccounts": {"secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "s"}],
                        "automountServiceAccountToken": True},
    "services": {"spec": {"type": "NodePort", "selector": {"a": "b"}, "sessionAffinity": "ClientIP",
                          "ports": [{"name": "p", "port": 1, "targetPort": "x", "protocol": "TCP"}],
                          "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
                          "externalIPs": ["1.2.3.4"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                          "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"}},
    "controllerrevisions": {"revision": 1, "data": {"any": ["thing"]}},
    "deployments": {"spec": {"replicas": 1, "selector": SELECTOR, "template": TEMPLATE, "minReadySeconds": 1,
                             "revisionHistoryLimit": 1, "progressDeadlineSeconds": 60, "paused": True,
                             "strategy": {"type": "RollingUpdate",
                                          "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}},
    "replicasets": {"spec": {"replicas": 1, "selector": SELECTOR, "template": TEMPLATE}},
    "selfsubjectreviews": {},
    "tokenreviews": {"spec": {"token": "t", "audiences": ["a"]}},
    "localsubjectaccessreviews": {"spec": {"user": "u", "groups": ["g"], "resourceAttributes": ATTRIBUTES}},
    "selfsubjectaccessreviews": {"spec": {"nonResourceAttributes": {"verb": "get", "path": "/x"}}},
    "selfsubjectrulesreviews": {"spec": {"namespace": "default"}},
    "subjectaccessreviews": {"spec": {"user": "u", "uid": "i", "groups": ["g"], "extra": {"a": ["b"]},
                                      "resourceAttributes": ATTRIBUTES}},
    "leases": {"spec": {"holderIdentity": "h", "leaseDurationSeconds": 1, "leaseTransitions": 1,
                        "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z"}},
    "endpointslices": {"addressType": "IPv4", "ports": [{"name": "p", "port": 1, "protocol": "TCP"}],
                       "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "hostname": "h",
                                      "targetRef": REFERENCE, "nodeName": "n", "zone": "z"}]},
    "clusterrolebindings": {"subjects": SUBJECTS, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
                                                              "kind": "ClusterRole", "name": "r"}},
    "clusterroles": {"rules": [*RULES, {"nonResourceURLs": ["/x"], "verbs": ["get"]}],
                     "aggregationRule": {"clusterRoleSelectors": [SELECTOR]}},
    "rolebindings": {"subjects": SUBJECTS, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
                                                       "kind": "Role", "name": "r"}},
    "roles": {"rules": RULES},
    "limitranges": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"},
                                         "defaultRequest": {"cpu": "1"}}]}},
    "resourcequotas": {"spec": {"hard": {"pods": "1", "requests.cpu": "1"}, "scopes": ["NotTerminating"]}},
    "podtemplates": {"template": TEMPLATE},
    "replicationcontrollers": {"spec": {"replicas": 1, "selector": {"a": "b"}, "template": TEMPLATE}},
    "daemonsets": {"spec": {"selector": SELECTOR, "template": TEMPLATE, "minReadySeconds": 1, "updateStrategy": {
        "type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}}},
    "statefulsets": {"spec": {"selector": SELECTOR, "template": TEMPLATE, "serviceName": "s", "replicas": 1,
                              "podManagementPolicy": "Parallel", "updateStrategy": {"type": "OnDelete"}}},
    "jobs": {"spec": {"template": JOB_TEMPLATE, "parallelism": 1, "completions": 2, "backoffLimit": 1,
                      "activeDeadlineSeconds": 9, "ttlSecondsAfterFinished": 1, "suspend": True}},
    "cronjobs": {"spec": {"schedule": "*/5 * * * *", "timeZone": "Etc/UTC", "concurrencyPolicy": "Forbid",
                          "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}, "startingDeadlineSeconds": 9}},
    "autoscaling/v1/horizontalpodautoscalers": {"spec": {
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "minReplicas": 1,
        "maxReplicas": 2, "targetCPUUtilizationPercentage": 50}},
    "autoscaling/v2/horizontalpodautoscalers": {"spec": {
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 2,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {
            "type": "Utilization", "averageUtilization": 50}}}]}},
    "poddisruptionbudgets": {"spec": {"minAvailable": "50%", "selector": SELECTOR}},
    "priorityclasses": {"value": 5, "description": "d", "preemptionPolicy": "Never"},
    "customresourcedefinitions": {"spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {
                "type": "integer", "minimum": 1, "default": 2}}}}}}, "subresources": {"status": {}}}]}},
    **EXAMPLES,
}  # fmt: skip
"""By plural, or with group and version before it where several rows share one."""

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**31, 2**63 - 1, 2**64, 1e300, "", "0", "-1", " ", "A_b/c d", "é\u0000\n", "x" * 300,
    "..", "/", "a/b/c", "999.1.1.1", "10.0.0.0/99", "1e9999", "nan", "٣", "\ud800", [], {}, [[]], [{}], [None], [1],
    {"": ""}, {"a": None}, {"a": {"b": []}}, "$patch", {"$patch": "delete"}, [{"name": "x"}] * 3,
    [{"$patch": "replace"}], {"$retainKeys": [1, {}]}, {"$setElementOrder/containers": [{}, "x", {"name": {}}]},
    {"$deleteFromPrimitiveList/finalizers": [{}]}, {"$setElementOrder/finalizers": ["x", None]}, [{"$patch": []}],
)  # fmt: skip
"""Values that replace one of a valid object."""

Path = tuple[str | int, ...]
Case = tuple[str, str, bytes, str]
"""Method, path, body, content type."""


def valid(resource: Resource, name: str) -> dict[str, Any]:
    name = NAMES.get(resource.plural, name)
    meta = {"name": name, **copy.deepcopy(META)} if resource.stored else {"name": name}
    if resource.plural == "events" or resource.plural == "localsubjectaccessreviews":
        meta["namespace"] = "default"
    keys = (
        f"{resource.api_version}/{resource.plural}",
        f"{resource.group}/{resource.plural}",
        resource.plural,
    )
    fields = copy.deepcopy(next(FIELDS[key] for key in keys if key in FIELDS))
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, **fields}


def collection(resource: Resource) -> str:
    base = f"/apis/{resource.group}" if resource.group else "/api"
    scope = "/namespaces/default" if resource.namespaced else ""
    return f"{base}/{resource.version}{scope}/{resource.plural}"


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*at, key)
        yield from paths(part, (*at, key))


def bent(obj: Any, at: Path, value: Any) -> Any:
    obj = copy.deepcopy(obj)
    inner = obj
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return obj


def encoded(obj: Any) -> bytes:
    return json.dumps(obj).encode()


def mutations(rng: random.Random) -> Iterator[Case]:
    """Endless: a kind, a field of it, a value; as a new object, an update, or a patch of that field."""
    objects = {row: valid(row, "base") for row in BUILT_IN if "create" in row.verbs}
    places = [(resource, path) for resource, obj in objects.items() for path in paths(obj)]
    number = 0
    while True:
        rng.shuffle(places)
        for resource, path in places:
            number += 1
            value, where = rng.choice(ODD), collection(resource)
            obj = bent({**objects[resource]}, path, value)
            if path[:2] != ("metadata", "name") and isinstance(obj.get("metadata"), dict):
                obj["metadata"]["name"] = f"n{number}"
            way = (
                rng.choice(("POST", "POST", "PUT", "merge", "strategic", "status"))
                if resource.stored
                else "POST"
            )
            validation = rng.choice(("Ignore", "Warn", "Strict"))
            yield request(resource, where, way, path, value, obj, validation)


def request(
    resource: Resource, where: str, way: str, path: Path, value: Any, obj: Any, validation: str
) -> Case:
    query = f"?fieldValidation={validation}"
    if way == "POST":
        return "POST", where + query, encoded(obj), "application/json"
    name = NAMES.get(resource.plural, "base")
    if isinstance(obj.get("metadata"), dict):
        obj["metadata"]["name"] = name
    if way == "PUT":
        return "PUT", f"{where}/{name}{query}", encoded(obj), "application/json"
    if way == "status" and resource.subresource("status"):
        return "PUT", f"{where}/{name}/status{query}", encoded(obj), "application/json"
    patch: Any = value
    for key in reversed(path):
        patch = {key: patch} if isinstance(key, str) else [patch]
    kind = "merge" if way == "merge" else "strategic-merge"
    return "PATCH", f"{where}/{name}{query}", encoded(patch), f"application/{kind}-patch+json"


async def answers(cluster: Cluster, cases: list[Case]) -> list[tuple[Case, int, Any]]:
    pending, seen = iter(cases), []

    async def work() -> None:
        for method, path, body, content_type in pending:
            status, answer, _ = await cluster.call(method, path, body, headers={"Content-Type": content_type})
            seen.append(((method, path, body, content_type), status, answer))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return seen


def fault(case: Case, status: int, answer: Any) -> str:
    """What is wrong with an answer; empty when it is as it should be."""
    if status < 400:
        return ""
    if status >= 500:
        return f"{status} for {case}: {answer}"
    if not isinstance(answer, dict) or answer.get("kind") != "Status" or not answer.get("message"):
        return f"no Status for {case}: {answer}"
    causes = answer.get("details", {}).get("causes", ())
    if answer["code"] != status or (status == 422 and not all("field" in cause for cause in causes or ({},))):
        return f"names no field, {case}: {answer}"
    return ""


async def test_every_kind_is_created_from_its_valid_object(ready: Cluster) -> None:
    """What the mutations start from is right, so what they are refused for is the mutation."""
    for resource in BUILT_IN:
        if resource.plural != "bindings" and "create" in resource.verbs:
            name = (
                "base" if resource.stored_as is None else "other"
            )  # kept together with what it is stored as
            status, answer, _ = await ready.call("POST", collection(resource), valid(resource, name))
            assert status == 201, (resource, answer)


async def test_bent_objects_are_refused_or_taken_but_never_break_the_server(ready: Cluster) -> None:
    for resource in BUILT_IN:
        if resource.plural != "bindings" and "create" in resource.verbs:
            await ready.call("POST", collection(resource), valid(resource, "base"))
    stream = mutations(random.Random(SEED))
    seen = await answers(ready, [next(stream) for _ in range(REQUESTS_MAX)])
    assert not [text for case, status, answer in seen if (text := fault(case, status, answer))]
    assert (await ready.call("GET", "/api/v1/namespaces/default"))[0] == 200
    for resource in BUILT_IN:
        if resource.stored:  # what was taken can be read, shown and described
            table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
            assert (await ready.call("GET", collection(resource), headers=table))[0] == 200, resource


JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
MAPS = "/api/v1/namespaces/default/configmaps"
MIB = 1024 * 1024
_ALIASES = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%b]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(ord("b"), ord("k"))
)
BODIES: dict[str, tuple[str, bytes, int, str]] = {
    "deep lists": (JSON, b"[" * 100_000, 400, "nested deeper"),
    "deep objects": (JSON, b'{"a":' * 300 + b"1" + b"}" * 300, 400, "nested deeper"),
    "deep YAML": (YAML, b"[" * 20_000, 400, "nested deeper"),
    "deep YAML by indentation": (YAML, b"".join(b" " * n + b"a:\n" for n in range(250)), 400, "nested deeper"),
    "alias bomb": (YAML, _ALIASES, 400, "once aliases are expanded"),
    "alias of itself": (YAML, b"a: &a [*a]", 400, "contains itself"),
    "large YAML": (YAML, b"- a\n" * 60_000, 400, "must be an object"),
    "YAML of too many parts": (YAML, b"- a\n" * 700_000, 400, "once aliases are expanded"),
    "not UTF-8": (JSON, b'{"metadata":{"name":"\xff"}}', 400, "malformed JSON"),
    "YAML not UTF-8": (YAML, b"metadata: {name: \xff}", 400, "not UTF-8"),
    "half a surrogate": (JSON, b'{"metadata":{"name":"\\ud800"}}', 400, "malformed JSON"),
    "NaN": (JSON, b'{"metadata":{"name":NaN}}', 400, "malformed JSON"),
    "Infinity": (YAML, b"metadata: {name: .inf}", 400, "has no JSON form"),
    "an infinite number": (JSON, b'{"x":1e999}', 400, "out of range"),
    "a huge integer": (JSON, b"{\"x\":" + b"9" * 400 + b"}", 400, ""),
    "an integer of 65 bits": (JSON, b'{"x":9223372036854775808}', 400, "64 bits"),
    "a YAML integer of 65 bits": (YAML, b"x: 9223372036854775808", 400, "64 bits"),
    "a megabyte of small objects": (JSON, b'{"x":[' + b"{}," * (MIB // 2) + b"{}]}", 413, "too many parts"),
    "a megabyte of small fields": (JSON, b"{" + b",".join(b'"%d":0' % n for n in range(250_000)) + b"}", 413, ""),
    "protobuf of small parts": (
        PROTOBUF, b"k8s\0" + _pb(1, b"\n\x02v1\x12\x03Pod") + _pb(2, _pb(2, b"\x12\0" * 900_000)),
        400, "too many parts",
    ),
    "deep protobuf": (PROTOBUF, b"k8s\0" + b"\x12\x7f" * 500, 400, "malformed protobuf"),
    "beyond three MiB": (JSON, b'{"x":"' + b"x" * 3 * MIB + b'"}', 413, "limit is"),
}  # fmt: skip


async def test_bombs_are_refused_and_the_loop_goes_on(ready: Cluster) -> None:
    """Each body is met with a Status while somebody else's requests are answered."""
    surprises = []
    for name, (content_type, body, code, message) in BODIES.items():
        request = ready.admin.post(
            ready.base + MAPS, data=BytesIO(body), headers={"Content-Type": content_type}
        )
        async with request as response:
            status, answer = response.status, await response.json()
        found = (status, answer.get("kind"), answer.get("code"))
        if found != (code, "Status", code) or message not in answer["message"]:
            surprises.append((name, status, str(answer)[:300]))
        assert (await ready.call("GET", MAPS))[0] == 200
    assert surprises == []


async def test_large_yaml_is_read_like_small_yaml(ready: Cluster) -> None:
    text = "x" * 50_000
    body = f"metadata: {{name: big}}\ndata:\n  k: {text}\n  k: {text}\n".encode()
    headers = {"Content-Type": YAML}
    status, answer, response = await ready.call("POST", MAPS, body, headers=headers)
    assert status == 201 and answer["data"] == {"k": text}
    assert response.headers["Warning"] == '299 - "duplicate field \\"data.k\\""'
    status, answer, _ = await ready.call("POST", f"{MAPS}?fieldValidation=Strict", body, headers=headers)
    assert status == 400 and "duplicate field" in answer["message"]
    apply = {"Content-Type": "application/apply-patch+yaml"}
    body = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: applied}}\ndata: {{k: {text}}}\n".encode()
    status, answer, _ = await ready.call("PATCH", f"{MAPS}/applied?fieldManager=me", body, headers=apply)
    assert status == 201 and answer["data"] == {"k": text}
    assert (await ready.call("POST", MAPS, body, headers=apply))[0] == 415


PATHS: list[tuple[str, int]] = [
    ("/api/v1/namespaces/default/configmaps/a%2fb", 400),
    ("/api/v1/namespaces/default%2f..%2fkube-system/configmaps", 400),
    ("/api/v1/namespaces/%2e%2e/configmaps", 400),
    ("/api/v1/namespaces/default/configmaps/%00", 400),
    ("/api/v1/namespaces/default/configmaps/%ff", 400),
    ("/api/v1/namespaces/default/configmaps/a%25b", 400),
    ("/api//v1/namespaces", 404),
    ("//api/v1/namespaces", 404),
    ("/api/v1/namespaces//configmaps", 404),
    ("/API/v1/namespaces", 404),
    ("/api/V1/namespaces", 404),
    ("/api/v1/Namespaces", 404),
    ("/api/v1/namespaces/default/configmaps/a/b/c", 404),
    ("/apis/apps", 200),
    ("/nothing", 404),
    ("/api/v1/namespaces/default/configmaps?continue=zz", 400),
    ("/api/v1/namespaces/default/configmaps?resourceVersion=x", 400),
    ("/api/v1/namespaces/default/configmaps?resourceVersion=-1", 400),
    ("/api/v1/namespaces/default/configmaps?resourceVersion=99999999999999999999999", 400),
    ("/api/v1/namespaces/default/configmaps?resourceVersion=999999999", 504),
    ("/api/v1/namespaces/default/configmaps/a?resourceVersion=999999999", 504),
    ("/api/v1/namespaces/default/configmaps?limit=x", 400),
    ("/api/v1/namespaces/default/configmaps?labelSelector=%00", 400),
    ("/api/v1/namespaces/default/configmaps?labelSelector=" + "(" * 5000, 400),
    ("/api/v1/namespaces/default/configmaps?fieldSelector=%ff%3D1", 400),
    ("/api/v1/namespaces/default/configmaps?" + "a=b&" * 600, 400),
]


async def test_tricks_with_paths_and_queries_are_told_by_a_status(ready: Cluster) -> None:
    surprises = []
    for path, code in PATHS:
        url = URL(ready.base + path, encoded=True)
        async with ready.admin.get(url) as answer:
            body = await answer.json()
        if answer.status != code or (code >= 400 and (body["kind"], body["code"]) != ("Status", code)):
            surprises.append((path[:100], answer.status, body))
    assert surprises == []
