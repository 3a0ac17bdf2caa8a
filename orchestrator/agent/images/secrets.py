"""Credentials for an image's registry from the pod's `imagePullSecrets`."""

import base64
import binascii

import msgspec

from orchestrator.agent.containers.env import Fetch
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object
from orchestrator.api.resources import SECRETS
from orchestrator.runtime.interface import RegistryAuth

_KEYS = (".dockerconfigjson", ".dockercfg")


def registry_of(reference: str) -> str:
    """The registry that an image reference names; `docker.io` where it names none."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


async def pull_auths(pod: Object, reference: str, fetch: Fetch) -> list[RegistryAuth]:
    """Credentials that fit the image's registry; secrets that are missing or unreadable are passed over."""
    auths: list[RegistryAuth] = []
    for named in pod["spec"].get("imagePullSecrets") or ():
        try:
            secret = await fetch(SECRETS, pod["metadata"]["namespace"], named.get("name", ""))
        except ApiError:
            continue
        auths.extend(_parse(secret, registry_of(reference)))
    return auths


def _parse(secret: Object, registry: str) -> list[RegistryAuth]:
    data = secret.get("data") or {}
    text = next((data[key] for key in _KEYS if key in data), None)
    if text is None:
        return []
    try:
        config = msgspec.json.decode(base64.b64decode(text))
        servers = config.get("auths", config)
        return [_auth(server, entry) for server, entry in servers.items() if _host(server) == registry]
    except (msgspec.DecodeError, binascii.Error, AttributeError, ValueError):
        return []


def _auth(server: str, entry: Object) -> RegistryAuth:
    user, password = entry.get("username", ""), entry.get("password", "")
    if not user and entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    return RegistryAuth(server, user, password, entry.get("identitytoken", ""))


def _host(server: str) -> str:
    host = server.removeprefix("https://").removeprefix("http://").split("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host
