"""What the API server is handed by the daemon, as interfaces: it knows neither `auth` nor how OpenAPI is made."""

from collections.abc import Sequence
from typing import Any, Protocol

from orchestrator.api.access import Attributes, Credentials, Identity
from orchestrator.api.item import Item
from orchestrator.api.resources import Resource


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


class Token(Protocol):
    """A signed token and when it ends (seconds since the epoch)."""

    @property
    def text(self) -> str: ...

    @property
    def expires_s(self) -> int: ...


class Tokens(Protocol):
    """Issues and verifies service-account tokens."""

    audience: str
    """The audience of tokens that ask for none: this API."""

    async def identify(self, token: str, audiences: tuple[str, ...] = ()) -> tuple[Identity, tuple[str, ...]]:
        """Who it stands for and the audiences it is good for. Raises `Unauthorized`."""

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: tuple[str, ...] = (),
        life_s: int = 3600,
        bound: Any = None,
        node: tuple[str, str] | None = None,
    ) -> Token:
        """`bound` has `kind`, `name` and `uid`; `node` is (name, uid) of the bound pod's node."""


class Reader(Protocol):
    """Reads single objects; the registry is one."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Item:
        """Raises `NotFound`."""


class OpenAPI(Protocol):
    """OpenAPI documents of what the table serves. All but `index` may take long: call them in a thread."""

    def index(self) -> bytes:
        """`/openapi/v3`."""

    def document(self, path: str) -> tuple[bytes, str]:
        """Body and ETag of `api/v1`, `apis/apps/v1` …; raises `NotFound`."""

    def swagger(self) -> tuple[bytes, str]:
        """Body and ETag of `/openapi/v2` as JSON."""

    def swagger_protobuf(self) -> tuple[bytes, str]:
        """The same in gnostic's protobuf form."""


class StoreAdmin(Protocol):
    """What an operator may ask of the store; answers are JSON objects. All raise `ApiError`."""

    async def status(self) -> dict[str, Any]:
        """Its figures and state."""

    async def compact(self) -> dict[str, Any]:
        """Forget history and give the disk space of what is dead back."""

    async def rotate_key(self) -> dict[str, Any]:
        """A new encryption key, and everything sealed anew with it."""
