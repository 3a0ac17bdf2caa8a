"""Who asks: client certificate first, then bearer token, else anonymous. Called by `server` on every request."""

from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from orchestrator.api.access import ANONYMOUS, Credentials, Identity
from orchestrator.api.errors import Unauthorized
from orchestrator.auth.tokens import ServiceAccountTokens

AUTHENTICATED = "system:authenticated"


class Authenticator:
    """Turns credentials into an identity."""

    def __init__(self, tokens: ServiceAccountTokens) -> None:
        self._tokens = tokens

    async def authenticate(self, credentials: Credentials) -> Identity:
        """Raises `Unauthorized` for a token that is not ours, expired, or whose account is gone."""
        if credentials.peer_certificate_der is not None:
            return certificate_identity(credentials.peer_certificate_der)
        if credentials.bearer_token:
            identity, _ = await self._tokens.identify(credentials.bearer_token)
            return identity
        return ANONYMOUS


@lru_cache(maxsize=1024)
def certificate_identity(der: bytes) -> Identity:
    """User and groups from the subject: common name and organizations."""
    try:
        subject = x509.load_der_x509_certificate(der).subject
    except ValueError as error:
        raise Unauthorized("Unauthorized") from error
    names = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if len(names) != 1 or not names[0]:
        raise Unauthorized("Unauthorized")
    return Identity(names[0], (*groups, AUTHENTICATED))
