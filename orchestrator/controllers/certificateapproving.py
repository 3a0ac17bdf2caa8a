"""Certificate approval: nodes get their client certificates without an operator, where they may ask for them.

1. Only requests for nodes' client certificates are looked at, and only undecided ones.
2. One whose author is the node itself needs the right to create `certificatesigningrequests/selfnodeclient`; any
   other author, such as a bootstrap token, `certificatesigningrequests/nodeclient`.
3. What is not allowed stays undecided: an operator may still decide.
"""

import contextlib

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS, SUBJECTACCESSREVIEWS
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.certificaterequests import KUBELET_CLIENT, asked, has, problem
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

_MESSAGES = {
    "selfnodeclient": "Auto approving self kubelet client certificate after SubjectAccessReview.",
    "nodeclient": "Auto approving kubelet client certificate after SubjectAccessReview.",
}


class CertificateApprovingController:
    name = "certificateapproving"
    watches = (CERTIFICATESIGNINGREQUESTS,)
    writes = (CERTIFICATESIGNINGREQUESTS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._requests = informers.of(CERTIFICATESIGNINGREQUESTS)
        self._requests.on_change(self._changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._requests.get(key)
        if item is None:
            return None
        request = item.object
        for right in rights(request):
            if await self._allowed(request["spec"], right):
                with contextlib.suppress(NotFound):
                    await self._client.update(
                        CERTIFICATESIGNINGREQUESTS, approved(request, right), subresource="approval"
                    )
                return None
        return None

    def _changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))

    async def _allowed(self, spec: Object, right: str) -> bool:
        asked_for = {
            "group": CERTIFICATESIGNINGREQUESTS.group,
            "resource": CERTIFICATESIGNINGREQUESTS.plural,
            "subresource": right,
            "verb": "create",
        }
        subject = {
            "user": spec.get("username") or "",
            "uid": spec.get("uid") or "",
            "groups": spec.get("groups") or [],
            "extra": spec.get("extra") or {},
        }
        body = {
            "apiVersion": SUBJECTACCESSREVIEWS.api_version,
            "kind": SUBJECTACCESSREVIEWS.kind,
            "spec": {**subject, "resourceAttributes": asked_for},
        }
        answer = await self._client.create(SUBJECTACCESSREVIEWS, body)
        return bool((answer.get("status") or {}).get("allowed"))


def rights(request: Object) -> list[str]:
    """Which of the rights would do for the author; none where nothing is to be decided here."""
    spec, status = request["spec"], request.get("status") or {}
    if spec.get("signerName") != KUBELET_CLIENT or status.get("certificate"):
        return []
    if has(request, "Approved") or has(request, "Denied") or problem(request):
        return []
    own = asked(request).common_name == spec.get("username")
    return ["selfnodeclient", "nodeclient"] if own else ["nodeclient"]


def approved(request: Object, right: str) -> Object:
    status = request.get("status") or {}
    condition = {
        "type": "Approved", "status": "True", "reason": "AutoApproved", "message": _MESSAGES[right],
    }  # fmt: skip
    return {**request, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}
