"""Ephemeral volumes: a pod that describes a claim in one of its volumes gets it, and takes it along when it goes.

1. The claim is called `<pod>-<volume>`, is as the template says, and is owned by the pod.
2. A claim of that name that another one made is not taken: an event says so, and it is tried again.
3. A claim that somebody deleted is made again while the pod is there; a pod that is being deleted gets none.
"""

from orchestrator.api.errors import AlreadyExists, ApiError, Conflict
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PODS
from orchestrator.api.volumes import claim_index, owned_by_pod, pod_claims
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import controller_reference
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue


class EphemeralVolumeController:
    name = "ephemeralvolume"
    watches = (PODS, PERSISTENTVOLUMECLAIMS)
    writes = (PERSISTENTVOLUMECLAIMS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._pods = informers.of(PODS)
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._pods.add_index("claim", claim_index)
        self._pods.on_change(self._pod_changed)
        self._claims.on_change(self._claim_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._pods.get(key)
        if item is None or item.meta.deletion_timestamp or pod_view(item).finished:
            return None
        pod, namespace = item.object, item.meta.namespace
        for volume, name in pod_claims(pod):
            if not volume.get("ephemeral"):
                continue
            known = self._claims.get(f"{namespace}/{name}")
            try:
                if known is None:
                    await self._create(claim_for(pod, volume, name))
                elif not owned_by_pod(known.object, pod):
                    raise Conflict(strange(pod, known.object))
            except ApiError as error:
                text = f"ephemeral volume {volume['name']}: {error.message}"
                self._recorder.event(pod, "Warning", "FailedBinding", text)
                raise
        return None

    async def _create(self, claim: Object) -> None:
        metadata = claim["metadata"]
        try:
            await self._client.create(PERSISTENTVOLUMECLAIMS, claim, metadata["namespace"])
        except (
            AlreadyExists
        ):  # Ours, which the cache lacks still, or a stranger's, which its event will show.
            return

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        if (
            new is not None
            and (old is None or old is new or old.meta.uid != new.meta.uid)
            and has_ephemeral(new)
        ):
            self._queue.add(key_of(new))

    def _claim_changed(self, old: Item | None, new: Item | None) -> None:
        """Deleted, or made by somebody: pods that describe it look again."""
        if old is not None and new is not None:
            return
        item = new or old
        assert item is not None
        for pod in self._pods.by_index("claim", key_of(item)):
            if has_ephemeral(pod):
                self._queue.add(key_of(pod))


def has_ephemeral(pod: Item) -> bool:
    return b'"ephemeral"' in pod.raw and any(volume.get("ephemeral") for volume, _ in pod_claims(pod.object))


def strange(pod: Object, claim: Object) -> str:
    """What is wrong with a claim of the right name that the pod does not own."""
    names = [f"{obj['metadata']['namespace']}/{obj['metadata']['name']}" for obj in (claim, pod)]
    return f"PVC {names[0]} was not created for pod {names[1]} (pod is not the owner)"


def claim_for(pod: Object, volume: Object, name: str) -> Object:
    """Rule 1."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    described = template.get("metadata") or {}
    kept = {part: described[part] for part in ("labels", "annotations") if described.get(part)}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            **kept,
            "name": name,
            "namespace": pod["metadata"]["namespace"],
            "ownerReferences": [controller_reference(PODS, pod)],
        },
        "spec": template["spec"],
    }
