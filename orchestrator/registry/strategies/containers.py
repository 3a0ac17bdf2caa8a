"""Validation of containers, init containers and ephemeral containers. Pure; called by `pod_spec`.

Source: core validation of Kubernetes v1.36, its wording and field paths.
"""

from collections.abc import Iterable
from typing import Any

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.probes import validate_lifecycle, validate_probe

_PROTOCOLS = frozenset(("TCP", "UDP", "SCTP"))
_PULL_POLICIES = frozenset(("Always", "IfNotPresent", "Never"))
_MESSAGE_POLICIES = frozenset(("File", "FallbackToLogsOnError"))
_PROPAGATION = frozenset(("None", "HostToContainer", "Bidirectional"))
_ENV_SOURCES = frozenset(("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"))
_ENV_FIELDS = frozenset(
    (
        "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
        "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
    )
)  # fmt: skip
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_NEVER_OVERCOMMITTED = ("hugepages-",)
_STANDARD_RESOURCES = frozenset(("cpu", "memory", "ephemeral-storage", "storage"))


class ContainerRules:
    """What the containers of one pod share: its volumes, host network and restart policy."""

    __slots__ = ("grace_period_s", "host_network", "volumes")

    def __init__(self, spec: Object) -> None:
        self.volumes = {volume.get("name", "") for volume in spec.get("volumes") or ()}
        self.host_network = bool(spec.get("hostNetwork"))
        self.grace_period_s: int = spec.get("terminationGracePeriodSeconds") or 0


def validate_containers(spec: Object, field: str) -> list[Cause]:
    """All container lists of the pod spec at `field`."""
    rules = ContainerRules(spec)
    containers = spec.get("containers")
    found: list[Cause] = []
    if not containers:
        found.append(causes.required(f"{field}.containers"))
    seen: set[str] = set()
    host_ports: set[tuple[str, str, int]] = set()
    for at, container in enumerate(containers or ()):
        path = f"{field}.containers[{at}]"
        found += _validate_container(container, path, rules, seen)
        if container.get("ports"):
            found += _validate_host_ports(container["ports"], f"{path}.ports", host_ports)
        if "restartPolicy" in container and container["restartPolicy"] not in (
            "Always",
            "OnFailure",
            "Never",
        ):
            found.append(
                causes.not_supported(
                    f"{path}.restartPolicy", container["restartPolicy"], ("Always", "Never", "OnFailure")
                )
            )
    for at, container in enumerate(spec.get("initContainers") or ()):
        path = f"{field}.initContainers[{at}]"
        found += _validate_container(container, path, rules, seen)
        found += _validate_init_container(container, path)
    lasting = frozenset(seen) if spec.get("ephemeralContainers") else frozenset()
    for at, container in enumerate(spec.get("ephemeralContainers") or ()):
        path = f"{field}.ephemeralContainers[{at}]"
        found += _validate_container(container, path, rules, seen)
        found += _validate_ephemeral(container, path)
        target = container.get("targetContainerName")
        if target and target not in lasting:
            found.append(causes.not_found(f"{path}.targetContainerName", target))
    return found


def _validate_container(container: Object, field: str, rules: ContainerRules, seen: set[str]) -> list[Cause]:
    found = _validate_identity(container, field, seen)
    found += causes.one_of(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES)
    found += causes.one_of(
        f"{field}.terminationMessagePolicy", container.get("terminationMessagePolicy"), _MESSAGE_POLICIES
    )
    if container.get("ports"):
        found += _validate_ports(container["ports"], f"{field}.ports", rules.host_network)
    if container.get("env"):
        found += _validate_env(container["env"], f"{field}.env")
    if container.get("envFrom"):
        found += _validate_env_from(container["envFrom"], f"{field}.envFrom")
    if container.get("volumeMounts"):
        found += _validate_mounts(container["volumeMounts"], f"{field}.volumeMounts", rules.volumes)
    if container.get("resources"):
        found += validate_resources(container["resources"], f"{field}.resources")
    for name in _PROBES:
        if container.get(name) is not None:
            found += validate_probe(container[name], f"{field}.{name}", name, rules.grace_period_s)
    if container.get("lifecycle") is not None:
        found += validate_lifecycle(container["lifecycle"], f"{field}.lifecycle")
    if container.get("securityContext"):
        found += _validate_security(container["securityContext"], f"{field}.securityContext")
    return found


def _validate_identity(container: Object, field: str, seen: set[str]) -> list[Cause]:
    found: list[Cause] = []
    name = container.get("name")
    if not name:
        found.append(causes.required(f"{field}.name"))
    else:
        found += causes.problems(f"{field}.name", name, names.is_dns1123_label(name))
        if name in seen:
            found.append(causes.duplicate(f"{field}.name", name))
        seen.add(name)
    image = container.get("image")
    if not image:
        found.append(causes.required(f"{field}.image"))
    elif image != image.strip():
        found.append(
            causes.invalid_value(f"{field}.image", image, "must not have leading or trailing whitespace")
        )
    return found


def _validate_init_container(container: Object, field: str) -> list[Cause]:
    """Only restartable init containers ("sidecars") may have probes and hooks."""
    policy = container.get("restartPolicy")
    if policy == "Always":
        return []
    found: list[Cause] = []
    if policy not in (None, "Never", "OnFailure"):
        found.append(causes.not_supported(f"{field}.restartPolicy", policy, ("Always", "Never", "OnFailure")))
    for name in ("lifecycle", *_PROBES):
        if container.get(name):
            found.append(
                causes.forbidden(
                    f"{field}.{name}", "may not be set for init containers without restartPolicy=Always"
                )
            )
    return found


def _validate_ephemeral(container: Object, field: str) -> list[Cause]:
    return [
        causes.forbidden(f"{field}.{name}", "cannot be set for an Ephemeral Container")
        for name in ("ports", "lifecycle", *_PROBES, "resources")
        if container.get(name)
    ]


def _validate_ports(ports: list[Object], field: str, host_network: bool) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for at, port in enumerate(ports):
        path = f"{field}[{at}]"
        name, number, host_port = port.get("name"), port.get("containerPort"), port.get("hostPort")
        if name:
            found += causes.problems(f"{path}.name", name, names.is_port_name(name))
            if name in seen:
                found.append(causes.duplicate(f"{path}.name", name))
            seen.add(name)
        if not number:
            found.append(causes.required(f"{path}.containerPort"))
        elif not 1 <= number <= 65535:
            found += causes.problems(f"{path}.containerPort", number, names.is_port_number(number))
        if host_port:
            found += causes.problems(f"{path}.hostPort", host_port, names.is_port_number(host_port))
            if host_network and host_port != number:
                found.append(
                    causes.invalid_value(
                        f"{path}.hostPort", host_port, "must match `containerPort` when `hostNetwork` is true"
                    )
                )
        protocol = port.get("protocol")
        if not protocol:
            found.append(causes.required(f"{path}.protocol"))
        elif protocol not in _PROTOCOLS:
            found.append(causes.not_supported(f"{path}.protocol", protocol, _PROTOCOLS))
    return found


def _validate_host_ports(ports: list[Object], field: str, taken: set[tuple[str, str, int]]) -> list[Cause]:
    """Within a pod a host port may be used once per protocol and address."""
    found: list[Cause] = []
    for at, port in enumerate(ports):
        if not port.get("hostPort"):
            continue
        key = (port.get("protocol", "TCP"), port.get("hostIP", ""), port["hostPort"])
        if key in taken:
            text = f"{key[0]}//{key[2]}" if not key[1] else f"{key[0]}/{key[1]}/{key[2]}"
            found.append(causes.duplicate(f"{field}[{at}].hostPort", text))
        taken.add(key)
    return found


def _validate_env(env: list[Object], field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, variable in enumerate(env):
        name = variable.get("name")
        if not name:
            found.append(causes.required(f"{field}[{at}].name"))
        else:
            problems = names.is_env_var_name(name)
            if problems:
                found += causes.problems(f"{field}[{at}].name", name, problems)
        source = variable.get("valueFrom")
        if source is not None:
            found += _validate_env_source(source, variable, f"{field}[{at}].valueFrom")
    return found


def _validate_env_source(source: Object, variable: Object, field: str) -> list[Cause]:
    given = [name for name in _ENV_SOURCES if source.get(name) is not None]
    if not given:
        return [
            causes.invalid_value(
                field,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`,"
                " `secretKeyRef` or `fileKeyRef`",
            )
        ]
    if variable.get("value"):
        return [causes.invalid_value(field, "", "may not be specified when `value` is not empty")]
    if len(given) > 1:
        return [causes.invalid_value(field, "", "may not have more than one field specified at a time")]
    reference = source[given[0]]
    if given[0] == "fieldRef":
        return _validate_field_ref(reference.get("fieldPath"), f"{field}.fieldRef.fieldPath")
    if given[0] == "resourceFieldRef":
        return [] if reference.get("resource") else [causes.required(f"{field}.resourceFieldRef.resource")]
    found: list[Cause] = []
    if given[0] in ("configMapKeyRef", "secretKeyRef"):
        if not reference.get("name"):
            found.append(causes.required(f"{field}.{given[0]}.name"))
        key = reference.get("key")
        if not key:
            found.append(causes.required(f"{field}.{given[0]}.key"))
        else:
            found += causes.problems(f"{field}.{given[0]}.key", key, names.is_config_map_key(key))
    return found


def _validate_field_ref(path: Any, field: str) -> list[Cause]:
    if not path:
        return [causes.required(field)]
    if path in _ENV_FIELDS:
        return []
    name, bracket, key = path.partition("['")
    if bracket and key.endswith("']") and name in ("metadata.labels", "metadata.annotations"):
        return causes.problems(field, key[:-2], names.is_qualified_name(key[:-2]))
    return [causes.not_supported(field, path, _ENV_FIELDS)]


def _validate_env_from(sources: list[Object], field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, source in enumerate(sources):
        path = f"{field}[{at}]"
        if source.get("prefix"):
            found += causes.problems(
                f"{path}.prefix", source["prefix"], names.is_env_var_name(source["prefix"])
            )
        given = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        if not given:
            found.append(causes.invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            found.append(
                causes.invalid_value(path, "", "may not have more than one field specified at a time")
            )
        elif not source[given[0]].get("name"):
            found.append(causes.required(f"{path}.{given[0]}.name"))
    return found


def _validate_mounts(mounts: list[Object], field: str, volumes: set[str]) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for at, mount in enumerate(mounts):
        path = f"{field}[{at}]"
        name, where = mount.get("name"), mount.get("mountPath")
        if not name:
            found.append(causes.required(f"{path}.name"))
        elif name not in volumes:
            found.append(causes.not_found(f"{path}.name", name))
        if not where:
            found.append(causes.required(f"{path}.mountPath"))
        elif where in seen:
            found.append(causes.invalid_value(f"{path}.mountPath", where, "must be unique"))
        seen.add(where or "")
        found += _validate_sub_path(mount, path)
        found += causes.one_of(f"{path}.mountPropagation", mount.get("mountPropagation"), _PROPAGATION)
    return found


def _validate_sub_path(mount: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name in ("subPath", "subPathExpr"):
        if mount.get(name):
            found += validate_inner_path(mount[name], f"{field}.{name}")
    if mount.get("subPath") and mount.get("subPathExpr"):
        found.append(
            causes.invalid_value(
                f"{field}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive"
            )
        )
    return found


def validate_inner_path(path: str, field: str) -> list[Cause]:
    """A relative path that never climbs out."""
    if path.startswith("/"):
        return [causes.invalid_value(field, path, "must be a relative path")]
    if ".." in path.split("/"):
        return [causes.invalid_value(field, path, "must not contain '..'")]
    return []


def validate_resources(resources: Object, field: str) -> list[Cause]:
    """`ResourceRequirements`: known names, quantities that are no debts, requests within limits."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    found = _validate_amounts(limits, f"{field}.limits") + _validate_amounts(requests, f"{field}.requests")
    if found:
        return found
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is not None and quantity.parse(amount) > quantity.parse(limit):
            found.append(
                causes.invalid_value(
                    f"{field}.requests", amount, f"must be less than or equal to {name} limit of {limit}"
                )
            )
        elif not _overcommits(name) and (limit is None or quantity.parse(amount) != quantity.parse(limit)):
            found.append(
                causes.invalid_value(
                    f"{field}.requests", amount, f"must be equal to {name} limit of {limit or '0'}"
                )
            )
    for name in limits.keys() - requests.keys():
        if not _overcommits(name):
            found.append(
                causes.required(f"{field}.requests", "Request must be set for non overcommitable resources")
            )
    return found


def _overcommits(name: str) -> bool:
    """Huge pages and extended resources are all or nothing."""
    return (
        name in _STANDARD_RESOURCES
        or ("/" not in name and not name.startswith("hugepages-"))
        or name.startswith("kubernetes.io/")
    )


def _validate_amounts(amounts: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name, amount in amounts.items():
        path = f"{field}[{name}]"
        if name not in _STANDARD_RESOURCES:
            found += _validate_resource_name(name, path)
        if not quantity.is_quantity(amount):
            found.append(causes.invalid_value(path, amount, "must be a quantity such as 100m, 1.5 or 512Mi"))
        elif quantity.parse(amount) < 0:
            found.append(causes.invalid_value(path, amount, "must be greater than or equal to 0"))
        elif "/" in name and quantity.parse(amount) % 1:
            found.append(causes.invalid_value(path, amount, "must be an integer"))
    return found


def _validate_resource_name(name: str, field: str) -> list[Cause]:
    found = causes.problems(field, name, names.is_qualified_name(name))
    if not found and "/" not in name and not name.startswith("hugepages-"):
        found.append(causes.invalid_value(field, name, "must be a standard resource for containers"))
    return found


def _validate_security(context: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name in ("runAsUser", "runAsGroup"):
        value = context.get(name)
        if value is not None and not 0 <= value <= 2**31 - 1:
            found.append(
                causes.invalid_value(f"{field}.{name}", value, "must be between 0 and 2147483647, inclusive")
            )
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            found.append(
                causes.invalid_value(
                    field, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
                )
            )
        if "SYS_ADMIN" in _capabilities(context):
            found.append(
                causes.invalid_value(
                    field,
                    context,
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
                )
            )
    found += causes.one_of(f"{field}.procMount", context.get("procMount"), ("Default", "Unmasked"))
    if context.get("seccompProfile"):
        found += validate_profile(context["seccompProfile"], f"{field}.seccompProfile")
    return found


def _capabilities(context: Object) -> Iterable[str]:
    return [name.removeprefix("CAP_") for name in (context.get("capabilities") or {}).get("add") or ()]


def validate_profile(profile: Object, field: str) -> list[Cause]:
    """A seccomp or AppArmor profile reference."""
    kind = profile.get("type")
    if not kind:
        return [causes.required(f"{field}.type")]
    if kind not in ("Localhost", "RuntimeDefault", "Unconfined"):
        return [causes.not_supported(f"{field}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined"))]
    local = profile.get("localhostProfile")
    if kind == "Localhost" and not local:
        return [causes.required(f"{field}.localhostProfile", "must be set when seccomp type is Localhost")]
    if kind != "Localhost" and local:
        return [
            causes.invalid_value(
                f"{field}.localhostProfile", local, "can only be set when seccomp type is Localhost"
            )
        ]
    return []
