"""Service-account tokens: JWTs signed with ES256, bound to an account and, where asked, to a pod.

Claims are those of Kubernetes' projected tokens, so that clients and other systems can read them. A signature
is checked once and remembered; whether account and pod still exist is asked on every request. A token that does
not end by itself is kept in a Secret, and is good as long as that holds the very same. Called by the authenticator, by
the `serviceaccounts/token` subresource, and by the controller that fills such Secrets.
"""

import binascii
import hashlib
import math
import uuid
from base64 import b64decode
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
LASTING_ISSUER = "kubernetes/serviceaccount"
_PRIVATE = "kubernetes.io/serviceaccount/"
"""How the names of such a token's own claims begin."""
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
        return Token(self._sign(claims), expires_s)

    def issue_lasting(self, namespace: str, name: str, uid: str, secret: str) -> str:
        """A token for account `namespace/name` that ends with the Secret that holds it."""
        private = {
            "namespace": namespace,
            "secret.name": secret,
            "service-account.name": name,
            "service-account.uid": uid,
        }
        claims = {f"{_PRIVATE}{key}": text for key, text in private.items()}
        return self._sign(
            {**claims, "iss": LASTING_ISSUER, "sub": f"system:serviceaccount:{namespace}:{name}"}
        )

    def _sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})

    async def identify(self, token: str, audiences: tuple[str, ...] = ()) -> tuple[Identity, tuple[str, ...]]:
        """Who the token stands for and which of `audiences` it is good for. Raises `Unauthorized`."""
        claims = self._claims(token)
        accepted = tuple(a for a in audiences or (self.audience,) if a in claims["aud"])
        now_s = self._clock.now_s()
        if not accepted or now_s >= claims["exp"] or now_s < claims["nbf"] - 60:
            raise Unauthorized("Unauthorized")
        await self._check_alive(claims["kubernetes.io"])
        if "keeper" in claims:
            await self._check_kept(claims["kubernetes.io"]["namespace"], claims["keeper"], token)
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
                issuer=(ISSUER, LASTING_ISSUER),
                options={
                    "require": ["iss", "sub"],
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            if claims["iss"] == LASTING_ISSUER:
                claims = self._lasting(claims)
            private = claims["kubernetes.io"]
            whole = isinstance(private["namespace"], str) and isinstance(
                private["serviceaccount"]["uid"], str
            )
            whole = whole and {"exp", "nbf", "aud"} <= claims.keys()
        except (jwt.PyJWTError, KeyError, TypeError) as error:
            raise Unauthorized("Unauthorized") from error
        if not whole:
            raise Unauthorized("Unauthorized")
        self._verified[token] = claims
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return claims

    def _lasting(self, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims of a token that is kept in a Secret, as others have them. Raises `KeyError`."""
        keys = ("namespace", "service-account.name", "service-account.uid", "secret.name")
        namespace, name, uid, secret = (claims[f"{_PRIVATE}{key}"] for key in keys)
        if claims["sub"] != f"system:serviceaccount:{namespace}:{name}":
            raise KeyError("sub")
        return {
            "sub": claims["sub"], "aud": [self.audience], "nbf": 0, "exp": math.inf, "keeper": secret,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        }  # fmt: skip

    async def _check_kept(self, namespace: str, name: str, token: str) -> None:
        """Whoever deletes the Secret, or replaces the token in it, takes it back."""
        try:
            secret = await self._reader.get(SECRETS, namespace, name)
            kept = b64decode((secret.object.get("data") or {}).get("token") or "")
        except (NotFound, binascii.Error) as error:
            raise Unauthorized("Unauthorized") from error
        if kept != token.encode():
            raise Unauthorized("Unauthorized")

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
