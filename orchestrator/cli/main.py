"""The `orchestrator` command. Each command's module is imported when it is called, so that help is instant."""

import importlib
import sys
from typing import Any

import click

from orchestrator import KUBERNETES_VERSION, __version__
from orchestrator.base.errors import StartupError

COMMANDS = {
    "server": ("orchestrator.cli.server", "Run a server: API, store, scheduler, controllers and node agent."),
    "controllers": ("orchestrator.cli.controllers", "Print which controller watches and writes what."),
    "resources": ("orchestrator.cli.resources", "Print every resource and the verbs it serves."),
    "why": ("orchestrator.cli.why", "Say why a pod is on its node, or on none."),
    "cleanup": ("orchestrator.cli.cleanup", "Remove from this host everything that a stopped server made."),
    "backup": ("orchestrator.cli.backup", "Write a backup, also of a running server."),
    "restore": ("orchestrator.cli.restore", "Put a backup where a stopped server's data belong."),
    "store": (
        "orchestrator.cli.store",
        "Look at the store and look after it: check, stats, compact, rotate-key.",
    ),
    "config": ("orchestrator.cli.settings", "Print the settings in force."),
    "demo": ("orchestrator.cli.demo", "Build the demo application's image on this host."),
}


class _Lazy(click.Group):
    """Knows the names and summaries of its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: Any = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"orchestrator %(version)s, Kubernetes {KUBERNETES_VERSION}")
def cli() -> None:
    """Kubernetes in one process."""


def main() -> None:
    """Run the command; a known failure ends with its cause and the fix, and code 1."""
    try:
        cli(standalone_mode=True)
    except StartupError as error:
        click.echo(f"error: {error.cause}\n  fix: {error.fix}", err=True)
        sys.exit(1)
