"""`orchestrator restore`: a server's data from a backup. Refused while the server runs or where data lie already."""

from pathlib import Path

import click

from orchestrator import config as settings
from orchestrator.base import log
from orchestrator.base.errors import OrchestratorError, StartupError

_PATH = click.Path(path_type=Path)


@click.command("restore", help="Put the backup FILE where a stopped server's data belong.")
@click.argument("source", metavar="FILE", type=_PATH)
@click.option("--config", "file", type=_PATH, default=None, help="Config file (TOML).")
@click.option("--data-dir", type=_PATH, default=None, help="Where the data go.")
@click.option("--force", is_flag=True, help="Set data that are there aside instead of refusing.")
def command(source: Path, file: Path | None, data_dir: Path | None, force: bool) -> None:
    from orchestrator.assembly import backup
    from orchestrator.store.backup import Backup

    log.configure("warning")
    found = Backup.open(source)
    flags, config_file = {"data_dir": data_dir}, file or settings.DEFAULT_CONFIG_FILE
    config = settings.load(config_file, flags) if config_file.exists() else backup.settings_in(found, flags)
    try:
        done = backup.restore(
            found, config, config_file, force=force, tell=lambda text: click.echo(text, err=True)
        )
    except StartupError:
        raise
    except (OrchestratorError, OSError) as error:
        raise StartupError(
            f"The restore failed: {error}.", "Correct the cause and run it again with --force."
        ) from error
    manifest = done.manifest
    click.echo(
        f"restored {manifest.entries} objects of {manifest.created} (revision {manifest.revision}, "
        f"instance {manifest.instance}) to {config.data_dir}; the revision goes on at {done.revision}"
    )
    if done.aside is not None:
        click.echo(f"what was there before is in {done.aside}")
    if done.config is not None:
        click.echo(f"the backup's configuration is in {done.config}")
