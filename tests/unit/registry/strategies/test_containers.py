"""Containers: what is refused, and what templates may leave out."""

import pytest

_GPU = {"resources": {"limits": {"ex.com/gpu": "1"}}}
FAULTS = [
    ({"resources": {"requests": {"ex.com/gpu": "1"}}},
     "resources.limits: Required value: Limit must be set for non overcommitable resources"),
    ({"resources": {"requests": {"ex.com/gpu": "1"}, "limits": {"ex.com/gpu": "2"}}},
     'resources.requests: Invalid value: "1": must be equal to ex.com/gpu limit of 2'),
    ({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]},
     "volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to"),
    ({"volumeMounts": [{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}]},
     "volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true"),
    ({"volumeDevices": [{"name": "v", "devicePath": "/d"}]},
     'volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim'),
    ({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}},
     "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than termination"),
    ({"lifecycle": {"stopSignal": "SIGTERM"}}, "lifecycle.stopSignal: Forbidden: may not be set for containers with"),
    ({"securityContext": {"procMount": "Unmasked"}},
     'securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`'),
    ({"securityContext": {"appArmorProfile": {"type": "Localhost"}}},
     "securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type"),
    ({"resizePolicy": [{"resourceName": "disk", "restartPolicy": "NotRequired"}]},
     'resizePolicy: Unsupported value: "disk": supported values: "cpu", "memory"'),
    ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.x"}}}]},
     'env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.x"'),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), FAULTS)
def test_a_fault_is_named(kind, fields, expected):
    spec = {"volumes": [{"name": "v"}], "containers": [{"name": "a", "image": "b:1", **fields}]}
    (found,) = kind("", "pods").problems({"spec": spec})
    assert found.startswith(f"spec.containers[0].{expected}"), found


def test_a_template_may_limit_an_extended_resource_without_a_request(kind):
    """Requests come from limits when the pod is made, so a Deployment with a GPU has only limits."""
    labels = {"app": "a"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "b", **_GPU}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    assert kind("apps", "deployments").problems({"spec": spec}) == []


def test_an_added_capability_is_matched_as_it_is_written(kind):
    context = {"allowPrivilegeEscalation": False, "capabilities": {"add": ["SYS_ADMIN"]}}
    spec = {"containers": [{"name": "a", "image": "b:1", "securityContext": context}]}
    assert kind("", "pods").problems({"spec": spec}) == []
