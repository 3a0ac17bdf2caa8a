"""Long-lived tokens: a Secret that names a ServiceAccount gets a token of it, and goes with the account.

1. Only Secrets of the type for it are looked at. One names its account in an annotation, and may name the account's
   uid in another; once filled it does.
2. The account exists: the Secret gets what it lacks of token, CA and namespace, and the CA when that changed. A token
   that is there stays. One that may not change is left alone.
3. The account is gone, or has another uid than the Secret says: the Secret is deleted. That it is gone is believed
   only when the API says so.
"""

from base64 import b64encode
from collections.abc import Callable

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import SECRETS, SERVICEACCOUNTS
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import join_key, split_key
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

TYPE = "kubernetes.io/service-account-token"
NAME = "kubernetes.io/service-account.name"
UID = "kubernetes.io/service-account.uid"

Issue = Callable[[str, str, str, str], str]
"""Namespace, name and uid of an account, and the name of the Secret that will hold its token → the token."""


class AccountTokenController:
    name = "serviceaccount-token"
    watches = (SECRETS, SERVICEACCOUNTS)
    writes = (SECRETS,)

    def __init__(
        self, client: Client, clock: Clock, recorder: EventRecorder, ca_pem: str, issue: Issue
    ) -> None:
        self._client = client
        self._ca_pem = ca_pem
        self._issue = issue
        self._freshness = Freshness()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._secrets = informers.of(SECRETS)
        self._accounts = informers.of(SERVICEACCOUNTS)
        self._secrets.add_index("account", account_index)
        self._secrets.on_change(self._secret_changed)
        self._accounts.on_change(self._account_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._secrets.get(key)
        if item is None or item.meta.deletion_timestamp or not account_index(item):
            self._freshness.forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        secret = item.object
        account = await self._account(account_index(item)[0])
        if account is None or not fits(secret, account):
            await self._delete(item)
            return None
        wanted = plan(secret, account, self._ca_pem, self._issue)
        if wanted is not None:
            try:
                self._freshness.wrote(key, self._secrets, await self._client.update(SECRETS, wanted))
            except NotFound:
                return None
        return None

    async def _account(self, key: str) -> Object | None:
        item = self._accounts.get(key)
        if item is not None:
            return item.object
        namespace, name = split_key(key)
        try:
            return await self._client.get(SERVICEACCOUNTS, name, namespace)
        except NotFound:
            return None

    async def _delete(self, item: Item) -> None:
        options = DeleteOptions(uid=item.meta.uid, resource_version=str(item.revision))
        try:
            await self._client.delete(SECRETS, item.meta.name, item.meta.namespace, options)
        except NotFound:
            return

    def _secret_changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and account_index(new):
            self._queue.add(key_of(new))

    def _account_changed(self, old: Item | None, new: Item | None) -> None:
        """Only where it appears, goes, or is another of that name."""
        if old is None or new is None or old.meta.uid != new.meta.uid:
            for secret in self._secrets.by_index("account", key_of(new or old)):  # type: ignore[arg-type]
                self._queue.add(key_of(secret))


def account_index(item: Item) -> tuple[str, ...]:
    """Index function `account`: the account whose token a Secret is for."""
    if TYPE.encode() not in item.raw or item.object.get("type") != TYPE:
        return ()
    name = _annotations(item.object).get(NAME)
    return (join_key(item.meta.namespace, name),) if name else ()


def fits(secret: Object, account: Object) -> bool:
    """Whether the account is the one that the Secret means (rule 3)."""
    return bool(_annotations(secret).get(UID, account["metadata"]["uid"]) == account["metadata"]["uid"])


def plan(secret: Object, account: Object, ca_pem: str, issue: Issue) -> Object | None:
    """The Secret with what it lacked, or None (rule 2)."""
    meta, owner = secret["metadata"], account["metadata"]
    data = secret.get("data") or {}
    annotations = {**_annotations(secret), UID: owner["uid"]}
    wanted = {**data, "ca.crt": _encoded(ca_pem)}
    if not data.get("namespace"):
        wanted["namespace"] = _encoded(meta["namespace"])
    if not data.get("token"):
        wanted["token"] = _encoded(issue(meta["namespace"], owner["name"], owner["uid"], meta["name"]))
    if secret.get("immutable") or (wanted == data and annotations == _annotations(secret)):
        return None
    return {**secret, "metadata": {**meta, "annotations": annotations}, "data": wanted}


def _annotations(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()
