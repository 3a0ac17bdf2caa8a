"""Credentials for an image: which of a pod's `imagePullSecrets` fit it, as a kubelet's keyring decides. Pure but for
the fetching of secrets. Called by the pods' operations.

An entry names a host, maybe with a port and a path, and `*` matches within one part of the host's name. The more
specific entry comes first. The first words of an image's name are no registry without a dot, a colon or `localhost`:
then it is Docker Hub's, whatever way the entry writes that.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from orchestrator.agent.containers.env import Fetch
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object
from orchestrator.api.resources import SECRETS
from orchestrator.runtime import references
from orchestrator.runtime.interface import RegistryAuth, RuntimeFailure

_KEYS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
_HUB_ENTRY = "index.docker.io"
_Login = TypeVar("_Login")


@dataclass(frozen=True, slots=True)
class Credential:
    """One login, and the Secret (`namespace/name/uid`) that it came from; empty for the node's own."""

    auth: RegistryAuth
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """Credentials of a pod for one image, in the order to try; and the secrets that could not be had."""

    credentials: tuple[Credential, ...] = ()
    missing: tuple[str, ...] = ()


async def pull_credentials(pod: Object, reference: str, fetch: Fetch) -> Found:
    """What the pod's secrets have for an image. A secret that is missing or unreadable is passed over."""
    named = pod["spec"].get("imagePullSecrets")
    if not named:
        return Found()
    namespace = pod["metadata"]["namespace"]
    entries: list[tuple[str, Credential]] = []
    missing = []
    for name in (part.get("name", "") for part in named):
        try:
            secret = await fetch(SECRETS, namespace, name)
        except ApiError:
            missing.append(name)
            continue
        where = f"{namespace}/{name}/{secret['metadata'].get('uid', '')}"
        entries += [(key, Credential(auth, where)) for key, auth in logins(secret)]
    return Found(tuple(lookup(entries, reference)), tuple(missing))


def logins(secret: Object) -> list[tuple[str, RegistryAuth]]:
    """The entries of a Secret of one of the two kinds; none of what is malformed."""
    data = secret.get("data") or {}
    key = _KEYS.get(secret.get("type", ""))
    text = data.get(key) if key else next((data[key] for key in _KEYS.values() if key in data), None)
    if not text:
        return []
    try:
        config = msgspec.json.decode(base64.b64decode(text))
        servers = config.get("auths") or {} if "auths" in config else config
        return [(_key(server), _auth(server, entry)) for server, entry in servers.items()]
    except (msgspec.DecodeError, binascii.Error, AttributeError, ValueError):
        return []


def lookup(entries: Iterable[tuple[str, _Login]], reference: str) -> list[_Login]:
    """Those that fit `reference`, the more specific first, each once."""
    try:
        image = references.parse(reference)
    except RuntimeFailure:
        return []
    ordered = sorted(entries, key=lambda entry: entry[0], reverse=True)
    name = f"{image.registry}/{image.repository}"
    fitting = [login for key, login in ordered if matches(key, name)]
    if not fitting and image.registry == references.DEFAULT_REGISTRY:
        fitting = [login for key, login in ordered if key.partition("/")[0] == _HUB_ENTRY]
    return list(dict.fromkeys(fitting))


def matches(key: str, name: str) -> bool:
    """Whether an entry's host, port and path are those of `name` (`registry/repository`)."""
    host, _, path = key.partition("/")
    own_host, _, own_path = name.partition("/")
    labels, own = host.partition(":"), own_host.partition(":")
    if labels[2] != own[2] or not own_path.startswith(path):
        return False
    globs, parts = labels[0].split("."), own[0].split(".")
    return len(globs) == len(parts) and all(map(fnmatchcase, parts, globs))


def _key(server: str) -> str:
    """`https://host:port/v1/path` → `host:port/path`."""
    rest = server.removeprefix("https://").removeprefix("http://")
    host, _, path = rest.partition("/")
    for version in ("v1/", "v2/"):
        path = path.removeprefix(version)
    return f"{host}/{path}" if path else host


def _auth(server: str, entry: Mapping[str, Any]) -> RegistryAuth:
    user, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    return RegistryAuth(server, user, password, entry.get("identitytoken", ""))
