"""A real device plugin: it speaks v1beta1 over its own socket and registers as one does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from orchestrator.agent.devices.plugin import SERVICE, Wire
from orchestrator.base.tasks import Supervisor
from orchestrator.wire.grpc import GrpcClient
from orchestrator.wire.grpcserver import GrpcServer


class FakeGpu:
    """Offers `devices` (id to health) as `resource`; what it was asked is in `asked`."""

    def __init__(
        self, directory: Path, supervisor: Supervisor, devices: dict[str, str], **options: bool
    ) -> None:
        self.resource = "test.example/gpu"
        self.devices = devices
        self.options = options
        self.cdi: tuple[str, ...] = ()
        self.asked: list[tuple[str, Any]] = []
        self._wire = Wire()
        self._directory = directory
        self._changed = asyncio.Event()
        answers = {
            f"{SERVICE}GetDevicePluginOptions": self._options,
            f"{SERVICE}Allocate": self._allocate,
            f"{SERVICE}GetPreferredAllocation": self._preferred,
            f"{SERVICE}PreStartContainer": self._pre_start,
        }
        flows = {f"{SERVICE}ListAndWatch": self._watch}
        self._server = GrpcServer(directory / "gpu.sock", supervisor, answers, flows)

    async def start(self, version: str = "v1beta1", resource: str = "") -> None:
        """Serve and register. Raises `GrpcError` when that is refused."""
        await self._server.start()
        request = {
            "version": version,
            "endpoint": "gpu.sock",
            "resourceName": resource or self.resource,
            "options": self.options,
        }
        client = GrpcClient([f"unix://{self._directory / 'kubelet.sock'}"])
        try:
            data = self._wire.encode("RegisterRequest", request)
            await client.unary("/v1beta1.Registration/Register", data, timeout_s=20)
        finally:
            await client.close()

    def set(self, device: str, health: str) -> None:
        self.devices = {**self.devices, device: health}
        self._changed.set()

    async def close(self) -> None:
        await self._server.close()

    async def _watch(self, _: bytes) -> AsyncIterator[bytes]:
        while True:
            self._changed.clear()
            found = [{"id": name, "health": health} for name, health in self.devices.items()]
            yield self._wire.encode("Devices", {"devices": found})
            await self._changed.wait()

    async def _options(self, _: bytes) -> bytes:
        return self._wire.encode("Options", self.options)

    async def _allocate(self, data: bytes) -> bytes:
        (ids,) = (each.get("ids") or [] for each in self._wire.decode("ContainerIds", data)["containers"])
        self.asked.append(("Allocate", ids))
        one = {
            "envs": {"GPUS": ",".join(ids)},
            "mounts": [{"containerPath": "/gpu", "hostPath": "/opt/gpu", "readOnly": True}],
            "devices": [{"containerPath": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"}],
            "annotations": {"gpu": "yes"},
            "cdiDevices": [{"name": name} for name in self.cdi],
        }
        return self._wire.encode("AllocateResponse", {"containers": [one]})

    async def _preferred(self, data: bytes) -> bytes:
        (request,) = self._wire.decode("PreferredRequest", data)["containers"]
        self.asked.append(("GetPreferredAllocation", request))
        last = sorted(request["available"])[-request["size"] :]
        return self._wire.encode("ContainerIds", {"containers": [{"ids": last}]})

    async def _pre_start(self, data: bytes) -> bytes:
        self.asked.append(("PreStartContainer", self._wire.decode("Ids", data)["ids"]))
        return b""
