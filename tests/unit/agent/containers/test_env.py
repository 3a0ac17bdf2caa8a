"""The environment of a container: expansion, references, service links, the downward API."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agent.containers.env import (
    ConfigError,
    PodFacts,
    container_env,
    expand,
    field_value,
    resource_value,
    service_env,
)
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from tests.unit.agent.builders import Json, pod, spec_of

FACTS = PodFacts("10.42.0.2", "192.0.2.7", "n1", {"cpu": "4", "memory": "8Gi"})
OBJECTS: dict[tuple[str, str], Object] = {
    ("configmaps", "settings"): {"data": {"a": "1", "b": "$(a)"}, "binaryData": {"c": base64.b64encode(b"3").decode()}},
    ("secrets", "keys"): {"data": {"password": base64.b64encode(b"top secret").decode()}},
}  # fmt: skip


async def fetch(resource: Resource, namespace: str, name: str) -> Object:
    try:
        return OBJECTS[resource.plural, name]
    except KeyError:
        raise NotFound(f"{resource.plural} {name} not found") from None


async def env(container: Json, services: list[Object] | None = None, **spec: Any) -> dict[str, str]:
    return await container_env(pod(container, **spec), container, FACTS, services or [], fetch)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NONE)", "$(NONE)"),
        ("$(A", "$(A"),
        ("$A ${A}", "$A ${A}"),
        ("$", "$"),
        ("$($(A))", "$($(A))"),
        ("", ""),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


@given(st.text(alphabet="$()AB "))
def test_expansion_without_variables_only_halves_dollars(text: str) -> None:
    assert expand(text, {}).count("$") >= text.count("$") - text.count("$$")


async def test_later_variables_win_and_see_earlier_ones() -> None:
    found = await env({
        **spec_of("app"),
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"prefix": "S_", "secretRef": {"name": "keys"}}],
        "env": [
            {"name": "a", "value": "own"},
            {"name": "late", "value": "$(a)-$(S_password)-$(later)"},
            {"name": "later", "value": "x"},
        ],
    })  # fmt: skip
    assert found == {
        "a": "own", "b": "$(a)", "c": "3", "S_password": "top secret", "late": "own-top secret-$(later)", "later": "x",
    }  # fmt: skip


async def test_value_from_every_source() -> None:
    names = (
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "status.podIP",
        "status.hostIP",
    )
    sources: list[Json] = [{"fieldRef": {"fieldPath": path}} for path in names]
    sources += [
        {"configMapKeyRef": {"name": "settings", "key": "c"}},
        {"secretKeyRef": {"name": "keys", "key": "password"}},
        {"resourceFieldRef": {"resource": "limits.cpu"}},
        {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
        {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}},
    ]
    container = {
        **spec_of("app"),
        "env": [{"name": str(i), "valueFrom": source} for i, source in enumerate(sources)],
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"cpu": "250m"}},
    }
    assert list((await env(container)).values()) == [
        "web", "default", "u1", "n1", "10.42.0.2", "192.0.2.7", "3", "top secret", "2", "8192", "250",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "a"}}, 'configmap "none" not found'),
        ({"secretKeyRef": {"name": "none", "key": "a"}}, 'secret "none" not found'),
        (
            {"configMapKeyRef": {"name": "settings", "key": "z"}},
            "couldn't find key z in ConfigMap default/settings",
        ),
        ({"fieldRef": {"fieldPath": "spec.secret"}}, "unsupported fieldPath: spec.secret"),
    ],
)
async def test_what_is_missing_is_named(source: Json, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await env({**spec_of("app"), "env": [{"name": "x", "valueFrom": source}]})


async def test_what_is_optional_may_be_missing() -> None:
    found = await env({
        **spec_of("app"),
        "envFrom": [{"configMapRef": {"name": "none", "optional": True}}],
        "env": [
            {"name": "x", "valueFrom": {"secretKeyRef": {"name": "none", "key": "a", "optional": True}}},
            {"name": "y", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "z", "optional": True}}},
        ],
    })  # fmt: skip
    assert found == {}


def service(service_name: str, namespace: str = "default", address: str = "10.43.0.9", **port: Any) -> Object:
    return {
        "metadata": {"name": service_name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": [{"port": 80, "protocol": "TCP", **port}]},
    }


def test_a_service_gives_the_docker_style_variables() -> None:
    assert service_env([service("my-db", name="sql-main")], "default", True) == {
        "MY_DB_SERVICE_HOST": "10.43.0.9",
        "MY_DB_SERVICE_PORT": "80",
        "MY_DB_SERVICE_PORT_SQL_MAIN": "80",
        "MY_DB_PORT": "tcp://10.43.0.9:80",
        "MY_DB_PORT_80_TCP": "tcp://10.43.0.9:80",
        "MY_DB_PORT_80_TCP_PROTO": "tcp",
        "MY_DB_PORT_80_TCP_PORT": "80",
        "MY_DB_PORT_80_TCP_ADDR": "10.43.0.9",
    }


@pytest.mark.parametrize(
    ("given", "namespace", "links", "there"),
    [
        (service("kubernetes"), "other", False, True),
        (service("web"), "default", False, False),
        (service("web"), "other", True, False),
        (service("web", address="None"), "default", True, False),
        (service("web", address=""), "default", True, False),
    ],
)
def test_which_services_a_pod_sees(given: Object, namespace: str, links: bool, there: bool) -> None:
    assert bool(service_env([given], namespace, links)) is there


def test_labels_by_key_and_as_lines() -> None:
    desired = pod()
    desired["metadata"]["labels"] = {"b": 'say "x"\n', "app.kubernetes.io/name": "web"}
    assert field_value(desired, "metadata.labels['app.kubernetes.io/name']", FACTS) == "web"
    assert field_value(desired, "metadata.labels['none']", FACTS) == ""
    assert (
        field_value(desired, "metadata.labels", FACTS) == 'app.kubernetes.io/name="web"\nb="say \\"x\\"\\n"'
    )


def test_amounts_are_rounded_up_to_the_divisor() -> None:
    container = {**spec_of("app"), "resources": {"limits": {"cpu": "1", "memory": "1025Ki"}}}
    desired = pod(container)
    for resource, divisor, text in (
        ("limits.memory", "1Mi", "2"),
        ("limits.memory", "0", str(1025 * 1024)),
        ("limits.cpu", "1m", "1000"),
        ("requests.memory", "1", "0"),
    ):
        assert resource_value(desired, container, {"resource": resource, "divisor": divisor}, FACTS) == text


FILE = {"volumeName": "v", "path": "out.env", "key": "TOKEN"}


@pytest.mark.parametrize(
    ("reference", "text", "wanted"),
    [
        (FILE, "TOKEN='a b'", {"X": "a b"}),
        ({**FILE, "optional": True}, "OTHER=1", {}),
        ({**FILE, "optional": True}, None, {}),
        (FILE, "OTHER=1", 'key "TOKEN" not found in file "out.env"'),
        (FILE, None, 'key "TOKEN" not found'),
        (FILE, "rubbish", "couldn't parse env file"),
    ],
)
async def test_variables_from_a_file(reference: Json, text: str | None, wanted: dict[str, str] | str) -> None:
    async def read(volume: str, path: str) -> str:
        assert (volume, path) == ("v", "out.env")
        if text is None:
            raise FileNotFoundError(path)
        return text

    asked = spec_of("app", env=[{"name": "X", "valueFrom": {"fileKeyRef": reference}}])
    found = container_env(pod(asked, enableServiceLinks=False), asked, FACTS, [], fetch, read)
    if isinstance(wanted, str):
        with pytest.raises(ConfigError, match=wanted):
            await found
    else:
        assert await found == wanted
