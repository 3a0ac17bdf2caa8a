"""What belongs to one place of a StatefulSet: the pod's name and labels, its claims, and who owns these. Pure.

1. Pod `<set>-<ordinal>` is called so in two labels and has it as host name, in the set's Service as subdomain.
2. Claim `<template>-<set>-<ordinal>` exists for each claim template, and takes the place of a volume of its name.
3. Owners of a claim follow `persistentVolumeClaimRetentionPolicy`: the set, where claims go with it; the pod,
   where claims go with pods that were scaled away, and only for such pods.
4. References of an earlier set or pod of the same name, and claims that somebody else controls, are left alone.

Called by `statefulset` and `statefulclaims`.
"""

from typing import Any

import msgspec

from orchestrator.api.item import Item, Object, OwnerReference
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS, Resource
from orchestrator.controllers.objects import controller_reference, reference_json
from orchestrator.controllers.pods import new_pod
from orchestrator.controllers.revisions import HASH_LABEL

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


def pod_name(owner: str, ordinal: int) -> str:
    return f"{owner}-{ordinal}"


def place_of(pod: str) -> tuple[str, int] | None:
    """The set's name and the ordinal that a pod's name consists of; None for other names."""
    owner, _, digits = pod.rpartition("-")
    if not owner or not digits.isascii() or not digits.isdecimal() or len(digits) > 10:
        return None
    ordinal = int(digits)
    return (owner, ordinal) if str(ordinal) == digits else None


def ordinals(stateful_set: Object) -> range:
    """The places that shall be taken."""
    spec = stateful_set["spec"]
    start = (spec.get("ordinals") or {}).get("start", 0)
    return range(start, start + spec.get("replicas", 1))


def identity_labels(name: str, ordinal: int) -> dict[str, str]:
    return {POD_NAME_LABEL: name, INDEX_LABEL: str(ordinal)}


def new_stateful_pod(stateful_set: Object, template: Object, ordinal: int, revision: str) -> Object:
    """Rules 1 and 2: the pod of `ordinal`, made from `template`, which is that of the revision called `revision`."""
    name = pod_name(stateful_set["metadata"]["name"], ordinal)
    pod = new_pod(STATEFULSETS, stateful_set, template)
    labels = {**pod["metadata"].get("labels", {}), **identity_labels(name, ordinal), HASH_LABEL: revision}
    spec = {**pod["spec"], "hostname": name}
    if stateful_set["spec"].get("serviceName"):
        spec["subdomain"] = stateful_set["spec"]["serviceName"]
    volumes = with_claims(stateful_set, ordinal, spec.get("volumes") or [])
    if volumes:
        spec["volumes"] = volumes
    return {**pod, "metadata": {**pod["metadata"], "name": name, "labels": labels}, "spec": spec}


def claim_names(stateful_set: Object, ordinal: int) -> dict[str, str]:
    """Name of each claim by the name of its template."""
    owner = stateful_set["metadata"]["name"]
    templates = stateful_set["spec"].get("volumeClaimTemplates") or ()
    names = (template["metadata"]["name"] for template in templates)
    return {name: f"{name}-{owner}-{ordinal}" for name in names}


def claims_index(item: Item) -> tuple[str, ...]:
    """Index function `claims`: names of the set's claims without their ordinal, with the namespace."""
    owner, templates = item.meta, item.object["spec"].get("volumeClaimTemplates") or ()
    return tuple(f"{owner.namespace}/{template['metadata']['name']}-{owner.name}" for template in templates)


def with_claims(stateful_set: Object, ordinal: int, volumes: list[Object]) -> list[Object]:
    """Rule 2, for a pod's volumes."""
    names = claim_names(stateful_set, ordinal)
    claims = [{"name": n, "persistentVolumeClaim": {"claimName": claim}} for n, claim in names.items()]
    return [*claims, *(volume for volume in volumes if volume["name"] not in names)]


def new_claims(stateful_set: Object, ordinal: int) -> list[Object]:
    """The claims of a place, owned as rule 3 wants it while the place is to be taken."""
    labels = stateful_set["spec"]["selector"].get("matchLabels") or {}
    names = claim_names(stateful_set, ordinal)
    owners = [controller_reference(STATEFULSETS, stateful_set)] if _goes_with_set(stateful_set) else []
    claims = []
    for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
        wanted = template["metadata"]
        metadata: Object = {key: wanted[key] for key in ("annotations", "finalizers") if wanted.get(key)}
        metadata["name"] = names[wanted["name"]]
        metadata["namespace"] = stateful_set["metadata"]["namespace"]
        metadata["labels"] = {**(wanted.get("labels") or {}), **labels}
        if owners:
            metadata["ownerReferences"] = owners
        kind = {"apiVersion": PERSISTENTVOLUMECLAIMS.api_version, "kind": PERSISTENTVOLUMECLAIMS.kind}
        claims.append({**kind, "metadata": metadata, "spec": template["spec"]})
    return claims


class _Source(msgspec.Struct, rename="camel"):
    claim_name: str = ""


class _Volume(msgspec.Struct, rename="camel"):
    name: str = ""
    persistent_volume_claim: _Source | None = None


class _Spec(msgspec.Struct):
    volumes: list[_Volume] | None = None


class _Pod(msgspec.Struct):
    spec: _Spec


_volumes = msgspec.json.Decoder(_Pod)


def has_claims(pod: Item, names: dict[str, str]) -> bool:
    """Whether a pod's volumes are the claims of its place, `names` by template."""
    volumes = _volumes.decode(pod.raw).spec.volumes or ()
    found = {v.name: v.persistent_volume_claim.claim_name for v in volumes if v.persistent_volume_claim}
    return names.items() <= found.items()


def waits_for_end(stateful_set: Object, pod: str, claim: Item) -> bool:
    """Whether the claim goes with an earlier pod called `pod`, so that no new one may take it."""
    if not _goes_with_pod(stateful_set):
        return False
    return any(_names(reference, PODS, pod) for reference in claim.meta.owner_references)


def claim_owners(
    stateful_set: Object, pod: str, uid: str, claim: Item, *, away: bool
) -> tuple[list[Object], bool] | None:
    """Rules 3 and 4: the owner references that a claim shall have, None when it has them already.

    `pod` and `uid` are of the place's pod, `away` says that it is scaled away. The second value is whether
    somebody else controls the claim.
    """
    meta, found = stateful_set["metadata"], claim.meta.owner_references
    set_named = [ref for ref in found if _names(ref, STATEFULSETS, meta["name"])]
    pod_named = [ref for ref in found if _names(ref, PODS, pod)]
    if any(r.uid != meta["uid"] for r in set_named) or any(r.uid != uid for r in pod_named):
        return None
    ours = [*set_named, *pod_named]
    others = [ref for ref in found if ref not in ours]
    kept = list(map(reference_json, others))
    goes_with_pod, goes_with_set = _goes_with_pod(stateful_set), _goes_with_set(stateful_set)
    if (goes_with_pod or goes_with_set) and any(ref.controller for ref in others):
        return (kept, True) if ours else None
    of_pod = goes_with_pod and away
    of_set = goes_with_set and not of_pod
    right = bool(set_named) == of_set and bool(pod_named) == of_pod and all(ref.controller for ref in ours)
    if right:
        return None
    wanted = [controller_reference(STATEFULSETS, stateful_set)] if of_set else []
    if of_pod:
        wanted.append(controller_reference(PODS, {"metadata": {"name": pod, "uid": uid}}))
    return [*kept, *wanted], False


def _goes_with_set(stateful_set: Object) -> bool:
    return _policy(stateful_set).get("whenDeleted") == "Delete"


def _goes_with_pod(stateful_set: Object) -> bool:
    return _policy(stateful_set).get("whenScaled") == "Delete"


def _policy(stateful_set: Object) -> dict[str, Any]:
    return stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}


def _names(reference: OwnerReference, resource: Resource, name: str) -> bool:
    wanted = (resource.api_version, resource.kind, name)
    return (reference.api_version, reference.kind, reference.name) == wanted
