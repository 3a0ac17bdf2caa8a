"""One device plugin: its socket, what it offers, and the calls of the v1beta1 protocol. Owner: `DeviceManager`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.api.item import Object
from orchestrator.wire.grpc import GrpcClient
from orchestrator.wire.protobuf import Codec
from orchestrator.wire.tables import Tables

SERVICE = "/v1beta1.DevicePlugin/"
CALL_DEADLINE_S = 20.0
PRE_START_DEADLINE_S = 30.0
HEALTHY = "Healthy"


class Wire:
    """The protocol's messages, by their table."""

    def __init__(self) -> None:
        self._codec = Codec(Tables("deviceplugin"))

    def encode(self, name: str, value: Object) -> bytes:
        return self._codec.encode(f"v1beta1.{name}", value)

    def decode(self, name: str, data: bytes) -> Any:
        return self._codec.decode(f"v1beta1.{name}", data)


class Plugin:
    """Serves one resource. `health` is by device; of a plugin that went away nothing is known to be well."""

    def __init__(self, resource: str, socket: Path, options: Object, wire: Wire) -> None:
        self.resource = resource
        self.socket = socket
        self.options = options
        self.health: dict[str, str] = {}
        self.connected = False
        self._wire = wire
        self._client = GrpcClient([f"unix://{socket}"])

    async def watch(self, changed: Callable[["Plugin"], None]) -> None:
        """Follow what the plugin offers until it goes away. Raises `GrpcError`."""
        try:
            self.options = await self._call("GetDevicePluginOptions", "Empty", {}, "Options")
            stream = await self._client.stream(f"{SERVICE}ListAndWatch", timeout_s=CALL_DEADLINE_S)
            await stream.send(b"", CALL_DEADLINE_S)
            await stream.finish()
            while (message := await stream.receive()) is not None:
                found = self._wire.decode("Devices", message).get("devices") or ()
                self.health = {device["id"]: device.get("health", "") for device in found}
                self.connected = True
                changed(self)
        finally:
            self.connected = False
            changed(self)

    async def close(self) -> None:
        await self._client.close()

    def healthy(self) -> list[str]:
        """Devices that may be given out."""
        if not self.connected:
            return []
        return sorted(each for each, health in self.health.items() if health == HEALTHY)

    async def allocate(self, ids: Sequence[str]) -> Object:
        """What a container with these devices gets. Raises `GrpcError`."""
        answer = await self._call(
            "Allocate", "ContainerIds", {"containers": [{"ids": list(ids)}]}, "AllocateResponse"
        )
        containers = answer.get("containers") or [{}]
        found: Object = containers[0]
        return found

    async def preferred(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        """Which of them it would rather give out. Raises `GrpcError`."""
        one = {"available": list(available), "mustInclude": list(must), "size": size}
        answer = await self._call(
            "GetPreferredAllocation", "PreferredRequest", {"containers": [one]}, "ContainerIds"
        )
        containers = answer.get("containers") or [{}]
        return list(containers[0].get("ids") or ())

    async def before_start(self, ids: Sequence[str]) -> None:
        """Tell it that a container with these devices is about to start, where it wants to know."""
        if self.options.get("preStartRequired"):
            request = {"ids": list(ids)}
            await self._call("PreStartContainer", "Ids", request, "Empty", PRE_START_DEADLINE_S)

    async def _call(
        self, method: str, asked: str, request: Object, answered: str, deadline_s: float = CALL_DEADLINE_S
    ) -> Any:
        data = self._wire.encode(asked, request)
        answer = await self._client.unary(f"{SERVICE}{method}", data, timeout_s=deadline_s)
        return self._wire.decode(answered, answer)
