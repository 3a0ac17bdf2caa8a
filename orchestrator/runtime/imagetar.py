"""Container images written by ourselves, as the archive that engines load (`docker save` format).

The bytes depend on nothing but the arguments: the same files give the same image id on every host. Callers:
the pause image, the demo's image that the installer makes from busybox, and tests.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The kernel's machine names and what images call them."""

EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file (`data`), symbolic link (`link`) or directory (neither) of an image."""

    data: bytes | None = None
    link: str = ""
    mode: int = 0o755


def host_architecture() -> str:
    """What images call this machine, e.g. `amd64`."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def build(
    tag: str, files: Mapping[str, Entry], config: Mapping[str, Any], architecture: str | None = None
) -> bytes:
    """An image of one layer, as a tar archive that `POST /images/load` (or `ctr images import`) takes.

    `files` are by absolute path; missing parent directories are added. `config` has Docker's keys, such as
    `Entrypoint`, `Cmd`, `Env`, `User`, `ExposedPorts`.
    """
    layer = _layer(files)
    layer_digest = hashlib.sha256(layer).hexdigest()
    image = _json(
        {
            "architecture": architecture or host_architecture(),
            "os": "linux",
            "created": EPOCH,
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created": EPOCH, "created_by": "orchestrator"}],
        }
    )
    config_name = f"{hashlib.sha256(image).hexdigest()}.json"
    layer_name = f"{layer_digest}/layer.tar"
    manifest = _json([{"Config": config_name, "RepoTags": [tag], "Layers": [layer_name]}])
    return _tar(
        {
            layer_name: Entry(layer, mode=0o644),
            config_name: Entry(image, mode=0o644),
            "manifest.json": Entry(manifest, mode=0o644),
        }
    )


def _layer(files: Mapping[str, Entry]) -> bytes:
    entries: dict[str, Entry] = {}
    for path, entry in files.items():
        name = path.strip("/")
        for parent in reversed(PurePosixPath(name).parents):
            if str(parent) != ".":
                entries.setdefault(str(parent), Entry())
        entries[name] = entry
    return _tar(entries)


def _tar(entries: Mapping[str, Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, entry in entries.items():
            info = tarfile.TarInfo(name)
            info.mode = entry.mode
            if entry.link:
                info.type, info.linkname = tarfile.SYMTYPE, entry.link
            elif entry.data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(entry.data)
            archive.addfile(info, io.BytesIO(entry.data or b""))
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
