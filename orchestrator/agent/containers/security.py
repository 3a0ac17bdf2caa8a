"""Who a container runs as and what it may: its own security context over the pod's over the image's. Pure but for
reading a seccomp profile of the node.

What would be less secure than asked is refused with a kubelet's words: `ConfigError` (CreateContainerConfigError)
where the settings contradict each other, `RuntimeFailure` (CreateContainerError) where the node lacks the profile.
Called by `translate`.
"""

import json
from pathlib import Path

from orchestrator.agent.containers.env import ConfigError
from orchestrator.api.item import Object
from orchestrator.runtime.interface import RuntimeFailure, Security

UNCONFINED = "unconfined"
PROFILE_BYTES_MAX = 1 << 20


def security(pod: Object, container: Object, image_user: str, profiles: Path | None = None) -> Security:
    """All of it. `profiles` is where the node keeps seccomp profiles; None has none. Raises as said above."""
    of_pod = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    privileged = bool(own.get("privileged"))
    _refuse_root(pod, container, image_user)
    return Security(
        user=_user(own, of_pod, image_user),
        supplemental_groups=_groups(of_pod),
        privileged=privileged,
        read_only_rootfs=bool(own.get("readOnlyRootFilesystem")),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        seccomp=UNCONFINED if privileged else _seccomp(own, of_pod, profiles),
        apparmor=UNCONFINED if privileged else _apparmor(own, of_pod),
        unmasked=own.get("procMount") == "Unmasked",
        strict_groups=of_pod.get("supplementalGroupsPolicy") == "Strict",
    )


def _user(own: Object, of_pod: Object, image_user: str) -> str:
    user = own.get("runAsUser", of_pod.get("runAsUser"))
    group = own.get("runAsGroup", of_pod.get("runAsGroup"))
    if user is None:
        return f"{image_user.partition(':')[0] or 0}:{group}" if group is not None else ""
    return f"{user}:{group}" if group is not None else str(user)


def _refuse_root(pod: Object, container: Object, image_user: str) -> None:
    """`runAsNonRoot`: refuse uid 0, and a name of which nobody knows the uid."""
    own, of_pod = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    if not own.get("runAsNonRoot", of_pod.get("runAsNonRoot")):
        return
    metadata = pod["metadata"]
    full_name = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
    where = f'(pod: "{full_name}", container: {container["name"]})'
    user = own.get("runAsUser", of_pod.get("runAsUser"))
    if user == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    name = image_user.partition(":")[0]
    if user is not None or (name.isdecimal() and int(name) != 0):
        return
    if name.isdecimal() or not name:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    raise ConfigError(
        f"container has runAsNonRoot and image has non-numeric user ({name}), "
        f"cannot verify user is non-root {where}"
    )


def _groups(of_pod: Object) -> tuple[int, ...]:
    groups = list(of_pod.get("supplementalGroups") or ())
    if of_pod.get("fsGroup") is not None:
        groups.append(of_pod["fsGroup"])
    return tuple(dict.fromkeys(groups))


def _seccomp(own: Object, of_pod: Object, profiles: Path | None) -> str:
    profile = own.get("seccompProfile") or of_pod.get("seccompProfile") or {}
    match profile.get("type"):
        case "RuntimeDefault":
            return ""
        case "Localhost":
            return _read_profile(profiles, str(profile.get("localhostProfile") or ""))
    return UNCONFINED


def _read_profile(profiles: Path | None, name: str) -> str:
    """The text of a profile that lies on the node; the API takes no name that leads out of the directory."""
    path = (profiles or Path("/nonexistent")) / name
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(PROFILE_BYTES_MAX)
        if not isinstance(json.loads(text), dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise RuntimeFailure(
            f'cannot load seccomp profile "{path}": {reason}', "CreateContainerError"
        ) from error
    return text


def _apparmor(own: Object, of_pod: Object) -> str:
    profile = own.get("appArmorProfile") or of_pod.get("appArmorProfile") or {}
    match profile.get("type"):
        case "Unconfined":
            return UNCONFINED
        case "Localhost":
            return str(profile.get("localhostProfile") or "")
    return ""
