"""Images on containerd: archives, names, what of an index is taken, where a registry is."""

import hashlib
import io
import json
import ssl
import tarfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator.runtime.containerd_hosts import hosts
from orchestrator.runtime.containerd_images import canonical, chains, choose, references
from orchestrator.runtime.containerd_seccomp import default_profile
from orchestrator.runtime.imagearchive import LAYER, unpack_archive
from orchestrator.runtime.imagetar import Entry, build
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.runtime.references import parse


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def layout(entries: list[dict[str, Any]], *blobs: bytes) -> bytes:
    files = {f"./blobs/{digest(blob).replace(':', '/')}": blob for blob in blobs}
    return tar_of({**files, "index.json": json.dumps({"manifests": entries}).encode()})


def test_an_archive_of_dockers_gets_a_manifest() -> None:
    (image,) = unpack_archive(build("shop:1", {"/a": Entry(b"x")}, {"Cmd": ["sh"]}, "amd64"))
    manifest = json.loads(image.manifest)
    layer, config = image.blobs
    assert image.tags == ("shop:1",)
    assert manifest["layers"] == [{"mediaType": LAYER, "digest": digest(layer), "size": len(layer)}]
    assert manifest["config"]["digest"] == digest(config)


def test_an_archive_for_one_platform_names_the_others_all_the_same() -> None:
    config, layer = b'{"rootfs":{}}', b"\x1f\x8b..."
    inner = json.dumps({"config": {"digest": digest(config)}, "layers": [{"digest": digest(layer)}]}).encode()
    index = json.dumps({"manifests": [{"digest": digest(inner)}, {"digest": digest(b"elsewhere")}]}).encode()
    entry = {"digest": digest(index), "annotations": {"io.containerd.image.name": "docker.io/library/shop:1"}}
    (image,) = unpack_archive(layout([entry], config, layer, inner, index))
    assert image.tags == ("docker.io/library/shop:1",) and image.manifest == index
    assert set(image.blobs) == {config, layer, inner}


@pytest.mark.parametrize("data", [b"", b"no tar at all", tar_of({"readme": b"x"})])
def test_what_is_no_image_archive_is_refused(data: bytes) -> None:
    with pytest.raises(RuntimeFailure, match="no image archive"):
        unpack_archive(data)


def test_a_layers_snapshot_is_named_by_all_below() -> None:
    one, two = digest(b"1"), digest(b"2")
    assert chains([one, two]) == [one, digest(f"{one} {two}".encode())] and chains([]) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("host:5000/a/b:1", "host:5000/a/b:1"),
        ("a/b@sha256:" + "0" * 64, "docker.io/a/b@sha256:" + "0" * 64),
    ],
)
def test_names_are_containerds(text: str, wanted: str) -> None:
    assert canonical(parse(text)) == wanted


def test_of_an_index_what_runs_here_is_taken() -> None:
    entries = [
        {"digest": name, "platform": {"os": "linux", "architecture": name}} for name in ("arm64", "amd64")
    ]
    windows = {"digest": "w", "platform": {"os": "windows", "architecture": "amd64"}}
    chosen = choose([windows, *entries], "amd64")
    assert chosen is not None and chosen["digest"] == "amd64"
    assert choose([windows], "amd64") is None and choose([{"digest": "plain"}], "amd64") == {
        "digest": "plain"
    }


def test_a_manifest_keeps_alive_what_it_names() -> None:
    manifest = {"config": {"digest": "c"}, "layers": [{"digest": "l"}]}
    assert set(references(manifest).values()) == {"c", "l"}
    assert list(references({"manifests": [{"digest": "m"}]}).values()) == ["m"]


@pytest.mark.parametrize(
    ("registry", "wanted"),
    [
        ("docker.io", ["https://registry-1.docker.io/v2"]),
        ("quay.io", ["https://quay.io/v2"]),
        ("127.0.0.1:5000", ["https://127.0.0.1:5000/v2", "http://127.0.0.1:5000/v2"]),
        ("localhost:5000", ["https://localhost:5000/v2", "http://localhost:5000/v2"]),
    ],
)
def test_without_a_file_the_registry_itself_is_asked(
    tmp_path: Path, registry: str, wanted: list[str]
) -> None:
    assert [host.base for host in hosts(registry, tmp_path)] == wanted


def test_mirrors_come_first_with_their_trust_and_headers(tmp_path: Path) -> None:
    (tmp_path / "quay.io").mkdir()
    (tmp_path / "quay.io" / "hosts.toml").write_text(
        'server = "https://quay.io"\n'
        '[host."https://push.only"]\ncapabilities = ["push"]\n'
        '[host."https://mirror:8443/proxy"]\noverride_path = true\nskip_verify = true\n'
        '[host."https://mirror:8443/proxy".header]\nX-Team = ["a", "b"]\n'
    )
    mirror, server = hosts("quay.io", tmp_path)
    assert (mirror.base, server.base) == ("https://mirror:8443/proxy", "https://quay.io/v2")
    assert mirror.headers == {"X-Team": "a, b"} and server.tls is None
    assert mirror.tls is not None and mirror.tls.verify_mode is ssl.CERT_NONE


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "_default").mkdir()
    (tmp_path / "_default" / "hosts.toml").write_text("server = ")
    with pytest.raises(RuntimeFailure, match=r"_default/hosts\.toml"):
        hosts("quay.io", tmp_path)


def rules(*capabilities: str) -> dict[str, dict[str, Any]]:
    profile = default_profile(capabilities, "amd64")
    return {name: rule for rule in profile["syscalls"] for name in rule["names"]}


def test_the_default_profile_opens_with_capabilities() -> None:
    plain, admin = rules(), rules("SYS_ADMIN")
    assert plain["openat"]["action"] == "SCMP_ACT_ALLOW" and "arch_prctl" in plain
    assert not plain.keys() & {"mount", "bpf", "reboot", "io_uring_setup", "setns"}
    assert plain["clone"]["args"][0]["op"] == "SCMP_CMP_MASKED_EQ"
    assert (plain["clone3"]["action"], plain["clone3"]["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert {"mount", "setns"} <= admin.keys() and "args" not in admin["clone"]
    assert "args" not in admin["clone3"] and admin["clone3"]["action"] == "SCMP_ACT_ALLOW"
