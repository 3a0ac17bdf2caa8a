"""The parts of a simulated node that a real one has on disk and in the kernel: addresses without links, no files."""

import ipaddress
from collections import deque
from collections.abc import Collection, Iterable, Mapping

from orchestrator.agent.containers.env import PodFacts
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container, Device, Mount


class AddressesOnly:
    """Implements `network.dataplane.interface.PodNetwork` in memory."""

    def __init__(self, pod_cidr: str) -> None:
        network = ipaddress.ip_network(pod_cidr)
        self._free = deque(str(address) for address in list(network.hosts())[1:])
        self._held: dict[str, str] = {}

    async def start(self) -> None:
        return None

    async def attach(self, sandbox_id: str, netns_path: str) -> str:
        if sandbox_id not in self._held:
            self._held[sandbox_id] = self._free.popleft()
        return self._held[sandbox_id]

    async def detach(self, sandbox_id: str) -> None:
        address = self._held.pop(sandbox_id, "")
        if address:
            self._free.append(address)

    async def address(self, sandbox_id: str) -> str:
        return self._held.get(sandbox_id, "")

    async def retain(self, sandbox_ids: Iterable[str]) -> None:
        for sandbox_id in self._held.keys() - set(sandbox_ids):
            await self.detach(sandbox_id)

    async def close(self) -> None:
        return None


class NoVolumes:
    """Implements `agent.context.PodVolumes`: simulated containers mount nothing."""

    async def mounts(
        self, pod: Object, container: Object, facts: PodFacts, env: Mapping[str, str], attempt: int
    ) -> list[Mount]:
        return []

    async def devices(self, pod: Object, container: Object, facts: PodFacts) -> list[Device]:
        return []

    async def text(self, pod_uid: str, volume: str, path: str) -> str:
        raise FileNotFoundError(path)

    async def refresh(self, pod: Object, facts: PodFacts) -> None:
        return None

    def ages(self, pod: Object) -> bool:
        return False

    async def release(self, pod_uid: str) -> None:
        return None

    async def remove(self, pod_uid: str) -> None:
        return None

    async def retain(self, pod_uids: Collection[str]) -> None:
        return None

    async def last_words(self, container: Container) -> str:
        return ""
