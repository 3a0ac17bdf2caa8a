"""Directories of the local-path provisioner on the nodes of this process: deleted when their volume goes.

A volume that is being deleted, with the policy to delete, that is not bound any more:

1. While a pod on the node still has it, it waits.
2. The directory is renamed first, then emptied: a deletion that is cut off is finished at the next look, and nobody
   mounts what is half deleted.
3. Then the volume loses its finalizer, and the API lets it go.

So every directory has a volume in the API, from before it is made until after it is gone. One without, since its
volume's finalizer was taken away by hand or the API's data were restored from before it was made, holds data that
somebody may want: it is kept, and told of at the start. Nothing is deleted that does not carry its volume's name or
does not lie where volumes are made (`BASE_MARK`). One instance serves every node of the process; simulated ones have
no directories. Keys: names of volumes, `node/<name>` for a node that has started.
"""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.agent.context import Recorder
from orchestrator.agent.volumes.claimed import BASE_MARK, users
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PERSISTENTVOLUMES
from orchestrator.api.volumes import (
    LOCAL_PATH,
    ON_NODE,
    PROVISIONED_BY,
    PROVISIONER_FINALIZER,
    annotations,
    phase_of,
    volume_node_index,
)
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue

log = structlog.get_logger(__name__)

USED_RETRY_S = 2.0
STRAYS_TOLD = 20
_NODE = "node/"
_PREFIX = ".deleting-"


@dataclass(frozen=True, slots=True)
class Home:
    """One node: who it is in the API, and where its pods' directories lie; None where there is no disk."""

    node: str
    client: Client
    recorder: Recorder
    pods: Path | None
    volumes: Path | None = None
    """Where new volumes are made."""


class LocalVolumes:
    name = "localvolumes"
    watches = (PERSISTENTVOLUMES,)
    writes = (PERSISTENTVOLUMES,)

    def __init__(self) -> None:
        self._homes: dict[str, Home] = {}

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._volumes.add_index("node", volume_node_index)
        self._volumes.on_change(self._volume_changed)

    def add(self, home: Home) -> None:
        """Serve a node from now on, what was left undone included."""
        self._homes[home.node] = home
        self._queue.add(_NODE + home.node)
        for item in self._volumes.by_index("node", home.node):
            self._volume_changed(None, item)

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_NODE):
            await self._tell_strays(self._homes[key.removeprefix(_NODE)])
            return None
        item = self._volumes.get(key)
        home = self._homes.get(annotations(item.object).get(ON_NODE, "")) if item is not None else None
        if item is None or home is None or not goes(item.object):
            return None
        volume = item.object
        if home.pods is not None:
            path = Path(volume["spec"]["local"]["path"])
            try:
                if not await asyncio.to_thread(delete, path, key, home.pods):
                    return USED_RETRY_S
            except OSError as error:
                home.recorder.event(volume, "Warning", "VolumeFailedDelete", str(error))
                raise
        await self._release(home.client, volume)
        return None

    async def _tell_strays(self, home: Home) -> None:
        names = await asyncio.to_thread(directories, home.volumes) if home.volumes is not None else []
        strays = [name for name in names if self._volumes.get(name) is None]
        if strays:
            log.warning("directories without a volume are kept", node=home.node, base=str(home.volumes),
                        count=len(strays), names=strays[:STRAYS_TOLD])  # fmt: skip

    async def _release(self, client: Client, volume: Object) -> None:
        metadata = volume["metadata"]
        change = {
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "finalizers": [name for name in metadata["finalizers"] if name != PROVISIONER_FINALIZER],
        }
        try:
            await client.patch(PERSISTENTVOLUMES, metadata["name"], "", {"metadata": change})
        except NotFound:
            return

    def _volume_changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and new.meta.deletion_timestamp:
            self._queue.add(new.meta.name)


def directories(base: Path) -> list[str]:
    """Names of what lies in a directory of volumes."""
    found = base.iterdir() if base.is_dir() else ()
    return sorted(path.name for path in found if not path.name.startswith("."))


def goes(volume: Object) -> bool:
    """Whether a volume's directory is to be deleted now."""
    metadata, spec = volume["metadata"], volume["spec"]
    return (
        "deletionTimestamp" in metadata
        and PROVISIONER_FINALIZER in (metadata.get("finalizers") or ())
        and annotations(volume).get(PROVISIONED_BY) == LOCAL_PATH
        and spec.get("persistentVolumeReclaimPolicy") == "Delete"
        and "local" in spec
        and phase_of(volume) != "Bound"
    )


def delete(path: Path, name: str, pods: Path) -> bool:
    """Delete the directory of volume `name`; False while a pod has it. Raises `OSError`, also for a strange path."""
    if users(pods, path):
        return False
    waste = path.parent / f"{_PREFIX}{name}"
    if not path.exists() and not waste.exists():
        return True
    if path.name != name or not (path.parent / BASE_MARK).exists():
        raise OSError(
            f"{path} is not deleted: it does not lie in a directory of volumes under the name {name}"
        )
    if path.exists() and waste.exists():  # Made again after a deletion was cut off.
        shutil.rmtree(waste)
    if path.exists():
        path.rename(waste)
    shutil.rmtree(waste)
    return True
