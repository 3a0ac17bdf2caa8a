"""Validation of containers, init containers and ephemeral containers. Pure; called by `pod_spec`.

Source: core validation of Kubernetes v1.36, its wording and field paths.
"""

from collections.abc import Iterable

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_env import validate_env, validate_env_from
from orchestrator.registry.strategies.container_mounts import validate_devices, validate_mounts
from orchestrator.registry.strategies.container_resources import validate_resources
from orchestrator.registry.strategies.probes import validate_lifecycle, validate_probe
from orchestrator.registry.strategies.security_contexts import validate_container_security

_PROTOCOLS = frozenset(("TCP", "UDP", "SCTP"))
_PULL_POLICIES = frozenset(("Always", "IfNotPresent", "Never"))
_MESSAGE_POLICIES = frozenset(("File", "FallbackToLogsOnError"))
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_NOT_IN_EPHEMERAL = (
    "ports", "resources", "lifecycle", *_PROBES, "resizePolicy", "restartPolicy", "restartPolicyRules",
)  # fmt: skip
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_RESTART_RULES_MAX = 20
_EXIT_CODES_MAX = 255
_RESIZE_POLICIES = ("NotRequired", "RestartContainer")


class ContainerRules:
    """What the containers of one pod share: its volumes, claims, host namespaces and restart policy."""

    __slots__ = (
        "claims", "grace_period_s", "host_network", "host_users", "of_pod", "os", "restart_policy", "volumes",
    )  # fmt: skip

    def __init__(self, spec: Object, *, of_pod: bool) -> None:
        self.of_pod = of_pod
        self.volumes = {volume.get("name", ""): volume for volume in spec.get("volumes") or ()}
        claims = spec.get("resourceClaims")
        self.claims = [claim.get("name") for claim in claims] if claims else ()
        self.host_network = bool(spec.get("hostNetwork"))
        self.host_users = spec.get("hostUsers") is not False
        self.grace_period_s: int = spec.get("terminationGracePeriodSeconds") or 0
        self.restart_policy = spec.get("restartPolicy")
        self.os = (spec.get("os") or {}).get("name")


def validate_containers(spec: Object, field: str, *, of_pod: bool = False) -> list[Cause]:
    """All container lists of the pod spec at `field`; `of_pod` is false for templates."""
    rules = ContainerRules(spec, of_pod=of_pod)
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
    for at, container in enumerate(spec.get("initContainers") or ()):
        path = f"{field}.initContainers[{at}]"
        found += _validate_container(container, path, rules, seen)
        found += _validate_init_container(container, path)
        if container.get("ports"):
            found += _validate_host_ports(container["ports"], f"{path}.ports", set())
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
    found = _validate_identity(container, field, seen, of_pod=rules.of_pod)
    found += causes.one_of(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES)
    found += causes.one_of(
        f"{field}.terminationMessagePolicy", container.get("terminationMessagePolicy"), _MESSAGE_POLICIES
    )
    if container.get("ports"):
        found += _validate_ports(container["ports"], f"{field}.ports", rules.host_network)
    if container.get("env"):
        found += validate_env(container["env"], f"{field}.env", rules.volumes)
    if container.get("envFrom"):
        found += validate_env_from(container["envFrom"], f"{field}.envFrom")
    if container.get("volumeMounts"):
        found += validate_mounts(container, f"{field}.volumeMounts", rules.volumes)
    if container.get("volumeDevices"):
        found += validate_devices(container, f"{field}.volumeDevices", rules.volumes)
    if container.get("resources"):
        found += validate_resources(container["resources"], f"{field}.resources", rules.claims)
    for name in _PROBES:
        if container.get(name) is not None:
            found += validate_probe(container[name], f"{field}.{name}", name, rules.grace_period_s)
    if container.get("lifecycle") is not None:
        found += validate_lifecycle(
            container["lifecycle"], f"{field}.lifecycle", rules.grace_period_s, rules.os
        )
    context = container.get("securityContext")
    if context:
        path = f"{field}.securityContext"
        found += validate_container_security(context, path, host_users=rules.host_users)
    if "resizePolicy" in container:
        found += _validate_resize(container["resizePolicy"] or (), f"{field}.resizePolicy", rules)
    if "restartPolicy" in container or "restartPolicyRules" in container:
        found += _validate_restart(container, field)
    return found


def _validate_restart(container: Object, field: str) -> list[Cause]:
    """A container's own restart policy, and rules that restart it by exit code."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    found = causes.one_of(f"{field}.restartPolicy", policy, _RESTART_POLICIES)
    if rules and policy is None:
        text = "must specify restartPolicy when restart rules are used"
        found.append(causes.required(f"{field}.restartPolicy", text))
    field = f"{field}.restartPolicyRules"
    if len(rules) > _RESTART_RULES_MAX:
        found.append(causes.too_many(field, len(rules), _RESTART_RULES_MAX))
    for at, rule in enumerate(rules):
        codes = rule.get("exitCodes")
        if not rule.get("action"):
            found.append(causes.required(f"{field}[{at}].action"))
        else:
            found += causes.one_of(
                f"{field}[{at}].action", rule["action"], ("Restart", "RestartAllContainers")
            )
        if codes is None:
            found.append(causes.required(f"{field}[{at}].exitCodes", "must be specified"))
            continue
        found += causes.one_of(
            f"{field}[{at}].exitCodes.operator", codes.get("operator", ""), ("In", "NotIn")
        )
        values = codes.get("values") or ()
        if len(values) > _EXIT_CODES_MAX:
            found.append(causes.too_many(f"{field}[{at}].exitCodes.values", len(values), _EXIT_CODES_MAX))
    return found


def _validate_resize(policies: Iterable[Object], field: str, rules: ContainerRules) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for at, entry in enumerate(policies):
        name, policy = entry.get("resourceName") or "", entry.get("restartPolicy") or ""
        if name in seen:
            found.append(causes.duplicate(f"{field}[{at}]", name))
        seen.add(name)
        for value, choices in ((name, ("cpu", "memory")), (policy, _RESIZE_POLICIES)):
            if not value:
                found.append(causes.required(field))
            else:
                found += causes.one_of(field, value, choices)
        if rules.restart_policy == "Never" and policy != "NotRequired":
            text = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            found.append(causes.invalid_value(field, policy, text))
    return found


def _validate_identity(container: Object, field: str, seen: set[str], *, of_pod: bool) -> list[Cause]:
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
    elif of_pod and image != image.strip():
        # Templates are let pass: what fills them in may use a blank as its mark.
        text = "must not have leading or trailing whitespace"
        found.append(causes.invalid_value(f"{field}.image", image, text))
    return found


def _validate_init_container(container: Object, field: str) -> list[Cause]:
    """Only restartable init containers ("sidecars") may have probes and hooks."""
    if container.get("restartPolicy") == "Always":
        return []
    found: list[Cause] = []
    for name in ("lifecycle", *_PROBES):
        if container.get(name):
            found.append(
                causes.forbidden(
                    f"{field}.{name}", "may not be set for init containers without restartPolicy=Always"
                )
            )
    return found


def _validate_ephemeral(container: Object, field: str) -> list[Cause]:
    text = "cannot be set for an Ephemeral Container"
    found = [causes.forbidden(f"{field}.{name}", text) for name in _NOT_IN_EPHEMERAL if container.get(name)]
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        for name in ("subPath", "subPathExpr"):
            if mount.get(name):
                found.append(causes.forbidden(f"{field}.volumeMounts[{at}].{name}", text))
    return found


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
            text = f"{key[0]}/{key[1]}/{key[2]}"
            found.append(causes.duplicate(f"{field}[{at}].hostPort", text))
        taken.add(key)
    return found
