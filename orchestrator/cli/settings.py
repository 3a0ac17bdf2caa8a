"""`orchestrator config`: the settings in force, so that scripts need not read TOML themselves."""

from dataclasses import fields
from pathlib import Path

import click

from orchestrator import config as settings
from orchestrator.base.errors import StartupError
from orchestrator.config import Config


@click.command("config", help="Print the settings in force, or the values of KEYs, one per line.")
@click.option("--config", "file", type=click.Path(path_type=Path), default=None, help="Config file (TOML).")
@click.argument("keys", nargs=-1)
def command(file: Path | None, keys: tuple[str, ...]) -> None:
    config = settings.load(file, {})
    config.check()
    known = [field.name for field in fields(Config)]
    for key in keys or known:
        if key not in known:
            raise StartupError(f"There is no setting {key!r}.", f"Known settings: {', '.join(known)}.")
        text = toml_value(getattr(config, key))
        click.echo(text.strip('"') if keys else f"{key} = {text}")


def toml_value(value: object) -> str:
    """The value as it stands in a config file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(part) for part in value) + "]"
    return str(value) if isinstance(value, int) else f'"{value}"'
