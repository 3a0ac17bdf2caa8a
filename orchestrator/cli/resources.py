"""`orchestrator resources`: every resource and verb that this version serves, from the resource table."""

from collections.abc import Iterable

import click
from tabulate import tabulate

from orchestrator.api.resources import BUILT_IN, Resource

VERBS = ("create", "get", "list", "watch", "update", "patch", "delete", "deletecollection")


@click.command(
    "resources", help="Print a table of every built-in resource and the verbs it serves, in Markdown."
)
def command() -> None:
    click.echo(page())


def page() -> str:
    """The table, a row for each resource and each subresource, in the order of discovery."""
    rows = [line for resource in BUILT_IN for line in _lines(resource)]
    return tabulate(rows, ["group/version", "resource", "kind", *VERBS], tablefmt="github")


def _lines(resource: Resource) -> Iterable[list[str]]:
    name = resource.plural + (f" ({', '.join(resource.short_names)})" if resource.short_names else "")
    yield [resource.api_version, name, resource.kind, *_marks(resource.verbs)]
    for below in resource.subresources:
        yield [resource.api_version, f"{resource.plural}/{below.name}", below.kind, *_marks(below.verbs)]


def _marks(verbs: Iterable[str]) -> list[str]:
    served = set(verbs)
    return ["✓" if verb in served else "" for verb in VERBS]
