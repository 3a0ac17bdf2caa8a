"""A valid object of each kind beside core workloads, without its metadata, with as many fields as fit together."""

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def request_pem(name: str = "jane", organization: str = "devs") -> str:
    """A certificate request as base64 PEM, as clients send it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


NAMES = {
    "ipaddresses": "10.9.9.9",
    "apiservices": "v1.example.com",
    "customresourcedefinitions": "things.example.com",
}
"""Kinds whose objects can't be named as one likes."""

BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
SELECTOR = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
RULE = {
    "operations": ["CREATE"],
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["pods"],
    "scope": "*",
}
CONDITION = {"name": "c", "expression": "true"}
WEBHOOK = {
    "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [RULE],
    "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/x", "port": 443}, "caBundle": "AAAA"},
    "namespaceSelector": SELECTOR, "objectSelector": SELECTOR, "matchConditions": [CONDITION], "timeoutSeconds": 5,
}  # fmt: skip
MATCH = {
    "resourceRules": [{**RULE, "resourceNames": ["x"]}],
    "namespaceSelector": SELECTOR,
    "matchPolicy": "Exact",
}
POLICY = {
    "matchConstraints": MATCH, "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "failurePolicy": "Fail",
    "matchConditions": [CONDITION], "variables": [{"name": "v", "expression": "1"}],
}  # fmt: skip
PARAMETERS = {"name": "x", "namespace": "default", "parameterNotFoundAction": "Deny"}
DEVICES = {"devices": {
    "requests": [{"name": "r", "exactly": {"deviceClassName": "gpu", "selectors": [{"cel": {"expression": "true"}}],
                                           "allocationMode": "ExactCount", "count": 1}},
                 {"name": "s", "firstAvailable": [{"name": "a", "deviceClassName": "gpu"}]}],
    "constraints": [{"requests": ["r"], "matchAttribute": "d.example/a"}],
    "config": [{"requests": ["r"], "opaque": {"driver": "d.example", "parameters": {"a": 1}}}],
}}  # fmt: skip
CLAIM = {
    "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}},
    "selector": SELECTOR, "volumeMode": "Filesystem", "dataSource": {"kind": "PersistentVolumeClaim", "name": "x"},
}  # fmt: skip
VOLUME = {
    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "mountOptions": ["ro"],
    "csi": {"driver": "a.b", "volumeHandle": "h", "nodeStageSecretRef": {"name": "a", "namespace": "b"}},
    "claimRef": {"namespace": "default", "name": "c"}, "storageClassName": "fast",
    "nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}},
}  # fmt: skip

EXAMPLES: dict[str, dict[str, Any]] = {
    "persistentvolumes": {"spec": VOLUME, "status": {"phase": "Available"}},
    "persistentvolumeclaims": {"spec": CLAIM, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}},
    "storageclasses": {"provisioner": "a.b/c", "parameters": {"a": "b"}, "allowVolumeExpansion": True,
                       "allowedTopologies": [{"matchLabelExpressions": [{"key": "z", "values": ["a"]}]}],
                           "mountOptions": ["ro"]},
    "volumeattachments": {"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
                          "status": {"attached": True, "attachmentMetadata": {"a": "b"}, "attachError":
                                     {"message": "m", "time": "2026-01-01T00:00:00Z"}}},
    "csidrivers": {"spec": {"attachRequired": True, "tokenRequests": [{"audience": "a", "expirationSeconds": 600}],
                            "volumeLifecycleModes": ["Persistent"]}},
    "csinodes": {"spec": {"drivers": [{"name": "a", "nodeID": "b", "topologyKeys": ["k"],
                                       "allocatable": {"count": 1}}]}},
    "csistoragecapacities": {"storageClassName": "a", "capacity": "1Gi", "nodeTopology": SELECTOR},
    "volumeattributesclasses": {"driverName": "a", "parameters": {"a": "b"}},
    "ingresses": {"spec": {"defaultBackend": BACKEND, "ingressClassName": "c", "tls": [{"hosts": ["*.a.b"],
                  "secretName": "s"}], "rules": [{"host": "a.b", "http": {"paths": [{"path": "/",
                      "pathType": "Prefix", "backend":
                  BACKEND}]}}]}, "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}},
    "ingressclasses": {"spec": {"controller": "a.b/c", "parameters": {"kind": "K", "name": "n", "apiGroup": "a.b",
                                                                      "scope": "Cluster"}}},
    "networkpolicies": {"spec": {"podSelector": SELECTOR, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"namespaceSelector": SELECTOR}],
        "ports": [{"port": 80, "endPort": 90, "protocol": "TCP"}]}], "egress": [{"to": [{"podSelector": SELECTOR}]}]}},
    "ipaddresses": {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}},
    "servicecidrs": {"spec": {"cidrs": ["10.9.0.0/16", "fd00::/64"]}},
    "runtimeclasses": {"handler": "runc", "overhead": {"podFixed": {"cpu": "1"}}, "scheduling": {"nodeSelector": {"a":
                       "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]}},
    "certificatesigningrequests": {"spec": {"request": request_pem(), "signerName": "a.b/c", "usages": ["client auth"],
                                            "expirationSeconds": 3600}},
    "validatingwebhookconfigurations": {"webhooks": [WEBHOOK]},
    "mutatingwebhookconfigurations": {"webhooks": [{**WEBHOOK, "reinvocationPolicy": "IfNeeded"}]},
    "validatingadmissionpolicies": {"spec": {**POLICY, "validations": [{"expression": "true", "message": "m", "reason":
                                    "Invalid"}], "auditAnnotations": [{"key": "k", "valueExpression": "'a'"}]}},
    "validatingadmissionpolicybindings": {"spec": {"policyName": "p", "validationActions": ["Deny"], "paramRef":
                                                   PARAMETERS, "matchResources": MATCH}},
    "mutatingadmissionpolicies": {"spec": {**POLICY, "reinvocationPolicy": "Never", "mutations": [
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}},
    "mutatingadmissionpolicybindings": {"spec": {"policyName": "p", "paramRef": PARAMETERS, "matchResources": MATCH}},
    "apiservices": {"spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 100,
                             "versionPriority": 10, "service": {"name": "s", "namespace": "n", "port": 443},
                                 "caBundle": "AAAA"}},
    "flowschemas": {"spec": {"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 500,
                    "distinguisherMethod": {"type": "ByUser"}, "rules": [{"subjects": [
                        {"kind": "User", "user": {"name": "*"}},
                        {"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}}],
                    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
                    "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/a/*"]}]}]}},
    "prioritylevelconfigurations": {"spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 5, "limitResponse": {"type": "Queue", "queuing": {"queues": 8, "handSize": 2,
            "queueLengthLimit": 5}}}}},
    "deviceclasses": {"spec": {"selectors": [{"cel": {"expression": "true"}}], "config": [{"opaque": {"driver": "d",
                               "parameters": {"a": 1}}}]}},
    "resourceclaims": {"spec": DEVICES},
    "resourceclaimtemplates": {"spec": {"spec": DEVICES, "metadata": {"labels": {"a": "b"}}}},
    "resourceslices": {"spec": {"driver": "d", "nodeName": "n", "pool": {"name": "p", "generation": 1,
                       "resourceSliceCount": 1}, "devices": [{"name": "a", "attributes": {"x": {"string": "y"}},
                                                              "capacity": {"memory": {"value": "1Gi"}}}]}},
    "events.k8s.io/events": {"regarding": {"namespace": "default", "kind": "Pod", "name": "p"}, "action": "Act",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a.b/c", "reportingInstance": "i",
        "reason": "Why", "type": "Normal", "note": "n", "series": {"count": 2, "lastObservedTime":
        "2026-01-01T00:00:00.000000Z"}},
}  # fmt: skip
"""By plural, or by group and plural where two groups share one."""
