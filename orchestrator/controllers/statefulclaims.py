"""The claims of a StatefulSet's pods: made before their pod, and owned as the retention policy wants it.

1. A missing claim is created; one that is being deleted must go first, and its pod waits.
2. Owner references are put right whenever they are not; a claim that somebody else controls is told as an event.
3. Nothing here deletes a claim: the garbage collector does, by those references.

Called by `statefulset`.
"""

from orchestrator.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import Freshness
from orchestrator.controllers.statefulpods import (
    claim_names,
    claim_owners,
    new_claims,
    pod_name,
    waits_for_end,
)
from orchestrator.informer.cache import Informer


class Claims:
    """Reads and writes claims. Holds no state of its own."""

    def __init__(
        self, client: Client, recorder: EventRecorder, freshness: Freshness, informer: Informer
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._freshness = freshness
        self._informer = informer

    def lack(self, stateful_set: Object, ordinal: int) -> bool:
        """Whether a claim of the place is missing."""
        return len(self._found(stateful_set, ordinal)) < len(claim_names(stateful_set, ordinal))

    def block(self, stateful_set: Object, ordinal: int) -> bool:
        """Whether a claim of the place goes with an earlier pod, so that no pod may be made."""
        name = pod_name(stateful_set["metadata"]["name"], ordinal)
        return any(waits_for_end(stateful_set, name, claim) for claim in self._found(stateful_set, ordinal))

    def misowned(self, stateful_set: Object, ordinal: int, pod: Item, *, away: bool) -> bool:
        """Whether rule 2 has something to do."""
        name, uid = pod.meta.name, pod.meta.uid
        found = self._found(stateful_set, ordinal)
        return any(claim_owners(stateful_set, name, uid, claim, away=away) is not None for claim in found)

    async def make(self, key: str, stateful_set: Object, ordinal: int) -> ApiError | None:
        """Rule 1: returns why not all claims are there. All are tried."""
        failures = []
        for wanted in new_claims(stateful_set, ordinal):
            claim = self._informer.get(f"{wanted['metadata']['namespace']}/{wanted['metadata']['name']}")
            if claim is None:
                failures.append(await self._create(key, stateful_set, wanted, ordinal))
            elif claim.meta.deletion_timestamp:
                failures.append(Conflict(f"pvc {claim.meta.name} is being deleted"))
        return next((error for error in failures if error is not None), None)

    async def own(
        self, key: str, stateful_set: Object, ordinal: int, pod: Item, *, away: bool
    ) -> ApiError | None:
        """Rule 2: returns why an owner could not be written."""
        for claim in self._found(stateful_set, ordinal):
            owners = claim_owners(stateful_set, pod.meta.name, pod.meta.uid, claim, away=away)
            if owners is None:
                continue
            references, conflict = owners
            if conflict:
                text = (
                    f"PersistentVolumeClaim {claim.meta.name} has a conflicting OwnerReference that acts as a"
                    " managing controller, the retention policy is ignored for this claim"
                )
                self._recorder.event(stateful_set, "Warning", "ConflictingController", text)
            error = await self._write_owners(key, claim, references)
            if error is not None:
                return error
        return None

    def _found(self, stateful_set: Object, ordinal: int) -> list[Item]:
        namespace = stateful_set["metadata"]["namespace"]
        names = claim_names(stateful_set, ordinal).values()
        items = (self._informer.get(f"{namespace}/{name}") for name in names)
        return [item for item in items if item is not None]

    async def _create(self, key: str, stateful_set: Object, claim: Object, ordinal: int) -> ApiError | None:
        meta, owner = claim["metadata"], stateful_set["metadata"]["name"]
        pod = pod_name(owner, ordinal)
        try:
            made = await self._client.create(PERSISTENTVOLUMECLAIMS, claim, meta["namespace"])
        except AlreadyExists as error:
            return error
        except ApiError as error:
            text = (
                f"create Claim {meta['name']} for Pod {pod} in StatefulSet {owner}"
                f" failed error: {error.message}"
            )
            self._recorder.event(stateful_set, "Warning", "FailedCreate", text)
            error.message = f"failed to create PVC {meta['name']}: {error.message}"
            return error
        self._freshness.wrote(key, self._informer, made)
        text = f"create Claim {meta['name']} Pod {pod} in StatefulSet {owner} success"
        self._recorder.event(stateful_set, "Normal", "SuccessfulCreate", text)
        return None

    async def _write_owners(self, key: str, claim: Item, references: list[Object]) -> ApiError | None:
        meta = claim.meta
        patch = {"metadata": {"resourceVersion": str(claim.revision), "ownerReferences": references or None}}
        try:
            written = await self._client.patch(PERSISTENTVOLUMECLAIMS, meta.name, meta.namespace, patch)
        except NotFound:
            return None
        except ApiError as error:
            text = f"could not update claim {meta.name} for delete policy ownerRefs: {error.message}"
            error.message = text
            return error
        self._freshness.wrote(key, self._informer, written)
        return None
