"""The node's file about registries, for every engine: mirrors and their order, trust, logins.

    [mirrors."docker.io"]                       # "*" for every registry without a table of its own
    endpoints = ["https://mirror.example.com"]  # asked in this order, the registry itself last
    rewrite = { "^library/(.*)" = "hub/$1" }    # names at the mirrors
    only = false                                # true: never ask the registry itself

    [hosts."mirror.example.com"]                # a mirror or a registry, with its port if it has one
    ca = "/etc/orchestrator/mirror-ca.pem"
    client_cert, client_key, username, password (or password_file), identity_token
    insecure = false                            # true: any certificate will do
    plain_http = false                          # true: without TLS

The file is read again when it has changed: no restart. Reading blocks, the rest is pure. Called by the engines' image
parts and by the agent.
"""

import re
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.runtime.interface import RegistryAuth, RuntimeFailure
from orchestrator.runtime.references import DEFAULT_REGISTRY

DOCKER_HUB = "registry-1.docker.io"
_HOST_KEYS: Mapping[str, type] = {
    "ca": str,
    "client_cert": str,
    "client_key": str,
    "username": str,
    "password": str,
    "password_file": str,
    "identity_token": str,
    "insecure": bool,
    "plain_http": bool,
}
_MIRROR_KEYS: Mapping[str, type] = {"endpoints": list, "rewrite": dict, "only": bool}


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How to talk to one host. Paths are files in PEM; `auth` is None without a login."""

    ca: str = ""
    client_cert: str = ""
    client_key: str = ""
    insecure: bool = False
    plain_http: bool = False
    auth: RegistryAuth | None = None

    def tls(self) -> ssl.SSLContext | None:
        """None takes the system's trust. Raises `OSError`."""
        if not (self.ca or self.client_cert or self.insecure):
            return None
        context = ssl.create_default_context()
        if self.ca:
            context.load_verify_locations(self.ca)
        if self.client_cert:
            context.load_cert_chain(self.client_cert, self.client_key or None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Place:
    """One place to ask for an image. `base` ends before `/v2`; `path` is what the host's URL has before that."""

    host: str
    scheme: str
    path: str
    repository: str
    settings: HostSettings
    mirror: bool

    @property
    def base(self) -> str:
        return f"{self.scheme}://{self.host}{self.path}"


@dataclass(frozen=True, slots=True)
class _Mirror:
    endpoints: tuple[str, ...] = ()
    rewrite: tuple[tuple[re.Pattern[str], str], ...] = ()
    only: bool = False


@dataclass(frozen=True, slots=True)
class Registries:
    """What the file says."""

    mirrors: Mapping[str, _Mirror] = field(default_factory=dict)
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)

    def knows(self, registry: str) -> bool:
        """Whether the file says anything about this registry."""
        return self._mirror(registry) != _Mirror() or self._host(_address(registry)) != HostSettings()

    def places(self, registry: str, repository: str) -> list[Place]:
        """Where to ask for an image, in this order."""
        mirror = self._mirror(registry)
        found = [self._place(url, _rewritten(repository, mirror.rewrite)) for url in mirror.endpoints]
        if not mirror.only:
            settings = self._host(_address(registry))
            scheme = "http" if settings.plain_http else "https"
            found.append(Place(_address(registry), scheme, "", repository, settings, mirror=False))
        return found

    def login(self, registry: str) -> RegistryAuth | None:
        """The node's own credentials for a registry."""
        return self._host(_address(registry)).auth

    def _mirror(self, registry: str) -> _Mirror:
        return self.mirrors.get(registry) or self.mirrors.get("*") or _Mirror()

    def _host(self, address: str) -> HostSettings:
        named = DEFAULT_REGISTRY if address == DOCKER_HUB else address
        return self.hosts.get(address) or self.hosts.get(named) or HostSettings()

    def _place(self, url: str, repository: str) -> Place:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        settings = self._host(parts.netloc)
        scheme = "http" if settings.plain_http else parts.scheme
        path = parts.path.rstrip("/").removesuffix("/v2")
        return Place(parts.netloc, scheme, path, repository, settings, mirror=True)


class RegistryFile:
    """The file at `path`, which need not be there; None stands for no file."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._stamp: object = None
        self._read = Registries()

    def read(self) -> Registries:
        """What it says now; blocks for a look at the disk. Raises `RuntimeFailure` for a file that is wrong."""
        if self._path is None:
            return self._read
        try:
            facts = self._path.stat()
            stamp = facts.st_mtime_ns, facts.st_size, facts.st_ino
            if stamp != self._stamp:
                self._read = parse(tomllib.loads(self._path.read_text("utf-8")), self._path.parent)
                self._stamp = stamp
        except FileNotFoundError:
            self._read, self._stamp = Registries(), None
        except (OSError, ValueError) as error:
            raise RuntimeFailure(f"{self._path}: {error}", "ErrImagePull") from error
        return self._read


def parse(document: Mapping[str, Any], directory: Path) -> Registries:
    """The file's tables; relative paths are below `directory`. Raises `ValueError` that names the key."""
    unknown = document.keys() - {"mirrors", "hosts"}
    if unknown:
        raise ValueError(f"unknown table {min(unknown)!r}; known are mirrors and hosts")
    mirrors = {
        name: _parse_mirror(f'mirrors."{name}"', table)
        for name, table in _tables(document, "mirrors").items()
    }
    hosts = {
        name: _parse_host(f'hosts."{name}"', name, table, directory)
        for name, table in _tables(document, "hosts").items()
    }
    return Registries(mirrors, hosts)


def _tables(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    tables = document.get(name) or {}
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError(f'{name} must be tables such as [{name}."docker.io"]')
    return tables


def _parse_mirror(where: str, table: Mapping[str, Any]) -> _Mirror:
    _check(where, table, _MIRROR_KEYS)
    rewrite = []
    for pattern, replacement in (table.get("rewrite") or {}).items():
        try:
            rewrite.append((re.compile(pattern), re.sub(r"\$(\d)", r"\\\1", replacement)))
        except (re.error, TypeError) as error:
            raise ValueError(f"{where}: rewrite {pattern!r}: {error}") from error
    endpoints = tuple(table.get("endpoints") or ())
    if not all(
        isinstance(url, str) and urlsplit(url if "://" in url else f"//{url}").netloc for url in endpoints
    ):
        raise ValueError(f"{where}: endpoints must be URLs such as https://mirror.example.com")
    return _Mirror(endpoints, tuple(rewrite), bool(table.get("only")))


def _parse_host(where: str, name: str, table: Mapping[str, Any], directory: Path) -> HostSettings:
    _check(where, table, _HOST_KEYS)
    paths = {
        key: str(directory / table[key]) for key in ("ca", "client_cert", "client_key") if table.get(key)
    }
    password = table.get("password", "")
    if secret := table.get("password_file"):
        password = (directory / secret).read_text("utf-8").strip()
    auth = None
    if table.get("username") or table.get("identity_token"):
        auth = RegistryAuth(name, table.get("username", ""), password, table.get("identity_token", ""))
    insecure, plain = bool(table.get("insecure")), bool(table.get("plain_http"))
    return HostSettings(**paths, insecure=insecure, plain_http=plain, auth=auth)


def _check(where: str, table: Mapping[str, Any], keys: Mapping[str, type]) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ValueError(f"{where}: unknown key {key!r}; known are {', '.join(keys)}")
        if not isinstance(value, keys[key]):
            raise ValueError(f"{where}: {key} must be a {keys[key].__name__}")


def _rewritten(repository: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    """By the first rule that fits."""
    for pattern, replacement in rules:
        if pattern.search(repository):
            return pattern.sub(replacement, repository, count=1)
    return repository


def _address(registry: str) -> str:
    return DOCKER_HUB if registry == DEFAULT_REGISTRY else registry
