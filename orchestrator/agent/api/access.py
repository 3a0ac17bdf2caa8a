"""Who may call the agent: a certificate of the cluster's CA or a bearer token, then the cluster's own authorization.

As a kubelet: tokens are asked with a TokenReview, permissions with a SubjectAccessReview of `nodes/<what>`, and the
answers kept for a while. Nobody is anonymous here. Rules: a path belongs to one subresource (`stats`, `metrics`,
`log`, …); those that are finer than they once were are also open to whoever has `nodes/proxy`.
"""

import hashlib
from collections.abc import Callable
from typing import TypeVar

from orchestrator.api.access import Credentials, Identity
from orchestrator.api.errors import Forbidden, Unauthorized
from orchestrator.api.item import Object
from orchestrator.api.resources import SUBJECTACCESSREVIEWS, TOKENREVIEWS
from orchestrator.base.clock import Clock
from orchestrator.client.interface import Client

IDENTITY_S, ALLOWED_S, DENIED_S = 120.0, 300.0, 30.0
"""How long an answer is kept."""
KEPT_MAX = 1024
PROXY = "proxy"
VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ONLY = {"stats": "stats", "metrics": "metrics", "logs": "log", "spec": "spec", "checkpoint": "checkpoint"}
_FINER = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}

Decision = tuple[str, str, tuple[str, ...], str, str]


def subresources(path: str) -> tuple[str, ...]:
    """Of `nodes`, any of which opens `path`."""
    first = path.lstrip("/").partition("/")[0]
    if first in _ONLY:
        return (_ONLY[first],)
    finer = _FINER.get(first.lower())
    return (finer, PROXY) if finer else (PROXY,)


class Gate:
    """Decides for one node's agent. `certified` reads a verified certificate."""

    def __init__(
        self, node_name: str, client: Client, certified: Callable[[bytes], Identity], clock: Clock
    ) -> None:
        self._node_name = node_name
        self._client = client
        self._certified = certified
        self._clock = clock
        self._tokens: dict[bytes, tuple[float, Identity | None]] = {}
        self._decisions: dict[Decision, tuple[float, bool]] = {}

    async def admit(self, credentials: Credentials, method: str, path: str) -> Identity:
        """Raises `Unauthorized`, `Forbidden`."""
        identity = await self._identify(credentials)
        verb, wanted = VERBS.get(method, method.lower()), subresources(path)
        for subresource in wanted:
            if await self._allowed(identity, verb, subresource):
                return identity
        asked = f"user={identity.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(wanted)}]"
        raise Forbidden(f"Forbidden ({asked})")

    async def _identify(self, credentials: Credentials) -> Identity:
        if credentials.peer_certificate_der is not None:
            return self._certified(credentials.peer_certificate_der)
        if not credentials.bearer_token:
            raise Unauthorized("Unauthorized")
        key, now_s = hashlib.sha256(credentials.bearer_token.encode()).digest(), self._clock.monotonic_s()
        until_s, identity = self._tokens.get(key, (0.0, None))
        if until_s <= now_s:
            identity = await self._review(credentials.bearer_token)
            _keep(self._tokens, key, (now_s + IDENTITY_S, identity))
        if identity is None:
            raise Unauthorized("Unauthorized")
        return identity

    async def _review(self, token: str) -> Identity | None:
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
            "spec": {"token": token},
        }  # fmt: skip
        status = (await self._client.create(TOKENREVIEWS, request))["status"]
        if not status.get("authenticated"):
            return None
        user = status["user"]
        extra = {key: tuple(values) for key, values in (user.get("extra") or {}).items()}
        return Identity(user["username"], tuple(user.get("groups") or ()), user.get("uid", ""), extra)

    async def _allowed(self, identity: Identity, verb: str, subresource: str) -> bool:
        key = (identity.name, identity.uid, identity.groups, verb, subresource)
        now_s = self._clock.monotonic_s()
        until_s, allowed = self._decisions.get(key, (0.0, False))
        if until_s <= now_s:
            allowed = await self._ask(identity, verb, subresource)
            _keep(self._decisions, key, (now_s + (ALLOWED_S if allowed else DENIED_S), allowed))
        return allowed

    async def _ask(self, identity: Identity, verb: str, subresource: str) -> bool:
        request: Object = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {
                "user": identity.name,
                "groups": list(identity.groups),
                "uid": identity.uid,
                "extra": {key: list(values) for key, values in identity.extra.items()},
                "resourceAttributes": {
                    "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource,
                    "name": self._node_name,
                },
            },
        }  # fmt: skip
        status = (await self._client.create(SUBJECTACCESSREVIEWS, request))["status"]
        return bool(status.get("allowed"))


K = TypeVar("K")
V = TypeVar("V")


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    """The oldest answer makes way."""
    kept.pop(key, None)
    if len(kept) >= KEPT_MAX:
        del kept[next(iter(kept))]
    kept[key] = value
