"""Blobs in containerd's content store: write with a check of the digest, read, label. Called by `containerd_images`.

A blob without a label that refers to it, or a lease, is garbage; so everything is written under a lease and the
labels are set before that ends.
"""

import itertools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.runtime.containerd_api import SEND_DEADLINE_S, ContainerdApi, ContainerdError, failure
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.wire.grpc import GrpcError

WRITE, COMMIT = 1, 2
CHUNK_BYTES = 1 << 20
BLOB_BYTES_MAX = 64 << 20
"""Of what is read into memory: manifests and configurations."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of a blob."""

    media_type: str
    digest: str
    size: int

    def message(self) -> dict[str, Any]:
        return {"media_type": self.media_type, "digest": self.digest, "size": self.size}


def descriptor(fields: Mapping[str, Any]) -> Descriptor:
    """From a manifest's JSON, or containerd's answer. Raises `RuntimeFailure`."""
    try:
        media = fields.get("mediaType") or fields.get("media_type") or ""
        return Descriptor(media, fields["digest"], int(fields.get("size", 0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RuntimeFailure(f"a manifest holds no descriptor: {error}", "ErrImagePull") from error


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """Bytes in memory, as a stream."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


class Content:
    """The content store, as seen from our containerd namespace."""

    def __init__(self, api: ContainerdApi) -> None:
        self._api = api
        self._refs = itertools.count(1)

    async def has(self, digest: str) -> bool:
        return await self._api.maybe("content_info", {"digest": digest}) is not None

    async def read(self, digest: str) -> bytes | None:
        """A blob that fits into memory; None where it is not here. Raises `RuntimeFailure` for a larger one."""
        parts: list[bytes] = []
        size = 0
        try:
            request = {"digest": digest}
            async for answer in self._api.answers(
                "content.v1.Content/Read", "ReadRequest", request, "ReadResponse"
            ):
                parts.append(answer.get("data", b""))
                size += len(parts[-1])
                if size > BLOB_BYTES_MAX:
                    raise RuntimeFailure(f"blob {digest} is larger than {BLOB_BYTES_MAX} bytes")
        except ContainerdError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        return b"".join(parts)

    async def label(self, digest: str, labels: Mapping[str, str]) -> None:
        """Add labels to a blob."""
        paths = [f"labels.{key}" for key in labels]
        info = {"digest": digest, "labels": dict(labels)}
        await self._api.call("update_content", {"info": info, "update_mask": {"paths": paths}})

    async def write(
        self,
        wanted: Descriptor,
        data: AsyncIterator[bytes],
        lease: str,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Take in a blob; the engine refuses one whose digest or size is another. One that is here is fine."""
        reference = f"{self._api.namespace}-{next(self._refs)}-{wanted.digest}"
        # A daemon before us may have left half of one under this name.
        await self._api.maybe("abort_write", {"ref": reference})
        try:
            await self._write(reference, wanted, data, lease, labels or {})
        except ContainerdError as error:
            if error.code != "ALREADY_EXISTS":
                await self._api.maybe("abort_write", {"ref": reference})
                raise
            if labels:
                await self.label(wanted.digest, labels)

    async def _write(
        self,
        reference: str,
        wanted: Descriptor,
        data: AsyncIterator[bytes],
        lease: str,
        labels: Mapping[str, str],
    ) -> None:
        start = {"ref": reference, "total": wanted.size, "expected": wanted.digest}
        async with self._api.open("content.v1.Content/Write", lease) as stream:

            async def say(message: dict[str, Any]) -> dict[str, Any]:
                try:
                    await stream.send(self._api.encode("WriteRequest", message), SEND_DEADLINE_S)
                    answer = await stream.receive()
                except GrpcError as error:
                    # A peer that ended the stream says why only to one who reads.
                    raise failure(await _cause(stream, error), "Content/Write") from error
                return self._api.decode("WriteResponse", answer or b"")

            offset = int((await say(start)).get("offset", 0))
            # Another namespace's blob of the same digest counts as written at once.
            async for piece in data if offset != wanted.size else pieces(b""):
                await say({"action": WRITE, "ref": reference, "offset": offset, "data": piece})
                offset += len(piece)
            commit = {**start, "action": COMMIT, "offset": offset, "labels": dict(labels)}
            await say(commit)


async def _cause(stream: Any, error: GrpcError) -> GrpcError:
    if error.code not in ("CANCELLED", "UNKNOWN"):
        return error
    try:
        await stream.receive()
    except GrpcError as cause:
        return cause
    return error
