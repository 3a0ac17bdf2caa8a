"""Backup and restore of a whole server: the store at one revision, and the files that the store is worth nothing
without: the instance's id, keys and certificates, encryption keys, configuration. Called by `cli` only.

A backup reads the data directory itself, so it needs no running server and tolerates one. A restore verifies
the whole file first, builds the new directory beside the old one, and only then moves it into place; the
store comes last and `restore.tmp` is there until then, which a server refuses to start with.

After a restore the revision is higher than any that a client can have seen: a client that watched beyond the
backup is told `410 Expired` and lists again, rather than waiting for revisions that come a second time with
other contents.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from orchestrator import __version__
from orchestrator import config as settings
from orchestrator.assembly import encryption, host, identity
from orchestrator.assembly.agreement import Agreement
from orchestrator.assembly.apiservers import PREFIX as SERVERS
from orchestrator.assembly.etcd import Etcd
from orchestrator.assembly.identity import Identity
from orchestrator.assembly.operator import stopped
from orchestrator.assembly.stores import STAGING
from orchestrator.base.clock import Clock, SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.config import Config
from orchestrator.store import backup, keyring, offline
from orchestrator.store.backup import Backup, Contents, Kept, Manifest
from orchestrator.store.check import check
from orchestrator.store.etcd import transfer
from orchestrator.store.sealing import key_id_of

CONFIG = "config.toml"
KEYS = encryption.KEYS
REVISION_GAP = 1_000_000_000
"""A server that writes a thousand times a second takes eleven days for as many revisions."""
ETCD_REVISION_GAP = 100_000
"""As many transactions are made for it, in a minute or two."""
ETCD_PACE = (400, 4000)
"""Transactions a second, on a slow and on a fast disk."""
TOLD_FROM = 20_000
"""Revisions to make from which on it is worth a word."""
TOLD_EVERY_S = 5.0
ETCD_PATIENCE_S = 10.0
ATTEMPTS = 5

Tell = Callable[[str], None]
"""Where an operator reads what takes long."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. Paths are where things were put; `aside` is where the old data went, if there were any."""

    manifest: Manifest
    revision: int
    config: Path | None
    aside: Path | None


def take(config: Config, config_file: Path | None, stream: IO[bytes]) -> Manifest:
    """Write a backup to `stream`. Raises `StartupError`, `StoreError`, `OSError`."""
    for _ in range(ATTEMPTS):
        files = _files(config, config_file)
        contents = _read_etcd(config) if config.store == "etcd" else _read_log(config)
        # A key rotation between the two reads would leave values in the backup whose key is not in it.
        if files == _files(config, config_file):
            break
    else:
        raise StartupError("Keys change while the backup is taken.", "Try again when the rotation has ended.")
    contents.files = files
    _check_keys(contents, dict(files))
    return backup.write(stream, contents)


def _read_log(config: Config) -> Contents:
    """The log store in the data directory."""
    state, _ = offline.read(config.data_dir / "store")
    leases = [(lease.id, lease.ttl_s) for lease in state.leases.all()]
    entries = offline.entries_of(state)
    return _contents(config, "log", state.revision, state.leases.last, entries, leases)


def _read_etcd(config: Config) -> Contents:
    """The store in etcd, at its newest revision."""

    async def dump() -> tuple[int, list[Kept], list[tuple[int, int]]]:
        etcd = await Etcd.connect(config, SystemClock(), ETCD_PATIENCE_S)
        try:
            return await transfer.dump(etcd.api, etcd.keys)
        finally:
            await etcd.close()

    revision, entries, leases = asyncio.run(dump())
    return _contents(config, "etcd", revision, len(leases), entries, leases)


def _contents(
    config: Config,
    engine: str,
    revision: int,
    last_lease: int,
    entries: list[Kept],
    leases: list[tuple[int, int]],
) -> Contents:
    """The store's part of a backup taken now."""
    created = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
    instance = host.instance_id(config.data_dir) if host.is_known(config.data_dir) else ""
    return Contents(engine, __version__, instance, created, revision, last_lease, entries, leases)


def _files(config: Config, config_file: Path | None) -> list[tuple[str, bytes]]:
    data = config.data_dir
    wanted = [(name, data / name) for name in ("instance", encryption.MARK)]
    wanted.append((KEYS, encryption.keys_path(data, config.encryption_keys)))
    wanted += [(f"pki/{path.name}", path) for path in sorted((data / "pki").glob("*")) if path.is_file()]
    if config_file is not None:
        wanted.append((CONFIG, config_file))
    return [(name, path.read_bytes()) for name, path in wanted if path.exists()]


def _check_keys(contents: Contents, files: dict[str, bytes]) -> None:
    used = {key_id_of(entry.value) for entry in contents.entries} - {""}
    known = {key.id for key in keyring.parse(files[KEYS], KEYS).keys} if KEYS in files else set()
    if missing := sorted(used - known):
        raise StartupError(
            f"The store holds values sealed with key {missing[0]}, which is not in the keys file.",
            "Name the right file with encryption_keys; a backup without it could not be read.",
        )


def bumped(revision: int, old: Path) -> int:
    """The first revision after a restore: `REVISION_GAP` or more beyond `revision` and the log in `old`, and round."""
    if old.is_dir():
        # Clients may know what an earlier restore of the same backup counted on from there.
        revision = max(revision, check(old).figures["revision"])
    return -(-(revision + REVISION_GAP) // REVISION_GAP) * REVISION_GAP


def settings_in(found: Backup, flags: dict[str, Any]) -> Config:
    """The settings of the server that was backed up, with `flags` on top: for a host that has no config yet."""
    content = dict(found.files()).get(CONFIG, b"")
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(content)
        file.flush()
        return settings.load(Path(file.name), flags)


def restore(
    found: Backup, config: Config, config_file: Path, *, force: bool, tell: Tell = lambda text: None
) -> Restored:
    """Put a backup where the log store and its files belong. Raises `StartupError` before anything is changed."""
    data = config.data_dir
    with stopped(data):
        old = _occupied(config)
        if old and not force:
            raise StartupError(
                f"{data} holds data already ({', '.join(sorted(path.name for path in old))}).",
                "Give an empty directory with --data-dir, or --force to set the old data aside.",
            )
        staging = data / STAGING
        try:
            _stage_files(found, staging)
            if config.store == "etcd":
                revision = asyncio.run(_load_etcd(found, config, tell))
            else:
                revision = bumped(found.manifest.revision, data / "store")
                _stage_log(found, staging, revision)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        aside = _set_aside(data, old) if old else None
        put_config = _put_in_place(staging, config, config_file)
    return Restored(found.manifest, revision, put_config, aside)


async def _load_etcd(found: Backup, config: Config, tell: Tell) -> int:
    """etcd's revision afterwards. It counts by itself, so it is brought less far ahead than a log's.

    What servers of another cluster left beside the store goes too: its identity, and what it encrypted.
    """
    files = {name.removeprefix("pki/"): content for name, content in found.files() if name.startswith("pki/")}
    if missing := [name for name in identity.FILES if name not in files]:
        raise StartupError(
            f"The backup has no pki/{missing[0]}.", "Take another one, of a server that has run."
        )
    clock = SystemClock()
    etcd = await Etcd.connect(config, clock, ETCD_PATIENCE_S)
    try:
        await transfer.check_empty(etcd.api, etcd.keys)
        await Agreement(etcd, clock).forget()
        cluster = Identity(etcd, config, clock)
        await cluster.withhold()
        revision, pace = found.manifest.revision + ETCD_REVISION_GAP, Pace(clock, tell)
        # Addresses of servers that ran then would stay endpoints for as long as their restored leases.
        entries = (entry for entry in found.entries() if not entry.key.startswith(SERVERS))
        reached = await transfer.load(etcd.api, etcd.keys, entries, found.leases(), revision, pace.reached)
        await cluster.give(files)
        return reached
    finally:
        await etcd.close()


class Pace:
    """Says how far etcd's revision is, before the first transaction and then now and again."""

    def __init__(self, clock: Clock, tell: Tell) -> None:
        self._clock = clock
        self._tell = tell
        self._told_s = 0.0
        self._began: tuple[int, float] | None = None

    def reached(self, revision: int, wanted: int) -> None:
        """`transfer.Tell`."""
        now_s, left = self._clock.monotonic_s(), wanted - revision
        if self._began is None:
            self._began, self._told_s = (revision, now_s), now_s
            if left > TOLD_FROM:
                self._tell(_announcement(revision, wanted))
        elif left > 0 and now_s - self._told_s >= TOLD_EVERY_S:
            per_s = (revision - self._began[0]) / (now_s - self._began[1])
            self._told_s = now_s
            self._tell(f"etcd is at revision {revision} of {wanted}, about {left / max(per_s, 1):.0f} s left")


def _announcement(revision: int, wanted: int) -> str:
    count = wanted - revision
    low, high = (count / pace for pace in (ETCD_PACE[1], ETCD_PACE[0]))
    return (
        f"etcd is at revision {revision} and must come to {wanted}, so that no client meets a revision twice. Each of "
        f"these {count} takes a transaction: {low:.0f} to {high:.0f} s, by etcd's disk. Interrupted, it goes on "
        "where it was when the restore is run again."
    )


def _occupied(config: Config) -> list[Path]:
    data = config.data_dir
    places = [data / name for name in ("store", "pki", "instance", encryption.MARK)]
    places.append(encryption.keys_path(data, config.encryption_keys))
    return [path for path in places if path.exists()]


def _stage_files(found: Backup, staging: Path) -> None:
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True, mode=0o700)
    for name, content in found.files():
        target = staging / name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        keyring.write(target, content)


def _stage_log(found: Backup, staging: Path, revision: int) -> None:
    leases, last_lease = found.leases(), found.manifest.last_lease
    offline.write(staging / "store", offline.state_of(found.entries(), leases, last_lease, revision))
    keyring.sync_directory(staging)


def _set_aside(data: Path, old: list[Path]) -> Path:
    aside = data / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    aside.mkdir(mode=0o700)
    for path in old:
        shutil.move(path, aside / path.name)
    return aside


def _put_in_place(staging: Path, config: Config, config_file: Path) -> Path | None:
    """The store last: until it is there the server does not start (see `stores.check_restored`)."""
    data, put_config = config.data_dir, None
    if (staging / CONFIG).exists():
        fits = not config_file.exists() and settings.load(staging / CONFIG, {}).data_dir == data
        put_config = config_file if fits else data / "config.toml.restored"
        put_config.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(staging / CONFIG, put_config)
    if (staging / KEYS).exists():
        shutil.move(staging / KEYS, encryption.keys_path(data, config.encryption_keys))
    for name in sorted(os.listdir(staging), key=lambda name: (name == "store", name)):
        os.rename(staging / name, data / name)
    keyring.sync_directory(data)
    staging.rmdir()
    return put_config
