"""An object as store, registry and informers hold it: encoded bytes, a small projection, a lazy dictionary.

Stored bytes are JSON without `resourceVersion`, starting with `{"metadata":{`, so that the version can be
spliced in at a fixed offset. `Item`s are shared by reference between the store's state, watchers and every
informer of the process; nobody mutates one, nor the dictionary it hands out.

Decoded dictionaries are kept for the last `DECODED_MAX` items that were asked for, no more: decoded, an
object takes five times its bytes.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

Object = dict[str, Any]
"""A Kubernetes object as plain JSON. Frozen once committed: build a new one to change it."""

HEAD = b'{"metadata":{'
DECODED_MAX = 4096

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class OwnerReference(msgspec.Struct, frozen=True, rename="camel"):
    """`metadata.ownerReferences[]`, as far as indexes need it."""

    uid: str
    kind: str
    name: str
    api_version: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The part of `metadata` that selectors, owners' indexes and deletion rules look at."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: str | None = None
    generation: int = 0


class _Head(msgspec.Struct):
    metadata: Meta


_decode_head = msgspec.json.Decoder(_Head).decode


class Item(msgspec.Struct, gc=False, eq=False):
    """One object at one revision. No garbage collection: there is one per stored object, in no cycle."""

    raw: bytes
    """Stored bytes, without `resourceVersion`."""
    revision: int
    _meta: Meta | None = None
    _object: Object | None = None

    @property
    def body(self) -> bytes:
        """The object's JSON as a client sees it, `resourceVersion` included."""
        return splice(self.raw, self.revision)

    @property
    def meta(self) -> Meta:
        """Projection of `metadata`; decoded once, without decoding the rest."""
        if self._meta is None:
            self._meta = _decode_head(self.raw).metadata
        return self._meta

    @property
    def object(self) -> Object:
        """The decoded object, `metadata.resourceVersion` included and `managedFields` left out: no component
        asks for them, and decoded they take twice the rest. Who writes the object back without them leaves them
        as they are. Frozen: do not mutate."""
        if self._object is None:
            self._object = obj = decode(self.raw, self.revision)
            obj["metadata"].pop("managedFields", None)
            _remember(self)
        return self._object

    @property
    def whole(self) -> Object:
        """The decoded object with all that clients see. Decoded each time."""
        return decode(self.raw, self.revision)

    @property
    def labels(self) -> dict[str, str]:
        return self.meta.labels or {}

    def __repr__(self) -> str:
        return f"Item({self.meta.namespace}/{self.meta.name} at {self.revision})"


_decoded: deque[Item] = deque()


def _remember(item: Item) -> None:
    _decoded.append(item)
    if len(_decoded) > DECODED_MAX:
        _decoded.popleft()._object = None


def encode(obj: Object) -> bytes:
    """Stored bytes of `obj`: metadata first, `resourceVersion` left out. `obj` is not changed."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    rest = {key: value for key, value in obj.items() if key != "metadata"}
    return _encode({"metadata": metadata, **rest})


def decode(raw: bytes, revision: int) -> Object:
    """A fresh dictionary from stored bytes, with `metadata.resourceVersion` set."""
    obj: Object = _decode(raw)
    obj["metadata"]["resourceVersion"] = str(revision)
    return obj


def splice(raw: bytes, revision: int) -> bytes:
    """Stored bytes with `resourceVersion` put in as the first field of metadata.

    At revision 0 there is none: the object was made by a dry run and never stored.
    """
    if not revision:
        return raw
    if raw[13:14] == b"}":
        return b'%s"resourceVersion":"%d"%s' % (HEAD, revision, raw[13:])
    return b'%s"resourceVersion":"%d",%s' % (HEAD, revision, raw[13:])


def list_body(api_version: str, kind: str, metadata: Object, items: Iterable[Item]) -> bytes:
    """A whole list response spliced from stored bytes. `kind` is the list's, such as `PodList`."""
    head = b'{"kind":%s,"apiVersion":%s,"metadata":%s,"items":[' % (
        _encode(kind),
        _encode(api_version),
        _encode(metadata),
    )
    return head + b",".join([item.body for item in items]) + b"]}"
