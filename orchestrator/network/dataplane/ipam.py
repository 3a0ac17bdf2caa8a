"""Addresses of the pods on one node, out of the node's pod range.

Truth is a folder with one file per address in use, named by the address and holding the sandbox's id. A file
appears complete (written aside, then linked under its final name, which fails if that exists) and goes with one
`unlink`, so a crash at any moment leaves every address either free or owned by exactly one sandbox; what such a
crash leaks is found by `retain`. Addresses are handed out in turn; one that was just given back waits, so that
late packets and stale connection entries of its former owner do not meet the next one.

Owner: the pod network's worker thread; no other thread calls it.
"""

import ipaddress
import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

from orchestrator.network.dataplane.interface import NetworkError

REUSE_DELAY_S = 60.0


class AddressPool:
    """The node's addresses. The first host address is the gateway's and never handed out."""

    def __init__(self, pod_cidr: str, folder: Path, monotonic_s: Callable[[], float]) -> None:
        self.network = ipaddress.IPv4Network(pod_cidr)
        if self.network.prefixlen > 30 or self.network.prefixlen < 12:
            raise NetworkError(f"pod range {pod_cidr} of the node must be between /12 and /30.")
        self._folder = folder
        self._monotonic_s = monotonic_s
        self._base = int(self.network.network_address)
        self._last: int = self.network.num_addresses - 2
        self._owner: dict[int, str] = {}
        self._index: dict[str, int] = {}
        self._released_s: dict[int, float] = {}
        self._cursor = 1

    @property
    def gateway(self) -> str:
        return str(self.network.network_address + 1)

    def load(self) -> None:
        """Read what is in use. A file that names no address of this range is removed; raises `NetworkError`."""
        self._owner.clear()
        self._index.clear()
        newest_ns = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for entry in list(os.scandir(self._folder)):
                index = self._parse(entry.name)
                owner = Path(entry.path).read_text() if index else ""
                if not index or not owner or owner in self._index:
                    os.unlink(entry.path)
                    continue
                self._take(index, owner)
                changed_ns = entry.stat().st_mtime_ns
                if changed_ns > newest_ns:
                    newest_ns, self._cursor = changed_ns, index
        except OSError as error:
            raise NetworkError(f"addresses in {self._folder}: {error.strerror}.") from error

    def assign(self, sandbox_id: str) -> tuple[str, int]:
        """(address, its number within the range) of the sandbox: the one it has, else a fresh one.

        Raises `NetworkError` when the range is exhausted or the file can't be written.
        """
        index = self._index.get(sandbox_id)
        if index is None:
            index = self._choose()
            self._record(index, sandbox_id)
            self._take(index, sandbox_id)
            self._released_s.pop(index, None)
            self._cursor = index
        return self._text(index), index

    def release(self, sandbox_id: str) -> None:
        """Give the sandbox's address back; one without an address is fine."""
        index = self._index.get(sandbox_id)
        if index is None:
            return
        (self._folder / self._text(index)).unlink(missing_ok=True)
        del self._index[sandbox_id], self._owner[index]
        self._released_s[index] = self._monotonic_s()

    def find(self, sandbox_id: str) -> tuple[str, int] | None:
        index = self._index.get(sandbox_id)
        return None if index is None else (self._text(index), index)

    def owners(self) -> dict[str, int]:
        """Sandbox id → number of its address, of all that are in use."""
        return dict(self._index)

    def strangers(self, sandbox_ids: Iterable[str]) -> list[str]:
        """Owners of addresses that are not among `sandbox_ids`."""
        wanted = set(sandbox_ids)
        return [owner for owner in self._index if owner not in wanted]

    def _choose(self) -> int:
        """The next free address after the last one given; rested ones first, else the longest released."""
        before_s = self._monotonic_s() - REUSE_DELAY_S
        for index in chain(range(self._cursor + 1, self._last + 1), range(2, self._cursor + 1)):
            if index not in self._owner and self._released_s.get(index, before_s) <= before_s:
                return index
        resting = [index for index in self._released_s if index not in self._owner]
        if not resting:
            raise NetworkError(
                f"no address left in the node's pod range {self.network}: all {self._last - 1} are in use."
            )
        return min(resting, key=self._released_s.__getitem__)

    def _record(self, index: int, sandbox_id: str) -> None:
        name = self._text(index)
        aside = self._folder / f".{name}"
        try:
            aside.write_text(sandbox_id)
            os.link(aside, self._folder / name)
            aside.unlink()
        except OSError as error:
            raise NetworkError(f"noting address {name} in {self._folder}: {error.strerror}.") from error

    def _take(self, index: int, owner: str) -> None:
        self._owner[index] = owner
        self._index[owner] = index

    def _text(self, index: int) -> str:
        return str(ipaddress.IPv4Address(self._base + index))

    def _parse(self, name: str) -> int:
        """The number of the address, 0 when `name` is no address that this pool hands out."""
        try:
            index = int(ipaddress.IPv4Address(name)) - self._base
        except ValueError:
            return 0
        return index if 2 <= index <= self._last else 0
