"""Annotations that mean something to a pod: mirrors of static pods, cost of deletion, old security profiles. Pure.

Called by `pods` and, for templates, by `pod_spec`. Source: core validation of Kubernetes v1.36.
"""

import re

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_env import validate_inner_path

MIRROR = "kubernetes.io/config.mirror"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"

_match_cost = re.compile(r"0|-?[1-9][0-9]{0,9}|-0[0-9]{0,9}").fullmatch
_COST_MAX = 2**31
_LISTS = ("initContainers", "containers", "ephemeralContainers")


def validate_annotations_of(annotations: Object, spec: Object, field: str) -> list[Cause]:
    """`annotations`, at `field`, of a pod or template with `spec`."""
    found: list[Cause] = []
    for key, value in annotations.items():
        path = f"{field}[{key}]"
        if key == MIRROR and not spec.get("nodeName"):
            text = "must set spec.nodeName if mirror pod annotation is set"
            found.append(causes.invalid_value(path, value, text))
        elif key == DELETION_COST and not is_cost(value):
            found.append(causes.invalid_value(path, value, "must be a 32bit integer"))
        elif key == SECCOMP_POD or key.startswith(SECCOMP_CONTAINER):
            found += _validate_seccomp(value, f"{field}.{key}")
        elif key.startswith(APPARMOR):
            found += _validate_apparmor(key.removeprefix(APPARMOR), value, spec, path)
    return found


def validate_annotation_update(new: Object, old: Object) -> list[Cause]:
    """What is decided when a pod is created: whether it mirrors a static one, and its profiles. Both are
    metadata."""
    now, before = (metadata.get("annotations") or {} for metadata in (new, old))
    found: list[Cause] = []
    for key in [*before, *(key for key in now if key not in before)]:
        what = "mirror pod annotation" if key == MIRROR else "AppArmor annotations"
        if now.get(key) == before.get(key) or not (key == MIRROR or key.startswith(APPARMOR)):
            continue
        done = "remove or update" if key in before else "add"
        found.append(causes.forbidden(f"metadata.annotations[{key}]", f"may not {done} {what}"))
    return found


def is_cost(text: str) -> bool:
    """A whole number of 32 bits without plus sign or leading zeros."""
    return bool(_match_cost(text)) and -_COST_MAX <= int(text) < _COST_MAX


def _validate_seccomp(profile: str, field: str) -> list[Cause]:
    if profile in ("runtime/default", "docker/default", "unconfined"):
        return []
    if profile.startswith("localhost/"):
        return validate_inner_path(profile.removeprefix("localhost/"), field)
    return [causes.invalid_value(field, profile, "must be a valid seccomp profile")]


def _validate_apparmor(container: str, profile: str, spec: Object, field: str) -> list[Cause]:
    names = {held.get("name") for kind in _LISTS for held in spec.get(kind) or ()}
    found: list[Cause] = []
    if container not in names:
        found.append(causes.invalid_value(field, container, "container not found"))
    if profile not in ("", "runtime/default", "unconfined") and not profile.startswith("localhost/"):
        text = f'invalid AppArmor profile name: "{profile}"'
        found.append(causes.invalid_value(field, profile, text))
    return found
