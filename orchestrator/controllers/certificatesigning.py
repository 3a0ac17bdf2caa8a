"""Certificate signing: approved requests for the signers of the cluster get their certificate.

1. Only approved requests that have no certificate and did not fail are signed, for the signers named in
   `certificaterequests`; others have signers of their own.
2. A request that its signer does not sign fails, with the reason.
3. The certificate lives a year, or as long as the request asks, but not less than ten minutes.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.certificaterequests import SIGNERS, has, pem, problem
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

LIFE_S = 365 * 86_400
LIFE_MIN_S = 600

Sign = Callable[[bytes, Iterable[str], float], bytes]
"""PEM request, usages and life in seconds → PEM certificate. Raises `ValueError`."""


class CertificateSigningController:
    name = "certificatesigning"
    watches = (CERTIFICATESIGNINGREQUESTS,)
    writes = (CERTIFICATESIGNINGREQUESTS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, sign: Sign) -> None:
        self._client = client
        self._sign = sign

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._requests = informers.of(CERTIFICATESIGNINGREQUESTS)
        self._requests.on_change(self._changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._requests.get(key)
        wanted = plan(item.object, self._sign) if item is not None else None
        if wanted is not None:
            try:
                await self._client.update(CERTIFICATESIGNINGREQUESTS, wanted, subresource="status")
            except NotFound:
                return None
        return None

    def _changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))


def plan(request: Object, sign: Sign) -> Object | None:
    """The request with its certificate, or with its failure; None when nothing is to be done."""
    spec, status = request["spec"], request.get("status") or {}
    if spec.get("signerName") not in SIGNERS or status.get("certificate"):
        return None
    if not has(request, "Approved") or has(request, "Denied") or has(request, "Failed"):
        return None
    why = problem(request)
    if why:
        return _failed(request, why)
    asked_s = spec.get("expirationSeconds")
    life_s = LIFE_S if asked_s is None else max(LIFE_MIN_S, min(LIFE_S, asked_s))
    try:
        certificate = sign(pem(request), spec.get("usages") or (), life_s)
    except ValueError as error:
        return _failed(request, str(error))
    return {**request, "status": {**status, "certificate": b64encode(certificate).decode()}}


def _failed(request: Object, why: str) -> Object:
    status = request.get("status") or {}
    condition = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why}
    return {**request, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}
