"""`orchestrator controllers`: the graph of controllers, from their declarations."""

import click

from orchestrator.api.access import component
from orchestrator.api.resources import ResourceTable
from orchestrator.base.clock import SystemClock
from orchestrator.client.events import EventRecorder
from orchestrator.controllers.all import build, graph


def page() -> str:
    """The graph of the controllers that a server runs; they are built for what they declare, and do nothing."""
    client: object = component("kube-controller-manager")
    clock = SystemClock()
    recorder = EventRecorder(client, "", "", clock)  # type: ignore[arg-type]  # declarations only: nothing runs
    controllers = build(
        client,  # type: ignore[arg-type]
        clock,
        recorder,
        ResourceTable(),
        ca_pem="",
        pod_cidr="10.42.0.0/16",
        sign=lambda request, usages, life_s: b"",
        issue=lambda namespace, name, uid, secret: "",
    )
    return graph(controllers)


@click.command("controllers", help="Print one line per controller: watches → name → writes.")
def command() -> None:
    click.echo(page())
