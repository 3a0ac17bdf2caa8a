"""Encryption at rest over the life of a data directory: the keys file, and bringing what is stored into line.

Which key seals which resources is wanted by the config; which is the case is written in `<data>/sealed.json`.
Where the two differ (switched on or off, another resource, a new key, a crash amid any of these) everything is
rewritten in the background until no byte on disk is in the old form; then keys that seal nothing are dropped.
The mark is made before the first value is sealed, so that a lost keys file is noticed before a new one is made.
Built by `daemon`; `rotate` is called by the store's admin and, with the server stopped, by the command line.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.store import keyring as keys
from orchestrator.store.interface import StoreError
from orchestrator.store.keyring import EMPTY, Keyring
from orchestrator.store.sealing import Sealer, prefixes_of

log = structlog.get_logger(__name__)

MARK = "sealed.json"
KEYS = "encryption-keys.json"
RETRY_S = 10.0


Reseal = Callable[[], Awaitable[int]]
"""Returns when everything on disk has the form that the sealer gives now: how many values were sealed for that."""
Agree = Callable[[Keyring], Awaitable[None]]
"""Asks other servers of the same store before the newest key seals anything; `StartupError` when that is refused."""


class _Mark(msgspec.Struct):
    """`key` seals `prefixes` in the store `where`, or will; `done` when nothing else is there any more."""

    where: str = ""
    key: str = ""
    prefixes: tuple[str, ...] = ()
    done: bool = True


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did: the new key's id, how many values were sealed anew, how many old keys were dropped."""

    key: str
    resealed: int
    dropped_keys: int


def keys_path(data_dir: Path, configured: str) -> Path:
    """Where the keys lie: as configured, or in the data directory."""
    return Path(configured) if configured else data_dir / KEYS


class Encryption:
    """Owner of the keys file and the mark of one data directory. `sealer` is for the engine."""

    def __init__(
        self, data_dir: Path, file: Path, resources: tuple[str, ...], clock: Clock, where: str = "log"
    ) -> None:
        """Read, or with `resources` to encrypt and no keys yet make, the keys. Raises `StartupError`.

        `where` tells stores apart that a data directory may have, one after the other.
        """
        self._clock = clock
        self._where = where
        self._file = file
        self._mark_path = data_dir / MARK
        self._mark = self._read_mark()
        self._rewriting = asyncio.Lock()
        self._unused: Keyring | None = None
        self.agree: Agree | None = None
        """Set where several servers share the store."""
        prefixes = prefixes_of(resources)
        keyring = keys.load(file)
        if keyring is None:
            keyring = self._first_key() if prefixes else self._no_keys()
        self.sealer = Sealer(keyring, prefixes)

    def _first_key(self) -> Keyring:
        self._refuse_if_sealed()
        keyring = EMPTY.with_new(self._now())
        keys.save(self._file, keyring)
        log.info("made the first encryption key", file=str(self._file))
        return keyring

    def _no_keys(self) -> Keyring:
        self._refuse_if_sealed()
        return EMPTY

    def _refuse_if_sealed(self) -> None:
        if self._mark.key:
            raise StartupError(
                f"The store holds values sealed with key {self._mark.key}, but {self._file} does not exist.",
                "Restore the keys file, or name it with encryption_keys.",
            )

    def _read_mark(self) -> _Mark:
        try:
            return msgspec.json.decode(self._mark_path.read_bytes(), type=_Mark)
        except FileNotFoundError:
            return _Mark()
        except (OSError, msgspec.MsgspecError) as error:
            raise StartupError(
                f"{self._mark_path} can't be read: {error}.",
                "Restore it from a backup; or remove it, if the keys file is there.",
            ) from error

    def _write_mark(self, done: bool) -> None:
        keyring, prefixes = self.sealer.keyring, self.sealer.prefixes
        key = keyring.primary.id if keyring.keys and (prefixes or not done) else ""
        mark = _Mark(self._where, key, prefixes, done)
        keys.write(self._mark_path, msgspec.json.encode(mark))
        self._mark = mark

    @property
    def in_line(self) -> bool:
        """Whether everything stored is known to have the wanted form."""
        sealer, mark = self.sealer, self._mark
        if not sealer.prefixes and not mark.where:
            return True
        wanted_key = sealer.keyring.primary.id if sealer.prefixes else ""
        found = (mark.where, mark.key, mark.prefixes)
        return mark.done and found == (self._where, wanted_key, sealer.prefixes)

    def begin(self) -> None:
        """Before the store is opened: note that values may be sealed from now on."""
        if not self.in_line:
            self._write_mark(done=False)

    async def keep_in_line(self, reseal: Reseal) -> None:
        """Rewrite once if need be; tried again until it works."""
        backoff = Backoff(RETRY_S, 600.0)
        while not self.in_line:
            try:
                async with self._rewriting:
                    count = await self._bring_in_line(reseal)
                log.info("stored values are in the wanted form", sealed=count, **self.describe())
            except (OSError, StoreError, StartupError) as error:
                delay_s = backoff.next_s()
                log.warning("stored values not rewritten", cause=str(error), retry_in_s=delay_s)
                await self._clock.sleep(delay_s)

    async def _bring_in_line(self, reseal: Reseal) -> int:
        count = await reseal()
        if len(self.sealer.keyring.keys) > 1:
            self.sealer.use(self.sealer.keyring.only_primary())
            await asyncio.to_thread(keys.save, self._file, self.sealer.keyring)
        await asyncio.to_thread(self._write_mark, done=True)
        return count

    async def rotate(self, reseal: Reseal) -> Rotation:
        """Seal everything with a new key and drop the old ones; one that could not be finished is taken up again.

        Raises `ValueError` when nothing is to be encrypted or values are being rewritten already; `StoreError`,
        `OSError` or `StartupError` when it could not be finished: then the old keys stay too.
        """
        if not self.sealer.prefixes:
            raise ValueError('nothing is encrypted: set encrypt = ["secrets"] in the config and restart')
        if self._rewriting.locked():
            raise ValueError("stored values are being rewritten already: try again when that is done")
        async with self._rewriting:
            if self.in_line or len(self.sealer.keyring.keys) == 1:
                await self._add_key()
            before = len(self.sealer.keyring.keys)
            count = await self._bring_in_line(reseal)
        return Rotation(self.sealer.keyring.primary.id, count, before - 1)

    async def _add_key(self) -> None:
        keyring = self._unused or self.sealer.keyring.with_new(self._now())
        await asyncio.to_thread(keys.save, self._file, keyring)  # on disk before anything is sealed with it
        if self.agree is not None:
            await self._agreed(self.agree, keyring)
        self.sealer.use(keyring)
        await asyncio.to_thread(self._write_mark, done=False)

    async def _agreed(self, agree: Agree, keyring: Keyring) -> None:
        self._unused = (
            keyring  # Where the answer is lost it may be agreed on: the next rotation takes this one.
        )
        try:
            await agree(keyring)
        except StartupError:
            self._unused = None
            await asyncio.to_thread(keys.save, self._file, self.sealer.keyring)
            raise
        self._unused = None

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now_s(), UTC).isoformat(timespec="seconds")

    def describe(self) -> dict[str, object]:
        """For the operator: what is encrypted, with which key and since when, and whether all of it is."""
        keyring = self.sealer.keyring
        primary = keyring.primary if keyring.keys and self.sealer.prefixes else None
        return {
            "encrypted": list(self.sealer.prefixes),
            "key": primary.id if primary else "",
            "key_created": primary.created if primary else "",
            "keys": len(keyring.keys),
            "complete": self.in_line,
        }

    def stats(self) -> dict[str, float]:
        """Figures for metrics."""
        return {
            "encryption_keys": len(self.sealer.keyring.keys),
            "encryption_pending": float(not self.in_line),
            "sealed_values_total": self.sealer.seals,
        }
