"""containerd's own gRPC services as calls on dictionaries. Owner of the connection.

Every call names our containerd namespace; what it makes belongs to that namespace. Failures come out as
`ContainerdError` with gRPC's code, or as `RuntimeUnavailable` where the engine does not answer. Field names and
numbers are those of containerd's API, in the table `wire/tables/containerd/api.txt`. Called by `containerd*`.
"""

import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from orchestrator.runtime.interface import RuntimeFailure, RuntimeUnavailable
from orchestrator.wire.grpc import GrpcClient, GrpcError, GrpcStream
from orchestrator.wire.protobuf import Codec
from orchestrator.wire.tables import Tables

CALL_DEADLINE_S = 20.0
WORK_DEADLINE_S = 180.0
"""For calls that unpack or start: on a loaded host these take their time."""

SEND_DEADLINE_S = 60.0
SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
RESOURCES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
OPTIONS_TYPE = "containerd.runc.v1.Options"

Message = dict[str, Any]

METHODS: Mapping[str, tuple[str, str, str]] = {
    "version": ("version.v1.Version/Version", "Empty", "VersionResponse"),
    "plugins": ("introspection.v1.Introspection/Plugins", "PluginsRequest", "PluginsResponse"),
    "create_namespace": ("namespaces.v1.Namespaces/Create", "NamespaceRequest", "Empty"),
    "get_namespace": ("namespaces.v1.Namespaces/Get", "NameRequest", "Empty"),
    "delete_namespace": ("namespaces.v1.Namespaces/Delete", "NameRequest", "Empty"),
    "create_lease": ("leases.v1.Leases/Create", "LeaseCreateRequest", "LeaseCreateResponse"),
    "delete_lease": ("leases.v1.Leases/Delete", "LeaseDeleteRequest", "Empty"),
    "create_container": ("containers.v1.Containers/Create", "ContainerRequest", "Empty"),
    "update_container": ("containers.v1.Containers/Update", "ContainerRequest", "Empty"),
    "get_container": ("containers.v1.Containers/Get", "IdRequest", "ContainerResponse"),
    "container_facts": ("containers.v1.Containers/Get", "IdRequest", "FactsResponse"),
    "list_containers": ("containers.v1.Containers/List", "ListRequest", "ListContainersResponse"),
    "delete_container": ("containers.v1.Containers/Delete", "IdRequest", "Empty"),
    "prepare_snapshot": ("snapshots.v1.Snapshots/Prepare", "PrepareRequest", "MountsResponse"),
    "view_snapshot": ("snapshots.v1.Snapshots/View", "PrepareRequest", "MountsResponse"),
    "snapshot_mounts": ("snapshots.v1.Snapshots/Mounts", "KeyRequest", "MountsResponse"),
    "commit_snapshot": ("snapshots.v1.Snapshots/Commit", "CommitRequest", "Empty"),
    "remove_snapshot": ("snapshots.v1.Snapshots/Remove", "KeyRequest", "Empty"),
    "stat_snapshot": ("snapshots.v1.Snapshots/Stat", "KeyRequest", "SnapshotResponse"),
    "apply": ("diff.v1.Diff/Apply", "ApplyRequest", "ApplyResponse"),
    "content_info": ("content.v1.Content/Info", "DigestRequest", "ContentInfoResponse"),
    "update_content": ("content.v1.Content/Update", "ContentUpdateRequest", "ContentInfoResponse"),
    "delete_content": ("content.v1.Content/Delete", "DigestRequest", "Empty"),
    "abort_write": ("content.v1.Content/Abort", "AbortRequest", "Empty"),
    "get_image": ("images.v1.Images/Get", "NameRequest", "ImageResponse"),
    "list_images": ("images.v1.Images/List", "ListRequest", "ImagesResponse"),
    "create_image": ("images.v1.Images/Create", "ImageRequest", "ImageResponse"),
    "update_image": ("images.v1.Images/Update", "ImageRequest", "ImageResponse"),
    "delete_image": ("images.v1.Images/Delete", "ImageDeleteRequest", "Empty"),
    "create_task": ("tasks.v1.Tasks/Create", "TaskCreateRequest", "TaskCreateResponse"),
    "start_task": ("tasks.v1.Tasks/Start", "TaskRequest", "TaskStartResponse"),
    "delete_task": ("tasks.v1.Tasks/Delete", "TaskDeleteRequest", "TaskDeleteResponse"),
    "delete_process": ("tasks.v1.Tasks/DeleteProcess", "TaskRequest", "TaskDeleteResponse"),
    "get_task": ("tasks.v1.Tasks/Get", "TaskRequest", "TaskResponse"),
    "list_tasks": ("tasks.v1.Tasks/List", "TaskListRequest", "TaskListResponse"),
    "update_task": ("tasks.v1.Tasks/Update", "UpdateTaskRequest", "Empty"),
    "kill": ("tasks.v1.Tasks/Kill", "KillRequest", "Empty"),
    "exec": ("tasks.v1.Tasks/Exec", "ExecRequest", "Empty"),
    "resize": ("tasks.v1.Tasks/ResizePty", "ResizeRequest", "Empty"),
    "close_io": ("tasks.v1.Tasks/CloseIO", "CloseRequest", "Empty"),
    "wait": ("tasks.v1.Tasks/Wait", "TaskRequest", "WaitResponse"),
}
"""Our name of a call: the method below `containerd.services`, its request, its answer."""


class ContainerdError(RuntimeFailure):
    """containerd refused. `code` is gRPC's name, such as `NOT_FOUND`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ContainerdApi:
    """Calls in one containerd namespace. Connects at the first call."""

    def __init__(self, path: str, namespace: str) -> None:
        self.path = path
        self.namespace = namespace
        self._client = GrpcClient([f"unix://{path}"])
        self._codec = Codec(Tables("containerd"))
        self._metadata = (("containerd-namespace", namespace),)

    async def close(self) -> None:
        """End every call. May be called twice."""
        await self._client.close()

    async def call(
        self,
        name: str,
        request: Message | None = None,
        *,
        deadline_s: float = CALL_DEADLINE_S,
        lease: str = "",
    ) -> Message:
        """One call of `METHODS`. What is made under a `lease` is not collected as garbage while that exists."""
        method, asked, answered = METHODS[name]
        metadata = (*self._metadata, ("containerd-lease", lease)) if lease else self._metadata
        data = self._codec.encode(f"api.{asked}", request or {})
        try:
            answer = await self._client.unary(
                f"/containerd.services.{method}", data, timeout_s=deadline_s, metadata=metadata
            )
        except GrpcError as error:
            raise failure(error, name) from error
        return self._decode(answered, answer)

    async def maybe(self, name: str, request: Message, **options: Any) -> Message | None:
        """As `call`; None where what it is about does not exist."""
        try:
            return await self.call(name, request, **options)
        except ContainerdError as error:
            if error.code == "NOT_FOUND":
                return None
            raise

    async def once(self, name: str, request: Message, **options: Any) -> None:
        """As `call`; fine where it is done already."""
        try:
            await self.call(name, request, **options)
        except ContainerdError as error:
            if error.code != "ALREADY_EXISTS":
                raise

    async def answers(
        self, method: str, asked: str, request: Message, answered: str
    ) -> AsyncIterator[Message]:
        """The stream of answers to one request. Raises like `call`; ends when the engine ends it."""
        async with self.open(method) as stream:
            try:
                await stream.send(self.encode(asked, request), SEND_DEADLINE_S)
                await stream.finish()
                while (data := await stream.receive()) is not None:
                    yield self._decode(answered, data)
            except GrpcError as error:
                raise failure(error, method) from error

    @asynccontextmanager
    async def open(self, method: str, lease: str = "") -> AsyncIterator[GrpcStream]:
        """A bidirectional stream; its messages are bytes, and its failures `GrpcError`."""
        metadata = (*self._metadata, ("containerd-lease", lease)) if lease else self._metadata
        try:
            stream = await self._client.stream(
                f"/containerd.services.{method}", timeout_s=CALL_DEADLINE_S, metadata=metadata
            )
        except GrpcError as error:
            raise failure(error, method) from error
        try:
            yield stream
        finally:
            stream.cancel()

    def encode(self, name: str, message: Message) -> bytes:
        return self._codec.encode(f"api.{name}", message)

    def decode(self, name: str, data: bytes) -> Message:
        return self._decode(name, data)

    def any(self, kind: str, value: Any) -> Message:
        """`value` as JSON (a spec or process), or as the message for runc's options."""
        if kind == OPTIONS_TYPE:
            return {"type_url": kind, "value": self.encode("RuncOptions", value)}
        return {"type_url": kind, "value": msgspec.json.encode(value)}

    def _decode(self, name: str, data: bytes) -> Message:
        message: Message = self._codec.decode(f"api.{name}", data)
        return message

    def peer_pid(self) -> int:
        """The process that owns the socket, 0 if the kernel doesn't say."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.settimeout(1.0)
                probe.connect(self.path)
            except OSError:
                return 0
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", credentials)[0]
        return pid


def failure(error: GrpcError, what: str) -> RuntimeFailure:
    """What to raise for a call that failed."""
    if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
        return RuntimeUnavailable(f"containerd did not answer {what}: {error.details or error.code}")
    return ContainerdError(error.code, error.details or error.code)


def seconds(time: Message | None) -> float:
    """Of a `Time`; 0 for none and for Go's zero time."""
    whole = int((time or {}).get("seconds", 0))
    return whole + (time or {}).get("nanos", 0) / 1e9 if whole > 0 else 0.0
