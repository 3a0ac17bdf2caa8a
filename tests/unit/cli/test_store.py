"""`orchestrator store` on the directory of a stopped server, as scripts and people call it."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from orchestrator.assembly.stores import open_store
from orchestrator.base import log
from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.cli.store import DAMAGED, command, size
from orchestrator.config import load
from orchestrator.store.disk import Disk
from orchestrator.store.interface import Put, Txn

SECRET = "hunter2" * 20


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config file; the store that it names holds secrets and config maps, written over and over."""
    file = tmp_path / "config.toml"
    file.write_text(f'data_dir = "{tmp_path}/data"\nencrypt = ["secrets"]\n')
    (tmp_path / "data").mkdir()
    asyncio.run(fill(file))
    return file


async def fill(file: Path) -> None:
    supervisor = Supervisor("store")
    opened = await open_store(load(file, {}), SystemClock(), supervisor)
    for number in range(60):
        key = f"/registry/{'secrets' if number % 2 else 'configmaps'}/a/n{number % 6}"
        await opened.engine.transact(Txn((), (Put(key, f"{SECRET}-{number}".encode()),)))
    await opened.engine.close()
    await supervisor.stop()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is logged goes nowhere, and logging is set up for nobody else in this process."""
    monkeypatch.setattr(log, "configure", lambda *arguments: None)
    with capture_logs():
        yield


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--config", str(config)], catch_exceptions=False)


def run_json(config: Path, *arguments: str) -> Any:
    result = run(config, *arguments, "--json")
    return json.loads(result.output)


def files(config: Path) -> list[Path]:
    return sorted((config.parent / "data/store").glob("*.s*"))


def snapshot_of(config: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files(config)}


def test_stats_tell_what_is_there_and_change_nothing(config):
    before = snapshot_of(config)
    found = run_json(config, "stats")
    assert found["stats"]["revision"] == 60 and found["stats"]["keys"] == 6
    assert {row["resource"]: row["count"] for row in found["resources"]} == {"configmaps": 3, "secrets": 3}
    text = run(config, "stats").output
    assert "no server running" in text and "configmaps" in text and found["encryption"]["key"] in text
    assert snapshot_of(config) == before


def test_check_says_ok_and_changes_nothing(config):
    before = snapshot_of(config)
    result = run(config, "check")
    assert result.exit_code == 0 and "ok: " in result.output and "up to revision 60" in result.output
    assert run_json(config, "check")["figures"]["records"] == 60
    assert snapshot_of(config) == before


def test_compact_without_a_server(config):
    done = run_json(config, "compact")
    assert done["after"]["compact_revision"] == 60
    assert done["after"]["log_bytes"] < done["before"]["log_bytes"]
    assert run(config, "check").exit_code == 0
    assert "on disk: " in run(config, "compact").output


def test_rotate_key_without_a_server(config):
    keys = config.parent / "data/encryption-keys.json"
    first = json.loads(keys.read_text())["keys"][0]["id"]
    done = run_json(config, "rotate-key")
    assert (done["resealed"], done["dropped_keys"], done["key"] != first) == (3, 1, True)
    assert [key["id"] for key in json.loads(keys.read_text())["keys"]] == [done["key"]]
    assert all(bytes.fromhex(first) not in content for content in snapshot_of(config).values())
    assert run_json(config, "stats")["encryption"]["complete"]
    assert "3 values sealed with it, 1 old keys dropped" in run(config, "rotate-key").output


def test_rotate_key_with_encryption_off_says_how_to_switch_it_on(config):
    config.write_text(config.read_text().replace('["secrets"]', "[]"))
    with pytest.raises(StartupError, match="set encrypt"):
        run(config, "rotate-key")


def damage(config: Path) -> Path:
    path = next(path for path in files(config) if path.suffix == ".segment")
    data = bytearray(path.read_bytes())
    data[6000] ^= 1
    path.write_bytes(data)
    return path


def test_damage_is_named_and_given_up_only_when_told_to(config):
    path = damage(config)
    result = run(config, "check")
    assert result.exit_code == DAMAGED and f"damage: {path.name} at byte" in result.output
    assert run_json(config, "check")["ok"] is False
    with pytest.raises(StartupError, match=f"{path.name}.*orchestrator restore"):
        asyncio.run(open_store(load(config, {}), SystemClock(), Supervisor("store")))
    before = snapshot_of(config)
    with pytest.raises(StartupError, match="Nothing was changed"):
        run(config, "repair")
    assert snapshot_of(config) == before
    result = run(config, "repair", "--yes")
    assert f"given up: {path.name}" in result.output and "the old files are in" in result.output
    assert run(config, "check").exit_code == 0
    assert run_json(config, "stats")["stats"]["revision"] >= 60


def test_repair_of_a_good_store_changes_nothing(config):
    assert "nothing was changed" in run(config, "repair", "--yes").output
    assert "ok: " in run(config, "repair").output


@pytest.mark.parametrize("name", ["stats", "check", "compact", "rotate-key", "repair"])
def test_where_there_is_no_store_that_is_said(tmp_path, name):
    file = tmp_path / "config.toml"
    file.write_text(f'data_dir = "{tmp_path}/none"\n')
    with pytest.raises(StartupError, match=r"no (log )?store"):
        run(file, name)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["check", "repair"])
def test_files_of_an_etcd_are_none_of_ours(tmp_path, name):
    file = tmp_path / "config.toml"
    file.write_text(f'data_dir = "{tmp_path}"\nstore = "etcd"\netcd_endpoints = ["http://127.0.0.1:1"]\n')
    with pytest.raises(StartupError, match="is an etcd"):
        run(file, name)


def test_a_server_that_runs_is_asked_and_its_kubeconfig_named(config):
    async def work() -> str:
        supervisor = Supervisor("store")
        opened = await open_store(load(config, {}), SystemClock(), supervisor)
        try:
            with pytest.raises(StartupError) as refused:
                await asyncio.to_thread(run, config, "compact", "--kubeconfig", f"{config.parent}/none")
            seen = await asyncio.to_thread(run, config, "stats", "--kubeconfig", f"{config.parent}/none")
            assert "does not answer: The kubeconfig" in seen.output and "configmaps" in seen.output
            with pytest.raises(StartupError, match="is in use"):
                await asyncio.to_thread(run, config, "repair", "--yes")
        finally:
            await opened.engine.close()
            await supervisor.stop()
        return str(refused.value)

    assert f"{config.parent}/none" in asyncio.run(work())


def test_sizes_for_people():
    assert [size(value) for value in (0, 1023, 2048, 3 * 2**20, 5 * 2**30)] == [
        "0 B", "1023 B", "2.0 KiB", "3.0 MiB", "5.0 GiB",
    ]  # fmt: skip


def test_without_the_running_servers_kubeconfig_its_option_is_named(config: Path) -> None:
    lock = Disk().lock(config.parent / "data" / "store" / "LOCK")
    try:
        with pytest.raises(StartupError, match="with --kubeconfig"):
            run(config, "compact", "--kubeconfig", str(config.parent / "absent"))
    finally:
        os.close(lock)
