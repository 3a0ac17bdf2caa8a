"""Environment of a container: service links, `envFrom`, `env` with references and `$(NAME)` expansion.

Everything but the fetching of config maps and secrets is pure. A reference that can't be resolved raises
`ConfigError`, which the pod shows as CreateContainerConfigError until it can.
"""

import base64
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from orchestrator.agent import podspec
from orchestrator.agent.containers import envfile
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS, SECRETS, Resource
from orchestrator.base.errors import OrchestratorError

Fetch = Callable[[Resource, str, str], Awaitable[Object]]
"""(resource, namespace, name) → object; raises `NotFound`."""
Read = Callable[[str, str], Awaitable[str]]
"""(volume, path in it) → content of a file; raises `OSError`, such as `FileNotFoundError`."""

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")


class ConfigError(OrchestratorError):
    """A config map, secret, key or field that the pod names is not there."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the downward API offers besides the pod itself."""

    pod_ip: str
    node_ip: str
    node_name: str
    node_allocatable: Object


def expand(text: str, values: dict[str, str]) -> str:
    """`$(NAME)` becomes its value where there is one; `$$` is a dollar sign."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        return values.get(match.group(2), match.group(0))

    return _REFERENCE.sub(replace, text)


def service_env(services: Iterable[Object], namespace: str, links: bool) -> dict[str, str]:
    """`KUBERNETES_SERVICE_HOST` and, with service links, the like for each Service of the namespace."""
    values: dict[str, str] = {}
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        master = metadata["namespace"] == "default" and metadata["name"] == "kubernetes"
        wanted = master or (links and metadata["namespace"] == namespace)
        if wanted and spec.get("clusterIP") not in (None, "", "None") and spec.get("ports"):
            values.update(_one_service(metadata["name"], spec))
    return values


def _one_service(name: str, spec: Object) -> dict[str, str]:
    prefix, address, ports = name.upper().replace("-", "_"), spec["clusterIP"], spec["ports"]
    values = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    first = ports[0]
    values[f"{prefix}_PORT"] = f"{first.get('protocol', 'TCP').lower()}://{address}:{first['port']}"
    for port in ports:
        if port.get("name"):
            values[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        protocol = port.get("protocol", "TCP")
        base = f"{prefix}_PORT_{port['port']}_{protocol}"
        values[base] = f"{protocol.lower()}://{address}:{port['port']}"
        values[f"{base}_PROTO"] = protocol.lower()
        values[f"{base}_PORT"] = str(port["port"])
        values[f"{base}_ADDR"] = address
    return values


async def container_env(
    pod: Object,
    container: Object,
    facts: PodFacts,
    services: Iterable[Object],
    fetch: Fetch,
    read: Read | None = None,
) -> dict[str, str]:
    """All variables of one container, in the order in which later ones win. Raises `ConfigError`.

    `read` is for files of volumes; without it there are none.
    """
    namespace = pod["metadata"]["namespace"]
    links = bool(pod["spec"].get("enableServiceLinks", True))
    values = service_env(services, namespace, links)
    known = dict(values)
    for source in container.get("envFrom") or ():
        found = await _env_from(source, namespace, fetch)
        known.update(found)
    for variable in container.get("env") or ():
        if "valueFrom" in variable:
            source = variable["valueFrom"]
            if "fileKeyRef" in source:
                value = await _from_file(source["fileKeyRef"], read)
            else:
                value = await _value_from(source, pod, container, facts, fetch)
            if value is None:
                continue
            known[variable["name"]] = value
        else:
            known[variable["name"]] = expand(str(variable.get("value", "")), known)
    return known


async def _env_from(source: Object, namespace: str, fetch: Fetch) -> dict[str, str]:
    prefix = source.get("prefix", "")
    for field, resource in (("configMapRef", CONFIGMAPS), ("secretRef", SECRETS)):
        if field in source:
            data = await keyed_data(resource, source[field], namespace, fetch, field_of_name="name")
            return {f"{prefix}{key}": value.decode(errors="replace") for key, value in data.items()}
    return {}


async def keyed_data(
    resource: Resource, source: Object, namespace: str, fetch: Fetch, *, field_of_name: str
) -> dict[str, bytes]:
    """All keys of the config map or secret that `source` names; empty where it is optional and absent."""
    name = source.get(field_of_name, "")
    try:
        obj = await fetch(resource, namespace, name)
    except NotFound as error:
        if source.get("optional"):
            return {}
        raise ConfigError(f'{resource.singular_name} "{name}" not found') from error
    return object_data(resource, obj)


def object_data(resource: Resource, obj: Object) -> dict[str, bytes]:
    """Key → content of a config map or secret."""
    if resource is SECRETS:
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    data = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    data.update({key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()})
    return data


async def _value_from(
    source: Object, pod: Object, container: Object, facts: PodFacts, fetch: Fetch
) -> str | None:
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"], facts)
    if "resourceFieldRef" in source:
        return resource_value(pod, container, source["resourceFieldRef"], facts)
    namespace = pod["metadata"]["namespace"]
    for field, resource, kind in (
        ("configMapKeyRef", CONFIGMAPS, "ConfigMap"),
        ("secretKeyRef", SECRETS, "Secret"),
    ):
        if field not in source:
            continue
        reference = source[field]
        data = await keyed_data(resource, reference, namespace, fetch, field_of_name="name")
        if reference["key"] in data:
            return data[reference["key"]].decode(errors="replace")
        if reference.get("optional"):
            return None
        raise ConfigError(
            f"couldn't find key {reference['key']} in {kind} {namespace}/{reference.get('name')}"
        )
    return None


async def _from_file(reference: Object, read: Read | None) -> str | None:
    """A variable that an earlier container wrote down; None where it is optional and not there."""
    volume, path, key = reference.get("volumeName", ""), reference.get("path", ""), reference.get("key", "")
    try:
        if read is None:
            raise FileNotFoundError(path)
        values = envfile.parse(await read(volume, path))
    except FileNotFoundError:
        values = {}
    except (OSError, ValueError) as error:
        raise ConfigError(f'couldn\'t parse env file "{path}" of volume "{volume}": {error}') from error
    if key in values or reference.get("optional"):
        return values.get(key)
    raise ConfigError(f'environment variable key "{key}" not found in file "{path}" of volume "{volume}"')


def field_value(pod: Object, path: str, facts: PodFacts) -> str:
    """The downward API's `fieldRef`. Raises `ConfigError` for a path that it does not offer."""
    metadata, spec = pod["metadata"], pod["spec"]
    match = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if match:
        return str((metadata.get(match.group(1)) or {}).get(match.group(2), ""))
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "metadata.labels": _lines(metadata.get("labels")),
        "metadata.annotations": _lines(metadata.get("annotations")),
        "spec.nodeName": facts.node_name,
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": facts.node_ip,
        "status.hostIPs": facts.node_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path not in simple:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(simple[path])


def _lines(values: Object | None) -> str:
    quoted = sorted((values or {}).items())
    return "\n".join(f'{key}="{_escape(value)}"' for key, value in quoted)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(pod: Object, container: Object, reference: Object, facts: PodFacts) -> str:
    """`limits.cpu` and its like, divided and rounded up; without a limit the pod's, else the node's allocatable."""
    named = reference.get("containerName")
    target = (podspec.find_container(pod, named) if named else container) or container
    kind, _, name = reference["resource"].partition(".")
    value = podspec.requests(target, kind).get(name)
    if value is None and kind == "limits":
        value = podspec.requests(pod["spec"], "limits").get(name) or facts.node_allocatable.get(name)
    divisor = reference.get("divisor") or "1"
    divisor = "1" if str(divisor) == "0" else divisor
    amount, unit = podspec.milli(value or "0"), max(1, podspec.milli(divisor))
    return str(-(-amount // unit))
