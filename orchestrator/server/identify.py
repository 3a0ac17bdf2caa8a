"""Who asks: credentials of the connection or the request, and impersonation."""

import base64
import binascii
from dataclasses import replace
from urllib.parse import unquote

from orchestrator.api.access import ANONYMOUS, Attributes, Credentials, Identity
from orchestrator.api.errors import BadRequest, Unauthorized
from orchestrator.server.interfaces import Authenticator, Authorizer
from orchestrator.web.answer import Request
from orchestrator.web.listener import peer_certificate

_BEARER_PROTOCOL = "base64url.bearer.authorization.k8s.io."
_ACCOUNT = "system:serviceaccount:"


def credentials(request: Request) -> Credentials:
    """What the request shows: the connection's certificate, and a bearer token if it has no certificate."""
    der = peer_certificate(request)
    if der is not None:
        return Credentials(der)
    headers = request.headers
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return Credentials(None, token.strip())
    if "Sec-WebSocket-Protocol" in headers:
        return Credentials(None, _websocket_token(headers["Sec-WebSocket-Protocol"]))
    return Credentials()


def _websocket_token(offered: str) -> str:
    """Browsers can't set headers on a WebSocket; they offer the token as a protocol."""
    for protocol in offered.split(","):
        encoded = protocol.strip()
        if encoded.startswith(_BEARER_PROTOCOL):
            encoded = encoded.removeprefix(_BEARER_PROTOCOL)
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, ValueError):
                raise Unauthorized("Unauthorized") from None
    return ""


async def identify(
    request: Request, authenticator: Authenticator, authorizer: Authorizer, *, public: bool = False
) -> Identity:
    """The identity the request acts as. Raises `Unauthorized`, and `Forbidden` for impersonation.

    Nobody is anonymous except where the path is `public`.
    """
    identity = await authenticator.authenticate(credentials(request))
    if identity is ANONYMOUS and not public:
        raise Unauthorized("Unauthorized")
    if any(name.lower().startswith("impersonate-") for name in request.headers):
        return await _impersonated(request, identity, authorizer)
    return identity


async def _impersonated(request: Request, identity: Identity, authorizer: Authorizer) -> Identity:
    """Source of rules and resources: Kubernetes' user impersonation."""
    headers = request.headers
    user = headers.get("Impersonate-User", "")
    if not user:
        raise BadRequest("requested impersonation without impersonating a user")
    groups = tuple(headers.getall("Impersonate-Group", ()))
    uid = headers.get("Impersonate-Uid", "")
    extra = _extra(request)
    for attributes in _asked(user, groups, uid, extra):
        await authorizer.authorize(identity, attributes)
    wanted = Identity(user, _groups(user, groups), uid, extra)
    return wanted if user != ANONYMOUS.name else replace(wanted, groups=ANONYMOUS.groups)


def _asked(
    user: str, groups: tuple[str, ...], uid: str, extra: dict[str, tuple[str, ...]]
) -> list[Attributes]:
    """What the impersonator must be allowed."""
    namespace, _, account = user.removeprefix(_ACCOUNT).partition(":")
    if user.startswith(_ACCOUNT) and account:
        asked = [Attributes("impersonate", resource="serviceaccounts", namespace=namespace, name=account)]
    else:
        asked = [Attributes("impersonate", resource="users", name=user)]
    asked += [Attributes("impersonate", resource="groups", name=group) for group in groups]
    group = "authentication.k8s.io"
    if uid:
        asked.append(Attributes("impersonate", group, "uids", name=uid))
    for key, values in extra.items():
        asked += [Attributes("impersonate", group, "userextras", key, name=value) for value in values]
    return asked


def _groups(user: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    if not groups and user.startswith(_ACCOUNT):
        namespace = user.removeprefix(_ACCOUNT).partition(":")[0]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    if "system:authenticated" in groups or "system:unauthenticated" in groups:
        return groups
    return (*groups, "system:authenticated")


def _extra(request: Request) -> dict[str, tuple[str, ...]]:
    extra: dict[str, tuple[str, ...]] = {}
    for name, value in request.headers.items():
        if name.lower().startswith("impersonate-extra-"):
            key = unquote(name[len("impersonate-extra-") :]).lower()
            extra[key] = (*extra.get(key, ()), value)
    return extra
