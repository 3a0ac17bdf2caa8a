"""Who asks, what is asked, and the interface of whoever decides. Shared by server, client, auth, admission."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated user, as in `UserInfo` of the authentication API."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows. The certificate (DER) has already been verified against the CA by TLS."""

    peer_certificate_der: bytes | None = None
    bearer_token: str = ""


ANONYMOUS = Identity("system:anonymous", ("system:unauthenticated",))
ADMIN = Identity("kubernetes-admin", ("system:masters", "system:authenticated"))


def component(name: str) -> Identity:
    """The identity of a component in this process, such as `system:kube-scheduler`."""
    return Identity(f"system:{name}", ("system:authenticated",))


def node(name: str) -> Identity:
    """The identity of the agent on node `name`."""
    return Identity(f"system:node:{name}", ("system:nodes", "system:authenticated"))


@dataclass(frozen=True, slots=True)
class Attributes:
    """One request as authorization sees it. `path` is set for non-resource requests only."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Authorizer(Protocol):
    """Decides every request, HTTP or local."""

    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        """Return when allowed; raise `orchestrator.api.errors.Forbidden` with Kubernetes' wording otherwise."""


def selected_name(selector: str) -> str:
    """The one name that a field selector of list or watch demands: such a request is about that object."""
    if "metadata.name" not in selector or "\\" in selector:
        return ""  # an escaped comma could make a value look like a term of its own
    for term in selector.split(","):
        field, _, value = term.partition("=")
        if field == "metadata.name":
            value = value.removeprefix("=")
            return "" if "/" in value or "%" in value else value
    return ""
