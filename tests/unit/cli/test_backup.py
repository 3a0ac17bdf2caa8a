"""`orchestrator backup` and `restore` as they are called."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.assembly.stores import open_store
from orchestrator.base import log
from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.cli import backup, restore
from orchestrator.config import load
from orchestrator.store.backup import Backup
from orchestrator.store.interface import Put, Txn


@pytest.fixture(autouse=True)
def unchanged_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging is set up for nobody else in this process."""
    monkeypatch.setattr(log, "configure", lambda *arguments: None)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config file whose store holds one object."""
    file = tmp_path / "config.toml"
    file.write_text(f'data_dir = "{tmp_path}/data"\n')
    (tmp_path / "data").mkdir()
    (tmp_path / "data/instance").write_text("abc123\n")

    async def fill() -> None:
        supervisor = Supervisor("store")
        opened = await open_store(load(file, {}), SystemClock(), supervisor)
        await opened.engine.transact(Txn((), (Put("/registry/pods/a/p", b"x"),)))
        await opened.engine.close()
        await supervisor.stop()

    asyncio.run(fill())
    return file


def test_a_backup_is_for_its_owner_and_whole_or_not_there(config, tmp_path, monkeypatch):
    target = tmp_path / "backup"
    target.write_text("an older one")
    result = CliRunner().invoke(backup.command, [str(target), "--config", str(config)])
    assert result.exit_code == 0 and "revision 1, 1 objects" in result.output
    assert target.stat().st_mode & 0o777 == 0o600
    whole = target.read_bytes()
    assert Backup.open(target).manifest.instance == "abc123"

    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StartupError, match="No space"):
        CliRunner().invoke(backup.command, [str(target), "--config", str(config)], catch_exceptions=False)
    assert target.read_bytes() == whole
    assert not list(tmp_path.glob("backup.*"))


def test_standard_output_is_the_backup_and_nothing_else(config, tmp_path):
    command = [sys.executable, "-m", "orchestrator", "backup", "-", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / "backup").write_bytes(done.stdout)
    assert b"revision 1" in done.stderr
    assert Backup.open(tmp_path / "backup").manifest.entries == 1


def test_on_a_new_host_the_backup_says_where_it_goes(config, tmp_path):
    target = tmp_path / "backup"
    CliRunner().invoke(backup.command, [str(target), "--config", str(config)])
    text = config.read_text()
    config.unlink()
    (tmp_path / "data").rename(tmp_path / "lost")
    result = CliRunner().invoke(restore.command, [str(target), "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert "restored 1 objects" in result.output and f"to {tmp_path}/data" in result.output
    assert config.read_text() == text
    assert (tmp_path / "data/store").is_dir()


def test_what_is_no_backup_is_refused_before_anything_is_changed(config, tmp_path):
    target = tmp_path / "backup"
    target.write_text("hello")
    before = sorted((tmp_path / "data").iterdir())
    with pytest.raises(StartupError, match="damaged"):
        CliRunner().invoke(
            restore.command, [str(target), "--config", str(config), "--force"], catch_exceptions=False
        )
    assert sorted((tmp_path / "data").iterdir()) == before
