"""`orchestrator backup`: one file with the store at one revision, keys, certificates and configuration."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from orchestrator import config as settings
from orchestrator.base import log
from orchestrator.base.errors import OrchestratorError, StartupError

if TYPE_CHECKING:
    from orchestrator.store.backup import Manifest

_PATH = click.Path(path_type=Path)


@click.command("backup", help="Write a backup to FILE (- for standard output), also of a running server.")
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--config", "file", type=_PATH, default=None, help="Config file (TOML).")
@click.option("--data-dir", type=_PATH, default=None, help="Where the store and the keys lie.")
def command(target: Path, file: Path | None, data_dir: Path | None) -> None:
    from orchestrator.assembly import backup

    log.configure("warning")  # to stderr: standard output may be the backup
    config = settings.load(file, {"data_dir": data_dir})
    config_file = file or (settings.DEFAULT_CONFIG_FILE if settings.DEFAULT_CONFIG_FILE.exists() else None)
    try:
        if str(target) == "-":
            manifest = backup.take(config, config_file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            manifest = _to_file(target, lambda stream: backup.take(config, config_file, stream))
    except StartupError:
        raise
    except (OrchestratorError, OSError) as error:
        raise StartupError(f"The backup failed: {error}.", "Correct the cause and take it again.") from error
    size = sum(member.size for member in manifest.members.values())
    click.echo(
        f"{target}: revision {manifest.revision}, {manifest.entries} objects, {size / 1e6:.1f} MB. "
        "It holds every key and secret: keep it as safe as the server.",
        err=True,
    )


def _to_file(target: Path, take: "Callable[[IO[bytes]], Manifest]") -> "Manifest":
    """Under another name first: `target` is whole or not there at all."""
    temporary = target.with_name(target.name + ".part")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            manifest = take(stream)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return manifest
