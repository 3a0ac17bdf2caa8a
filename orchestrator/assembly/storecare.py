"""What `orchestrator store` does: asks the running server, or works on the files of a stopped one. Blocking reads
of files are fine here: the command line has nothing else to do.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from orchestrator.api.errors import ApiError
from orchestrator.assembly.operator import ask, is_running
from orchestrator.assembly.store_admin import StoreAdmin
from orchestrator.assembly.stores import encryption_of, open_store
from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config
from orchestrator.server.store_admin import COMPACT, ROTATE_KEY, STATUS
from orchestrator.store import offline
from orchestrator.store.census import Census
from orchestrator.store.check import CheckReport
from orchestrator.store.check import check as check_log
from orchestrator.store.repair import RepairReport
from orchestrator.store.repair import repair as repair_log


def check(config: Config) -> CheckReport:
    """Read every file of the log store, read only, also beside a running server. Raises `StartupError`."""
    _log_only(config, "Ask etcd itself: etcdctl endpoint health.")
    return check_log(config.data_dir / "store")


def repair(config: Config) -> RepairReport:
    """Give up what is damaged. Raises `StartupError`, also while a server runs."""
    _log_only(config, "Restore etcd from a snapshot of its own, or from an orchestrator backup.")
    return repair_log(config.data_dir / "store")


async def stats(config: Config) -> dict[str, Any]:
    """Figures of the running server; where none answers those of the files: the same keys, as far as files can tell.

    `running` tells whether there is one, `silence` why it does not answer.
    """
    running, silence = config.store != "log" or is_running(config.data_dir), ""
    if running:
        try:
            return {"running": True, "silence": "", **await ask(config, "GET", STATUS)}
        except StartupError as error:
            if config.store != "log":
                raise
            silence = error.cause
    return {"running": running, "silence": silence, **_stats_of_files(config)}


def _stats_of_files(config: Config) -> dict[str, Any]:
    state, dropped = offline.read(config.data_dir / "store")
    census = Census()
    for entry in state.entries():
        census.count(entry.key, len(entry.value))
    files = list((config.data_dir / "store").iterdir())
    return {
        "engine": "log",
        "healthy": True,
        "fault": "",
        "no_space": False,
        "dropped": f"{dropped.path.name} {dropped.start}-{dropped.end}: {dropped.what}" if dropped else "",
        "stats": {
            "revision": state.revision,
            "compact_revision": state.floor,
            "keys": len(state),
            "live_bytes": state.live_bytes,
            "disk_bytes": sum(file.stat().st_blocks * 512 for file in files),
            "segments": sum(file.suffix == ".segment" for file in files),
            "snapshots": sum(file.suffix == ".snapshot" for file in files),
            "leases": len(state.leases),
            "dropped_bytes": dropped.end - dropped.start if dropped else 0,
        },
        "encryption": encryption_of(config, SystemClock()).describe(),
        "resources": [asdict(row) for row in census.rows()],
    }


async def compact(config: Config) -> dict[str, Any]:
    """Forget history and give disk space back; statistics `before` and `after`."""
    if config.store != "log" or is_running(config.data_dir):
        return await ask(config, "POST", COMPACT)
    async with _opened(config) as admin:
        return await admin.compact()


async def rotate_key(config: Config) -> dict[str, Any]:
    """A new key, everything sealed anew: the fields of `encryption.Rotation`."""
    if config.store != "log" or is_running(config.data_dir):
        return await ask(config, "POST", ROTATE_KEY)
    async with _opened(config) as admin:
        return await admin.rotate_key()


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[StoreAdmin]:
    """The store of a stopped server, for as long as one command takes."""
    path = config.data_dir / "store"
    if not path.exists():
        raise offline.absent(path)
    supervisor = Supervisor("store")
    opened = await open_store(config, SystemClock(), supervisor)
    try:
        yield opened.admin
    except ApiError as error:
        raise StartupError(f"{error.message}.", "Correct the cause and run it again.") from error
    finally:
        await opened.engine.close()
        await supervisor.stop()


def _log_only(config: Config, fix: str) -> None:
    if config.store != "log":
        raise StartupError("The store is an etcd, whose files are none of ours.", fix)
