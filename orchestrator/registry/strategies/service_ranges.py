"""Handing out cluster IPs and node ports: candidates are drawn, the store decides who holds them.

A pool never remembers what it gave away; it asks `is_taken` and the registry's transaction takes the claim.
The lower band of each range is left to explicit requests as long as the upper has room, as Kubernetes does.
"""

import ipaddress
import random
from collections.abc import Callable

from orchestrator.registry.strategy import IsTaken

_DRAWS = 32
_SCAN_MAX = 1 << 16
"""A range larger than this is not searched to the end; random draws find a free place in it."""


class Pool:
    """One range: `size` places, each with a text and a claim key. Owner: the service strategy."""

    def __init__(
        self, size: int, reserved: int, text: Callable[[int], str], prefix: str, rng: random.Random
    ) -> None:
        self._size = size
        self._reserved = reserved
        self._text = text
        self._prefix = prefix
        self._rng = rng

    def key(self, text: str) -> str:
        """The claim key of a place."""
        return f"{self._prefix}/{text}"

    async def draw(self, is_taken: IsTaken, held: set[str]) -> str | None:
        """A free place whose key is not in `held`; None when everything is taken."""
        for low, high in ((self._reserved, self._size), (0, self._reserved)):
            if high <= low:
                continue
            found = await self._draw_between(low, high, is_taken, held)
            if found is not None:
                return found
        return None

    async def _draw_between(self, low: int, high: int, is_taken: IsTaken, held: set[str]) -> str | None:
        # A short range is searched at once: it may well be full.
        for _ in range(_DRAWS if high - low > 2 * _DRAWS else 0):
            text = self._text(self._rng.randrange(low, high))
            if await self._is_free(text, is_taken, held):
                return text
        start, span = self._rng.randrange(low, high), min(high - low, _SCAN_MAX)
        for step in range(span):
            text = self._text(low + (start - low + step) % (high - low))
            if await self._is_free(text, is_taken, held):
                return text
        return None

    async def _is_free(self, text: str, is_taken: IsTaken, held: set[str]) -> bool:
        key = self.key(text)
        return key not in held and not await is_taken(key)


def ip_pool(network: ipaddress.IPv4Network | ipaddress.IPv6Network, rng: random.Random) -> Pool:
    """Every usable address of `network`: the network's own and, in IPv4, the broadcast address are left out."""
    base = int(network.network_address) + 1
    size = network.num_addresses - (2 if network.version == 4 else 1)
    address = type(network.network_address)
    return Pool(size, _band(size, 16, 256), lambda at: str(address(base + at)), "serviceips", rng)


def port_pool(ports: range, rng: random.Random) -> Pool:
    return Pool(len(ports), _band(len(ports), 16, 128), lambda at: str(ports[at]), "servicenodeports", rng)


def _band(size: int, low: int, high: int) -> int:
    """Places left to explicit requests: a sixteenth (ports: a 32nd) of the range within bounds."""
    if size <= low:
        return 0
    return max(low, min(size // (16 if high > 128 else 32), high))
