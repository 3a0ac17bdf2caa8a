"""Trust of a Docker engine in registries, from the node's file: dockerd reads it from `certs.d` at every pull.

The files carry the instance, so that they are told from the operator's own and removed with it. Blocking. Called by
`docker_images`, and by the command that cleans up.
"""

import os
from pathlib import Path

from orchestrator.runtime.registries import HostSettings

ROOT = Path("/etc/docker/certs.d")
INSECURE = "Docker takes a registry without TLS, or with any certificate, from insecure-registries in daemon.json only"


def ensure(root: Path, instance: str, host: str, settings: HostSettings) -> None:
    """Have dockerd trust `host` as the settings say; what they say no more goes. Raises `OSError`."""
    directory, name = root / host, f"orc{instance}"
    wanted = {
        f"{name}.crt": settings.ca,
        f"{name}-client.cert": settings.client_cert,
        f"{name}-client.key": settings.client_key or settings.client_cert,
    }
    if not settings.client_cert:
        wanted[f"{name}-client.key"] = ""
    for file, source in wanted.items():
        if source:
            _write(directory / file, Path(source).read_bytes())
        else:
            (directory / file).unlink(missing_ok=True)


def remove(root: Path, instance: str) -> int:
    """Remove everything of an instance; returns how many files that were."""
    found = list(root.glob(f"*/orc{instance}.crt")) + list(root.glob(f"*/orc{instance}-client.*"))
    for file in found:
        file.unlink(missing_ok=True)
        try:
            file.parent.rmdir()
        except OSError:
            continue
    return len(found)


def _write(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    fresh.replace(path)
