"""Service-account tokens: JWTs signed with ES256, bound to an account and, where asked, to a pod.

Claims are those of Kubernetes' projected tokens, so that clients and other systems can read them. A signature
is checked once and remembered; whether account and pod still exist is asked on every request. Called by the
authenticator and by the `serviceaccounts/token` subresource.
"""

import hashlib
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.api.access import Identity
from orchestrator.api.errors import NotFound, Unauthorized
from orchestrator.api.item import Item
from orchestrator.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from orchestrator.base.clock import Clock

ISSUER = "https://kubernetes.default.svc.cluster.local"
VERIFIED_MAX = 10_000
LIFE_MIN_S = 600
LIFE_MAX_S = 365 * 24 * 3600
_BOUND: dict[str, Resource] = {"Pod": PODS, "Secret": SECRETS}


class Reader(Protocol):
    """Read-only access to objects; the registry is one."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Item:
        """Raises `NotFound`."""


@dataclass(frozen=True, slots=True)
class BoundObject:
    """The pod, secret or node that a token lives and dies with."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Token:
    """A signed token and the time (seconds since the epoch) at which it ends."""

    text: str
    expires_s: int


class ServiceAccountTokens:
    """Signs and verifies with one key. Owner of the cache of verified tokens."""

    def __init__(self, key_pem: bytes, reader: Reader, clock: Clock, audience: str = ISSUER) -> None:
        key = serialization.load_pem_private_key(key_pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("service-account signing key is not an EC key")
        self._key = key
        self._public = key.public_key()
        der = self._public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = hashlib.sha256(der).hexdigest()[:32]
        self._reader = reader
        self._clock = clock
        self.audience = audience
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: tuple[str, ...] = (),
        life_s: int = 3600,
        bound: BoundObject | None = None,
        node: tuple[str, str] | None = None,
    ) -> Token:
        """A token for account `namespace/name`; `node` is the (name, uid) of the bound pod's node."""
        now_s = int(self._clock.now_s())
        expires_s = now_s + min(max(life_s, LIFE_MIN_S), LIFE_MAX_S)
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        if bound is not None:
            private[bound.kind.lower()] = {"name": bound.name, "uid": bound.uid}
        if node is not None:
            private["node"] = {"name": node[0], "uid": node[1]}
        claims = {
            "aud": list(audiences or (self.audience,)),
            "exp": expires_s,
            "iat": now_s,
            "nbf": now_s,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        text = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
        return Token(text, expires_s)

    async def identify(self, token: str, audiences: tuple[str, ...] = ()) -> tuple[Identity, tuple[str, ...]]:
        """Who the token stands for and which of `audiences` it is good for. Raises `Unauthorized`."""
        claims = self._claims(token)
        accepted = tuple(a for a in audiences or (self.audience,) if a in claims["aud"])
        now_s = self._clock.now_s()
        if not accepted or now_s >= claims["exp"] or now_s < claims["nbf"] - 60:
            raise Unauthorized("Unauthorized")
        await self._check_alive(claims["kubernetes.io"])
        return _identity(claims), accepted

    def _claims(self, token: str) -> dict[str, Any]:
        claims = self._verified.get(token)
        if claims is not None:
            return claims
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["ES256"],
                issuer=ISSUER,
                options={
                    "require": ["exp", "nbf", "aud", "sub"],
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            private = claims["kubernetes.io"]
            whole = isinstance(private["namespace"], str) and isinstance(
                private["serviceaccount"]["uid"], str
            )
        except (jwt.PyJWTError, KeyError, TypeError) as error:
            raise Unauthorized("Unauthorized") from error
        if not whole:
            raise Unauthorized("Unauthorized")
        self._verified[token] = claims
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return claims

    async def _check_alive(self, private: dict[str, Any]) -> None:
        namespace = private["namespace"]
        account = private["serviceaccount"]
        await self._check_uid(SERVICEACCOUNTS, namespace, account["name"], account["uid"])
        for kind, resource in _BOUND.items():
            bound = private.get(kind.lower())
            if bound is not None:
                await self._check_uid(resource, namespace, bound["name"], bound["uid"])
        node = private.get("node")
        if node is not None and "pod" not in private:
            # Beside a pod the node only tells where that runs; alone it is what the token is bound to.
            await self._check_uid(NODES, "", node["name"], node["uid"])

    async def _check_uid(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        try:
            item = await self._reader.get(resource, namespace, name)
        except NotFound as error:
            raise Unauthorized("Unauthorized") from error
        if item.meta.uid != uid:
            raise Unauthorized("Unauthorized")


def _identity(claims: dict[str, Any]) -> Identity:
    private = claims["kubernetes.io"]
    namespace, account = private["namespace"], private["serviceaccount"]
    extra: dict[str, tuple[str, ...]] = {}
    if "jti" in claims:
        extra["authentication.kubernetes.io/credential-id"] = (f"JTI={claims['jti']}",)
    for kind in ("pod", "node"):
        if kind in private:
            extra[f"authentication.kubernetes.io/{kind}-name"] = (private[kind]["name"],)
            extra[f"authentication.kubernetes.io/{kind}-uid"] = (private[kind]["uid"],)
    return Identity(
        claims["sub"],
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
        account["uid"],
        extra,
    )
