"""ResourceQuota: `status.hard` is what the spec says, `status.used` what the namespace's objects really use.

1. Writes charge `used` in their own transaction (`registry.charging`), so it never misses anything; this controller
   gives back what went away, ended or shrank, and measures anew what a changed spec limits.
2. What is measured: the quota as it is, then the objects as they are, both read from the registry and not from a
   cache. It is written only if nobody changed the quota since; so nothing that was charged meanwhile gets lost.
3. Names that nothing is known about stay without usage, and so refuse nothing but what they name.
4. Every quota is measured again with each resync, for what ends by time.

Watches quotas, and the resources that they limit from the first quota on that does.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable

from orchestrator.api import amounts, quotas
from orchestrator.api.amounts import Amounts
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import (
    PERSISTENTVOLUMECLAIMS,
    PODS,
    RESOURCEQUOTAS,
    SERVICES,
    Resource,
    ResourceTable,
)
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import split_key
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informer, Informers, key_of
from orchestrator.informer.queue import WorkQueue

GATHER_S = 0.1
"""Objects that go within this time are given back together."""
LOOK_AGAIN_S = 2.0
"""Until what is watched from now on is surely heard of; what went meanwhile was perhaps not."""
SLICE = 100
"""Objects measured before others get their turn."""
MEASURED_MAX = 20_000


class ResourceQuotaController:
    name = "resourcequota"
    watches = (RESOURCEQUOTAS, PODS, SERVICES, PERSISTENTVOLUMECLAIMS)
    writes = (RESOURCEQUOTAS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, table: ResourceTable) -> None:
        self._client = client
        self._clock = clock
        self._table = table
        self._watched: dict[str, Informer] = {}
        self._measured: dict[str, tuple[int, Amounts]] = {}

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._informers = informers
        self._queue = queue
        self._quotas = informers.of(RESOURCEQUOTAS)
        self._quotas.on_change(self._quota_changed)

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        try:
            quota = await self._client.get(RESOURCEQUOTAS, name, namespace)
        except NotFound:
            return None
        hard = quota["spec"].get("hard") or {}
        used: dict[str, str] = {}
        rows = self._limited(hard)
        heard = [self._watch(row) for row in rows]
        for row in rows:
            used |= await self._used(row, namespace, quota["spec"])
        wanted = plan(quota, used)
        if wanted is not None:
            await self._client.update(RESOURCEQUOTAS, wanted, subresource="status")
        return None if all(heard) else LOOK_AGAIN_S

    def _limited(self, hard: Iterable[str]) -> list[Resource]:
        """Rows whose objects the names are about, each kind once."""
        rows: dict[str, Resource] = {}
        for row in self._table:
            if quotas.is_measured(row, "CREATE", "") and quotas.concerning(row, hard):
                kept = row.stored_as is None or row.stored_as == (row.group, row.version)
                rows[row.qualified] = row if kept else rows.get(row.qualified, row)
        return list(rows.values())

    async def _used(self, row: Resource, namespace: str, spec: Object) -> Amounts:
        """What the namespace's objects of a resource use, of what the quota limits."""
        names = quotas.concerning(row, spec.get("hard") or ())
        found = await self._client.list(row, namespace)
        if set(names) <= quotas.plain_counts(row) and not quotas.scopes(spec):
            return dict.fromkeys(names, str(len(found.items)))
        alike: Counter[tuple[tuple[str, str], ...]] = Counter()
        for position, item in enumerate(found.items, 1):
            alike[tuple(self._usage(row, item, spec).items())] += 1
            if position % SLICE == 0:
                await asyncio.sleep(0)
        total: dict[str, str] = dict.fromkeys(names, "0")
        for usage, count in alike.items():
            total = amounts.plus(total, dict(usage), count)
        return amounts.only(total, names)

    def _usage(self, row: Resource, item: Item, spec: Object) -> Amounts:
        if quotas.scopes(spec) and not quotas.covers(spec, row, item.object):
            return {}
        known = self._measured.get(item.meta.uid)
        if known is not None and known[0] == item.revision and not item.meta.deletion_timestamp:
            return known[1]
        usage = quotas.usage(row, item.object, self._clock.now_s())
        self._measured.pop(item.meta.uid, None)
        self._measured[item.meta.uid] = (item.revision, usage)
        if len(self._measured) > MEASURED_MAX:
            del self._measured[next(iter(self._measured))]
        return usage

    def _watch(self, row: Resource) -> bool:
        """Hear of what goes. Whether that is so already; a custom kind that came anew has a new informer."""
        informer = self._informers.of(row)
        if self._watched.get(row.qualified) is informer:
            return informer.has_synced
        self._watched[row.qualified] = informer

        def changed(old: Item | None, new: Item | None) -> None:
            if old is not None and releases(row, old, new):
                for quota in self._quotas.list(old.meta.namespace):
                    if quotas.concerning(row, quota.object["spec"].get("hard") or ()):
                        self._queue.add_after(key_of(quota), GATHER_S)

        informer.on_change(changed)
        return False

    def _quota_changed(self, old: Item | None, new: Item | None) -> None:
        """A charge is none of our business; a spec, a resync, and a status that somebody else wrote are."""
        if new is None:
            return
        if old is None or old is new or not _same_but_used(old.object, new.object):
            self._queue.add(key_of(new))


def plan(quota: Object, used: Amounts) -> Object | None:
    """The quota with its whole new status, or None when it says that already."""
    hard = quota["spec"].get("hard") or {}
    status = quota.get("status") or {}
    known = amounts.only(used, sorted(hard))
    same = amounts.equal(status.get("hard") or {}, hard) and amounts.equal(status.get("used") or {}, known)
    if same and "hard" in status and "used" in status:
        return None
    return {**quota, "status": {"hard": hard, "used": known}}


def releases(row: Resource, old: Item, new: Item | None) -> bool:
    """Whether a change may lower what the object uses."""
    if new is None:
        return True
    if row is PODS or row.qualified == PODS.qualified:
        ended = pod_view(new).finished and not pod_view(old).finished
        return ended or (new is old and bool(new.meta.deletion_timestamp))
    if row.qualified not in (SERVICES.qualified, PERSISTENTVOLUMECLAIMS.qualified):
        return False
    return old.object.get("spec") != new.object.get("spec") or old.object.get("status") != new.object.get(
        "status"
    )


def _same_but_used(old: Object, new: Object) -> bool:
    return bool(
        old["spec"] == new["spec"]
        and (old.get("status") or {}).get("hard") == (new.get("status") or {}).get("hard")
    )
