"""What the API server is handed by the daemon, as interfaces: it knows neither `auth` nor how OpenAPI is made."""

from collections.abc import Sequence
from typing import Any, Protocol

from orchestrator.api.access import Attributes, Credentials, Identity
from orchestrator.api.item import Object


class Authenticator(Protocol):
    """Who asks."""

    async def authenticate(self, credentials: Credentials) -> Identity:
        """The identity, `ANONYMOUS` where nothing is shown; raises `Unauthorized` for what is not valid."""


class Rule(Protocol):
    """One `PolicyRule`."""

    def to_json(self) -> dict[str, Any]: ...


class Authorizer(Protocol):
    """Decides; every method is a lookup in memory."""

    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        """Raises `Forbidden`."""

    def allows(self, identity: Identity, attributes: Attributes) -> bool:
        """The decision alone, for access reviews."""

    def rules(self, identity: Identity, namespace: str) -> Sequence[Rule]:
        """What `identity` may do in `namespace`."""


class TokenReader(Protocol):
    """Verifies tokens for `TokenReview`."""

    async def identify(self, token: str, audiences: tuple[str, ...] = ()) -> tuple[Identity, tuple[str, ...]]:
        """Who it stands for and the audiences it is good for. Raises `Unauthorized`."""


class TokenRequests(Protocol):
    """Issues service-account tokens; the rules of binding and life are its own."""

    async def request(self, namespace: str, name: str, spec: Object, identity: Identity) -> Object:
        """The status (`token`, `expirationTimestamp`) and the spec that holds, for a `TokenRequest`'s spec.

        Returns `{"spec": …, "status": …}`; raises `NotFound`, `Invalid`, `Conflict`.
        """


class OpenAPI(Protocol):
    """The documents of `/openapi/v3`, made once per change of the table."""

    def index(self) -> bytes:
        """`/openapi/v3`."""

    def document(self, path: str) -> tuple[bytes, str]:
        """The document of `api/v1`, `apis/apps/v1` … and its ETag. Raises `KeyError` or `NotFound`."""
