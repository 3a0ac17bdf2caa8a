"""Which credentials fit an image, as a kubelet's keyring decides."""

import base64
import json
from typing import Any

import pytest

from orchestrator.agent.images.keyring import logins, lookup, matches, pull_credentials
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.runtime.interface import RegistryAuth
from tests.unit.agent.builders import pod


def secret(config: Any, kind: str = "dockerconfigjson", name: str = "s") -> Object:
    data = base64.b64encode(json.dumps(config).encode()).decode()
    return {
        "type": f"kubernetes.io/{kind}",
        "metadata": {"name": name, "uid": f"u-{name}"},
        "data": {f".{kind}": data},
    }


@pytest.mark.parametrize(
    ("key", "name", "fits"),
    [
        ("reg.example.com", "reg.example.com/a/b", True),
        ("*.example.com", "reg.example.com/a", True),
        ("*.example.com", "a.reg.example.com/a", False),
        ("*.*.example.com", "a.reg.example.com/a", True),
        ("reg*.example.com", "reg7.example.com/a", True),
        ("reg.example.com:5000", "reg.example.com/a", False),
        ("reg.example.com", "reg.example.com:5000/a", False),
        ("*.example.com:5000", "reg.example.com:5000/a", True),
        ("reg.example.com/team", "reg.example.com/team/app", True),
        ("reg.example.com/team", "reg.example.com/other/app", False),
        ("[fd00::1]:5000", "[fd00::1]:5000/a", True),
    ],
)
def test_an_entry_fits_by_host_port_and_path(key: str, name: str, fits: bool) -> None:
    assert matches(key, name) is fits


@pytest.mark.parametrize("entry", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
@pytest.mark.parametrize("image", ["busybox", "team/tool:2", "docker.io/team/tool"])
def test_docker_hub_has_many_names(entry: str, image: str) -> None:
    found = logins(secret({"auths": {entry: {"username": "u", "password": "p"}}}))
    assert [auth.username for auth in lookup(found, image)] == ["u"]
    assert lookup(found, "quay.io/team/tool") == []


def test_the_more_specific_entry_comes_first() -> None:
    entries = {key: {"username": key, "password": "p"} for key in ("r.io", "https://r.io/v2/team", "*.io")}
    found = logins(secret({"auths": entries}))
    assert [auth.server for auth in lookup(found, "r.io/team/app")] == [
        "https://r.io/v2/team",
        "r.io",
        "*.io",
    ]


@pytest.mark.parametrize(
    ("config", "kind", "user", "password"),
    [
        ({"auths": {"r.io": {"username": "u", "password": "p"}}}, "dockerconfigjson", "u", "p"),
        ({"r.io": {"username": "u", "password": "p"}}, "dockercfg", "u", "p"),
        ({"auths": {"r.io": {"auth": base64.b64encode(b"u:p:q").decode()}}}, "dockerconfigjson", "u", "p:q"),
    ],
)
def test_both_kinds_of_secrets_are_read(config: Any, kind: str, user: str, password: str) -> None:
    assert logins(secret(config, kind)) == [("r.io", RegistryAuth("r.io", user, password))]


@pytest.mark.parametrize(
    "data", ["", "!!", base64.b64encode(b"[1]").decode(), base64.b64encode(b"{").decode()]
)
def test_a_spoilt_secret_has_no_logins(data: str) -> None:
    assert logins({"metadata": {}, "data": {".dockerconfigjson": data}}) == []


async def test_secrets_that_are_missing_are_named_and_the_others_count() -> None:
    async def fetch(resource: Resource, namespace: str, name: str) -> Object:
        if name == "absent":
            raise NotFound("absent")
        return secret({"auths": {"r.io": {"username": name}}}, name=name)

    asking = pod(imagePullSecrets=[{"name": name} for name in ("a", "absent", "b")])
    found = await pull_credentials(asking, "r.io/app:1", fetch)
    assert [(each.auth.username, each.secret) for each in found.credentials] == [
        ("a", "default/a/u-a"),
        ("b", "default/b/u-b"),
    ]
    assert found.missing == ("absent",)
    assert (await pull_credentials(pod(), "r.io/app:1", fetch)).credentials == ()
