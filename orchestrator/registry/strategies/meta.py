"""Rules of `metadata` that hold for every kind: name, generateName, labels, annotations, finalizers, owners.

What may not change after creation (uid, timestamps) is the registry's business. Source: apimachinery's
object-meta validation (v1.36).
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.registry.strategies import causes

ANNOTATIONS_BYTES_MAX = 256 * 1024

_STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")
_EXTENDED = ("apiextensions.k8s.io", "apiregistration.k8s.io")
_NO_OWNERS = ("v1", "Event")
_NAME_RULES: dict[tuple[str, str], Callable[[str], list[str]]] = {
    ("", "namespaces"): names.is_dns1123_label,
    ("", "services"): names.is_dns1035_label,
    ("apps", "statefulsets"): names.is_dns1123_label,
    ("rbac.authorization.k8s.io", "roles"): names.is_path_segment,
    ("rbac.authorization.k8s.io", "rolebindings"): names.is_path_segment,
    ("rbac.authorization.k8s.io", "clusterroles"): names.is_path_segment,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): names.is_path_segment,
    ("apiregistration.k8s.io", "apiservices"): names.is_path_segment,
    ("certificates.k8s.io", "certificatesigningrequests"): names.is_path_segment,
    ("networking.k8s.io", "ipaddresses"): names.is_strict_ip,
}


def validate_meta(obj: Object, resource: Resource) -> list[Cause]:
    """What is wrong with `obj["metadata"]`; the paths start with `metadata`."""
    metadata = obj["metadata"]
    found = _validate_names(metadata, resource)
    labels = metadata.get("labels")
    if labels:
        found += validate_labels(labels, "metadata.labels")
    annotations = metadata.get("annotations")
    if annotations:
        found += validate_annotations(annotations, "metadata.annotations")
    finalizers = metadata.get("finalizers")
    if finalizers:
        extended = resource.columns is not None or resource.group in _EXTENDED
        rule = _validate_plain_finalizer if extended else validate_finalizer
        for at, name in enumerate(finalizers):
            found += rule(name, f"metadata.finalizers[{at}]")
    owners = metadata.get("ownerReferences")
    if owners:
        found += _validate_owners(owners)
    return found


def _validate_names(metadata: Mapping[str, Any], resource: Resource) -> list[Cause]:
    rule = _NAME_RULES.get((resource.group, resource.plural), names.is_dns1123_subdomain)
    found: list[Cause] = []
    prefix = metadata.get("generateName")
    if prefix:
        # A trailing hyphen is fine, as a suffix follows.
        sample = prefix[:-1] + "a" if prefix.endswith("-") else prefix
        found += causes.problems("metadata.generateName", prefix, rule(sample))
    name = metadata.get("name")
    if not name:
        found.append(causes.required("metadata.name", "name or generateName is required"))
    else:
        found += causes.problems("metadata.name", name, rule(name))
    namespace = metadata.get("namespace")
    if resource.namespaced:
        if not namespace:
            found.append(causes.required("metadata.namespace"))
        else:
            found += causes.problems("metadata.namespace", namespace, names.is_dns1123_label(namespace))
    elif namespace:
        found.append(causes.forbidden("metadata.namespace", "not allowed on this type"))
    return found


def validate_labels(labels: Mapping[str, str], field: str) -> list[Cause]:
    """Keys are qualified names, values label values."""
    found: list[Cause] = []
    for key, value in labels.items():
        if not _label_is_good(key, value):
            found += causes.problems(field, key, names.is_qualified_name(key))
            found += causes.problems(field, value, names.is_label_value(value))
    return found


@lru_cache(maxsize=16_384)
def _label_is_good(key: str, value: str) -> bool:
    """The same few labels stand on nearly every object."""
    return not names.is_qualified_name(key) and not names.is_label_value(value)


@lru_cache(maxsize=4096)
def _annotation_key_problems(key: str) -> tuple[str, ...]:
    return tuple(names.is_qualified_name(key.lower()))


def validate_annotations(annotations: Mapping[str, str], field: str) -> list[Cause]:
    """Keys are qualified names in any case; all together at most 256 KiB."""
    found: list[Cause] = []
    size_bytes = 0
    for key, value in annotations.items():
        found += causes.problems(field, key, _annotation_key_problems(key))
        size_bytes += len(key) + (len(value) if value.isascii() else len(value.encode()))
    if size_bytes > ANNOTATIONS_BYTES_MAX:
        found.append(causes.too_long(field, ANNOTATIONS_BYTES_MAX))
    return found


def _validate_plain_finalizer(name: str, field: str) -> list[Cause]:
    """Where any qualified name does: custom objects, and the kinds that extend the API."""
    return causes.problems(field, name, names.is_qualified_name(name))


def validate_finalizer(name: str, field: str) -> list[Cause]:
    """A qualified name; without a prefix only Kubernetes' own few."""
    found = _validate_plain_finalizer(name, field)
    if not found and "/" not in name and name not in _STANDARD_FINALIZERS:
        found.append(
            causes.invalid_value(
                field, name, "name is neither a standard finalizer name nor is it fully qualified"
            )
        )
    return found


def _validate_owners(owners: list[Object]) -> list[Cause]:
    found: list[Cause] = []
    controller = ""
    for at, owner in enumerate(owners):
        field = f"metadata.ownerReferences[{at}]"
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                found.append(causes.invalid_value(f"{field}.{name}", "", "must not be empty"))
        if (owner.get("apiVersion"), owner.get("kind")) == _NO_OWNERS:
            found.append(causes.invalid_value(field, owner, "is disallowed from being an owner"))
        if owner.get("controller"):
            if controller:
                found.append(
                    causes.invalid_value(
                        "metadata.ownerReferences",
                        owner.get("name", ""),
                        "Only one reference can have Controller set to true. Found"
                        f' "true" in references for {controller} and {owner.get("name", "")}',
                    )
                )
            controller = f"{owner.get('kind')}/{owner.get('name')}"
    return found
