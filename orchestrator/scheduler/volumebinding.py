"""The volumes of a pod that is being placed: reserved or ordered for its node, and waited for.

Only claims that wait for their first consumer need anything. A free volume is reserved by writing the claim into it,
a missing one is ordered from its provisioner by writing the node to the claim
(`volume.kubernetes.io/selected-node`); the volume binder and the provisioner do the rest, and the pod is bound to its
node when all its claims are. Owner: the scheduler.
"""

import asyncio
from dataclasses import dataclass

from orchestrator.api.errors import Conflict, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.api.volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    SELECTED_NODE,
    annotations,
    is_bound_to,
)
from orchestrator.base.clock import Clock
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers, key_of
from orchestrator.scheduler.rules.columns import Columns
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.volumerules import Bindings, claims_of, plan

TIMEOUT_S = 600.0
"""How long a pod waits for its volumes before another node may be tried."""


@dataclass(frozen=True, slots=True)
class Promised:
    """What a pod's claims get on a node."""

    node: str
    bindings: Bindings

    @property
    def claims(self) -> list[str]:
        """Keys of the claims that are waited for."""
        reserved = [_key(claim) for _, claim in self.bindings.reserve]
        return reserved + [_key(claim) for claim in self.bindings.provision]


class VolumeBinder:
    """Writes what was promised, and waits until claims are bound."""

    def __init__(self, client: Client, informers: Informers, columns: Columns, clock: Clock) -> None:
        self._client = client
        self._columns = columns
        self._clock = clock
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._waiters: dict[str, list[asyncio.Event]] = {}
        self._claims.on_change(self._claim_changed)

    def promise(self, pod: PodInfo, node: str) -> Promised | None:
        """Choose for the node, at once after the decision, and keep others from choosing the same. None: there is
        nothing to do."""
        waiting = claims_of(self._columns, pod).waiting
        row = self._columns.row(node)
        if not waiting or row is None:
            return None
        bindings = plan(self._columns, waiting, row)
        for volume, claim in bindings.reserve:
            self._columns.volumes.promise(volume["metadata"]["name"], _key(claim))
        return Promised(node, bindings)

    def take_back(self, promised: Promised) -> None:
        """The pod is not placed: what was only promised is free again."""
        for claim in promised.claims:
            self._columns.volumes.take_back(claim)

    async def bind(self, promised: Promised) -> None:
        """Write, and wait until every claim is bound. Raises `ApiError`, `TimeoutError`."""
        if promised.bindings.problem:
            raise Conflict(promised.bindings.problem)
        for volume, claim in promised.bindings.reserve:
            if not is_bound_to(volume, claim):
                await self._client.update(PERSISTENTVOLUMES, _reserved(volume, claim))
        for claim in promised.bindings.provision:
            if annotations(claim).get(SELECTED_NODE) != promised.node:
                await self._select(claim, promised.node)
        async with asyncio.timeout(TIMEOUT_S):
            for key in promised.claims:
                await self._bound(key, promised)

    async def _select(self, claim: Object, node: str) -> None:
        metadata = claim["metadata"]
        change = {"resourceVersion": metadata["resourceVersion"], "annotations": {SELECTED_NODE: node}}
        await self._client.patch(
            PERSISTENTVOLUMECLAIMS, metadata["name"], metadata["namespace"], {"metadata": change}
        )

    async def _bound(self, key: str, promised: Promised) -> None:
        """Wait for one claim. A provisioner that gives up takes the node off the claim: then another is tried."""
        ordered = key in {_key(claim) for claim in promised.bindings.provision}
        event = asyncio.Event()
        self._waiters.setdefault(key, []).append(event)
        seen = False
        try:
            while True:
                item = self._claims.get(key)
                if item is None or item.meta.deletion_timestamp:
                    raise NotFound(f'persistentvolumeclaim "{key.partition("/")[2]}" not found')
                if is_complete(item):
                    return
                selected = annotations(item.object).get(SELECTED_NODE)
                seen = seen or selected == promised.node
                if ordered and seen and selected != promised.node:
                    raise Conflict(f"provisioning failed for PVC {key!r}")
                await event.wait()
                event.clear()
        finally:
            events = self._waiters[key]
            events.remove(event)
            if not events:
                del self._waiters[key]

    def _claim_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        for event in self._waiters.get(key_of(item), ()) if item is not None else ():
            event.set()


def is_complete(claim: Item) -> bool:
    """Whether a claim has its volume and both say so."""
    obj = claim.object
    return bool(obj["spec"].get("volumeName")) and BIND_COMPLETED in annotations(obj)


def _key(claim: Object) -> str:
    return f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"


def _reserved(volume: Object, claim: Object) -> Object:
    """The volume with a reference to the claim, by which the volume binder binds the two."""
    metadata = claim["metadata"]
    reference = {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
    }
    marks = {**annotations(volume)}
    if not volume["spec"].get("claimRef"):
        marks[BOUND_BY_CONTROLLER] = "yes"
    return {
        **volume,
        "metadata": {**volume["metadata"], **({"annotations": marks} if marks else {})},
        "spec": {**volume["spec"], "claimRef": reference},
    }
