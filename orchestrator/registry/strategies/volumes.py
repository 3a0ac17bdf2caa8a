"""Validation of a pod's volumes: unique names, one source each, and what that source needs. Pure.

Called by `pod_spec`. Sources that volumes of the cluster can have, too, take their rules from `volume_sources`.
Source: core validation of Kubernetes v1.36.
"""

from collections.abc import Callable

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_env import validate_inner_path
from orchestrator.registry.strategies.meta import validate_annotations, validate_labels
from orchestrator.registry.strategies.projections import (
    validate_files,
    validate_keys,
    validate_mode,
    validate_projected,
)
from orchestrator.registry.strategies.volume_claims import validate_claim_spec
from orchestrator.registry.strategies.volume_sources import validate_csi_driver_name, validate_kind

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_INITIATOR_LENGTH_MAX = 64


def validate_volumes(volumes: list[Object], field: str, *, pod_name: str | None = None) -> list[Cause]:
    """`pod_name` is that of the pod, None in a template."""
    found: list[Cause] = []
    seen: set[str] = set()
    made = {f"{pod_name}-{volume.get('name')}" for volume in volumes if volume.get("ephemeral") is not None}
    for at, volume in enumerate(volumes):
        path = f"{field}[{at}]"
        name = volume.get("name") or ""
        found += _validate_source(volume, path, of_pod=pod_name is not None)
        if not name:
            found.append(causes.required(f"{path}.name"))
        else:
            found += causes.problems(f"{path}.name", name, names.is_dns1123_label(name))
            if name in seen:
                found.append(causes.duplicate(f"{path}.name", name))
            seen.add(name)
        if pod_name and made:
            found += _validate_made_claims(volume, path, pod_name, made)
    return found


def _validate_made_claims(volume: Object, field: str, pod_name: str, made: set[str]) -> list[Cause]:
    """A volume of its own becomes a claim named after pod and volume, which no other volume may ask for."""
    name = f"{pod_name}-{volume.get('name')}"
    if volume.get("ephemeral") is not None:
        return [
            causes.invalid_value(f"{field}.name", volume.get("name"), f'PVC name "{name}": {text}')
            for text in names.is_dns1123_subdomain(name)
        ]
    claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    if claim not in made:
        return []
    text = "must not reference a PVC that gets created for an ephemeral volume"
    return [causes.invalid_value(f"{field}.persistentVolumeClaim.claimName", claim, text)]


def _validate_source(volume: Object, field: str, *, of_pod: bool) -> list[Cause]:
    kinds = [kind for kind in volume if volume[kind] is not None and kind in _ORDER]
    if not kinds:
        return [causes.required(field, "must specify a volume type")]
    if len(kinds) > 1:
        kinds.sort(key=_ORDER.__getitem__)
    kind, path = kinds[0], f"{field}.{kinds[0]}"
    rules = _RULES.get(kind)
    found = rules(volume[kind], path) if rules is not None else validate_kind(kind, volume[kind], path)
    if kind == "image" and of_pod and not volume[kind].get("reference"):
        found.insert(0, causes.required(f"{path}.reference"))
    if kind == "iscsi" and volume[kind].get("initiatorName") is not None:
        found += _validate_initiator(volume, field)
    return found + [
        causes.forbidden(f"{field}.{other}", "may not specify more than 1 volume type") for other in kinds[1:]
    ]


def _validate_initiator(volume: Object, field: str) -> list[Cause]:
    name: str = volume.get("name") or ""
    if len(f"{name}:{volume['iscsi'].get('targetPortal') or ''}") <= _INITIATOR_LENGTH_MAX:
        return []
    text = (
        "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is"
        " specified."
    )
    return [causes.invalid_value(f"{field}.name", name, text)]


# ── One kind of source each ──────────────────────────────────────────────────────────────────────────────


def _empty_dir(source: Object, field: str) -> list[Cause]:
    size, path = source.get("sizeLimit"), f"{field}.sizeLimit"
    if size is None:
        return []
    if not quantity.is_quantity(size):
        return [causes.invalid_value(path, size, "must be a quantity such as 64Mi")]
    if quantity.parse(size) < 0:
        return [causes.forbidden(path, "SizeLimit field must be a valid resource quantity")]
    return []


def _secret(source: Object, field: str) -> list[Cause]:
    return _files_of(source, field, "secretName")


def _config_map(source: Object, field: str) -> list[Cause]:
    return _files_of(source, field, "name")


def _files_of(source: Object, field: str, needed: str) -> list[Cause]:
    found = [] if source.get(needed) else [causes.required(f"{field}.{needed}")]
    found += validate_mode(source.get("defaultMode"), f"{field}.defaultMode")
    return found + validate_keys(source.get("items"), f"{field}.items")


def _downward(source: Object, field: str) -> list[Cause]:
    found = validate_mode(source.get("defaultMode"), f"{field}.defaultMode")
    return found + validate_files(source.get("items"), field)


def _claim(source: Object, field: str) -> list[Cause]:
    return [] if source.get("claimName") else [causes.required(f"{field}.claimName")]


def _git_repo(source: Object, field: str) -> list[Cause]:
    found = [] if source.get("repository") else [causes.required(f"{field}.repository")]
    return found + validate_inner_path(source.get("directory") or "", f"{field}.directory")


def _csi(source: Object, field: str) -> list[Cause]:
    found = validate_csi_driver_name(source.get("driver") or "", f"{field}.driver")
    reference = source.get("nodePublishSecretRef")
    if reference is None:
        return found
    name: str = reference.get("name") or ""
    if not name:
        return [*found, causes.required(f"{field}.nodePublishSecretRef.name")]
    return found + causes.problems(f"{field}.name", name, names.is_dns1123_subdomain(name))


def _ephemeral(source: Object, field: str) -> list[Cause]:
    template = source.get("volumeClaimTemplate")
    field = f"{field}.volumeClaimTemplate"
    if template is None:
        return [causes.required(field)]
    metadata = template.get("metadata") or {}
    found = validate_annotations(metadata.get("annotations") or {}, f"{field}.metadata.annotations")
    found += validate_labels(metadata.get("labels") or {}, f"{field}.metadata.labels")
    found += [
        causes.forbidden(f"{field}.metadata.{name}", "cannot be set")
        for name in metadata
        if name not in ("annotations", "labels") and metadata[name]
    ]
    return found + validate_claim_spec(template.get("spec") or {}, f"{field}.spec")


def _image(source: Object, field: str) -> list[Cause]:
    return causes.one_of(f"{field}.pullPolicy", source.get("pullPolicy"), _PULL_POLICIES)


_RULES: dict[str, Callable[[Object, str], list[Cause]]] = {
    "emptyDir": _empty_dir,
    "gitRepo": _git_repo,
    "secret": _secret,
    "persistentVolumeClaim": _claim,
    "downwardAPI": _downward,
    "configMap": _config_map,
    "projected": validate_projected,
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
_ORDER = {
    kind: at
    for at, kind in enumerate(
        (
            "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs",
            "iscsi", "glusterfs", "flocker", "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte",
            "downwardAPI", "fc", "flexVolume", "configMap", "azureFile", "vsphereVolume", "photonPersistentDisk",
            "portworxVolume", "azureDisk", "storageos", "projected", "scaleIO", "csi", "ephemeral", "image",
        )
    )
}  # fmt: skip
"""The first of several sources is taken for the right one, in this order."""
