"""The node's file about registries: where to ask, with which name, trust and login; and what is said of a wrong one."""

import tomllib
from pathlib import Path

import pytest

from orchestrator.runtime import docker_certs
from orchestrator.runtime.interface import RegistryAuth, RuntimeFailure
from orchestrator.runtime.registries import HostSettings, Registries, RegistryFile, parse

TEXT = """
[mirrors."docker.io"]
endpoints = ["https://one.example.com", "http://two.example.com:5000/hub/v2"]
rewrite = { "^library/(.*)$" = "base/$1", "^team/" = "ours/" }

[mirrors."only.example.com"]
endpoints = ["one.example.com"]
only = true

[mirrors."*"]
endpoints = ["https://cache.example.com"]

[hosts."one.example.com"]
username = "node"
password = "p"
insecure = true

[hosts."docker.io"]
identity_token = "t"

[hosts."plain.example.com:5000"]
plain_http = true
"""


def read(text: str) -> Registries:
    return parse(tomllib.loads(text), Path("/etc/orchestrator"))


@pytest.mark.parametrize(
    ("registry", "repository", "asked"),
    [
        (
            "docker.io",
            "library/busybox",
            [
                ("https://one.example.com", "base/busybox"),
                ("http://two.example.com:5000/hub", "base/busybox"),
                ("https://registry-1.docker.io", "library/busybox"),
            ],
        ),
        (
            "docker.io",
            "team/app",
            [
                ("https://one.example.com", "ours/app"),
                ("http://two.example.com:5000/hub", "ours/app"),
                ("https://registry-1.docker.io", "team/app"),
            ],
        ),
        ("only.example.com", "a", [("https://one.example.com", "a")]),
        (
            "plain.example.com:5000",
            "a",
            [("https://cache.example.com", "a"), ("http://plain.example.com:5000", "a")],
        ),
    ],
)
def test_mirrors_in_their_order_then_the_registry(
    registry: str, repository: str, asked: list[tuple[str, str]]
) -> None:
    found = read(TEXT).places(registry, repository)
    assert [(place.base, place.repository) for place in found] == asked
    assert [place.mirror for place in found][:1] == [True]


def test_logins_belong_to_their_host() -> None:
    found = read(TEXT)
    assert found.places("docker.io", "a/b")[0].settings.auth == RegistryAuth("one.example.com", "node", "p")
    assert found.login("docker.io") == RegistryAuth("docker.io", identity_token="t")
    assert found.login("quay.io") is None
    assert found.knows("quay.io") and not Registries().knows("quay.io")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mirror]", "unknown table 'mirror'"),
        ('[hosts."a"]\nuser = "x"', "unknown key 'user'"),
        ('[hosts."a"]\ninsecure = "yes"', "insecure must be a bool"),
        ('[mirrors."a"]\nendpoints = [1]', "endpoints must be URLs"),
        ('[mirrors."a"]\nrewrite = { "(" = "x" }', "rewrite '('"),
        ("mirrors = 1", "mirrors must be tables"),
    ],
)
def test_a_wrong_file_says_where(text: str, words: str) -> None:
    with pytest.raises(ValueError) as error:
        read(text)
    assert words in str(error.value)


def test_the_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"
    file = RegistryFile(path)
    assert file.read() == Registries()
    (tmp_path / "secret").write_text("s3cret\n")
    path.write_text('[hosts."a.io"]\nusername = "u"\npassword_file = "secret"\nca = "ca.pem"')
    assert file.read().hosts["a.io"] == HostSettings(
        ca=str(tmp_path / "ca.pem"), auth=RegistryAuth("a.io", "u", "s3cret")
    )
    path.write_text("[hosts")
    with pytest.raises(RuntimeFailure, match=r"registries\.toml"):
        file.read()
    path.unlink()
    assert file.read() == Registries()


def test_the_example_is_valid_and_so_are_its_keys() -> None:
    text = (Path(__file__).parents[3] / "config" / "registries.toml").read_text()
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    settings = [line for line in lines if line.startswith("[") or (" = " in line and line[0].islower())]
    settings = [line for line in settings if not line.startswith("password_file")]
    assert read("\n".join(settings)).mirrors["docker.io"].only is False


def test_dockers_trust_carries_the_instance_and_leaves_the_operators(tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("PEM")
    theirs = tmp_path / "certs.d" / "r.io:5000" / "ca.crt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("THEIRS")
    root, pem = tmp_path / "certs.d", str(tmp_path / "pem")
    docker_certs.ensure(root, "abc", "r.io:5000", HostSettings(ca=pem, client_cert=pem))
    docker_certs.ensure(root, "abc", "other.io", HostSettings(ca=pem))
    names = {path.name for path in theirs.parent.iterdir()}
    assert names == {"ca.crt", "orcabc.crt", "orcabc-client.cert", "orcabc-client.key"}
    docker_certs.ensure(root, "abc", "r.io:5000", HostSettings())
    assert {path.name for path in theirs.parent.iterdir()} == {"ca.crt"}
    assert docker_certs.remove(root, "abc") == 1
    assert not (root / "other.io").exists() and theirs.read_text() == "THEIRS"
