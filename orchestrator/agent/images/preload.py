"""Images from a directory, for nodes that reach no registry: archives of `docker save` or OCI layouts, plain or packed.

Read at the start, before pods, and again whenever a file is new or has changed. A file whose images are all here is
not read twice, also by the next agent. What came from here is never collected as garbage: nobody could pull it
again. Owner: the agent.
"""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import structlog

from orchestrator.base.clock import Clock
from orchestrator.runtime.imagearchive import archive_names
from orchestrator.runtime.interface import Runtime, RuntimeFailure

log = structlog.get_logger(__name__)

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LOOK_S = 30.0
SETTLED_S = 5.0
"""A file that was written to less long ago may still be copied."""
Stamp = list[int]


class Preloaded:
    """The archives of one directory. `record` keeps which were read, over restarts."""

    def __init__(self, directory: Path, record: Path, runtime: Runtime, clock: Clock) -> None:
        self._directory = directory
        self._record = record
        self._runtime = runtime
        self._clock = clock
        self._known: dict[str, dict[str, Any]] = {}

    def names(self) -> list[str]:
        """Names of the images that came from here."""
        return [name for entry in self._known.values() for name in entry["names"]]

    async def start(self) -> None:
        """Read what is there. A file that is none of these is told and passed over."""
        try:
            self._known = msgspec.json.decode(await asyncio.to_thread(self._record.read_bytes))
        except (OSError, msgspec.DecodeError):
            self._known = {}
        for name, entry in list(self._known.items()):
            if not await self._all_here(entry["names"]):
                del self._known[name]
        await self.look(settled_s=0.0)

    async def run(self) -> None:
        """Look for new files, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            await self.look()

    async def look(self, settled_s: float = SETTLED_S) -> None:
        """Take in what is new or changed."""
        found = await asyncio.to_thread(_archives, self._directory)
        changed = {name: stamp for name, stamp in found.items() if self._stamp(name) != stamp}
        gone = self._known.keys() - found.keys()
        for name in gone:
            del self._known[name]
        for name, stamp in changed.items():
            if self._clock.now_s() - stamp[0] / 1e9 >= settled_s:
                await self._load(name, stamp)
        if changed or gone:
            await self._keep()

    def _stamp(self, name: str) -> Stamp:
        return list(self._known.get(name, {}).get("stamp", ()))

    async def _load(self, name: str, stamp: Stamp) -> None:
        path = self._directory / name
        names: list[str] = []
        try:
            names = await asyncio.to_thread(archive_names, path)
            await self._runtime.load_file(path)
        except (RuntimeFailure, OSError) as error:
            log.error("images not preloaded", file=str(path), error=str(error))
        else:
            log.info("images preloaded", file=str(path), images=names)
        self._known[name] = {"stamp": stamp, "names": names}

    async def _all_here(self, names: list[str]) -> bool:
        try:
            return bool(names) and all([await self._runtime.image(name) is not None for name in names])
        except RuntimeFailure:
            return False

    async def _keep(self) -> None:
        data = msgspec.json.encode(self._known)
        try:
            await asyncio.to_thread(self._record.write_bytes, data)
        except OSError as error:
            log.warning("preloaded images not recorded", path=str(self._record), error=str(error))


def _archives(directory: Path) -> dict[str, Stamp]:
    """Time of the last change (ns) and size of every archive; nothing where there is no such directory. Blocking."""
    try:
        files = [
            path for path in sorted(directory.iterdir()) if path.name.endswith(SUFFIXES) and path.is_file()
        ]
    except OSError:
        return {}
    facts = {path.name: path.stat() for path in files}
    return {name: [found.st_mtime_ns, found.st_size] for name, found in facts.items()}
