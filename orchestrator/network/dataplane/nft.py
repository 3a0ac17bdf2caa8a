"""Applying nftables scripts, and noticing that somebody else altered our table.

`nft -f -` applies a script as one transaction: all of it or nothing. A `TableGuard` remembers the kernel's ruleset
generation after our own change. While nobody commits anything the generation stays and looking costs one netlink
message; only after a change of others are our rules and elements compared.
"""

import asyncio
from collections.abc import Mapping

from orchestrator.network.dataplane import command, nfnetlink
from orchestrator.network.dataplane.interface import NetworkError

APPLY_DEADLINE_S = 60.0
READ_TRIES = 5


async def apply(script: str, deadline_s: float = APPLY_DEADLINE_S) -> None:
    """Run the script as one transaction. Raises `NetworkError` with nft's message; nothing has changed then."""
    await command.must("nft", "-f", "-", stdin=script, deadline_s=deadline_s)


async def delete_table(table: str) -> None:
    """Remove our table; an absent one is fine."""
    await apply(f"add table ip {table}\ndelete table ip {table}\n")


class TableGuard:
    """Knows how one table of ours looked after the last change of our own. Owner: whoever applies that table."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._generation = -1
        self._rules = (0, 0)
        self._elements: dict[str, int] = {}

    async def commit(self, script: str) -> bool:
        """Apply and remember the rules; tell the sizes of maps with `expect`.

        False when somebody else committed at the same moment, so that what was remembered may show his damage.
        """
        before = nfnetlink.generation()
        await apply(script)
        self._generation = nfnetlink.generation()
        self._rules = await asyncio.to_thread(_steadily, self.table)
        return self._generation == before + 1

    def expect(self, elements: Mapping[str, int]) -> None:
        """The sizes that maps and sets of fixed content have after the last commit."""
        self._elements = dict(elements)

    async def amend(self, script: str) -> None:
        """Apply a change of elements whose number is not watched."""
        before = nfnetlink.generation()
        await apply(script)
        if self._generation == before:
            self._generation = before + 1

    async def intact(self) -> bool:
        """Whether the table is as we left it. Raises `NetworkError` when the kernel can't be asked."""
        generation = nfnetlink.generation()
        if generation == self._generation:
            return True
        if self._generation < 0 or not await asyncio.to_thread(self._unchanged):
            return False
        self._generation = generation
        return True

    def forget(self) -> None:
        """Not applied any more: `intact` answers False until the next commit."""
        self._generation = -1

    def _unchanged(self) -> bool:
        if _steadily(self.table) != self._rules:
            return False
        return all(_count(self.table, name) == size for name, size in self._elements.items())


def _steadily(table: str) -> tuple[int, int]:
    for _ in range(READ_TRIES):
        try:
            return nfnetlink.rules_digest(table)
        except nfnetlink.Interrupted:
            continue
    raise NetworkError("nftables' rules change too fast to be read.")


def _count(table: str, name: str) -> int:
    for _ in range(READ_TRIES):
        try:
            return nfnetlink.element_count(table, name)
        except nfnetlink.Interrupted:
            continue
    raise NetworkError("nftables' elements change too fast to be read.")
