"""Claimed volumes of pods: from the claim that a pod names to the path on this node that is mounted.

1. The claim must be bound, to a volume that is bound to it. A pod is often here before its claim is bound (the binder
   waits for the pod's node), so that is waited for a little while before the pod is held back.
2. The volume must be reachable from this node, and be a directory of the host: `local` or `hostPath`.
3. A link in the pod's directory names the path while the pod is here: so a volume in use is known after a restart too,
   it is not deleted, and a volume for one pod only (ReadWriteOncePod) is given to one.

Called by `Volumes`; directories of the local-path provisioner are made here and deleted by `localvolumes`.
"""

import os
from pathlib import Path

from orchestrator.agent.containers.env import ConfigError, Fetch, PodFacts
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
from orchestrator.base.clock import Clock
from orchestrator.scheduler.rules.volumes import Place, reachable_from

BOUND_WAIT_S = 3.0
BOUND_POLL_S = 0.1
BASE_MARK = ".orchestrator-volumes"
"""A file in every directory that volumes were made in: only below such a one volumes are made and deleted."""


class ClaimError(ConfigError):
    """A claimed volume can't be used; the message says why."""


async def volume_of(
    fetch: Fetch, clock: Clock, pod: Object, volume: Object, facts: PodFacts, *, held: bool = False
) -> Object:
    """The PersistentVolume behind a pod's volume, usable on this node. Raises `ClaimError`.

    A claim that is being deleted serves only a pod that has `held` it before.
    """
    claim = await _bound_claim(fetch, clock, pod, volume)
    metadata, name = claim["metadata"], claim["spec"]["volumeName"]
    if "deletionTimestamp" in metadata and not held:
        raise ClaimError("PVC is being deleted")
    try:
        found = await fetch(PERSISTENTVOLUMES, "", name)
    except NotFound as error:
        raise ClaimError(f'persistentvolume "{name}" not found') from error
    if not is_bound_to(found, claim):
        raise ClaimError(
            f'volume "{name}" is not bound to claim "{metadata["namespace"]}/{metadata["name"]}"'
        )
    if found["spec"].get("nodeAffinity"):
        node = await fetch(NODES, "", facts.node_name)
        if not reachable_from(found, Place(facts.node_name, node["metadata"].get("labels") or {})):
            text = "no matching NodeSelectorTerms"
            raise ClaimError(f'MountVolume.NodeAffinity check failed for volume "{name}": {text}')
    return found


async def _bound_claim(fetch: Fetch, clock: Clock, pod: Object, volume: Object) -> Object:
    namespace = pod["metadata"]["namespace"]
    name = next(claim for owner, claim in pod_claims(pod) if owner["name"] == volume["name"])
    deadline_s = clock.monotonic_s() + BOUND_WAIT_S
    while True:
        why = f'PersistentVolumeClaim is not bound: "{namespace}/{name}"'
        try:
            claim = await fetch(PERSISTENTVOLUMECLAIMS, namespace, name)
        except NotFound:
            why = f'persistentvolumeclaim "{name}" not found'
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


def set_up(volume: Object, link: Path, fs_group: int | None, policy: str) -> Path:
    """The directory of `volume`, made where that is our work, and `link` to it. Raises `ClaimError`, `OSError`."""
    spec, name = volume["spec"], volume["metadata"]["name"]
    source = spec.get("local") or spec.get("hostPath")
    if source is None:
        sort = next((key for key in ("csi", "nfs", "iscsi", "fc") if key in spec), "unknown")
        raise ClaimError(f'volume "{name}": this node does not support volumes of type {sort}')
    if spec.get("volumeMode") == "Block":
        raise ClaimError(f'volume "{name}": this node does not support block volumes')
    path = Path(source["path"])
    if annotations(volume).get(PROVISIONED_BY) == LOCAL_PATH:
        make(path)
    elif "hostPath" in spec and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    if not path.exists():
        raise ClaimError(f'volume "{name}": path "{path}" does not exist')
    _hold(path, link, one_pod=spec.get("accessModes") == ["ReadWriteOncePod"])
    if fs_group is not None and "local" in spec:
        _give_to_group(path, fs_group, policy)
    return path


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
    others = [uid for uid in users(link.parents[2], path) if uid != link.parents[1].name] if one_pod else []
    if others:
        text = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
        raise ClaimError(text)
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(path)


def _give_to_group(path: Path, group: int, policy: str) -> None:
    """Everything in the volume belongs to the pod's group, and what is made in it will."""
    facts = path.stat()
    if policy == "OnRootMismatch" and facts.st_gid == group and facts.st_mode & 0o2000:
        return
    for where, directories, files in os.walk(path):
        for entry in (where, *(os.path.join(where, name) for name in files)):
            if os.path.islink(entry):
                continue
            mode = os.lstat(entry).st_mode
            os.chown(entry, -1, group)
            extra = 0o2070 if entry == where else 0o060
            os.chmod(entry, (mode & 0o7777) | extra)
        directories[:] = [name for name in directories if not os.path.islink(os.path.join(where, name))]
