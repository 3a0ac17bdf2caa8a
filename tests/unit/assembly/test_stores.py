"""The store as a server opens it: switched between encrypted and plain, nothing of the old form stays on disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.api.errors import Conflict
from orchestrator.assembly.stores import OpenStore, open_store
from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config
from orchestrator.store.interface import Put, Txn

SECRET, PLAIN = "/registry/secrets/a/s", "/registry/configmaps/a/c"


@asynccontextmanager
async def opened(directory: Path, *encrypt: str) -> AsyncIterator[OpenStore]:
    """Opened as the daemon does it, with everything in the wanted form."""
    config = replace(Config(), data_dir=directory, encrypt=encrypt)
    supervisor = Supervisor("store")
    store = await open_store(config, SystemClock(), supervisor)
    try:
        await store.keep_in_line()
        yield store
    finally:
        await store.engine.close()
        await supervisor.stop()


def is_on_disk(directory: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in (directory / "store").iterdir())


async def test_every_switch_leaves_only_the_wanted_form_on_disk(tmp_path):
    async with opened(tmp_path) as store:
        await store.engine.transact(Txn((), (Put(SECRET, b"hunter2"), Put(PLAIN, b"correct horse"))))
        assert not (tmp_path / "encryption-keys.json").exists()
    for encrypt in (("secrets",), ("configmaps",), ("secrets", "configmaps"), (), ("secrets",)):
        async with opened(tmp_path, *encrypt) as store:
            assert is_on_disk(tmp_path, b"hunter2") == ("secrets" not in encrypt)
            assert is_on_disk(tmp_path, b"correct horse") == ("configmaps" not in encrypt)
            found = {entry.key: entry.value for entry in (await store.engine.range("/")).entries}
            assert found == {SECRET: b"hunter2", PLAIN: b"correct horse"}
            assert store.stats()["encryption_pending"] == 0


async def test_what_the_operator_is_told(tmp_path):
    async with opened(tmp_path, "secrets") as store:
        for number in range(3):
            await store.engine.transact(Txn((), (Put(f"{SECRET}{number}", bytes(1000)),)))
        status = await store.admin.status()
        assert (status["engine"], status["healthy"], status["no_space"]) == ("log", True, False)
        assert status["resources"] == [{"resource": "secrets", "count": 3, "bytes": 3000}]
        assert status["encryption"]["encrypted"] == ["/registry/secrets/"]
        old = status["encryption"]["key"]
        done = await store.admin.rotate_key()
        assert done == {"key": done["key"], "resealed": 3, "dropped_keys": 1} and done["key"] != old
        after = (await store.admin.compact())["after"]
        assert after["compact_revision"] == store.engine.revision
    async with opened(tmp_path) as store:
        with pytest.raises(Conflict, match="nothing is encrypted"):
            await store.admin.rotate_key()


async def test_a_value_whose_key_is_lost_is_told_at_the_start(tmp_path):
    async with opened(tmp_path, "secrets") as store:
        await store.engine.transact(Txn((), (Put(SECRET, b"hunter2"),)))
    for name in ("encryption-keys.json", "sealed.json"):
        (tmp_path / name).unlink()
    with pytest.raises(StartupError, match="Restore the keys file"):
        async with opened(tmp_path, "secrets"):
            pass
