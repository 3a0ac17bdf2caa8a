"""The admin's kubeconfig, with its certificates inside so that the one file is enough. Called by `daemon`."""

import base64
import os
from pathlib import Path

import yaml

from orchestrator.pki.authority import KeyPair


def render(server: str, ca_pem: bytes, pair: KeyPair, user: str) -> str:
    """A kubeconfig (YAML) for `server`, a URL, with one cluster, user and context."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "orchestrator",
                "cluster": {"server": server, "certificate-authority-data": _b64(ca_pem)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _b64(pair.certificate_pem()),
                    "client-key-data": _b64(pair.key_pem()),
                },
            }
        ],
        "contexts": [{"name": "orchestrator", "context": {"cluster": "orchestrator", "user": user}}],
        "current-context": "orchestrator",
    }
    return yaml.safe_dump(config, sort_keys=False)


def write(path: Path, text: str) -> None:
    """Write for the owner's eyes only; unchanged content is left alone."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
