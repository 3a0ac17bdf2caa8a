"""`orchestrator why pod NAME`: per node, the filter that refuses the pod or its score by plugin."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from orchestrator import config as settings
from orchestrator.base.errors import StartupError
from orchestrator.pki.kubeconfig import connection

_PATH = click.Path(path_type=Path)
TIMEOUT_S = 30.0


def page(answer: dict[str, Any]) -> str:
    """The answer as a table: nodes that fit first, the best at the top."""
    place = f"is on {answer['node']}" if answer["node"] else "has no node"
    if answer["nominatedNode"] and not answer["node"]:
        place += f", waits for room on {answer['nominatedNode']}"
    if answer["gated"]:
        place += ", waits for its scheduling gates"
    nodes = sorted(answer["nodes"].items(), key=lambda entry: (-entry[1].get("total", -1), entry[0]))
    rows = [_row(name, entry) for name, entry in nodes]
    head = f"Pod {answer['pod']} {place} (scheduler {answer['scheduler']})."
    return f"{head}\n\n{tabulate(rows, ('NODE', 'SCORE', 'WHY'), tablefmt='plain')}" if rows else head


def _row(name: str, entry: dict[str, Any]) -> tuple[str, str, str]:
    if "filter" in entry:
        return name, "-", f"{entry['filter']}: {', '.join(entry['reasons'])}"
    parts = sorted(entry["scores"].items(), key=lambda part: (-part[1], part[0]))
    return name, str(entry["total"]), ", ".join(f"{plugin} {score}" for plugin, score in parts)


@click.command("why", help="Say why a pod is on its node, or on none.")
@click.argument("kind", type=click.Choice(["pod"]))
@click.argument("name")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("--config", "file", type=_PATH, default=None, help="The settings file.")
@click.option("--kubeconfig", type=_PATH, default=None, help="The admin's, to ask a running server.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    kind: str, name: str, namespace: str, file: Path | None, kubeconfig: Path | None, as_json: bool
) -> None:
    config = settings.load(file, {"write_kubeconfig": kubeconfig})
    server, context = connection(config.write_kubeconfig)
    url = f"{server}/api/v1/namespaces/{namespace}/pods/{name}/why"
    try:
        with urllib.request.urlopen(url, context=context, timeout=TIMEOUT_S) as response:
            answer = json.loads(response.read())
    except urllib.error.HTTPError as error:
        message = json.loads(error.read() or b"{}").get("message") or str(error)
        raise StartupError(message, "Look with: kubectl get pods --all-namespaces") from error
    except OSError as error:
        raise StartupError(
            f"The server does not answer: {error}", "Start it, or name its kubeconfig."
        ) from error
    click.echo(json.dumps(answer, indent=2) if as_json else page(answer))
