"""What an operator sees and does of the store of a running server. Connected to `server` by `daemon`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from orchestrator.api.errors import ApiError, Conflict
from orchestrator.assembly.encryption import Encryption, Reseal
from orchestrator.base.errors import StartupError
from orchestrator.registry.storage import api_error
from orchestrator.store.census import Census
from orchestrator.store.interface import Store, StoreError

T = TypeVar("T")
PAGE = 1000
"""Entries counted without giving others their turn."""


class Engine(Store, Protocol):
    """A store with figures."""

    @property
    def healthy(self) -> bool: ...

    @property
    def fault(self) -> str: ...

    @property
    def no_space(self) -> bool: ...

    def stats(self) -> dict[str, float]: ...


class StoreAdmin:
    """`server.interfaces.StoreAdmin` over one engine. Owner of nothing."""

    def __init__(
        self,
        name: str,
        store: Engine,
        encryption: Encryption,
        reseal: Reseal,
        shrink: Callable[[], Awaitable[None]],
    ) -> None:
        """`name` is the engine's; `shrink` forgets history and gives disk space back."""
        self._name = name
        self._store = store
        self._encryption = encryption
        self._reseal = reseal
        self._shrink = shrink

    async def status(self) -> dict[str, Any]:
        store = self._store
        dropped = getattr(store, "dropped", None)
        return {
            "engine": self._name,
            "healthy": store.healthy,
            "fault": store.fault,
            "no_space": store.no_space,
            "dropped": f"{dropped.path.name} {dropped.start}-{dropped.end}: {dropped.what}"
            if dropped
            else "",
            "stats": store.stats(),
            "encryption": self._encryption.describe(),
            "resources": [asdict(row) for row in (await self._census()).rows()],
        }

    async def _census(self) -> Census:
        census, after = Census(), ""
        while True:
            page = await _told(self._store.range("/", start_after=after, limit=PAGE))
            for entry in page.entries:
                census.count(entry.key, len(entry.value))
            if not page.remaining:
                return census
            after = page.entries[-1].key
            await asyncio.sleep(0)

    async def compact(self) -> dict[str, Any]:
        before = self._store.stats()
        await _told(self._shrink())
        return {"before": before, "after": self._store.stats()}

    async def rotate_key(self) -> dict[str, Any]:
        try:
            return asdict(await _told(self._encryption.rotate(self._reseal)))
        except ValueError as error:
            raise Conflict(f"the key was not rotated: {error}") from error


async def _told(work: Awaitable[T]) -> T:
    try:
        return await work
    except StoreError as error:
        raise api_error(error) from error
    except StartupError as error:
        raise ApiError(str(error)) from error
    except OSError as error:
        raise ApiError(f"the store's files could not be written: {error}") from error
