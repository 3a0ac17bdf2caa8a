"""etcd's API as typed calls: requests to bytes, answers from bytes, tokens, retries of what is safe to repeat.

Reads are repeated on other endpoints until their deadline, and so is a write that was certainly not sent. A write is
sent once: where its outcome is unknown the caller is told (`UnknownOutcomeError`). Called by the store, its feed and
what the servers share.

Field names and numbers are those of etcd's rpc.proto, in the table `wire/tables/etcd/rpc.txt`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator.base.clock import Clock
from orchestrator.base.right import Right
from orchestrator.store.etcd.failures import LostDataError, no_answer, refused_token, store_error
from orchestrator.store.interface import (
    LeaseNotFoundError,
    StoreError,
    UnavailableError,
    UnknownOutcomeError,
)
from orchestrator.wire.grpc import GrpcClient, GrpcError, GrpcStream
from orchestrator.wire.protobuf import Codec
from orchestrator.wire.raw import WireError
from orchestrator.wire.tables import Tables

CALL_TIMEOUT_S = 5.0
PATIENCE_S = 8.0
"""How long a call is tried that is safe to repeat, on whichever endpoint answers."""
RETRY_S = 0.1
REQUIRE_LEADER = (("hasleader", "true"),)
"""A member that is cut off from its leader then says so instead of waiting."""

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of etcd. `password` is asked for each token anew, so that it may change. Empty name: no user."""

    user: str = ""
    password: Callable[[], str] = str


class EtcdApi:
    """Calls of one cluster of etcd. Owner of the token; the client belongs to whoever made it."""

    def __init__(self, client: GrpcClient, clock: Clock, credentials: Credentials | None = None) -> None:
        self.cluster_id = 0
        """Of the cluster that answered first; an answer of another one is refused."""
        self.newest = 0
        """The highest revision that etcd has told; no later answer may be below it."""
        self.on_loss: Callable[[LostDataError], None] | None = None
        """Called when an answer is below it all the same."""
        self.patience_s = PATIENCE_S
        self._client = client
        self._clock = clock
        self._credentials = credentials or Credentials()
        self._codec = Codec(Tables("etcd"))
        self._token = ""
        self._logging_in = asyncio.Lock()

    async def range(self, request: Message) -> Message:
        """`RangeRequest` → `RangeResponse`; linearizable unless it says otherwise."""
        return await self._range("RangeResponse", request)

    async def page(self, request: Message) -> Message:
        """As `range`, with each of `kvs` as the bytes of a `KeyValue`: to be decoded a few at a time."""
        return await self._range("RangePage", request)

    async def revision(self, key: bytes) -> int:
        """The newest revision of etcd; `key` is any that we may read."""
        answer = await self.range({"key": key, "count_only": True})
        return int(answer["header"]["revision"])

    async def txn(self, request: Message, right: Right | None = None) -> Message:
        """`TxnRequest` → `TxnResponse`. Raises `UnknownOutcomeError` when it may have been made.

        `right` is asked just before it is sent, each time: `UnavailableError` where it is gone.
        """
        before = self.newest
        answer = await self._write("KV/Txn", "TxnRequest", "TxnResponse", request, right)
        try:
            self._check_revision(answer, before, before + changed(answer))
        except LostDataError as error:
            raise UnknownOutcomeError(f"the write may have been made, but {error}") from error
        return answer

    async def compact(self, revision: int) -> None:
        """Forget history before `revision`. Raises `CompactedError` when that is done, `FutureRevisionError`."""
        await self._write("KV/Compact", "CompactionRequest", "CompactionResponse", {"revision": revision})

    async def status(self) -> Message:
        """`StatusResponse` of the current endpoint."""
        return await self._read("Maintenance/Status", "StatusRequest", "StatusResponse", {})

    async def lease_grant(self, ttl_s: int) -> int:
        """A lease's id. May be repeated: one that etcd granted without our hearing of it ends by itself."""
        answer = await self._read(
            "Lease/LeaseGrant", "LeaseGrantRequest", "LeaseGrantResponse", {"ttl": ttl_s}
        )
        return int(answer["id"])

    async def lease_revoke(self, lease: int) -> None:
        """End a lease; an unknown one is fine, so this may be repeated."""
        try:
            await self._read("Lease/LeaseRevoke", "LeaseRevokeRequest", "LeaseRevokeResponse", {"id": lease})
        except LeaseNotFoundError:
            return

    async def lease_keep_alive(self, lease: int) -> int:
        """The lease's time to live from now, in seconds; 0 when it is gone."""
        request = self._codec.encode("rpc.LeaseKeepAliveRequest", {"id": lease})
        try:
            stream = await self.open("Lease/LeaseKeepAlive")
            try:
                await stream.send(request, CALL_TIMEOUT_S)
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    data = await stream.receive()
            finally:
                stream.cancel()
        except (GrpcError, TimeoutError) as error:
            raise UnavailableError(f"etcd does not renew a lease: {error or 'no answer in time'}") from error
        return int(self.decode("LeaseKeepAliveResponse", data or b"").get("ttl", 0))

    async def open(self, method: str) -> GrpcStream:
        """A stream, with our token. Raises `GrpcError`, `StoreError`."""
        return await self._client.stream(
            f"/etcdserverpb.{method}", timeout_s=CALL_TIMEOUT_S, metadata=await self._metadata()
        )

    def encode(self, name: str, message: Message) -> bytes:
        return self._codec.encode(f"rpc.{name}", message)

    def decode(self, name: str, data: bytes) -> Message:
        """Raises `StoreError` for bytes that are no such message, or come from another cluster than before."""
        try:
            message: Message = self._codec.decode(f"rpc.{name}", data)
        except WireError as error:
            raise StoreError(f"etcd's answer can't be read: {name}: {error}") from error
        cluster = message.get("header", {}).get("cluster_id", 0)
        if cluster and not self.cluster_id:
            self.cluster_id = cluster
        elif cluster and cluster != self.cluster_id:
            raise StoreError(
                f"{self._client.endpoint} belongs to etcd cluster {cluster:x}, not to {self.cluster_id:x} as before"
            )
        return message

    def move_on(self, endpoint: str) -> None:
        """`endpoint` does no good: let the next calls go to another one."""
        self._client.move_on(endpoint)

    def forget_token(self) -> None:
        """etcd refused it: the next call takes a new one."""
        self._token = ""

    def saw(self, revision: int) -> None:
        """The watch has brought this revision."""
        self.newest = max(self.newest, revision)

    async def _range(self, response: str, request: Message) -> Message:
        before = self.newest
        answer = await self._read("KV/Range", "RangeRequest", response, request)
        self._check_revision(answer, before, before)
        return answer

    def _check_revision(self, answer: Message, before: int, least: int) -> None:
        """`before` is what etcd had told when the request was sent, `least` what its answer must have reached."""
        revision = int(answer["header"]["revision"])
        if revision >= least:
            self.saw(revision)
            return
        error = LostDataError(revision, before)
        if self.newest >= before:  # Else another answer has told already.
            self.newest = revision
            if self.on_loss is not None:
                self.on_loss(error)
        raise error

    async def _read(self, method: str, request: str, response: str, message: Message) -> Message:
        return await self._until_answered(method, request, response, message, write=False)

    async def _write(
        self, method: str, request: str, response: str, message: Message, right: Right | None = None
    ) -> Message:
        return await self._until_answered(method, request, response, message, write=True, right=right)

    async def _until_answered(
        self,
        method: str,
        request: str,
        response: str,
        message: Message,
        *,
        write: bool,
        right: Right | None = None,
    ) -> Message:
        """Repeats what is safe to repeat: a read, and a write that was certainly not sent."""
        until_s = self._clock.monotonic_s() + self.patience_s
        while True:
            endpoint = self._client.endpoint
            try:
                return await self._call(method, request, response, message, right)
            except GrpcError as error:
                final = not no_answer(error) or (write and error.sent)
                if final or self._clock.monotonic_s() >= until_s:
                    raise store_error(error, write=write) from error
                self._client.move_on(error.endpoint or endpoint)
            await self._clock.sleep(RETRY_S)

    async def _call(
        self, method: str, request: str, response: str, message: Message, right: Right | None
    ) -> Message:
        data = self.encode(request, message)
        try:
            answer = await self._send(method, data, right)
        except GrpcError as error:
            if not refused_token(error):
                raise
            self.forget_token()
            answer = await self._send(method, data, right)
        return self.decode(response, answer)

    async def _send(self, method: str, data: bytes, right: Right | None) -> bytes:
        return await self._client.unary(
            f"/etcdserverpb.{method}",
            data,
            timeout_s=CALL_TIMEOUT_S,
            metadata=await self._metadata(),
            before=partial(_check, right) if right is not None else None,
        )

    async def _metadata(self) -> Sequence[tuple[str, str]]:
        if not self._credentials.user:
            return REQUIRE_LEADER
        if not self._token:
            await self._log_in()
        return (*REQUIRE_LEADER, ("token", self._token))

    async def _log_in(self) -> None:
        async with self._logging_in:
            if self._token:
                return
            names = {"name": self._credentials.user, "password": self._credentials.password()}
            request = self.encode("AuthenticateRequest", names)
            try:
                answer = await self._client.unary(
                    "/etcdserverpb.Auth/Authenticate", request, timeout_s=CALL_TIMEOUT_S
                )
            except GrpcError as error:  # Whatever it was for has not been sent yet.
                raise GrpcError(error.code, error.details, sent=False, endpoint=error.endpoint) from error
            self._token = self.decode("AuthenticateResponse", answer)["token"]


def changed(answer: Message) -> bool:
    """Whether a transaction has a revision of its own."""
    return any(
        "put" in response or response.get("delete", {}).get("deleted", 0)
        for response in answer.get("responses", ())
    )


def _check(right: Right) -> None:
    if refusal := right():
        raise UnavailableError(refusal)
