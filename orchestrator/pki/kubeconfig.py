"""The admin's kubeconfig, with its certificates inside so that the one file is enough. Called by `daemon`."""

import base64
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

import yaml

from orchestrator.base.errors import StartupError
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


def connection(path: Path) -> tuple[str, ssl.SSLContext]:
    """The server's URL and a TLS context that trusts it and shows the user, from a file as `render` makes them.

    Raises `StartupError` for a file that is absent or of another form.
    """
    fix = "Start the server; it writes this file. Name another with write_kubeconfig in the config file."
    try:
        config: Any = yaml.safe_load(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=ca)
        # The ssl module takes certificates from files only.
        with tempfile.NamedTemporaryFile() as pem:
            for field in ("client-certificate-data", "client-key-data"):
                pem.write(base64.b64decode(user[field]))
            pem.flush()
            context.load_cert_chain(pem.name)
        return str(cluster["server"]), context
    except OSError as error:
        raise StartupError(f"The kubeconfig {path} can't be used: {error.strerror or error}.", fix) from error
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError) as error:
        raise StartupError(f"{path} is no kubeconfig with a client certificate: {error!r}.", fix) from error


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
