"""Validation of files that a pod is given from objects: keys, downward API, projected volumes. Pure.

Called by `volumes`. Invariant of a projected volume: no two sources write the same path. Source: core validation
of Kubernetes v1.36.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_env import (
    VOLUME_FIELDS,
    validate_field_ref,
    validate_local_path,
    validate_resource_ref,
)
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.signers import validate_signer_name

_TOKEN_LIFETIME_MIN_S, _TOKEN_LIFETIME_MAX_S = 600, 1 << 32
_CERTIFICATE_LIFETIME_MIN_S, _CERTIFICATE_LIFETIME_MAX_S = 3600, 91 * 86_400
_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_CERTIFICATE_PATHS = ("credentialBundlePath", "keyPath", "certificateChainPath")
_CONFLICT = "conflicting duplicate paths"


def validate_mode(mode: int | None, field: str) -> list[Cause]:
    if mode is None or 0 <= mode <= 0o777:
        return []
    return [causes.invalid_value(field, mode, "must be a number between 0 and 0777 (octal), both inclusive")]


def validate_keys(items: list[Object] | None, field: str) -> list[Cause]:
    """`KeyToPath` entries at `field`."""
    found: list[Cause] = []
    for at, item in enumerate(items or ()):
        path = f"{field}[{at}]"
        if not item.get("key"):
            found.append(causes.required(f"{path}.key"))
        found += _validate_path(item.get("path") or "", f"{path}.path")
        found += validate_mode(item.get("mode"), f"{path}.mode")
    return found


def validate_files(items: list[Object] | None, field: str) -> list[Cause]:
    """`DownwardAPIVolumeFile` entries of the volume or source at `field`, which their causes name."""
    found: list[Cause] = []
    for item in items or ():
        reference, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        found += _validate_path(item.get("path") or "", f"{field}.path")
        if reference is not None:
            found += validate_field_ref(reference, f"{field}.fieldRef", VOLUME_FIELDS)
            if resource is not None:
                text = "fieldRef and resourceFieldRef can not be specified simultaneously"
                found.append(causes.invalid_value(field, "resource", text))
        elif resource is not None:
            found += validate_resource_ref(resource, f"{field}.resourceFieldRef", of_volume=True)
        else:
            found.append(causes.required(field, "one of fieldRef and resourceFieldRef is required"))
        found += validate_mode(item.get("mode"), f"{field}.mode")
    return found


def _validate_path(path: str, field: str) -> list[Cause]:
    return validate_local_path(path, field) if path else [causes.required(field)]


def validate_projected(volume: Object, field: str) -> list[Cause]:
    """A `ProjectedVolumeSource` at `field`."""
    found = validate_mode(volume.get("defaultMode"), f"{field}.defaultMode")
    taken: set[str] = set()
    for at, projection in enumerate(volume.get("sources") or ()):
        path = f"{field}.sources[{at}]"
        kinds = [kind for kind in projection if kind in _PROJECTIONS and projection[kind] is not None]
        for kind in kinds:
            source = projection[kind]
            rules, paths_of = _PROJECTIONS[kind]
            found += rules(source, f"{path}.{kind}")
            for inner, shown in paths_of(source):
                if inner in taken:
                    found.append(causes.invalid_value(field, shown, _CONFLICT))
                taken.add(inner)
        if len(kinds) > 1:
            found.append(causes.forbidden(path, "may not specify more than 1 volume type per source"))
    return found


def _keys_of_object(source: Object, field: str) -> list[Cause]:
    found = [] if source.get("name") else [causes.required(f"{field}.name")]
    return found + validate_keys(source.get("items"), f"{field}.items")


def _token(source: Object, field: str) -> list[Cause]:
    found = _validate_path(source.get("path") or "", f"{field.rpartition('.sources[')[0]}.path")
    lifetime_s, path = source.get("expirationSeconds"), f"{field}.expirationSeconds"
    if lifetime_s is not None and lifetime_s < _TOKEN_LIFETIME_MIN_S:
        text = "may not specify a duration less than 10 minutes"
        found.append(causes.invalid_value(path, lifetime_s, text))
    if lifetime_s is not None and lifetime_s > _TOKEN_LIFETIME_MAX_S:
        text = "may not specify a duration larger than 2^32 seconds"
        found.append(causes.invalid_value(path, lifetime_s, text))
    return found


def _trust_bundle(source: Object, field: str) -> list[Cause]:
    """Trust anchors, by the name of a bundle or of a signer."""
    name, signer, selector = (source.get(part) for part in ("name", "signerName", "labelSelector"))
    found: list[Cause] = []
    if name is not None and signer is not None:
        found.append(causes.invalid_value(field, source, "only one of name and signerName may be used"))
    elif name is not None:
        if not name:
            found.append(causes.required(f"{field}.name", "must be a valid object name"))
        found += [
            causes.invalid_value(f"{field}.name", name, f"not a valid clustertrustbundlename: {text}")
            for text in names.is_dns1123_subdomain(name.rpartition(":")[2])
        ]
        if selector is not None:
            text = "labelSelector must be unset if name is specified"
            found.append(causes.invalid_value(f"{field}.labelSelector", selector, text))
    elif signer is not None:
        if not signer:
            found.append(causes.required(f"{field}.signerName", "must be a valid signer name"))
        found += validate_signer_name(signer, f"{field}.signerName")
        found += validate_label_selector(selector, f"{field}.labelSelector")
    else:
        found.append(causes.required(field, "either name or signerName must be specified"))
    return found + _validate_path(source.get("path") or "", f"{field}.path")


def _certificate(source: Object, field: str) -> list[Cause]:
    found = validate_signer_name(source.get("signerName") or "", f"{field}.signerName")
    kind = source.get("keyType") or ""
    if kind not in _KEY_TYPES:
        found.append(causes.not_supported(f"{field}.keyType", kind, _KEY_TYPES))
    lifetime_s, path = source.get("maxExpirationSeconds"), f"{field}.maxExpirationSeconds"
    if lifetime_s is not None and lifetime_s < _CERTIFICATE_LIFETIME_MIN_S:
        text = f"if provided, maxExpirationSeconds must be >= {_CERTIFICATE_LIFETIME_MIN_S}"
        found.append(causes.invalid_value(path, lifetime_s, text))
    if lifetime_s is not None and lifetime_s > _CERTIFICATE_LIFETIME_MAX_S:
        text = f"if provided, maxExpirationSeconds must be <= {_CERTIFICATE_LIFETIME_MAX_S}"
        found.append(causes.invalid_value(path, lifetime_s, text))
    for name in _CERTIFICATE_PATHS:
        if source.get(name):
            found += validate_local_path(source[name], f"{field}.{name}")
    if not any(source.get(name) for name in _CERTIFICATE_PATHS):
        text = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        found.append(causes.required(field, text))
    return found


Paths = list[tuple[str, str]]
"""What a source writes, and the value that a message about a conflict shows."""


def _paths_of_items(source: Object) -> Paths:
    return [
        (item["path"], source.get("name") or "") for item in source.get("items") or () if item.get("path")
    ]


def _paths_of_files(source: Object) -> Paths:
    return [(item["path"], item["path"]) for item in source.get("items") or () if item.get("path")]


def _paths_in(*fields: str) -> Callable[[Object], Paths]:
    return lambda source: [(source[name], source[name]) for name in fields if source.get(name)]


def _no_paths(source: Any) -> Paths:
    """A token over another file is only warned of."""
    return []


_PROJECTIONS: dict[str, tuple[Callable[[Object, str], list[Cause]], Callable[[Object], Paths]]] = {
    "secret": (_keys_of_object, _paths_of_items),
    "configMap": (_keys_of_object, _paths_of_items),
    "downwardAPI": (lambda source, field: validate_files(source.get("items"), field), _paths_of_files),
    "serviceAccountToken": (_token, _no_paths),
    "clusterTrustBundle": (_trust_bundle, _paths_in("path")),
    "podCertificate": (_certificate, _paths_in(*_CERTIFICATE_PATHS)),
}
