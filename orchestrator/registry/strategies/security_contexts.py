"""Validation of security contexts, of containers and of pods, and of what an operating system allows. Pure.

Called by `containers` and `pod_spec`. Source: core validation of Kubernetes v1.36.
"""

import re
from collections.abc import Iterator

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_env import validate_inner_path

_ID_MAX = 2**31 - 1
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_PROFILE_LENGTH_MAX = 4095
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_match_sysctl = re.compile(_SYSCTL).fullmatch
_POD_CHOICES = (
    ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
    ("supplementalGroupsPolicy", ("Merge", "Strict")),
    ("seLinuxChangePolicy", ("MountOption", "Recursive")),
)
_NOT_ON_WINDOWS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls", "runAsUser",
    "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy",
)  # fmt: skip
_NOT_IN_WINDOWS_CONTAINERS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip
_HOST_FLAGS = ("hostPID", "hostIPC")


def validate_container_security(context: Object, field: str, *, host_users: bool) -> list[Cause]:
    found: list[Cause] = []
    for name in ("runAsUser", "runAsGroup"):
        found += _validate_id(context.get(name), f"{field}.{name}")
    if context.get("procMount") is not None:
        found += causes.one_of(f"{field}.procMount", context["procMount"], ("Default", "Unmasked"))
        if context["procMount"] == "Unmasked" and host_users:
            text = "`hostUsers` must be false to use `Unmasked`"
            found.append(causes.invalid_value(f"{field}.procMount", "Unmasked", text))
    if context.get("allowPrivilegeEscalation") is False:
        refused = "cannot set `allowPrivilegeEscalation` to false and "
        if context.get("privileged"):
            found.append(causes.invalid_value(field, context, f"{refused}`privileged` to true"))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            found.append(causes.invalid_value(field, context, f"{refused}`capabilities.Add` CAP_SYS_ADMIN"))
    return found + _validate_common(context, field)


def validate_pod_security(context: Object, spec: Object, field: str) -> list[Cause]:
    """`spec.securityContext` at `field`."""
    found: list[Cause] = []
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        found += _validate_id(context.get(name), f"{field}.{name}")
    for at, group in enumerate(context.get("supplementalGroups") or ()):
        found += _validate_id(group, f"{field}.supplementalGroups[{at}]")
    if context.get("sysctls"):
        found += _validate_sysctls(context["sysctls"], spec, f"{field}.sysctls")
    for name, choices in _POD_CHOICES:
        found += causes.one_of(f"{field}.{name}", context.get(name), choices)
    return found + _validate_common(context, field)


def _validate_id(value: int | None, field: str) -> list[Cause]:
    if value is None or 0 <= value <= _ID_MAX:
        return []
    return [causes.invalid_value(field, value, f"must be between 0 and {_ID_MAX}, inclusive")]


def _validate_common(context: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if context.get("seccompProfile") is not None:
        found += _validate_seccomp(context["seccompProfile"], f"{field}.seccompProfile")
    if context.get("windowsOptions") is not None:
        found += _validate_windows_options(context["windowsOptions"], f"{field}.windowsOptions")
    if context.get("appArmorProfile") is not None:
        found += _validate_apparmor(context["appArmorProfile"], f"{field}.appArmorProfile")
    return found


def _validate_seccomp(profile: Object, field: str) -> list[Cause]:
    found = _validate_profile_type(profile, f"{field}.type", "seccompProfile")
    local = profile.get("localhostProfile")
    field = f"{field}.localhostProfile"
    if profile.get("type") != "Localhost":
        if local is not None:
            text = "can only be set when seccomp type is Localhost"
            found.append(causes.invalid_value(field, profile, text))
    elif local is None:
        found.append(causes.required(field, "must be set when seccomp type is Localhost"))
    else:
        found += validate_inner_path(local, field)
    return found


def _validate_apparmor(profile: Object, field: str) -> list[Cause]:
    found = _validate_profile_type(profile, f"{field}.type", "appArmorProfile")
    local = profile.get("localhostProfile")
    field = f"{field}.localhostProfile"
    if found:
        return found
    if profile["type"] != "Localhost":
        text = "can only be set when AppArmor type is Localhost"
        return [] if local is None else [causes.invalid_value(field, local, text)]
    if not local:
        return [causes.required(field, "must be set when AppArmor type is Localhost")]
    if local != local.strip():
        found.append(causes.invalid_value(field, local, "must not be padded with whitespace"))
    if len(local) > _PROFILE_LENGTH_MAX:
        found.append(causes.too_long(field, _PROFILE_LENGTH_MAX))
    return found


def _validate_profile_type(profile: Object, field: str, what: str) -> list[Cause]:
    kind = profile.get("type")
    if not kind:
        return [causes.required(field, f"type is required when {what} is set")]
    return causes.one_of(field, kind, _PROFILES)


def _validate_sysctls(sysctls: list[Object], spec: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for at, sysctl in enumerate(sysctls):
        name, path = sysctl.get("name") or "", f"{field}[{at}].name"
        if not name:
            found.append(causes.required(path))
        elif len(name) > 253 or not _match_sysctl(name):
            text = f"must have at most 253 characters and match regex ^{_SYSCTL}$"
            found.append(causes.invalid_value(path, name, text))
        elif name in seen:
            found.append(causes.duplicate(path, name))
        seen.add(name)
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            text = "may not be specified when 'hostNetwork' is true"
            found.append(causes.invalid_value(path, name, text))
        elif spec.get("hostIPC") and dotted.startswith(
            ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
        ):
            text = "may not be specified when 'hostIPC' is true"
            found.append(causes.invalid_value(path, name, text))
    return found


def _validate_windows_options(options: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    name, spec = options.get("gmsaCredentialSpecName"), options.get("gmsaCredentialSpec")
    if name is not None:
        found += causes.problems(f"{field}.gmsaCredentialSpecName", name, names.is_dns1123_subdomain(name))
    if spec == "":
        text = "gmsaCredentialSpec cannot be an empty string"
        found.append(causes.invalid_value(f"{field}.gmsaCredentialSpec", spec, text))
    user = options.get("runAsUserName")
    if user == "":
        text = "runAsUserName cannot be an empty string"
        found.append(causes.invalid_value(f"{field}.runAsUserName", user, text))
    elif user is not None and user.count("\\") > 1:
        text = "runAsUserName cannot contain more than one backslash"
        found.append(causes.invalid_value(f"{field}.runAsUserName", user, text))
    return found


# ── Of the whole pod ─────────────────────────────────────────────────────────────────────────────────────


def validate_host_users(spec: Object, field: str) -> list[Cause]:
    """A user namespace of its own excludes the host's other namespaces."""
    if spec.get("hostUsers") is not False:
        return []
    return [
        causes.forbidden(f"{field}.{shown}", "when `pod.Spec.HostUsers` is false")
        for name, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC"))
        if spec.get(name)
    ]


def validate_os(spec: Object, field: str) -> list[Cause]:
    """`spec.os`, and that nothing stands in the spec which that system does not know."""
    name = spec["os"].get("name")
    if not name:
        return [causes.required(f"{field}.os.name", "cannot be empty")]
    if name not in ("linux", "windows"):
        return [causes.not_supported(f"{field}.os", name, ("linux", "windows"))]
    context = spec.get("securityContext") or {}
    text = "cannot be set for a windows pod"
    refused: tuple[str, ...] = _NOT_ON_WINDOWS
    inner: tuple[str, ...] = _NOT_IN_WINDOWS_CONTAINERS
    if name == "linux":
        text, refused, inner = (
            "windows options cannot be set for a linux pod",
            ("windowsOptions",),
            ("windowsOptions",),
        )
    found = [
        causes.forbidden(f"{field}.securityContext.{entry}", text)
        for entry in refused
        if context.get(entry) is not None
    ]
    if name == "windows":
        found += [causes.forbidden(f"{field}.{flag}", text) for flag in _HOST_FLAGS if spec.get(flag)]
        found += [
            causes.forbidden(f"{field}.{flag}", text)
            for flag in ("hostUsers", "shareProcessNamespace")
            if spec.get(flag) is not None
        ]
    for path, container in all_containers(spec, field):
        held = container.get("securityContext") or {}
        found += [
            causes.forbidden(f"{path}.securityContext.{entry}", text)
            for entry in inner
            if held.get(entry) is not None
        ]
    return found


def all_containers(spec: Object, field: str) -> Iterator[tuple[str, Object]]:
    """Every container of a spec with the path of it."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for at, container in enumerate(spec.get(kind) or ()):
            yield f"{field}.{kind}[{at}]", container
