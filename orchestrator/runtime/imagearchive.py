"""Image archives (`docker save`, or an OCI layout in a tar) as blobs and manifests. Pure; used by `containerd_images`.

An archive of Docker's has no manifest of the registry's kind: it gets one, over its layers as they are.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.runtime.interface import RuntimeFailure

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_COMPRESSIONS = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


@dataclass(frozen=True, slots=True)
class Archived:
    """One image: its names, its manifest (or index) and everything that this names."""

    tags: tuple[str, ...]
    manifest: bytes
    media_type: str
    blobs: tuple[bytes, ...]


def unpack_archive(archive: bytes) -> list[Archived]:
    """The images of an archive, plain or compressed. Raises `RuntimeFailure` for what is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            return _images({_plain(name): name for name in tar.getnames()}, tar)
    except (tarfile.TarError, KeyError, ValueError, TypeError, OSError) as error:
        raise RuntimeFailure(f"this is no image archive: {error}") from error


def archive_names(path: Path) -> list[str]:
    """The names of the images in an archive, without what is in them. Blocking. Raises `RuntimeFailure`."""
    try:
        with tarfile.open(path) as tar:
            inside = {_plain(name): name for name in tar.getnames()}
            if "manifest.json" in inside:
                entries = json.loads(_text(tar, inside["manifest.json"]))
                return [name for entry in entries for name in entry.get("RepoTags") or ()]
            notes = [
                entry.get("annotations") or {}
                for entry in json.loads(_text(tar, inside["index.json"]))["manifests"]
            ]
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError) as error:
        raise RuntimeFailure(f"{path} is no image archive: {error}") from error
    return [found for note in notes if (found := next((note[key] for key in REF_NAMES if note.get(key)), ""))]


def _text(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()


def _images(names: Mapping[str, str], tar: tarfile.TarFile) -> list[Archived]:
    def read(name: str) -> bytes:
        # A layer that occurs twice may be a link to the first.
        file = tar.extractfile(names[_plain(name)])
        if file is None:
            raise ValueError(f"{name} is no file")
        return file.read()

    if "manifest.json" in names:
        return [_docker(entry, read) for entry in json.loads(read("manifest.json"))]
    return [_oci(entry, read, names) for entry in json.loads(read("index.json"))["manifests"]]


def _docker(entry: Mapping[str, Any], read: Any) -> Archived:
    config = read(entry["Config"])
    layers = [read(name) for name in entry["Layers"]]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config),
        "layers": [_descriptor(LAYER + _COMPRESSIONS.get(layer[:2], ""), layer) for layer in layers],
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    return Archived(tuple(entry.get("RepoTags") or ()), text, MANIFEST, (*layers, config))


def _oci(entry: Mapping[str, Any], read: Any, names: Mapping[str, str]) -> Archived:
    """Of an index, what the archive holds: one for one platform names the others all the same."""
    notes = entry.get("annotations") or {}
    name = next((notes[key] for key in REF_NAMES if notes.get(key)), "")
    manifest = read(_blob(entry["digest"]))
    document = json.loads(manifest)
    blobs: list[bytes] = []
    if "manifests" in document:
        here = [part for part in document["manifests"] if _blob(part["digest"]) in names]
        for part in here:
            blobs += (*_oci(part, read, names).blobs, read(_blob(part["digest"])))
    else:
        parts = (*document["layers"], document["config"])
        blobs += (read(_blob(part["digest"])) for part in parts)
    return Archived((name,) if name else (), manifest, entry.get("mediaType", MANIFEST), tuple(blobs))


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(blob)}


def _plain(name: str) -> str:
    return name.removeprefix("./").strip("/")


def is_oci_layout(path: Path) -> bool:
    """Whether an archive has an OCI layout only, and no manifest of Docker's. Blocking. Raises `RuntimeFailure`."""
    try:
        with tarfile.open(path) as tar:
            names = {_plain(name) for name in tar.getnames()}
    except (tarfile.TarError, EOFError) as error:
        raise RuntimeFailure(f"{path} is no image archive: {error}") from error
    return "index.json" in names and "manifest.json" not in names


def docker_archive(archived: Archived, architecture: str) -> bytes:
    """The image as `docker save` writes one; of an index, what runs on `architecture`. Raises `RuntimeFailure`."""
    blobs = {f"sha256:{hashlib.sha256(blob).hexdigest()}": blob for blob in archived.blobs}
    document = json.loads(archived.manifest)
    while "manifests" in document:
        fitting = [
            part["digest"]
            for part in document["manifests"]
            if (part.get("platform") or {}).get("architecture", architecture) == architecture
            and part["digest"] in blobs
        ]
        if not fitting:
            raise RuntimeFailure(f"the archive has no image for linux/{architecture}")
        document = json.loads(blobs[fitting[0]])
    layers = [part["digest"] for part in document["layers"]]
    config = document["config"]["digest"]
    files = {f"{digest.partition(':')[2]}/layer.tar": blobs[digest] for digest in layers}
    files[f"{config.partition(':')[2]}.json"] = blobs[config]
    names = [name.partition("@")[0] for name in archived.tags]
    entry = {
        "Config": f"{config.partition(':')[2]}.json",
        "RepoTags": names,
        "Layers": [f"{digest.partition(':')[2]}/layer.tar" for digest in layers],
    }
    files["manifest.json"] = json.dumps([entry]).encode()
    return _tarred(files)


def _tarred(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
