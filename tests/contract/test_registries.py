"""Where images come from, on both engines: mirrors with other names and logins, against a registry with a password on
loopback; and archives in files."""

import gzip
import hashlib
import io
import json
import secrets
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.containerd import ContainerdRuntime
from orchestrator.runtime.docker import DockerRuntime
from orchestrator.runtime.imagearchive import unpack_archive
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.runtime.registries import RegistryFile
from tests.contract.registry import PASSWORD, USER, serving
from tests.contract.runtime_support import containerd_endpoint, docker_endpoint
from tests.images import TAG, busybox_archive

NAME = "absent.example.com/team/mirrored:1"


def settings(mirror: str, password: str = PASSWORD) -> str:
    return f"""
[mirrors."absent.example.com"]
endpoints = ["http://127.0.0.1:9", "http://{mirror}"]
rewrite = {{ "^team/(.*)$" = "copies/$1" }}
only = true

[hosts."{mirror}"]
username = "{USER}"
password = "{password}"
"""


@asynccontextmanager
async def engine(kind: str, directory: Path) -> AsyncIterator[DockerRuntime | ContainerdRuntime]:
    supervisor, clock, instance = Supervisor("t", SystemClock()), SystemClock(), secrets.token_hex(3)
    file = RegistryFile(directory / "registries.toml")
    with docker_endpoint() if kind == "docker" else containerd_endpoint() as socket:
        runtime: DockerRuntime | ContainerdRuntime
        if kind == "docker":
            runtime = DockerRuntime(socket, instance, clock, supervisor, registries=file)
        else:
            logs = directory / "pods"
            runtime = ContainerdRuntime(socket, instance, directory, logs, clock, supervisor, file)
        try:
            await runtime.connect()
            yield runtime
        finally:
            await runtime.close()
            await supervisor.stop()


@pytest.mark.parametrize("kind", ["docker", "containerd"])
async def test_a_mirror_gives_what_pods_name_by_its_registry(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"
    async with serving(busybox_archive()) as registry, engine(kind, tmp_path) as runtime:
        path.write_text(settings(registry.address, "wrong"))
        registry.asked.clear()
        with pytest.raises(RuntimeFailure, match=r"refused.*unauthorized"):
            await runtime.pull(NAME)
        path.write_text(settings(registry.address))
        image = await runtime.pull(NAME)
        assert image.tags == (NAME,) and await runtime.image(NAME) == image
        await runtime.remove_image(image.id)
        by_digest = f"absent.example.com/team/mirrored@{registry.digest}"
        assert await runtime.image(by_digest) is None
        image = await runtime.pull(by_digest)
        assert await runtime.image(by_digest) == image
        await runtime.remove_image(image.id)


def oci_layout(archive: bytes, name: str) -> bytes:
    """The image of an archive, as a tar with an OCI layout."""
    (image,) = unpack_archive(archive)
    digest = hashlib.sha256(image.manifest).hexdigest()
    entry = {
        "mediaType": image.media_type,
        "digest": f"sha256:{digest}",
        "size": len(image.manifest),
        "annotations": {"io.containerd.image.name": name},
    }
    files = {f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob for blob in image.blobs}
    files[f"blobs/sha256/{digest}"] = image.manifest
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["docker", "containerd"])
async def test_archives_of_both_kinds_are_taken_from_files(kind: str, tmp_path: Path) -> None:
    archive, name = busybox_archive(), "preloaded.example.com/layout:1"
    (tmp_path / "saved.tar.gz").write_bytes(gzip.compress(archive, 1))
    (tmp_path / "layout.tar").write_bytes(oci_layout(archive, name))
    async with engine(kind, tmp_path) as runtime:
        for file in ("saved.tar.gz", "layout.tar"):
            await runtime.load_file(tmp_path / file)
        saved, laid = await runtime.image(TAG), await runtime.image(name)
        assert saved is not None and laid is not None and saved.id == laid.id
        (tmp_path / "spoilt.tar").write_bytes(b"x" * 2000)
        with pytest.raises(RuntimeFailure, match="no image archive"):
            await runtime.load_file(tmp_path / "spoilt.tar")
