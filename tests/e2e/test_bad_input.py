"""Whatever is sent, the answer is a `Status` that says what is wrong; nothing is stored and the server stays up."""

import json

import pytest

pytestmark = pytest.mark.e2e

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"


def config_map(name: str = "bad", **fields: object) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **fields}


def pod(**spec: object) -> dict:
    container = {"name": "main", "image": "image:1"}
    return {"metadata": {"name": "bad"}, "spec": {"containers": [container], **spec}}


CASES = {
    "malformed JSON": ("configmaps", b'{"metadata": {"name": "bad"', JSON, 400, "BadRequest", ""),
    "malformed YAML": ("configmaps", b"metadata: {name: bad\n- x", YAML, 400, "BadRequest", ""),
    "malformed protobuf": ("configmaps", b"k8s\x00\xff\xff\xff\xff", PROTOBUF, 400, "BadRequest", ""),
    "no protobuf at all": ("configmaps", b"hello", PROTOBUF, 400, "BadRequest", ""),
    "unknown media type": ("configmaps", b"<a/>", "text/xml", 415, "UnsupportedMediaType", ""),
    "not an object": ("configmaps", [1, 2], JSON, 400, "BadRequest", ""),
    "another kind": ("configmaps", {**config_map(), "kind": "Secret"}, JSON, 400, "BadRequest", "Secret"),
    "unknown field, strict": (
        "configmaps?fieldValidation=Strict", config_map(colour="red"), JSON, 400, "BadRequest", "colour",
    ),
    "wrong type": ("configmaps", config_map(data={"key": 1}), JSON, 400, "BadRequest", "data"),
    "number for a list": ("pods", pod(containers=1), JSON, 400, "BadRequest", "containers"),
    "bad name": ("configmaps", config_map("Not_A_Name"), JSON, 422, "Invalid", "metadata.name"),
    "no name": ("configmaps", {"metadata": {}}, JSON, 422, "Invalid", "metadata.name"),
    "bad label": (
        "configmaps", {"metadata": {"name": "bad", "labels": {"a b": "c"}}}, JSON, 422, "Invalid", "metadata.labels",
    ),
    "no containers": ("pods", pod(containers=[]), JSON, 422, "Invalid", "spec.containers"),
    "no image": ("pods", pod(containers=[{"name": "main"}]), JSON, 422, "Invalid", "spec.containers[0].image"),
    "bad restart policy": ("pods", pod(restartPolicy="Sometimes"), JSON, 422, "Invalid", "spec.restartPolicy"),
    "bad port": (
        "services",
        {"metadata": {"name": "bad"}, "spec": {"ports": [{"port": 99999}]}},
        JSON, 422, "Invalid", "spec.ports[0].port",
    ),
    "too large": (
        "configmaps", config_map(data={"key": "x" * (3 * 1024 * 1024)}), JSON, 413, "RequestEntityTooLarge", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_creating_is_refused(api, case):
    target, body, content_type, code, reason, field = case
    collection = f"/api/v1/namespaces/default/{target.split('?')[0]}"
    before = api.get(collection)["items"]
    answer = api.call("POST", f"/api/v1/namespaces/default/{target}", body, content_type)
    assert answer.code == code, answer.text
    status = answer.body
    assert (status["kind"], status["status"], status["code"], status["reason"]) == (
        "Status",
        "Failure",
        code,
        reason,
    )
    assert field in status["message"]
    if code == 422:
        assert field in [cause["field"] for cause in status["details"]["causes"]]
    assert api.get(collection)["items"] == before, "something was stored"
    assert api.call("GET", "/readyz").code == 200


def test_unknown_fields_are_dropped_with_a_warning_or_without(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for mode in ("Warn", "Ignore"):
        answer = api.call("POST", f"{path}?fieldValidation={mode}", config_map(mode.lower(), colour="red"))
        assert answer.code == 201
        assert "colour" not in answer.body


def test_a_conflict_names_the_object_and_keeps_it(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = api.create(path, config_map("one", data={"a": "1"}))
    api.merge(f"{path}/one", {"data": {"a": "2"}})
    answer = api.call("PUT", f"{path}/one", {**first, "data": {"a": "3"}})
    assert (answer.code, answer.body["reason"]) == (409, "Conflict")
    assert answer.body["details"]["name"] == "one"
    assert api.get(f"{path}/one")["data"] == {"a": "2"}
    again = api.call("POST", path, config_map("one"))
    assert (again.code, again.body["reason"]) == (409, "AlreadyExists")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/apis/nowhere.example/v1/things", 404),
        ("GET", "/api/v1/namespaces/default/things", 404),
        ("GET", "/api/v1/namespaces/default/configmaps/absent", 404),
        ("GET", "/api/v1/pods?labelSelector=a%3D%3D%3Db", 400),
        ("GET", "/api/v1/pods?fieldSelector=spec.colour%3Dred", 400),
        ("GET", "/api/v1/pods?limit=many", 400),
        ("GET", "/api/v1/pods?limit=1&continue=garbage", 400),
        ("GET", "/api/v1/pods?watch=1&resourceVersion=abc", 400),
        ("DELETE", "/api/v1/nodes/absent", 404),
        ("POST", "/api/v1/namespaces/default/configmaps/one", 405),
    ],
)
def test_requests_that_make_no_sense_get_a_status(api, method, path, code):
    answer = api.call(method, path, {} if method == "POST" else None)
    assert answer.code == code, answer.text
    assert answer.body["kind"] == "Status"
    assert answer.body["code"] == code


def test_bad_patches_change_nothing(api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    before = api.create(path, config_map("one", data={"a": "1"}))
    patches = [
        (b"{", "application/merge-patch+json", 400),
        (
            json.dumps([{"op": "replace", "path": "/nowhere/x", "value": 1}]),
            "application/json-patch+json",
            422,
        ),
        (json.dumps([{"op": "test", "path": "/data/a", "value": "9"}]), "application/json-patch+json", 422),
        (json.dumps({"data": 5}), "application/merge-patch+json", 400),
        (json.dumps({"metadata": {"name": "two"}}), "application/merge-patch+json", 400),
        (b"{}", "application/json", 415),
    ]
    for patch, media_type, code in patches:
        body = patch.encode() if isinstance(patch, str) else patch
        answer = api.call("PATCH", f"{path}/one", body, media_type)
        assert answer.code in (code, 422 if code == 400 else code), (patch, answer.text)
        assert answer.body["kind"] == "Status"
    assert api.get(f"{path}/one") == before
