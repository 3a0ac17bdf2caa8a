"""Ingresses, their classes, network policies, and the kinds of Services' addresses."""

import pytest

GROUP = "networking.k8s.io"
BACKEND = {"service": {"name": "s", "port": {"number": 80}}}


def _ingress(path="/", host="a.example", backend=BACKEND, kind="Prefix", **spec):
    entry = {"path": path, "pathType": kind, "backend": backend}
    return {"spec": {"rules": [{"host": host, "http": {"paths": [entry]}}], **spec}}


FIRST = "spec.rules[0].http.paths[0]"


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        (_ingress(), None),
        (_ingress(host="*.example.com"), None),
        (_ingress(path="", kind="ImplementationSpecific"), None),
        ({"spec": {"defaultBackend": BACKEND}}, None),
        ({"spec": {}}, "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"),
        (_ingress(host="10.0.0.1"), "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP"),
        (_ingress(host="a.*.com"), "spec.rules[0].host: Invalid value: \"a.*.com\": a wildcard DNS-1123 subdomain"),
        (_ingress(host="A"), "spec.rules[0].host: Invalid value: \"A\": a lowercase RFC 1123 subdomain"),
        (_ingress(path="x"), f"{FIRST}.path: Invalid value: \"x\": must be an absolute path"),
        (_ingress(path="/a//b"), f"{FIRST}.path: Invalid value: \"/a//b\": must not contain '//'"),
        (_ingress(path="/a/.."), f"{FIRST}.path: Invalid value: \"/a/..\": cannot end with '/..'"),
        (_ingress(kind="Regex"), f"{FIRST}.pathType: Unsupported value: \"Regex\": supported values: \"Exact\", "
         "\"ImplementationSpecific\", \"Prefix\""),
        (_ingress(kind=None), f"{FIRST}.pathType: Required value: pathType must be specified"),
        (_ingress(backend={}), f"{FIRST}.backend: Invalid value: \"\": resource or service backend is required"),
        (_ingress(backend={"service": {"name": "s", "port": {}}}), "Required value: port name or number is required"),
        (_ingress(backend={"service": {"name": "s", "port": {"name": "a", "number": 1}}}), "cannot set both port name"),
        (_ingress(backend={"service": {"name": "s", "port": {"number": 70000}}}), "backend.service.port.number: Inv"),
        (_ingress(backend={**BACKEND, "resource": {"kind": "a", "name": "b"}}), "cannot set both resource and serv"),
        (_ingress(tls=[{"hosts": ["b_b"]}]), "spec.tls[0].hosts[0]: Invalid value"),
        (_ingress(tls=[{"secretName": "A"}]), "spec.tls[0].secretName: Invalid value"),
        (_ingress(ingressClassName="A"), "spec.ingressClassName: Invalid value"),
    ],
)  # fmt: skip
def test_ingresses(kind, ingress, expected):
    found = kind(GROUP, "ingresses").problems(ingress)
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1 and expected in found[0]


def test_the_old_annotation_of_an_ingress_is_warned_of_and_must_agree(kind):
    ingresses = kind(GROUP, "ingresses")
    metadata = {"annotations": {"kubernetes.io/ingress.class": "a"}}
    old = ingresses.create({"metadata": metadata, **_ingress()})
    assert ingresses.strategy.warnings(old, None) == [
        "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
    ]
    assert old["metadata"]["generation"] == 1 and old["status"] == {"loadBalancer": {}}
    (text,) = ingresses.problems({"metadata": metadata, **_ingress(ingressClassName="b")})
    assert text.endswith("must match `ingressClassName` when both are specified")
    hostname = {"loadBalancer": {"ingress": [{"hostname": "10.0.0.1"}, {"ip": "x"}]}}
    found = ingresses.update_problems({**old, "status": hostname}, old, "status")
    assert [text.partition(":")[0] for text in found] == [
        "status.loadBalancer.ingress[0].hostname", "status.loadBalancer.ingress[1].ip",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"controller": "a.io/b"}, None),
        ({}, "spec.controller: Required value"),
        ({"controller": "a"}, 'must be a domain-prefixed path (such as "acme.io/foo")'),
        ({"controller": "a.io/b", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}},
         "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"),
        ({"controller": "a.io/b", "parameters": {"kind": "K", "name": "n", "namespace": "x"}},
         "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"),
    ],
)  # fmt: skip
def test_ingress_classes(kind, spec, expected):
    found = kind(GROUP, "ingressclasses").problems({"spec": spec})
    assert found == [] if expected is None else (len(found) == 1 and expected in found[0])


def test_a_class_keeps_its_controller(kind):
    classes = kind(GROUP, "ingressclasses")
    old = classes.create({"spec": {"controller": "a.io/b"}})
    assert classes.update_problems({**old, "spec": {"controller": "a.io/c"}}, old) == [
        'spec.controller: Invalid value: "a.io/c": field is immutable'
    ]


def _policy(peer=None, port=None, **spec):
    rule = {"from": [peer] if peer is not None else [], "ports": [port] if port is not None else []}
    return {"spec": {"podSelector": {}, "ingress": [rule], **spec}}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"spec": {}}, None),
        (_policy({"podSelector": {}, "namespaceSelector": {}}), None),
        (_policy({}), "spec.ingress[0].from[0]: Required value: must specify a peer"),
        (
            _policy({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
            "may not specify both ipBlock and another",
        ),
        (
            _policy({"ipBlock": {"cidr": "10.0.0.0"}}),
            'spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0"',
        ),
        (
            _policy({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}),
            "must be a strict subset of `cidr`",
        ),
        (
            _policy({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}),
            "must be a strict subset of `cidr`",
        ),
        (
            _policy(port={"port": 0}),
            "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535",
        ),
        (_policy(port={"port": 80, "endPort": 79}), "must be greater than or equal to `port`"),
        (_policy(port={"port": "http", "endPort": 79}), "may not be specified when `port` is non-numeric"),
        (_policy(port={"endPort": 79}), "may not be specified when `port` is not specified"),
        (_policy(port={"protocol": "ICMP"}), 'supported values: "SCTP", "TCP", "UDP"'),
        (_policy(policyTypes=["x"]), 'spec.policyTypes[0]: Unsupported value: "x"'),
    ],
)
def test_network_policies(kind, policy, expected):
    found = kind(GROUP, "networkpolicies").problems(policy)
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1 and expected in found[0]


def test_a_policy_knows_its_types_and_counts_changes(kind):
    policies = kind(GROUP, "networkpolicies")
    old = policies.create({"spec": {"egress": [{"ports": [{"port": 53}]}]}})
    assert old["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert old["spec"]["egress"][0]["ports"] == [{"port": 53, "protocol": "TCP"}]
    assert policies.create({"spec": {}})["spec"]["policyTypes"] == ["Ingress"]
    assert policies.update({**old, "spec": {}}, old)["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("cidrs", "expected"),
    [
        (["10.0.0.0/8"], None),
        (["10.0.0.0/8", "fd00::/64"], None),
        ([], "spec.cidrs: Required value: at least one CIDR required"),
        (["10.0.0.1/8"], "must not have bits set beyond the prefix length"),
        (["10.0.0.0/8", "11.0.0.0/8"], "may specify no more than one IP for each IP family"),
        (["10.0.0.0/8"] * 3, "may only hold up to 2 values"),
    ],
)
def test_service_cidrs(kind, cidrs, expected):
    found = kind(GROUP, "servicecidrs").problems({"spec": {"cidrs": cidrs}})
    assert found == [] if expected is None else (len(found) == 1 and expected in found[0])


def test_service_cidrs_only_gain_a_family(kind):
    ranges = kind(GROUP, "servicecidrs")
    old = ranges.create({"spec": {"cidrs": ["10.0.0.0/8"]}})
    both = {**old, "spec": {"cidrs": ["10.0.0.0/8", "fd00::/64"]}}
    assert ranges.update_problems(both, old) == []
    assert ranges.update_problems({**old, "spec": {"cidrs": ["11.0.0.0/8"]}}, old) == [
        'spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable'
    ]
    assert ranges.update_problems(old, both)[0].endswith("field is immutable")


def test_addresses_are_named_in_one_form(kind):
    addresses = kind(GROUP, "ipaddresses")
    spec = {"parentRef": {"resource": "services", "namespace": "a", "name": "b"}}
    named = lambda name: {"metadata": {"name": name}, "spec": spec}  # noqa: E731
    assert addresses.problems(named("10.0.0.1")) == []
    assert "must be a valid IP address" in addresses.problems(named("x"))[0]
    assert 'must be in canonical form ("fd00::1")' in addresses.problems(named("fd00:0::1"))[0]
    assert addresses.problems({**named("10.0.0.1"), "spec": {}}) == ["spec.parentRef: Required value"]
