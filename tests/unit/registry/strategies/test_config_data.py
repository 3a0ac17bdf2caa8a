"""ConfigMaps and Secrets."""

from base64 import b64encode

import pytest

from orchestrator.api.errors import BadRequest


def _b64(text):
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("configmap", "expected"),
    [
        ({"data": {"a b": "c"}}, 'data[a b]: Invalid value: "a b": a valid config key'),
        ({"data": {"a": "b"}, "binaryData": {"a": ""}}, "duplicate of key present in binaryData"),
        ({"data": {"a": "x" * 2**20, "b": "y"}}, "Too long: may not be more than 1048576 bytes"),
        ({"data": {"a": "ä" * 2**19, "b": "y"}}, "Too long: may not be more than 1048576 bytes"),
    ],
)
def test_a_fault_of_a_configmap_is_named(kind, configmap, expected):
    (text,) = kind("", "configmaps").problems(configmap)
    assert expected in text


def test_immutable_data_stays(kind):
    for plural in ("configmaps", "secrets"):
        strategy = kind("", plural)
        old = strategy.create({"data": {"a": _b64("b")}, "immutable": True})
        same = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
        assert strategy.update_problems(same, old) == []
        changed = {**old, "data": {"a": _b64("c")}, "immutable": False}
        assert strategy.update_problems(changed, old) == [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]


def test_string_data_becomes_data(kind):
    secret = kind("", "secrets").create(
        {"stringData": {"a": "new"}, "data": {"a": _b64("old"), "b": _b64("b")}}
    )
    assert secret["type"] == "Opaque"
    assert secret["data"] == {"a": _b64("new"), "b": _b64("b")}
    assert "stringData" not in secret


@pytest.mark.parametrize(("plural", "field"), [("secrets", "data"), ("configmaps", "binaryData")])
def test_bad_base64_is_a_bad_request(kind, plural, field):
    with pytest.raises(BadRequest, match="illegal base64 data"):
        kind("", plural).problems({field: {"a": "not base64!"}})


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, ["data[tls.key]: Required value"]),
        ({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}}, []),
        ({"type": "kubernetes.io/ssh-auth"}, ["data[ssh-privatekey]: Required value"]),
        (
            {"type": "kubernetes.io/basic-auth"},
            ["data[username]: Required value", "data[password]: Required value"],
        ),
        ({"type": "kubernetes.io/dockerconfigjson"}, ["data[.dockerconfigjson]: Required value"]),
        (
            {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": _b64('{"auths": {}}')}},
            [],
        ),
        (
            {"type": "kubernetes.io/service-account-token"},
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
    ],
)
def test_secret_types_demand_their_keys(kind, secret, expected):
    assert kind("", "secrets").problems(secret) == expected


def test_contents_of_a_secret_never_stand_in_an_error(kind):
    secret = {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": _b64("hunter2")}}
    (text,) = kind("", "secrets").problems(secret)
    assert "<secret contents redacted>" in text and "hunter2" not in text


def test_the_type_of_a_secret_never_changes(kind):
    old = kind("", "secrets").create({})
    assert kind("", "secrets").update_problems({**old, "type": "other"}, old) == [
        'type: Invalid value: "other": field is immutable'
    ]
