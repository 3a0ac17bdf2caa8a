"""Every kind beside workloads over HTTP: made, shown as rows, labelled, selected, deleted; special rules."""

import base64
from typing import Any

import pytest

from tests.contract.api_support import Cluster
from tests.contract.kind_examples import request_pem

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
MERGE = {"Content-Type": "application/merge-patch+json"}
BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
WEBHOOK = {
    "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
    "clientConfig": {"url": "https://a.example/x"},
    "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}],
}  # fmt: skip
MATCH = {
    "resourceRules": [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    ]
}
RULE = {
    "subjects": [{"kind": "User", "user": {"name": "*"}}],
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
}
LIMITED = {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}
CLAIM = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}


KINDS: list[tuple[str, str, dict[str, Any], list[Any]]] = [
    ("api/v1", "persistentvolumes", {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"],
     "nfs": {"server": "s", "path": "/"}}}, ["x", "1Gi", "RWX", "Retain", "Pending", "", "", "<unset>", ""]),
    ("api/v1", "persistentvolumeclaims", {"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
     "resources": {"requests": {"storage": "1Gi"}}}}, ["x", "Pending", "", "", "", "fast", "<unset>"]),
    ("apis/storage.k8s.io/v1", "storageclasses", {"provisioner": "a.b/c", "allowVolumeExpansion": True},
     ["x", "a.b/c", "Delete", "Immediate", True]),
    ("apis/storage.k8s.io/v1", "volumeattachments", {"spec": {"attacher": "a", "nodeName": "n", "source":
     {"persistentVolumeName": "v"}}}, ["x", "a", "v", "n", False]),
    ("apis/storage.k8s.io/v1", "csidrivers", {"spec": {}}, ["x", True, False, False, "<unset>", False, "Persistent"]),
    ("apis/storage.k8s.io/v1", "csinodes", {"spec": {"drivers": [{"name": "a", "nodeID": "b"}]}}, ["x", 1]),
    ("apis/storage.k8s.io/v1", "csistoragecapacities", {"storageClassName": "a", "capacity": "1Gi"}, ["x", "a", "1Gi"]),
    ("apis/storage.k8s.io/v1", "volumeattributesclasses", {"driverName": "a", "parameters": {"a": "b"}}, ["x", "a"]),
    ("apis/networking.k8s.io/v1", "ingresses", {"spec": {"defaultBackend": BACKEND}}, ["x", "<none>", "*", "", "80"]),
    ("apis/networking.k8s.io/v1", "ingressclasses", {"spec": {"controller": "a.b/c"}}, ["x", "a.b/c", "<none>"]),
    ("apis/networking.k8s.io/v1", "networkpolicies", {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}},
     ["x", "a=b"]),
    ("apis/networking.k8s.io/v1", "ipaddresses", {"metadata": {"name": "10.9.9.9"}, "spec": {"parentRef":
     {"resource": "services", "namespace": "default", "name": "s"}}}, ["10.9.9.9", "services/default/s"]),
    ("apis/networking.k8s.io/v1", "servicecidrs", {"spec": {"cidrs": ["10.9.0.0/16"]}}, ["x", "10.9.0.0/16"]),
    ("apis/node.k8s.io/v1", "runtimeclasses", {"handler": "runc"}, ["x", "runc"]),
    ("apis/certificates.k8s.io/v1", "certificatesigningrequests", {"spec": {"request": request_pem(),
     "signerName": "a.b/c", "usages": ["client auth"], "expirationSeconds": 3600}},
     ["x", None, "a.b/c", "", "60m", "Pending"]),
    ("apis/admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", {"webhooks": [WEBHOOK]}, ["x", 1]),
    ("apis/admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", {"webhooks": [WEBHOOK]}, ["x", 1]),
    ("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies", {"spec": {"matchConstraints": MATCH,
     "validations": [{"expression": "true"}]}}, ["x", 1, "<unset>"]),
    ("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", {"spec": {"policyName": "p",
     "validationActions": ["Deny"]}}, ["x", "p", "<unset>"]),
    ("apis/admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", {"spec": {"matchConstraints": MATCH,
     "reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}},
     ["x", 1, "<unset>"]),
    ("apis/admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings", {"spec": {"policyName": "p"}},
     ["x", "p", "<unset>"]),
    ("apis/apiregistration.k8s.io/v1", "apiservices", {"metadata": {"name": "v1.example.com"}, "spec": {
     "group": "example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "service":
     {"name": "s", "namespace": "n"}}}, ["v1.example.com", "n/s", "Unknown"]),
    ("apis/flowcontrol.apiserver.k8s.io/v1", "flowschemas", {"spec": {"priorityLevelConfiguration": {"name": "p"},
     "rules": [RULE]}}, ["x", "p", 1000, "<none>", None, "?"]),
    ("apis/flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", {"spec": LIMITED},
     ["x", "Limited", 30, 64, 8, 50]),
    ("apis/resource.k8s.io/v1", "deviceclasses", {"spec": {"selectors": [{"cel": {"expression": "true"}}]}}, ["x"]),
    ("apis/resource.k8s.io/v1", "resourceclaims", {"spec": CLAIM}, ["x", "pending"]),
    ("apis/resource.k8s.io/v1", "resourceclaimtemplates", {"spec": {"spec": CLAIM}}, ["x"]),
    ("apis/resource.k8s.io/v1", "resourceslices", {"spec": {"driver": "d", "nodeName": "n", "pool": {"name": "p",
     "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "a"}]}}, ["x", "n", "d", "p"]),
    ("apis/events.k8s.io/v1", "events", {"regarding": {"namespace": "default", "kind": "Pod", "name": "p"},
     "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a.b/c", "reportingInstance": "i",
     "action": "Act", "reason": "Why", "type": "Normal", "note": "n"}, [None, "Normal", "Why", "pod/p", "",
     "a.b/c, i", "n", None, 1, "x"]),
]  # fmt: skip
NAMESPACED = {
    "persistentvolumeclaims", "csistoragecapacities", "ingresses", "networkpolicies", "resourceclaims",
    "resourceclaimtemplates", "events",
}  # fmt: skip


async def _live(cluster: Cluster, root: str, plural: str, body: dict[str, Any], row: list[Any]) -> str:
    """What went wrong in one object's life; empty when all is well."""
    where = f"/{root}/namespaces/default/{plural}" if plural in NAMESPACED else f"/{root}/{plural}"
    body = {"metadata": {"name": "x"}, **body}
    name = body["metadata"]["name"]
    status, answer, _ = await cluster.call("POST", f"{where}?fieldValidation=Strict", body)
    if status != 201:
        return f"create: {status} {answer}"
    status, table, _ = await cluster.call("GET", f"{where}?fieldSelector=metadata.name={name}", headers=TABLE)
    cells = table["rows"][0]["cells"]
    shown = [cell if want is not None else None for cell, want in zip(cells, row, strict=False)]
    if shown != row or len(cells) != len(table["columnDefinitions"]):
        return f"row: {cells}"
    label = {"metadata": {"labels": {"a": "b"}}}
    status, answer, _ = await cluster.call("PATCH", f"{where}/{name}", label, headers=MERGE)
    if status != 200 or answer["metadata"].get("generation", 1) > 1:
        return f"patch: {status} {answer}"
    status, listed, _ = await cluster.call("GET", f"{where}?labelSelector=a=b")
    if [item["metadata"]["name"] for item in listed["items"]] != [name]:
        return f"list: {listed}"
    status, answer, _ = await cluster.call("DELETE", f"{where}/{name}")
    return "" if status == 200 else f"delete: {status} {answer}"


async def test_every_kind_lives_and_has_its_row(ready: Cluster) -> None:
    failed = {}
    for root, plural, body, row in KINDS:
        why = await _live(ready, root, plural, body, row)
        if why:
            failed[plural] = why
    assert failed == {}


def _certificate_of(cluster: Cluster) -> str:
    return base64.b64encode(cluster.authority.pair.certificate.read_bytes()).decode()


async def test_a_certificate_is_asked_for_approved_and_issued(cluster: Cluster) -> None:
    where = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    spec = {
        "request": request_pem(),
        "signerName": "a.b/c",
        "usages": ["client auth"],
        "username": "somebody",
    }
    status, csr, _ = await cluster.call("POST", where, {"metadata": {"name": "x"}, "spec": spec})
    assert status == 201 and "username" not in csr["spec"] and csr["status"] == {}
    refused, answer, _ = await cluster.call(
        "POST", where, {"metadata": {"name": "y"}, "spec": {**spec, "request": ""}}
    )
    assert refused == 422 and "PEM block type must be CERTIFICATE REQUEST" in answer["message"]
    approved = {"type": "Approved", "status": "True", "reason": "Why", "message": "m"}
    status, answer, _ = await cluster.call(
        "PUT", f"{where}/x/status", {**csr, "status": {"conditions": [approved]}}
    )
    assert status == 422 and 'updates may not add a condition of type "Approved"' in answer["message"]
    status, csr, _ = await cluster.call(
        "PUT", f"{where}/x/approval", {**csr, "status": {"conditions": [approved]}}
    )
    assert status == 200 and csr["status"]["conditions"][0]["lastTransitionTime"]
    denied = {**csr, "status": {"conditions": [{**approved, "type": "Denied"}]}}
    status, answer, _ = await cluster.call("PUT", f"{where}/x/approval", denied)
    assert status == 422 and 'updates may not remove a condition of type "Approved"' in answer["message"]
    certificate = _certificate_of(cluster)
    issued = {"status": {"certificate": certificate}}
    status, answer, _ = await cluster.call("PATCH", f"{where}/x/status", issued, headers=MERGE)
    assert status == 200 and answer["status"]["certificate"] == certificate
    assert answer["status"]["conditions"][0]["type"] == "Approved"
    status, table, _ = await cluster.call("GET", f"{where}/x", headers=TABLE)
    assert table["rows"][0]["cells"][-1] == "Approved,Issued"


EVENT = {
    "metadata": {"name": "e", "namespace": "default"}, "reason": "Why", "type": "Normal",
    "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Act", "reportingInstance": "i",
}  # fmt: skip
CORE = {**EVENT, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "message": "m",
        "reportingComponent": "a.b/c"}  # fmt: skip
NEW = {**EVENT, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "m",
       "reportingController": "a.b/c"}  # fmt: skip
CORE_EVENTS, NEW_EVENTS = (
    "/api/v1/namespaces/default/events",
    "/apis/events.k8s.io/v1/namespaces/default/events",
)


async def test_events_are_one_in_both_versions_but_strict_in_the_new_one(ready: Cluster) -> None:
    status, made, _ = await ready.call("POST", NEW_EVENTS, NEW)
    assert status == 201 and made["apiVersion"] == "events.k8s.io/v1" and made["note"] == "m"
    status, core, _ = await ready.call("GET", f"{CORE_EVENTS}/e")
    assert core["apiVersion"] == "v1" and core["message"] == "m" and core["involvedObject"]["name"] == "p"
    for where, selector in ((NEW_EVENTS, "regarding.name=p,reportingController=a.b/c"),
                            (CORE_EVENTS, "involvedObject.name=p,reportingComponent=a.b/c")):  # fmt: skip
        status, listed, _ = await ready.call("GET", f"{where}?fieldSelector={selector}")
        assert status == 200 and len(listed["items"]) == 1, (where, listed)
    status, answer, _ = await ready.call("GET", f"{NEW_EVENTS}?fieldSelector=involvedObject.name=p")
    assert (status, answer["message"]) == (400, "field label not supported: involvedObject.name")
    for change, expected in (
        ({"note": "other"}, 'message: Invalid value: "other": field is immutable'),
        ({"series": {"count": 1}}, 'series.count: Invalid value: "": should be at least 2'),
    ):
        status, answer, _ = await ready.call("PATCH", f"{NEW_EVENTS}/e", change, headers=MERGE)
        assert status == 422 and expected in answer["message"]
    status, _, _ = await ready.call("PATCH", f"{CORE_EVENTS}/e", {"message": "other"}, headers=MERGE)
    assert status == 200, "the old version lets everything change"
    old = {**NEW, "metadata": {"name": "f"}, "deprecatedCount": 2, "type": "Strange"}
    status, answer, _ = await ready.call("POST", NEW_EVENTS, old)
    assert status == 422
    assert {cause["field"] for cause in answer["details"]["causes"]} == {"type", "count"}
    lenient = {**CORE, "metadata": {"name": "f"}, "count": 2, "type": "Strange"}
    status, _, _ = await ready.call("POST", CORE_EVENTS, lenient)
    assert status == 201


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("api/v1/pods", "field label not supported: spec.x"),
        ("api/v1/configmaps",
         '"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("apis/apps/v1/deployments",
         '"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("apis/resource.k8s.io/v1/resourceslices",
         "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: spec.x"),
    ],
)  # fmt: skip
async def test_unknown_field_labels_are_refused_in_kubernetes_words(
    cluster: Cluster, path: str, text: str
) -> None:
    status, answer, _ = await cluster.call("GET", f"/{path}?fieldSelector=spec.x=y")
    assert (status, answer["message"]) == (400, text)
