"""Where an image's registry is: its own server and the mirrors that the node names for it. Blocking reads, else pure.

What `registries` says of a registry holds. Of others, containerd's own file does,
`/etc/containerd/certs.d/<registry>/hosts.toml` (or `_default`), so that what is set up for containerd holds here:
`server`, and `[host."https://mirror"]` with `capabilities`, `ca`, `client`, `skip_verify`, `header` and
`override_path`. Called by `containerd_pull`.
"""

import ssl
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from orchestrator.runtime.interface import RegistryAuth, RuntimeFailure
from orchestrator.runtime.references import DEFAULT_REGISTRY
from orchestrator.runtime.registries import Place, Registries

ROOT = Path("/etc/containerd/certs.d")
DOCKER_HUB = "https://registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Host:
    """One place to ask. `base` ends before `/<repository>`; `tls` of None takes the system's trust."""

    base: str
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repository: str = ""
    """The image's name there; empty where that is the same as everywhere."""
    auth: RegistryAuth | None = None
    """A mirror's own login; None takes the one given for the image."""


def places(registries: Registries, registry: str, repository: str) -> list[Host]:
    """In the order in which to ask, from the node's file or else containerd's. Raises `RuntimeFailure`."""
    if not registries.knows(registry):
        return hosts(registry)
    try:
        return [
            Host(f"{place.base}/v2", place.settings.tls(), {}, place.repository, _own(place))
            for place in registries.places(registry, repository)
        ]
    except OSError as error:
        raise RuntimeFailure(f"settings of registry {registry}: {error}", "ErrImagePull") from error


def _own(place: Place) -> RegistryAuth | None:
    return place.settings.auth if place.mirror else None


def hosts(registry: str, root: Path = ROOT) -> list[Host]:
    """In the order in which to ask: mirrors, then the registry itself. Raises `RuntimeFailure` for a bad file."""
    settings, directory = _settings(registry, root)
    found = [
        _host(url, part, directory)
        for url, part in (settings.get("host") or {}).items()
        if "pull" in part.get("capabilities", ("pull",))
    ]
    if server := settings.get("server"):
        return [*found, _host(server, settings, directory)]
    return [*found, *(Host(f"{base}/v2") for base in defaults(registry))]


def defaults(registry: str) -> list[str]:
    """Without a file: TLS, and for this host itself also plain HTTP, as everywhere."""
    if registry == DEFAULT_REGISTRY:
        return [DOCKER_HUB]
    return [f"https://{registry}", *([f"http://{registry}"] if is_local(registry) else [])]


def is_local(registry: str) -> bool:
    """Whether a registry is on this host's loopback."""
    name = registry.rpartition(":")[0] or registry
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"


def _settings(registry: str, root: Path) -> tuple[Mapping[str, Any], Path]:
    for name in (registry, "_default"):
        path = root / name / "hosts.toml"
        try:
            return tomllib.loads(path.read_text("utf-8")), path.parent
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise RuntimeFailure(f"{path}: {error}", "ErrImagePull") from error
    return {}, root


def _host(url: str, part: Mapping[str, Any], directory: Path) -> Host:
    url = url.rstrip("/")
    base = url if part.get("override_path") or url.endswith("/v2") else f"{url}/v2"
    base = base if "://" in base else f"https://{base}"
    headers = {
        name: value if isinstance(value, str) else ", ".join(value)
        for name, value in (part.get("header") or {}).items()
    }
    return Host(base, _tls(part, directory), headers)


def _tls(part: Mapping[str, Any], directory: Path) -> ssl.SSLContext | None:
    if not part.keys() & {"ca", "client", "skip_verify"}:
        return None
    context = ssl.create_default_context()
    try:
        for name in _words(part.get("ca")):
            context.load_verify_locations(directory / name)
        for pair in _pairs(part.get("client")):
            certificate, *key = (directory / name for name in pair if name)
            context.load_cert_chain(certificate, key[0] if key else None)
    except (OSError, ssl.SSLError) as error:
        raise RuntimeFailure(f"{directory}/hosts.toml: {error}", "ErrImagePull") from error
    if part.get("skip_verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _words(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else value or []


def _pairs(value: Any) -> list[Sequence[str]]:
    """`client` is one file, a list of files, or a list of pairs of certificate and key."""
    return [[entry] if isinstance(entry, str) else entry for entry in _words(value)]
