"""What volumes, claims and pods say of each other: annotations, classes, sizes, references. Pure.

Names are Kubernetes'; those of the local-path provisioner are ours. Used by whoever binds, makes, mounts or guards
volumes: controllers, scheduler rules, agent, node authorizer.
"""

from collections.abc import Iterator, Mapping

from orchestrator.api import quantity
from orchestrator.api.item import Item, Object

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
STORAGE_PROVISIONERS = (
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
)
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
PROVISIONER_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
"""On a volume whose storage is still there."""

LOCAL_PATH = "orchestrator.internal/local-path"
"""The provisioner of directories on nodes. A node that has room for them names its directory in an annotation of the
same name."""
LOCAL_PATH_CLASS = "local-path"
ON_NODE = "orchestrator.internal/node"
"""Annotation of a volume of that provisioner: the node whose directory it is."""

_POD_MARKS = (b'"persistentVolumeClaim"', b'"ephemeral"')


def annotations(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def class_of(obj: Object) -> str:
    """The storage class of a volume or claim; empty without one."""
    beta = annotations(obj).get(BETA_CLASS)
    return beta if beta is not None else (obj["spec"].get("storageClassName") or "")


def names_no_class(claim: Object) -> bool:
    """Whether a claim leaves its class open (which is not the same as the empty class)."""
    return BETA_CLASS not in annotations(claim) and claim["spec"].get("storageClassName") is None


def requested(claim: Object) -> quantity.Quantity:
    """How many bytes a claim asks for."""
    return _bytes((claim["spec"].get("resources") or {}).get("requests"))


def capacity(volume: Object) -> quantity.Quantity:
    """How many bytes a volume has."""
    return _bytes(volume["spec"].get("capacity"))


def granted(claim: Object) -> quantity.Quantity:
    """How many bytes a claim has, by its status."""
    return _bytes((claim.get("status") or {}).get("capacity"))


def _bytes(amounts: Object | None) -> quantity.Quantity:
    try:
        return quantity.parse((amounts or {}).get("storage", "0"))
    except quantity.QuantityError:
        return quantity.parse("0")


def key_of_reference(reference: Object) -> str:
    """`namespace/name` of a `claimRef`."""
    return f"{reference.get('namespace') or ''}/{reference.get('name') or ''}"


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Whether the volume's `claimRef` means the claim; one without a uid is a reservation by name."""
    reference, metadata = volume["spec"].get("claimRef"), claim["metadata"]
    if not reference or key_of_reference(reference) != f"{metadata['namespace']}/{metadata['name']}":
        return False
    return reference.get("uid") in (None, "", metadata["uid"])


def phase_of(obj: Object) -> str:
    return (obj.get("status") or {}).get("phase") or ""


def pod_claims(pod: Object) -> Iterator[tuple[Object, str]]:
    """(volume, name of its claim) for each volume of a pod that is claimed, also through an ephemeral volume."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield volume, volume["persistentVolumeClaim"].get("claimName") or ""
        elif volume.get("ephemeral"):
            yield volume, f"{pod['metadata']['name']}-{volume.get('name', '')}"


def claim_index(pod: Item) -> tuple[str, ...]:
    """Index function `claim` of pods: keys of the claims that one names. Most name none, which their bytes show."""
    if not any(mark in pod.raw for mark in _POD_MARKS):
        return ()
    return tuple(f"{pod.meta.namespace}/{name}" for _, name in pod_claims(pod.object))


def claim_ref_index(volume: Item) -> tuple[str, ...]:
    """Index function `claim` of volumes: key of the claim that one is bound or reserved to."""
    reference = volume.object["spec"].get("claimRef")
    return (key_of_reference(reference),) if reference else ()


def volume_node_index(volume: Item) -> tuple[str, ...]:
    """Index function `node` of volumes: the node whose directory one is."""
    node = annotations(volume.object).get(ON_NODE)
    return (node,) if node else ()


def owned_by_pod(claim: Object, pod: Object) -> bool:
    """Whether the claim of an ephemeral volume was made for this pod."""
    uid = pod["metadata"]["uid"]
    owners = claim["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("uid") == uid for owner in owners)
