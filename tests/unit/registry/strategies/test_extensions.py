"""Webhooks, policies, API services, flows, devices, runtime classes, certificate requests: what is refused and why."""

import pytest

ADMISSION, FLOWS, DEVICES = "admissionregistration.k8s.io", "flowcontrol.apiserver.k8s.io", "resource.k8s.io"
RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
HOOK = {
    "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [RULE],
    "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/x"}},
}  # fmt: skip
AT = "webhooks[0]"


def _hook(**fields):
    return {"webhooks": [{name: value for name, value in {**HOOK, **fields}.items() if value is not None}]}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (_hook(), None),
        (
            _hook(name="a.b"),
            f'{AT}.name: Invalid value: "a.b": should be a domain with at least three segments',
        ),
        (
            _hook(sideEffects=None),
            f"{AT}.sideEffects: Required value: must specify one of None, NoneOnDryRun",
        ),
        (
            _hook(sideEffects="Some"),
            f'{AT}.sideEffects: Unsupported value: "Some": supported values: "None", "NoneOn',
        ),
        (_hook(timeoutSeconds=31), "the timeout value must be between 1 and 30 seconds"),
        (
            _hook(clientConfig={}),
            f"{AT}.clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            _hook(clientConfig={"url": "http://a/x"}),
            "'https' is the only allowed URL scheme; desired format: https:",
        ),
        (_hook(clientConfig={"url": "https://u@a/x"}), "user information is not permitted in the URL"),
        (
            _hook(clientConfig={"service": {"name": "s", "namespace": "n", "path": "/a//b"}}),
            "segment[1] may not be em",
        ),
        (_hook(admissionReviewVersions=["v2"]), "must include at least one of v1, v1beta1"),
        (
            _hook(rules=[{**RULE, "operations": ["*", "CREATE"]}]),
            "if '*' is present, must not specify other operat",
        ),
        (
            _hook(rules=[{**RULE, "resources": ["*/*", "pods"]}]),
            "if '*/*' is present, must not specify other resour",
        ),
        (
            _hook(rules=[{**RULE, "resources": ["pods/*", "pods/log"]}]),
            "if 'pods/*' is present, must not specify po",
        ),
        (_hook(rules=[{**RULE, "scope": "x"}]), f'{AT}.rules[0].scope: Unsupported value: "x"'),
        (
            _hook(matchConditions=[{"name": "a", "expression": " "}]),
            f"{AT}.matchConditions[0].expression: Required",
        ),
        (
            _hook(failurePolicy="x"),
            f'{AT}.failurePolicy: Unsupported value: "x": supported values: "Fail", "Ignore"',
        ),
        ({"webhooks": [HOOK, HOOK]}, 'webhooks[1].name: Duplicate value: "a.b.c"'),
    ],
)
@pytest.mark.parametrize("plural", ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"])
def test_webhooks(kind, plural, obj, expected):
    _check(kind(ADMISSION, plural).problems(obj), expected)


def _check(found, expected):
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1, found
        assert expected in found[0]


def test_a_webhook_has_defaults_and_counts_changes(kind):
    hooks = kind(ADMISSION, "mutatingwebhookconfigurations")
    old = hooks.create(_hook())
    (hook,) = old["webhooks"]
    assert hook["rules"] == [{**RULE, "scope": "*"}] and hook["clientConfig"]["service"]["port"] == 443
    assert {name: hook[name] for name in hook if name not in HOOK} == {
        "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
        "timeoutSeconds": 10, "reinvocationPolicy": "Never",
    }  # fmt: skip
    assert hooks.update(old, old)["metadata"]["generation"] == 1
    assert hooks.update({**old, "webhooks": []}, old)["metadata"]["generation"] == 2


POLICY = {"matchConstraints": {"resourceRules": [RULE]}, "validations": [{"expression": "true"}]}
MUTATION = {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}
MUTATING = {
    "matchConstraints": {"resourceRules": [RULE]},
    "reinvocationPolicy": "Never",
    "mutations": [MUTATION],
}
APPLY = {
    "patchType": "ApplyConfiguration",
    "jsonPatch": {"expression": "[]"},
    "applyConfiguration": {"expression": "x"},
}


@pytest.mark.parametrize(
    ("plural", "spec", "expected"),
    [
        ("validatingadmissionpolicies", POLICY, None),
        ("validatingadmissionpolicies", {**POLICY, "matchConstraints": {}}, "matchConstraints.resourceRules: Required"),
        ("validatingadmissionpolicies", {**POLICY, "paramKind": {"apiVersion": "a/b/c", "kind": "K"}},
         "unexpected GroupVersion string: a/b/c"),
        ("validatingadmissionpolicies", {**POLICY, "variables": [{"name": "if", "expression": "1"}]},
         'spec.variables[0].name: Invalid value: "if": name is not a valid CEL identifier'),
        ("validatingadmissionpolicies", {**POLICY, "validations": [{"expression": "1", "reason": "x"}]},
         'supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"'),
        ("validatingadmissionpolicies", {**POLICY, "validations": [{"expression": "1", "message": "a\nb"}]},
         "message must not contain line breaks"),
        ("mutatingadmissionpolicies", MUTATING, None),
        ("mutatingadmissionpolicies", {**MUTATING, "reinvocationPolicy": None}, "spec.reinvocationPolicy: Required"),
        ("mutatingadmissionpolicies", {**MUTATING, "mutations": []}, "mutations must contain at least one item"),
        ("mutatingadmissionpolicies", {**MUTATING, "mutations": [APPLY]}, "spec.mutations[0].jsonPatch: Forbidden"),
        ("validatingadmissionpolicybindings", {"policyName": "p", "validationActions": ["Audit"]}, None),
        ("validatingadmissionpolicybindings", {"policyName": "p"}, "at least one validation action is required"),
        ("validatingadmissionpolicybindings", {"policyName": "p", "validationActions": ["Deny", "Warn"]},
         "must not contain both Deny and Warn"),
        ("mutatingadmissionpolicybindings", {"policyName": "p"}, None),
        ("mutatingadmissionpolicybindings", {"policyName": "p", "paramRef": {"name": "x"}},
         "spec.paramRef.parameterNotFoundAction: Required value"),
        ("mutatingadmissionpolicybindings", {}, "spec.policyName: Required value"),
    ],
)  # fmt: skip
def test_policies(kind, plural, spec, expected):
    _check(kind(ADMISSION, plural).problems({"spec": spec}), expected)


def test_a_policy_without_rules_misses_both(kind):
    found = kind(ADMISSION, "validatingadmissionpolicies").problems({"spec": {**POLICY, "validations": []}})
    assert [text.partition(":")[0] for text in found] == ["spec.validations", "spec.auditAnnotations"]


SERVICE = {"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SERVICE, None),
        (
            {**SERVICE, "group": "c.d"},
            'metadata.name: Invalid value: "v1.a.b": must be `spec.version+"."+spec.group`',
        ),
        (
            {**SERVICE, "versionPriority": 0},
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1",
        ),
        ({**SERVICE, "insecureSkipTLSVerify": True}, "local APIServices may not have insecureSkipTLSVerify"),
        ({**SERVICE, "service": {"name": "s"}}, "spec.service.namespace: Required value"),
    ],
)
def test_api_services(kind, spec, expected):
    services = kind("apiregistration.k8s.io", "apiservices")
    _check(services.problems({"metadata": {"name": "v1.a.b"}, "spec": spec}), expected)


SUBJECT = {"kind": "User", "user": {"name": "*"}}
RESOURCES = {"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}


def _schema(precedence=9, **rule):
    rules = [{"subjects": [SUBJECT], "resourceRules": [RESOURCES], **rule}]
    return {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": "p"}, "rules": rules}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (_schema(), None),
        (_schema(1), "only the schema named 'exempt' may have matchingPrecedence 1"),
        (_schema(10_001), "must not be greater than 10000"),
        ({**_schema(), "priorityLevelConfiguration": {}}, "Required value: must reference a priority level"),
        (_schema(subjects=[]), "subjects must contain at least one value"),
        (_schema(subjects=[{"kind": "User"}]), "user is required when subject kind is 'User'"),
        (
            _schema(subjects=[{**SUBJECT, "group": {"name": "g"}}]),
            "group is forbidden when subject kind is not 'Group'",
        ),
        (_schema(resourceRules=[]), "at least one of resourceRules and nonResourceRules has to be non-empty"),
        (_schema(resourceRules=[{**RESOURCES, "verbs": ["eat"]}]), 'verbs: Unsupported value: ["eat"]'),
        (
            _schema(resourceRules=[{**RESOURCES, "namespaces": []}]),
            "that are not cluster scoped must supply at least",
        ),
        (_schema(nonResourceRules=[{"verbs": ["*"], "nonResourceURLs": ["x"]}]), "must start with slash"),
    ],
)
def test_flow_schemas(kind, spec, expected):
    _check(kind(FLOWS, "flowschemas").problems({"spec": spec}), expected)


def _level(**queuing):
    return {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (_level(), None),
        (_level(handSize=65), "should not be greater than queues (64)"),
        (
            _level(queues=1 << 20, handSize=8),
            "required entropy bits of deckSize 1048576 and handSize 8 should not be",
        ),
        ({"type": "Limited"}, "must not be empty when type is Limited"),
        ({"type": "Other"}, 'supported values: "Exempt", "Limited"'),
        ({"type": "Exempt"}, "type must be 'Exempt' if and only if name is 'exempt'"),
    ],
)
def test_priority_levels(kind, spec, expected):
    _check(kind(FLOWS, "prioritylevelconfigurations").problems({"spec": spec}), expected)


def test_a_priority_level_has_defaults(kind):
    level = kind(FLOWS, "prioritylevelconfigurations").create({"spec": _level(queues=8)})
    assert level["spec"]["limited"] == {
        "nominalConcurrencyShares": 30, "lendablePercent": 0,
        "limitResponse": {"type": "Queue", "queuing": {"queues": 8, "handSize": 8, "queueLengthLimit": 50}},
    }  # fmt: skip


def _devices(**request):
    return {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}, **request}]}}


SLICE = {"driver": "d", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}


@pytest.mark.parametrize(
    ("plural", "spec", "expected"),
    [
        ("resourceclaims", _devices(), None),
        ("resourceclaims", _devices(exactly=None), "exactly one of `exactly` or `firstAvailable` is required"),
        ("resourceclaims", _devices(exactly={}), "exactly.deviceClassName: Required value"),
        ("resourceclaims", _devices(exactly={"deviceClassName": "g", "allocationMode": "x"}),
         'allocationMode: Unsupported value: "x": supported values: "All", "ExactCount"'),
        ("resourceclaims", {"devices": {**_devices()["devices"], "constraints": [{"requests": ["z"],
         "matchAttribute": "a/b"}]}}, "must be the name of a request in the claim"),
        ("deviceclasses", {"selectors": [{}]}, "spec.selectors[0].cel: Required value"),
        ("resourceslices", SLICE, None),
        ("resourceslices", {**SLICE, "nodeName": ""}, "exactly one of `nodeName`, `nodeSelector`, `allNodes`"),
        ("resourceslices", {**SLICE, "pool": {"name": "p", "generation": 1}}, "resourceSliceCount: Invalid value: 0"),
        ("resourceslices", {**SLICE, "devices": [{"name": "a"}, {"name": "a"}]}, 'spec.devices[1].name: Duplicate'),
        ("resourceslices", {**SLICE, "devices": [{"name": "a", "attributes": {"x": {}}}]}, "exactly one value must be"),
    ],
)  # fmt: skip
def test_devices(kind, plural, spec, expected):
    _check(kind(DEVICES, plural).problems({"spec": spec}), expected)


def test_a_claim_of_devices_never_changes(kind):
    claims = kind(DEVICES, "resourceclaims")
    old = claims.create({"spec": _devices()})
    assert old["spec"]["devices"]["requests"][0]["exactly"] == {
        "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1,
    }  # fmt: skip
    (text,) = claims.update_problems({**old, "spec": _devices(name="s")}, old)
    assert text.startswith("spec: Invalid value") and text.endswith("field is immutable")
    reserved = {**old, "status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}}
    assert claims.update_problems(reserved, old, "status") == [
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
    ]


def test_a_runtime_class_keeps_its_handler(kind):
    classes = kind("node.k8s.io", "runtimeclasses")
    old = classes.create({"handler": "runc", "overhead": {"podFixed": {"memory": "1024Mi"}}})
    assert old["overhead"]["podFixed"]["memory"] == "1Gi"
    assert "handler" in classes.problems({"handler": "A"})[0]
    assert classes.update_problems({**old, "handler": "kata"}, old) == [
        'handler: Invalid value: "kata": field is immutable'
    ]


def test_a_certificate_request_is_checked_as_a_whole(kind):
    requests = kind("certificates.k8s.io", "certificatesigningrequests")
    spec = {
        "request": "x",
        "usages": ["eat", "eat"],
        "signerName": "a/b",
        "expirationSeconds": 1,
        "username": "me",
    }
    old = requests.create({"spec": spec, "status": {"certificate": "x"}})
    assert "username" not in old["spec"] and old["status"] == {}
    fields = [cause.field for cause in requests.causes(old)]
    assert fields == [
        "spec.request", "spec.usages[0]", "spec.usages[1]", "spec.usages[1]", "spec.signerName",
        "spec.expirationSeconds",
    ]  # fmt: skip
    assert requests.update({**old, "spec": {}, "status": {"certificate": "y"}}, old) == old
