"""Resources that only answer a create: token and access reviews, and service-account tokens.

Nothing is stored. Source of shapes and messages: the authentication and authorization APIs of Kubernetes v1.36.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.api.access import Attributes, Identity
from orchestrator.api.errors import BadRequest, Cause, Forbidden, NotFound, Unauthorized, conflict, invalid
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from orchestrator.api.times import timestamp
from orchestrator.server.interfaces import Authorizer, Reader, Tokens

LIFE_MIN_S = 600
LIFE_MAX_S = 1 << 32
_BINDABLE = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}

Answerer = Callable[[Object, str, Identity], Awaitable[Object]]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a token lives and dies with."""

    kind: str
    name: str
    uid: str


class Reviews:
    """Answers reviews. Each method takes the object as its schema allows it, the path's namespace, and who asks."""

    def __init__(self, authorizer: Authorizer, tokens: Tokens, reader: Reader) -> None:
        self._authorizer = authorizer
        self._tokens = tokens
        self._reader = reader
        self._by_resource: dict[str, Answerer] = {
            "tokenreviews": self._token_review,
            "selfsubjectreviews": self._self_review,
            "subjectaccessreviews": self._access,
            "localsubjectaccessreviews": self._local_access,
            "selfsubjectaccessreviews": self._self_access,
            "selfsubjectrulesreviews": self._rules,
        }

    def handles(self, resource: Resource) -> bool:
        """Whether a create of `resource` is answered here."""
        return resource.plural in self._by_resource and not resource.stored

    async def answer(self, resource: Resource, obj: Object, namespace: str, identity: Identity) -> Object:
        """The object with its `status`. Raises `Invalid`, `BadRequest`."""
        answer = await self._by_resource[resource.plural](obj, namespace, identity)
        metadata = {"creationTimestamp": None, **(obj.get("metadata") or {})}
        return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata, **answer}

    # who

    async def _token_review(self, obj: Object, namespace: str, identity: Identity) -> Object:
        spec = _spec(obj)
        token = spec.get("token") or ""
        if not token:
            raise _wrong("authentication.k8s.io", "TokenReview", "spec.token", "Required value")
        try:
            found, audiences = await self._tokens.identify(token, tuple(spec.get("audiences") or ()))
        except Unauthorized:
            return {"spec": spec, "status": {"user": {}, "error": "invalid bearer token"}}
        status = {"authenticated": True, "user": user_info(found), "audiences": list(audiences)}
        return {"spec": spec, "status": status}

    async def _self_review(self, obj: Object, namespace: str, identity: Identity) -> Object:
        return {"status": {"userInfo": user_info(identity)}}

    # may they

    async def _access(self, obj: Object, namespace: str, identity: Identity) -> Object:
        spec = _spec(obj)
        return {"spec": spec, "status": self._decide(spec, _subject(spec), "SubjectAccessReview")}

    async def _local_access(self, obj: Object, namespace: str, identity: Identity) -> Object:
        spec = _spec(obj)
        asked = spec.get("resourceAttributes") or {}
        if asked.get("namespace") != namespace:
            raise _wrong(
                "authorization.k8s.io",
                "LocalSubjectAccessReview",
                "spec.resourceAttributes.namespace",
                f'Invalid value: "{asked.get("namespace", "")}": must match metadata.namespace',
            )
        return {"spec": spec, "status": self._decide(spec, _subject(spec), "LocalSubjectAccessReview")}

    async def _self_access(self, obj: Object, namespace: str, identity: Identity) -> Object:
        spec = _spec(obj)
        return {"spec": spec, "status": self._decide(spec, identity, "SelfSubjectAccessReview")}

    def _decide(self, spec: Object, subject: Identity, kind: str) -> Object:
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if (resource is None) is (path is None):
            raise _wrong(
                "authorization.k8s.io",
                kind,
                "spec.resourceAttributes",
                "Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
        if path is not None:
            asked = Attributes(path.get("verb") or "", path=path.get("path") or "/")
        else:
            asked = _attributes(resource or {})
        return {"allowed": self._authorizer.allows(subject, asked)}

    async def _rules(self, obj: Object, namespace: str, identity: Identity) -> Object:
        spec = _spec(obj)
        where = spec.get("namespace") or ""
        if not where:
            raise BadRequest("no namespace on request")
        rules = [rule.to_json() for rule in self._authorizer.rules(identity, where)]
        status = {
            "resourceRules": [rule for rule in rules if "nonResourceURLs" not in rule],
            "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
            "incomplete": False,
        }
        return {"spec": spec, "status": status}

    # tokens

    async def token(self, namespace: str, name: str, obj: Object, identity: Identity) -> Object:
        """A `TokenRequest` for service account `namespace/name`; a node gets them for its own pods only."""
        account = await self._reader.get(SERVICEACCOUNTS, namespace, name)
        spec = _spec(obj)
        life_s = spec.get("expirationSeconds") or 3600
        _check_life(life_s, name)
        bound, node = await self._bound(account, spec.get("boundObjectRef"))
        _check_node(identity, bound, node)
        audiences = tuple(spec.get("audiences") or ())
        token = self._tokens.issue(
            namespace, name, account.meta.uid, audiences=audiences, life_s=life_s, bound=bound, node=node
        )
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": None},
            "spec": {
                "boundObjectRef": None,
                **spec,
                "audiences": list(audiences or (self._tokens.audience,)),
                "expirationSeconds": life_s,
            },
            "status": {"token": token.text, "expirationTimestamp": timestamp(token.expires_s)},
        }

    async def _bound(
        self, account: Item, reference: Object | None
    ) -> tuple[Bound | None, tuple[str, str] | None]:
        """The object a token is bound to, and its pod's node (name and uid)."""
        if not reference:
            return None, None
        kind, name = reference.get("kind") or "", reference.get("name") or ""
        resource = _BINDABLE.get(kind)
        if resource is None or not name:
            raise BadRequest(f"cannot bind token to object of type {kind!r} named {name!r}")
        item = await self._reader.get(resource, account.meta.namespace if resource.namespaced else "", name)
        wanted = reference.get("uid") or item.meta.uid
        if wanted != item.meta.uid:
            raise conflict(
                "",
                resource.plural,
                name,
                f"the UID in the bound object reference ({wanted}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        node = await self._node(account, item) if kind == "Pod" else None
        return Bound(kind, name, item.meta.uid), node

    async def _node(self, account: Item, pod: Item) -> tuple[str, str] | None:
        spec = pod.object.get("spec") or {}
        if (spec.get("serviceAccountName") or "default") != account.meta.name:
            raise BadRequest(
                f'cannot bind token for serviceaccount "{account.meta.name}" to pod running with different '
                "serviceaccount name."
            )
        node_name = spec.get("nodeName") or ""
        if not node_name:
            return None
        try:
            node = await self._reader.get(NODES, "", node_name)
        except NotFound:
            return node_name, ""
        return node_name, node.meta.uid


def _check_node(identity: Identity, bound: Bound | None, node: tuple[str, str] | None) -> None:
    """Source: Kubernetes' NodeRestriction."""
    if "system:nodes" not in identity.groups:
        return
    if bound is None or bound.kind != "Pod":
        raise Forbidden(f'node "{identity.name}" must bind the token to one of its pods')
    if node is None or f"system:node:{node[0]}" != identity.name:
        raise Forbidden(f'node "{identity.name}" can\'t ask for a token of pod {bound.name} on another node')


def user_info(identity: Identity) -> dict[str, Any]:
    """`UserInfo` of the authentication API."""
    info: dict[str, Any] = {"username": identity.name}
    if identity.uid:
        info["uid"] = identity.uid
    if identity.groups:
        info["groups"] = list(identity.groups)
    if identity.extra:
        info["extra"] = {key: list(values) for key, values in identity.extra.items()}
    return info


def _spec(obj: Object) -> Object:
    spec: Object = obj.get("spec") or {}
    return spec


def _subject(spec: Object) -> Identity:
    user, groups = spec.get("user") or "", tuple(spec.get("groups") or ())
    if not user and not groups:
        raise _wrong(
            "authorization.k8s.io",
            "SubjectAccessReview",
            "spec.user",
            'Invalid value: "": at least one of user or group must be specified',
        )
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return Identity(user, groups, spec.get("uid") or "", extra)


def _attributes(asked: Object) -> Attributes:
    return Attributes(
        asked.get("verb") or "",
        asked.get("group") or "",
        asked.get("resource") or "",
        asked.get("subresource") or "",
        asked.get("namespace") or "",
        asked.get("name") or "",
    )


def _check_life(life_s: int, name: str) -> None:
    field, message = "spec.expirationSeconds", ""
    if life_s < LIFE_MIN_S:
        message = f"Invalid value: {life_s}: may not specify a duration less than 10 minutes"
    elif life_s > LIFE_MAX_S:
        message = f"Invalid value: {life_s}: may not specify a duration larger than 2^32 seconds"
    if message:
        raise _wrong("authentication.k8s.io", "TokenRequest", field, message, name)


def _wrong(group: str, kind: str, field: str, message: str, name: str = "") -> Exception:
    reason = "FieldValueRequired" if message.startswith("Required") else "FieldValueInvalid"
    return invalid(group, kind, name, (Cause(reason, message, field),))
