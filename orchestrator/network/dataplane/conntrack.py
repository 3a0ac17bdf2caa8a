"""Forgetting tracked UDP flows to endpoints that are gone.

A UDP client that keeps its port would be sent to the vanished endpoint for as long as it talks, because rules only
see the first packet of a flow. TCP ends by itself: a new connection is a new flow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import structlog

from orchestrator.network.dataplane import command
from orchestrator.network.dataplane.interface import NetworkError, ServicePort

log = structlog.get_logger(__name__)

DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """Flows to one front; `endpoint` empty means all of them (those that met no endpoint yet)."""

    address: str
    """Empty for a node port, on whatever address."""
    port: int
    endpoint: str


def stale_flows(changed: Iterable[tuple[ServicePort | None, ServicePort | None]]) -> list[Flow]:
    """The flows that a change of rules leaves behind. Pure."""
    flows: set[Flow] = set()
    for old, new in changed:
        if old is not None and old.protocol == "udp":
            flows.update(_lost(old, new))
            if new is not None and new.endpoints and not old.endpoints:
                flows.update(Flow(address, port, "") for address, port in _fronts(new))
    return sorted(flows)


def _lost(old: ServicePort, new: ServicePort | None) -> Iterator[Flow]:
    kept_fronts = set(_fronts(new)) if new is not None else set()
    kept = {endpoint.address for endpoint in new.endpoints} if new is not None else set()
    for address, port in _fronts(old):
        for endpoint in {endpoint.address for endpoint in old.endpoints}:
            if endpoint not in kept or (address, port) not in kept_fronts:
                yield Flow(address, port, endpoint)


def _fronts(port: ServicePort) -> Iterator[tuple[str, int]]:
    for address in port.addresses:
        yield address, port.port
    if port.node_port:
        yield "", port.node_port


async def forget(flows: Iterable[Flow]) -> None:
    """Remove the entries. Failures are logged: the rules are right, only old flows would linger."""
    for flow in flows:
        arguments = ["conntrack", "-D", "-f", "ipv4", "-p", "udp", "--orig-port-dst", str(flow.port)]
        arguments += ["--orig-dst", flow.address] if flow.address else []
        arguments += ["--reply-src", flow.endpoint] if flow.endpoint else []
        try:
            outcome = await command.run(*arguments, deadline_s=DEADLINE_S)
        except NetworkError as error:
            log.warning("stale UDP flows stay", cause=str(error))
            return
        if not outcome.ok and "0 flow entries" not in outcome.errors:
            log.warning("stale UDP flows stay", flow=flow, cause=outcome.errors.strip())
