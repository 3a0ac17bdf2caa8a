"""Claimed volumes of pods: from the claim that a pod names to the path on this node that is mounted.

1. The claim must be bound, to a volume that is bound to it. A pod is often here before its claim is bound (the binder
   waits for the pod's node), so that is waited for a little while before the pod is held back.
2. The volume must be reachable from this node: a directory of the host (`local`, `hostPath`), a block device of it
   (`local`), or an NFS export.
3. A link in the pod's directory names the path while the pod is here: so a volume in use is known after a restart too,
   it is not deleted, and a volume for one pod only (ReadWriteOncePod) is given to one.

Called by `Volumes`; directories of the local-path provisioner are made here and deleted by `local`.
"""

import os
import threading
from pathlib import Path

from orchestrator.agent.containers.env import ConfigError, Fetch, PodFacts
from orchestrator.agent.volumes import hostpaths, networked
from orchestrator.agent.volumes.errors import VolumeError
from orchestrator.agent.volumes.ownership import give_to_group
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.api.volumes import (
    LOCAL_PATH,
    PROVISIONED_BY,
    annotations,
    is_bound_to,
    owned_by_pod,
    phase_of,
    pod_claims,
)
from orchestrator.base import mounting
from orchestrator.base.clock import Clock
from orchestrator.scheduler.rules.volumes import Place, reachable_from

BOUND_WAIT_S = 3.0
BOUND_POLL_S = 0.1
BASE_MARK = ".orchestrator-volumes"
"""A file in every directory that volumes were made in: only below such a one volumes are made and deleted."""

_NO_SOURCES = ("capacity", "claimRef", "nodeAffinity")
_HOLDING = threading.Lock()
"""Who looks whether a volume is free takes it in the same moment."""


class ClaimError(ConfigError):
    """A claimed volume can't be used; the message says why."""


async def volume_of(
    fetch: Fetch, clock: Clock, pod: Object, volume: Object, facts: PodFacts, *, held: bool = False
) -> Object:
    """The PersistentVolume behind a pod's volume, usable on this node. Raises `VolumeError`.

    A claim that is being deleted serves only a pod that has `held` it before.
    """
    name = str(volume["name"])
    try:
        return await _volume_of(fetch, clock, pod, volume, facts, held=held)
    except ClaimError as error:
        text = f"error processing PVC {pod['metadata']['namespace']}/{_claim_name(pod, volume)}: {error}"
        raise VolumeError.unready(name, text) from error


async def _volume_of(
    fetch: Fetch, clock: Clock, pod: Object, volume: Object, facts: PodFacts, *, held: bool
) -> Object:
    claim = await _bound_claim(fetch, clock, pod, volume)
    metadata, name = claim["metadata"], claim["spec"]["volumeName"]
    if "deletionTimestamp" in metadata and not held:
        raise ClaimError("PVC is being deleted")
    try:
        found = await fetch(PERSISTENTVOLUMES, "", name)
    except NotFound as error:
        text = f'failed to fetch PV {name} from API server: persistentvolumes "{name}" not found'
        raise ClaimError(text) from error
    if not is_bound_to(found, claim):
        owner = (found["spec"].get("claimRef") or {}).get("uid", "")
        text = f"found PV object {name} with an unexpected claim UID {owner}, expected {metadata['uid']}"
        raise ClaimError(text)
    if found["spec"].get("nodeAffinity"):
        node = await fetch(NODES, "", facts.node_name)
        if not reachable_from(found, Place(facts.node_name, node["metadata"].get("labels") or {})):
            text = "no matching NodeSelectorTerms"
            raise VolumeError(f'MountVolume.NodeAffinity check failed for volume "{name}" : {text}')
    return found


async def _bound_claim(fetch: Fetch, clock: Clock, pod: Object, volume: Object) -> Object:
    namespace, name = pod["metadata"]["namespace"], _claim_name(pod, volume)
    deadline_s = clock.monotonic_s() + BOUND_WAIT_S
    while True:
        why = "PVC is not bound"
        try:
            claim = await fetch(PERSISTENTVOLUMECLAIMS, namespace, name)
        except NotFound:
            why = f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found'
        else:
            if volume.get("ephemeral") and not owned_by_pod(claim, pod):
                whose = f"{namespace}/{pod['metadata']['name']}"
                text = f"PVC {namespace}/{name} was not created for pod {whose} (pod is not the owner)"
                raise ClaimError(text)
            if phase_of(claim) == "Bound" and claim["spec"].get("volumeName"):
                return claim
            if phase_of(claim) == "Lost":
                raise ClaimError(why)
        if clock.monotonic_s() >= deadline_s:
            raise ClaimError(why)
        await clock.sleep(BOUND_POLL_S)


def _claim_name(pod: Object, volume: Object) -> str:
    return next(claim for owner, claim in pod_claims(pod) if owner["name"] == volume["name"])


def set_up(volume: Object, link: Path, fs_group: int | None, policy: str) -> Path:
    """Where `volume` is on this host, made where that is our work; `link` holds it for the pod.

    A directory, a block device, or a mount at `link` itself. Raises `VolumeError`, `OSError`.
    """
    spec, name = volume["spec"], volume["metadata"]["name"]
    if "nfs" in spec:
        networked.mount_nfs(name, spec["nfs"], spec.get("mountOptions") or (), link)
        return link
    path = _found(volume)
    one_pod = spec.get("accessModes") == ["ReadWriteOncePod"]
    if not link.is_symlink():
        held = link.with_name(f".holding-{link.name}")
        _hold(path, held, one_pod=one_pod)
        if fs_group is not None and "local" in spec and not is_block(volume):
            give_to_group(path, fs_group, policy=policy)
        # It gets its name when it is complete: this is done once per pod.
        held.rename(link)
    return path


def _found(volume: Object) -> Path:
    spec, name = volume["spec"], volume["metadata"]["name"]
    if "hostPath" in spec:
        return hostpaths.set_up(name, spec["hostPath"])
    if "csi" in spec:
        raise no_driver(name, spec["csi"])
    if "local" not in spec:
        kinds = [key for key in spec if isinstance(spec[key], dict) and key not in _NO_SOURCES]
        text = f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched'
        raise VolumeError.mount(name, f"{text}: {', '.join(kinds) or 'unknown'}")
    path = Path(spec["local"]["path"])
    if annotations(volume).get(PROVISIONED_BY) == LOCAL_PATH and not is_block(volume):
        try:
            make(path)
        except ClaimError as error:
            raise VolumeError.mount(name, error) from error
    if not path.exists():
        text = f'path "{path}" does not exist'
        raise VolumeError(f'MountVolume.NewMounter initialization failed for volume "{name}" : {text}')
    if is_block(volume) and not path.is_block_device():
        raise VolumeError.block(name, f"path {path} is not a block device")
    return path


def no_driver(name: str, source: Object) -> VolumeError:
    """The seam for CSI: this agent knows no drivers, and says of each what a kubelet says of an unknown one."""
    driver = source.get("driver")
    text = f"driver name {driver} not found in the list of registered CSI drivers"
    return VolumeError.mount(name, f"kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {text}")


def is_block(volume: Object) -> bool:
    """Whether the volume is handed to containers as a device."""
    return bool(volume["spec"].get("volumeMode") == "Block")


def is_read_only(volume: Object) -> bool:
    """Whether the volume itself says that nobody writes to it."""
    return any(isinstance(source, dict) and source.get("readOnly") for source in volume["spec"].values())


def is_held(link: Path) -> bool:
    """Whether a pod has the volume that belongs to `link`."""
    return link.is_symlink() or mounting.is_mounted(link)


def prepare(base: Path) -> None:
    """Make `base` a directory of volumes. Only root can enter a new one, so that volumes may be open to every user."""
    if not base.exists():
        base.mkdir(parents=True, mode=0o700)
    (base / BASE_MARK).touch()


def make(path: Path) -> None:
    """The directory of a new volume, open for whichever user a pod runs as. Raises `ClaimError`, `OSError`."""
    base = path.parent
    if not path.exists():
        if not (base / BASE_MARK).exists():
            raise ClaimError(f"{base} is not a directory of volumes: {BASE_MARK} is missing in it")
        path.mkdir(mode=0o777)
        path.chmod(0o777)


def users(pods: Path, path: Path) -> list[str]:
    """Uids of pods on this node whose directories, below `pods`, have a link to `path`."""
    found = []
    for link in pods.glob("*/volumes/*"):
        if link.is_symlink() and os.readlink(link) == str(path):
            found.append(link.parent.parent.name)
    return found


def _hold(path: Path, link: Path, *, one_pod: bool) -> None:
    with _HOLDING:
        uid = link.parents[1].name
        others = [other for other in users(link.parents[2], path) if other != uid] if one_pod else []
        if others:
            text = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
            raise VolumeError.unready(link.name, text)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(path)
