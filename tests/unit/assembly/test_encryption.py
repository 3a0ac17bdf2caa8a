"""Keys and what is sealed with them over restarts, changes of the config, rotations and crashes amid these."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.assembly.encryption import Encryption, Rotation
from orchestrator.base.clock import VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.store import keyring
from orchestrator.store.interface import NoSpaceError
from orchestrator.store.sealing import key_id_of

SECRET = "/registry/secrets/default/a"


class Stored:
    """A store's values in their stored form; `reseal` as the engines promise it, failing `failures` times first."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.failures = 0
        self.runs = 0

    def start(self, directory: Path, *resources: str) -> Encryption:
        self.encryption = Encryption(directory, directory / "keys.json", resources, VirtualClock())
        self.encryption.begin()
        return self.encryption

    def put(self, key: str, value: bytes) -> None:
        self.values[key] = self.encryption.sealer.seal(key, value)

    async def reseal(self) -> int:
        self.runs += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise NoSpaceError("full")
        sealer = self.encryption.sealer
        for key, value in self.values.items():
            self.values[key] = sealer.seal(key, sealer.unseal(key, value))
        return sum(sealer.wants(key) for key in self.values)

    @property
    def ids(self) -> Sequence[str]:
        return [key_id_of(value) for value in self.values.values()]

    def read(self) -> list[bytes]:
        return [self.encryption.sealer.unseal(key, value) for key, value in self.values.items()]


async def test_off_is_the_default_and_leaves_no_file(tmp_path):
    stored = Stored()
    encryption = stored.start(tmp_path)
    stored.put(SECRET, b"x")
    await encryption.keep_in_line(stored.reseal)
    assert (encryption.in_line, stored.runs, stored.values) == (True, 0, {SECRET: b"x"})
    assert list(tmp_path.iterdir()) == []


async def test_switched_on_what_was_plain_is_sealed_once(tmp_path):
    stored = Stored()
    stored.start(tmp_path)
    stored.put(SECRET, b"x")
    encryption = stored.start(tmp_path, "secrets")
    assert not encryption.in_line
    await encryption.keep_in_line(stored.reseal)
    assert stored.ids == [encryption.sealer.keyring.primary.id]
    again = stored.start(tmp_path, "secrets")
    await again.keep_in_line(stored.reseal)
    assert (again.in_line, stored.runs, stored.read()) == (True, 1, [b"x"])


async def test_switched_off_everything_is_plain_again(tmp_path):
    stored = Stored()
    await stored.start(tmp_path, "secrets").keep_in_line(stored.reseal)
    stored.put(SECRET, b"x")
    off = stored.start(tmp_path)
    assert stored.read() == [b"x"]
    await off.keep_in_line(stored.reseal)
    assert stored.values == {SECRET: b"x"}
    (tmp_path / "keys.json").unlink()
    assert stored.start(tmp_path).in_line


async def test_another_store_of_the_same_directory_is_a_reason_to_rewrite(tmp_path):
    stored = Stored()
    await stored.start(tmp_path, "secrets").keep_in_line(stored.reseal)
    keys = tmp_path / "keys.json"
    assert not Encryption(tmp_path, keys, ("secrets",), VirtualClock(), "etcd /registry").in_line


async def test_another_resource_is_a_reason_to_rewrite(tmp_path):
    stored = Stored()
    await stored.start(tmp_path, "secrets").keep_in_line(stored.reseal)
    assert not stored.start(tmp_path, "secrets", "configmaps").in_line


async def test_a_rotation_seals_anew_and_drops_the_old_key(tmp_path):
    stored = Stored()
    encryption = stored.start(tmp_path, "secrets")
    await encryption.keep_in_line(stored.reseal)
    stored.put(SECRET, b"x")
    old = encryption.sealer.keyring.primary
    done = await encryption.rotate(stored.reseal)
    assert done == Rotation(encryption.sealer.keyring.primary.id, 1, 1)
    assert stored.ids == [done.key] != [old.id]
    kept = keyring.load(tmp_path / "keys.json")
    assert kept is not None and [key.id for key in kept.keys] == [done.key]


async def test_a_rotation_that_fails_keeps_both_keys_and_is_taken_up_again(tmp_path):
    stored = Stored()
    encryption = stored.start(tmp_path, "secrets")
    await encryption.keep_in_line(stored.reseal)
    stored.put(SECRET, b"x")
    stored.failures = 1
    with pytest.raises(NoSpaceError):
        await encryption.rotate(stored.reseal)
    ids = [key.id for key in encryption.sealer.keyring.keys]
    assert len(ids) == 2 and not encryption.in_line
    restarted = stored.start(tmp_path, "secrets")
    assert stored.read() == [b"x"] and not restarted.in_line
    done = await restarted.rotate(stored.reseal)
    assert (done.key, done.dropped_keys) == (ids[1], 1)


async def test_the_background_rewrite_tries_again_until_it_works(tmp_path):
    stored = Stored()
    encryption = stored.start(tmp_path, "secrets")
    stored.failures = 3
    task = asyncio.get_running_loop().create_task(encryption.keep_in_line(stored.reseal))
    clock = encryption._clock
    assert isinstance(clock, VirtualClock)
    await clock.advance(3600)
    await task
    assert encryption.in_line and stored.runs == 4


async def test_a_rotation_waits_for_no_rewrite_but_says_so(tmp_path):
    stored = Stored()
    encryption = stored.start(tmp_path, "secrets")
    results = await asyncio.gather(
        encryption.keep_in_line(stored.reseal), encryption.rotate(stored.reseal), return_exceptions=True
    )
    assert results[0] is None
    assert isinstance(results[1], ValueError) and "already" in str(results[1])


async def test_without_encryption_there_is_nothing_to_rotate(tmp_path):
    stored = Stored()
    with pytest.raises(ValueError, match="nothing is encrypted"):
        await stored.start(tmp_path).rotate(stored.reseal)


@pytest.mark.parametrize("resources", [(), ("secrets",)])
async def test_a_lost_keys_file_is_noticed_before_a_new_one_is_made(tmp_path, resources):
    stored = Stored()
    encryption = stored.start(tmp_path, "secrets")
    await encryption.keep_in_line(stored.reseal)
    (tmp_path / "keys.json").unlink()
    with pytest.raises(StartupError, match=encryption.sealer.keyring.primary.id):
        stored.start(tmp_path, *resources)
    assert not (tmp_path / "keys.json").exists()


def test_a_lost_keys_file_is_noticed_also_after_a_crash_at_the_first_start(tmp_path):
    Stored().start(tmp_path, "secrets")
    (tmp_path / "keys.json").unlink()
    with pytest.raises(StartupError, match="does not exist"):
        Stored().start(tmp_path, "secrets")


def test_what_the_operator_sees(tmp_path):
    encryption = Stored().start(tmp_path, "secrets")
    seen = encryption.describe()
    assert (seen["encrypted"], seen["keys"], seen["complete"]) == (["/registry/secrets/"], 1, False)
    assert seen["key"] == encryption.sealer.keyring.primary.id
    assert encryption.stats()["encryption_pending"] == 1
