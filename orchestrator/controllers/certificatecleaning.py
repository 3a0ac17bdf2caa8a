"""Certificate cleaning: requests do not stay for ever.

1. One that was decided, failed, or got its certificate goes an hour after that.
2. An undecided one goes after a day.
3. One whose certificate has expired goes at once.
"""

import binascii
from base64 import b64decode

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS
from orchestrator.api.times import seconds
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

DECIDED_S = 3600.0
PENDING_S = 24 * 3600.0


class CertificateCleaningController:
    name = "certificatecleaning"
    watches = (CERTIFICATESIGNINGREQUESTS,)
    writes = (CERTIFICATESIGNINGREQUESTS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._requests = informers.of(CERTIFICATESIGNINGREQUESTS)
        self._requests.on_change(self._changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._requests.get(key)
        if item is None:
            return None
        left_s = plan(item.object) - self._clock.now_s()
        if left_s > 0:
            return left_s
        try:
            await self._client.delete(CERTIFICATESIGNINGREQUESTS, key, "", DeleteOptions(uid=item.meta.uid))
        except NotFound:
            return None
        return None

    def _changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))


def plan(request: Object) -> float:
    """When the request goes, in seconds since the epoch."""
    status = request.get("status") or {}
    due = [seconds(request["metadata"]["creationTimestamp"]) + PENDING_S]
    decided = [c for c in status.get("conditions") or () if c.get("type") in ("Approved", "Denied", "Failed")]
    if decided:
        times = [c.get("lastUpdateTime") or c.get("lastTransitionTime") for c in decided]
        due = [seconds(time) + DECIDED_S for time in times if time] or due
    expires_s = _expiry_s(status.get("certificate") or "")
    return min(max(due), expires_s) if expires_s is not None else max(due)


def _expiry_s(certificate: str) -> float | None:
    if not certificate:
        return None
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(b64decode(certificate))
    except (ValueError, binascii.Error):
        return None
    return found[0].not_valid_after_utc.timestamp() if found else None
