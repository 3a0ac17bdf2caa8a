"""The store of a server, opened: the engine that the config names, what is encrypted in it, its operator's way in.

Called by `daemon` between the host's checks and the registry, and by the command line for a stopped server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.assembly.encryption import Encryption, Reseal, keys_path
from orchestrator.assembly.store_admin import Engine, StoreAdmin
from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config
from orchestrator.store.engine import LogStore
from orchestrator.store.header import DamagedLogError
from orchestrator.store.sealing import Sealer, SealError

if TYPE_CHECKING:
    from orchestrator.assembly.shared import SharedStore

PAGE = 1000
STAGING = "restore.tmp"
"""A restore's directory, within the data directory, until everything is in its place."""


@dataclass(frozen=True, slots=True)
class OpenStore:
    """`engine` is for the registry, `admin` for the API server. `reseal` is the engine's, see `encryption`."""

    engine: Engine
    admin: StoreAdmin
    encryption: Encryption
    reseal: Reseal

    def stats(self) -> dict[str, float]:
        """Figures for metrics."""
        return {**self.engine.stats(), **self.encryption.stats()}

    async def keep_in_line(self) -> None:
        """Bring what is stored into the form that the config wants; a service of the daemon."""
        await self.encryption.keep_in_line(self.reseal)


async def open_store(
    config: Config, clock: Clock, supervisor: Supervisor, shared: "SharedStore | None" = None
) -> OpenStore:
    """Raises `StartupError` for whatever keeps it from being opened; closing the engine is the caller's."""
    encryption = encryption_of(config, clock)
    encryption.begin()
    if shared is not None:
        encryption.agree = shared.agree
        store = await shared.open(supervisor, encryption.sealer)
        shrink = _compacting(store)
        return _open("etcd", store, encryption, shared.reseal, shrink)
    log = await _open_log(config, clock, supervisor, encryption.sealer)

    async def reseal() -> int:
        await log.renew()
        return await _count(log, encryption.sealer)

    return _open("log", log, encryption, reseal, log.renew)


def encryption_of(config: Config, clock: Clock) -> Encryption:
    """Keys and mark of the data directory. Raises `StartupError`."""
    file = keys_path(config.data_dir, config.encryption_keys)
    where = f"etcd {config.etcd_prefix}" if config.store == "etcd" else "log"
    return Encryption(config.data_dir, file, config.encrypt, clock, where)


def _open(
    name: str, engine: Engine, encryption: Encryption, reseal: Reseal, shrink: Callable[[], Awaitable[None]]
) -> OpenStore:
    return OpenStore(engine, StoreAdmin(name, engine, encryption, reseal, shrink), encryption, reseal)


async def _open_log(config: Config, clock: Clock, supervisor: Supervisor, sealer: Sealer) -> LogStore:
    path, settings = config.data_dir / "store", config.log_settings()
    try:
        return await LogStore.open(path, clock, supervisor, settings=settings, sealer=sealer)
    except DamagedLogError as error:
        raise StartupError(
            f"The store does not open: {error}.",
            "Restore a backup (orchestrator restore FILE --force); or give up what is damaged: "
            "orchestrator store repair tells what that is.",
        ) from error
    except SealError as error:
        raise StartupError(
            f"The store does not open: {error}.", "Restore the keys file, or name it with encryption_keys."
        ) from error


def _compacting(store: Engine) -> Callable[[], Awaitable[None]]:
    """etcd keeps the space for itself until it is defragmented (`etcdctl defrag`), which stops it meanwhile."""

    async def compact() -> None:
        await store.compact(store.revision)

    return compact


async def _count(store: Engine, sealer: Sealer) -> int:
    """How many values are sealed."""
    count = 0
    for prefix in sealer.prefixes:
        after, remaining = "", 1
        while remaining:
            page = await store.range(prefix, start_after=after, limit=PAGE)
            count += len(page.entries)
            after, remaining = page.entries[-1].key if page.entries else "", page.remaining
            await asyncio.sleep(0)
    return count


def check_restored(data_dir: Path) -> None:
    """Raise `StartupError` where a restore did not come to its end: part of the data may be missing."""
    if (data_dir / STAGING).exists():
        raise StartupError(
            f"A restore into {data_dir} was interrupted.", "Run it again: orchestrator restore FILE --force."
        )
