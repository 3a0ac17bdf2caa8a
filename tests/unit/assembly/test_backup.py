"""Backup of a data directory, also while it is written, and restore of all of it elsewhere."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.assembly import backup
from orchestrator.assembly.encryption import Encryption, keys_path
from orchestrator.assembly.stores import STAGING, check_restored
from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.config import Config
from orchestrator.store.backup import Backup, Manifest
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import CompactedError, Delete, Put, Txn
from orchestrator.store.sealing import SealError
from orchestrator.store.settings import LogSettings

SMALL = LogSettings(segment_bytes=32 * 1024, history_memory_bytes=1024 * 1024, snapshot_bytes=64 * 1024)
SECRET = "/registry/secrets/a/s"


def config_in(directory: Path, **settings: object) -> Config:
    return replace(Config(), data_dir=directory, **settings)


def make_files(config: Config) -> None:
    data = config.data_dir
    (data / "pki").mkdir(parents=True)
    (data / "instance").write_text("abc123\n")
    for name in ("ca.crt", "ca.key", "sa.key"):
        (data / "pki" / name).write_text(name)


async def opened(config: Config) -> LogStore:
    encryption = Encryption(
        config.data_dir, keys_path(config.data_dir, config.encryption_keys), config.encrypt, SystemClock()
    )
    encryption.begin()
    return await LogStore.open(
        config.data_dir / "store", SystemClock(), settings=SMALL, sealer=encryption.sealer
    )


async def put(store: LogStore, key: str, value: bytes, lease: int = 0) -> int:
    return (await store.transact(Txn((), (Put(key, value, lease),)))).revision


async def reach(store: LogStore, revision: int) -> None:
    watch = store.watch("/", store.revision)
    while store.revision < revision:
        await anext(watch)
    watch.close()


async def image(store: LogStore, revision: int = 0) -> dict[str, tuple[bytes, int, int, int]]:
    found = await store.range("/", revision=revision)
    return {e.key: (e.value, e.create_revision, e.revision, e.version) for e in found.entries}


def take(config: Config, path: Path, config_file: Path | None = None) -> Manifest:
    stream = io.BytesIO()
    manifest = backup.take(config, config_file, stream)
    path.write_bytes(stream.getvalue())
    return manifest


async def test_a_backup_amid_writes_is_one_revision_and_comes_back_exactly(tmp_path):
    config = config_in(tmp_path / "a")
    make_files(config)
    store = await opened(config)
    lease = await store.lease_grant(1000)
    await put(store, "/registry/events/a/e", b"event", lease)
    await put(store, "/registry/pods/a/gone", b"x")
    await store.transact(Txn((), (Delete("/registry/pods/a/gone"),)))
    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            await put(store, f"/registry/pods/a/p{number % 50}", b"%d" % number * 50)
            number += 1

    writers = [asyncio.get_running_loop().create_task(write()) for _ in range(4)]
    await reach(store, 300)
    manifest = await asyncio.to_thread(take, config, tmp_path / "b")
    await reach(store, manifest.revision)  # What is on disk may not be published yet.
    expected = await image(store, manifest.revision)
    await reach(store, manifest.revision + 100)
    stop.set()
    await asyncio.gather(*writers)
    await store.close()

    other = config_in(tmp_path / "c")
    done = await asyncio.to_thread(
        backup.restore, Backup.open(tmp_path / "b"), other, tmp_path / "none", force=False
    )
    restored = await opened(other)
    assert await image(restored) == expected
    assert restored.revision == done.revision >= manifest.revision + backup.REVISION_GAP
    with pytest.raises(CompactedError):
        await anext(restored.watch("/", manifest.revision + 5))
    assert await restored.lease_keep_alive(lease) == 1000
    assert await restored.lease_grant(5) > lease
    assert await put(restored, "/registry/pods/a/new", b"") == done.revision + 1
    await restored.close()
    reopened = await opened(other)
    assert (await image(reopened)).keys() == expected.keys() | {"/registry/pods/a/new"}
    await reopened.close()
    assert (other.data_dir / "pki/ca.key").read_text() == "ca.key"
    assert (other.data_dir / "instance").read_text() == "abc123\n"
    assert not (other.data_dir / STAGING).exists()
    assert (other.data_dir / "pki").stat().st_mode & 0o77 == 0


async def test_the_same_backup_restored_twice_gives_no_revision_out_twice(tmp_path: Path) -> None:
    config = config_in(tmp_path / "a")
    await filled(config)
    found = Backup.open(tmp_path / "b")
    other = config_in(tmp_path / "c")
    first = await asyncio.to_thread(backup.restore, found, other, tmp_path / "none", force=False)
    again = await asyncio.to_thread(backup.restore, found, other, tmp_path / "none", force=True)
    assert again.revision >= first.revision + backup.REVISION_GAP


async def filled(config: Config) -> Manifest:
    """A data directory with one secret, stopped, and its backup beside it."""
    make_files(config)
    store = await opened(config)
    await put(store, SECRET, b"hunter2")
    await store.close()
    return await asyncio.to_thread(take, config, config.data_dir.parent / "b")


async def test_sealed_values_stay_sealed_in_the_backup_and_open_after_the_restore(tmp_path):
    config = config_in(tmp_path / "a", encrypt=("secrets",))
    await filled(config)
    assert b"hunter2" not in (tmp_path / "b").read_bytes()
    other = config_in(tmp_path / "c", encrypt=("secrets",), encryption_keys=str(tmp_path / "keys"))
    backup.restore(Backup.open(tmp_path / "b"), other, tmp_path / "none", force=False)
    store = await opened(other)
    assert (await image(store))[SECRET][0] == b"hunter2"
    await store.close()


async def test_a_backup_that_could_not_be_opened_again_is_not_taken(tmp_path):
    config = config_in(tmp_path / "a", encrypt=("secrets",))
    await filled(config)
    (tmp_path / "a" / "encryption-keys.json").unlink()
    with pytest.raises(StartupError, match="not in the keys file"):
        take(config, tmp_path / "again")


async def test_data_that_are_there_are_refused_or_set_aside(tmp_path):
    config = config_in(tmp_path / "a")
    await filled(config)
    store = await opened(config)
    await put(store, "/registry/pods/a/later", b"")
    await store.close()
    found = Backup.open(tmp_path / "b")
    with pytest.raises(StartupError, match="holds data already"):
        backup.restore(found, config, tmp_path / "none", force=False)
    (config.data_dir / "pods").mkdir()
    done = backup.restore(found, config, tmp_path / "none", force=True)
    store = await opened(config)
    assert (await image(store)).keys() == {SECRET}
    await store.close()
    assert done.aside is not None
    old = await LogStore.open(done.aside / "store", SystemClock())
    assert (await image(old)).keys() == {SECRET, "/registry/pods/a/later"}
    await old.close()
    assert (config.data_dir / "pods").exists(), "what pods have in volumes is not the backup's"


async def test_a_running_server_is_not_restored_over(tmp_path):
    config = config_in(tmp_path / "a")
    await filled(config)
    store = await opened(config)
    with pytest.raises(StartupError, match="running"):
        backup.restore(Backup.open(tmp_path / "b"), config, tmp_path / "none", force=True)
    await store.close()


async def test_a_restore_that_was_interrupted_keeps_the_server_from_starting(tmp_path, monkeypatch):
    config, other = config_in(tmp_path / "a"), config_in(tmp_path / "c")
    await filled(config)
    found = Backup.open(tmp_path / "b")

    rename = backup.os.rename

    def crash(source: Path, target: Path) -> None:
        if target == other.data_dir / "store":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(backup.os, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        backup.restore(found, other, tmp_path / "none", force=False)
    monkeypatch.undo()
    with pytest.raises(StartupError, match="interrupted"):
        check_restored(other.data_dir)
    backup.restore(found, other, tmp_path / "none", force=True)
    check_restored(other.data_dir)
    store = await opened(other)
    assert (await image(store)).keys() == {SECRET}
    await store.close()


async def test_a_restore_without_space_leaves_everything_as_it_was(tmp_path, monkeypatch):
    config = config_in(tmp_path / "a")
    await filled(config)
    found = Backup.open(tmp_path / "b")

    def full(directory: Path, state: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup.offline, "write", full)
    with pytest.raises(OSError, match="No space"):
        backup.restore(found, config, tmp_path / "none", force=True)
    check_restored(config.data_dir)
    store = await opened(config)
    assert (await image(store)).keys() == {SECRET}
    await store.close()


async def test_the_configuration_goes_where_there_is_none_and_fits(tmp_path):
    config = config_in(tmp_path / "a")
    await filled(config)
    file = tmp_path / "config.toml"
    file.write_text(f'data_dir = "{tmp_path}/c"\nport = 7443\n')
    take(config, tmp_path / "b", file)
    found = Backup.open(tmp_path / "b")
    target = backup.settings_in(found, {})
    assert (target.data_dir, target.port) == (tmp_path / "c", 7443)
    new = tmp_path / "etc" / "config.toml"
    assert backup.restore(found, target, new, force=False).config == new
    assert new.read_text() == file.read_text()
    other = config_in(tmp_path / "d")
    beside = backup.restore(found, other, tmp_path / "etc2" / "config.toml", force=False).config
    assert beside == tmp_path / "d" / "config.toml.restored"


def test_without_a_store_there_is_nothing_to_back_up(tmp_path):
    with pytest.raises(StartupError, match="no log store"):
        take(config_in(tmp_path), tmp_path / "b")


async def test_a_sealed_value_does_not_open_without_its_key(tmp_path):
    config = config_in(tmp_path / "a", encrypt=("secrets",))
    await filled(config)
    for name in ("encryption-keys.json", "sealed.json"):
        (tmp_path / "a" / name).unlink()
    with pytest.raises(SealError, match="not in the keys file"):
        await opened(config)
