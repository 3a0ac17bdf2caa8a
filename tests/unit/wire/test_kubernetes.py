"""Kubernetes bodies: real ones that kubectl 1.32 sent, round trips of objects, garbage."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.wire.kubernetes import MAGIC, decode_object, encode_object, message_of
from orchestrator.wire.raw import WireError, bytes_field

# What `kubectl create …` put on the wire, and the object that it meant.
RECORDED: dict[str, tuple[str, dict[str, Any]]] = {
    "create configmap x --from-literal=a=b": (
        (
            "6b3873000a0f0a0276311209436f6e6669674d6170121b0a110a017812001a0022002a0032003800420012060a"
            "01611201621a002200"
        ),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}},
    ),
    "create secret generic s --from-literal=p=q": (
        (
            "6b3873000a0c0a0276311206536563726574121d0a110a017312001a0022002a0032003800420012060a017012"
            "01711a001a002200"
        ),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"p": "cQ=="}},
    ),
    "create deployment web --image=nginx --replicas=0 --port=80": (
        (
            "6b3873000a150a07617070732f7631120a4465706c6f796d656e7412b8010a1f0a0377656212001a0022002a00"
            "3200380042005a0a0a0361707012037765621286010800120c0a0a0a0361707012037765621a6c0a1c0a001200"
            "1a0022002a003200380042005a0a0a036170701203776562124c122e0a056e67696e7812056e67696e782a0032"
            "0a0a001000185022002a0042006a007200800100880100900100a201001a00320042004a005200580060006800"
            "8201008a01009a0100c2010022020a00280038001a0c0800100018002000280038001a002200"
        ),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [
                            {
                                "name": "nginx",
                                "image": "nginx",
                                "ports": [{"containerPort": 80}],
                                "resources": {},
                            }
                        ]
                    },
                },
                "strategy": {},
            },
            "status": {},
        },
    ),
    "create service nodeport np --tcp=80:8080": (
        (
            "6b3873000a0d0a02763112075365727669636512650a1d0a026e7012001a0022002a003200380042005a090a03"
            "61707012026e7012400a1b0a0738302d38303830120354435018502207080010903f1a00280012090a03617070"
            "12026e701a0022084e6f6465506f72743a00420052005a00600068001a020a001a002200"
        ),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "np", "labels": {"app": "np"}},
            "spec": {
                "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}],
                "selector": {"app": "np"},
                "type": "NodePort",
            },
            "status": {"loadBalancer": {}},
        },
    ),
    "create quota q --hard=pods=10,cpu=1500m": (
        (
            "6b3873000a130a027631120d5265736f7572636551756f746112350a110a017112001a0022002a003200380042"
            "00121e0a0e0a0363707512070a05313530306d0a0c0a04706f647312040a0231301a001a002200"
        ),
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": {"cpu": "1500m", "pods": "10"}},
            "status": {},
        },
    ),
    "create token default --duration=1h": (
        (
            "6b3873000a280a1861757468656e7469636174696f6e2e6b38732e696f2f7631120c546f6b656e526571756573"
            "74121d0a100a0012001a0022002a00320038004200120320901c1a040a0012001a002200"
        ),
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {"expirationSeconds": 3600},
            "status": {"token": ""},
        },
    ),
    "auth can-i get pods": (
        (
            "6b3873000a320a17617574686f72697a6174696f6e2e6b38732e696f2f7631121753656c665375626a65637441"
            "6363657373526576696577123c0a100a0012001a0022002a00320038004200121e0a1c0a0764656661756c7412"
            "036765741a0022002a04706f647332003a001a08080012001a0020001a002200"
        ),
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
            "status": {"allowed": False},
        },
    ),
}

names = st.text("abcdefghij-", min_size=1, max_size=20)
labels = st.dictionaries(names, st.text(max_size=10), min_size=1, max_size=3)
metadata = st.fixed_dictionaries(
    {"name": names},
    optional={
        "labels": labels,
        "annotations": labels,
        "generation": st.integers(1, 2**63 - 1),
        "deletionGracePeriodSeconds": st.integers(0, 2**62),
        "creationTimestamp": st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat() + "Z"),
        "finalizers": st.lists(names, min_size=1, max_size=2),
    },
)
quantities = st.sampled_from(["0", "100m", "1", "1500Mi", "2e3"])
ports = st.one_of(st.integers(1, 65535), names)
containers = st.fixed_dictionaries(
    {"name": names},
    optional={
        "image": names,
        "command": st.lists(st.text(max_size=5), min_size=1, max_size=3),
        "env": st.lists(
            st.fixed_dictionaries({"name": names}, optional={"value": names}), min_size=1, max_size=3
        ),
        "resources": st.just({})
        | st.fixed_dictionaries({"limits": st.dictionaries(names, quantities, min_size=1)}),
        "readinessProbe": st.fixed_dictionaries({"httpGet": st.fixed_dictionaries({"port": ports})}),
        "securityContext": st.fixed_dictionaries(
            {"privileged": st.booleans(), "runAsUser": st.integers(0, 9)}
        ),
        "tty": st.just(True),
    },
)
volumes = st.one_of(
    st.fixed_dictionaries({"name": names, "emptyDir": st.just({})}),
    st.fixed_dictionaries(
        {
            "name": names,
            "configMap": st.fixed_dictionaries({"name": names, "defaultMode": st.integers(0, 511)}),
        }
    ),
)
pods = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("Pod"),
        "metadata": metadata,
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(containers, min_size=1, max_size=2)},
            optional={
                "volumes": st.lists(volumes, min_size=1, max_size=2),
                "automountServiceAccountToken": st.booleans(),
            },
        ),
    }
)
secrets = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("Secret"),
        "metadata": metadata,
        "data": st.dictionaries(names, st.sampled_from(["", "AA==", "AAEC"]), min_size=1, max_size=3),
    }
)
roles = st.fixed_dictionaries(
    {
        "apiVersion": st.just("rbac.authorization.k8s.io/v1"),
        "kind": st.just("Role"),
        "metadata": metadata,
        "rules": st.lists(
            st.fixed_dictionaries({"verbs": st.lists(names, min_size=1, max_size=3)}), min_size=1
        ),
    }
)


@pytest.mark.parametrize("command", RECORDED)
def test_what_kubectl_sends_is_understood(command: str) -> None:
    body, meant = RECORDED[command]
    assert decode_object(bytes.fromhex(body)) == meant


@settings(deadline=None)
@given(st.one_of(pods, secrets, roles))
def test_an_object_survives(obj: dict[str, Any]) -> None:
    assert decode_object(encode_object(obj)) == obj


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_an_object_or_an_error_that_we_know(data: bytes) -> None:
    try:
        decode_object(MAGIC + bytes_field(1, b"\x0a\x02v1\x12\x03Pod") + bytes_field(2, data))
        decode_object(MAGIC + data)
    except WireError:
        pass


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "does not start"),
        (b'{"kind":"Pod"}', "does not start"),
        (MAGIC, "names no apiVersion and kind"),
        (MAGIC + bytes_field(1, b"\x0a\x02v1\x12\x04Nope"), 'no kind "Nope" is registered for version "v1"'),
        (MAGIC + bytes_field(1, b"\x0a\x02v1\x12\x03Pod") + bytes_field(3, b"gzip"), "content encoding"),
        (MAGIC + bytes_field(1, b"\x0a\x05../v1\x12\x03Pod"), "no kind"),
    ],
)
def test_bodies_that_are_no_object_say_why(body: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        decode_object(body)


def test_options_belong_to_every_group() -> None:
    assert (
        message_of("v1", "DeleteOptions")
        == message_of("policy/v1", "DeleteOptions")
        == "meta_v1.DeleteOptions"
    )
    assert message_of("autoscaling/v1", "Scale") == "autoscaling_v1.Scale"
    assert message_of("rbac.authorization.k8s.io/v1", "Role") == "rbac.authorization.k8s.io_v1.Role"


def test_scale_and_delete_options_keep_their_zeros() -> None:
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {}}
    assert decode_object(encode_object(scale)) == scale
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "orphanDependents": False,
    }
    assert decode_object(encode_object(options)) == options
