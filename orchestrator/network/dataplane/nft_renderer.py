"""`ServiceRenderer` on nftables: applies what `nft_model` plans, in one transaction each.

Owner of the table `ip orc<instance>`. One caller (the Service proxy), one `apply` at a time.
"""

import asyncio
import ipaddress
import struct

import structlog

from orchestrator.network.dataplane import conntrack, nfnetlink, nft
from orchestrator.network.dataplane.interface import Endpoint, NetworkError, ServiceRules
from orchestrator.network.dataplane.nft_model import NftModel, Plan
from orchestrator.network.dataplane.render_nft import Client, client_key, element_lines, stale_clients

log = structlog.get_logger(__name__)

COMMIT_TRIES = 3
SMALL_CHANGE = 200
"""Up to so many changed ports a script is written on the event loop, beyond on a thread."""

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
_client_key = struct.Struct("!4s4sB3xH2x")
_endpoint = struct.Struct("!4sH2x")


class NftRenderer:
    """Service rules in one table. `local_pods` is this node's pod range."""

    def __init__(self, instance: str, local_pods: str) -> None:
        self.table = f"orc{instance}"
        self._model = NftModel(self.table, local_pods)
        self._guard = nft.TableGuard(self.table)

    async def apply(self, rules: ServiceRules) -> None:
        plan = await asyncio.to_thread(self._model.plan, rules)
        script = await self._script(plan)
        if not script:
            self._model.commit(plan, rules)
            return
        try:
            await self._commit(plan, rules, script)
        except NetworkError as error:
            log.warning("writing the Service rules anew", cause=str(error), full=plan.full)
            await self._rewrite(rules)
        await self._clean_up(plan)

    async def check(self) -> bool:
        intact = await self._guard.intact()
        if not intact:
            self._model.forget()
        return intact

    async def remove(self) -> None:
        self._guard.forget()
        self._model.forget()
        await nft.delete_table(self.table)

    async def _script(self, plan: Plan) -> str:
        if plan.full or len(plan.changed) > SMALL_CHANGE:
            return await asyncio.to_thread(lambda: plan.script)
        return plan.script

    async def _commit(self, plan: Plan, rules: ServiceRules, script: str) -> None:
        """Apply and record. When somebody else commits in the same moment his change may have hit us: do all anew."""
        alone = await self._send(plan, rules, script)
        for _ in range(COMMIT_TRIES):
            if alone:
                return
            self._model.forget()
            plan = await asyncio.to_thread(self._model.plan, rules)
            alone = await self._send(plan, rules, await self._script(plan))

    async def _send(self, plan: Plan, rules: ServiceRules, script: str) -> bool:
        self._guard.forget()
        try:
            alone = await self._guard.commit(script)
        except BaseException:
            self._model.forget()
            raise
        self._model.commit(plan, rules)
        self._guard.expect(self._model.counts)
        return alone

    async def _rewrite(self, rules: ServiceRules) -> None:
        """Remove the table and write it from nothing: remembered clients are lost, everything else is right."""
        self._model.forget()
        plan = await asyncio.to_thread(self._model.plan, rules)
        start = f"add table ip {self.table}\ndelete table ip {self.table}\n"
        await self._send(plan, rules, start + await self._script(plan))

    async def _clean_up(self, plan: Plan) -> None:
        """Drop what the kernel remembers of endpoints that are gone."""
        await conntrack.forget(conntrack.stale_flows(plan.changed))
        had_clients = any(old is not None and old.affinity_s > 0 for old, _ in plan.changed)
        if plan.full or had_clients:
            await self._forget_clients()

    async def _forget_clients(self) -> None:
        clients = await asyncio.to_thread(self._clients)
        stale = stale_clients(clients, self._model.ports)
        for client in stale:
            # One by one: an entry may time out meanwhile, and its absence must not spare the others.
            try:
                entry = {"clients": {client_key(client): ""}}
                await self._guard.amend("".join(element_lines(self.table, "delete", entry)))
            except NetworkError as error:
                log.debug("remembered client was gone already", cause=str(error))

    def _clients(self) -> list[Client]:
        for _ in range(nft.READ_TRIES):
            try:
                return [_client(key, data) for key, data in nfnetlink.elements(self.table, "clients")]
            except nfnetlink.Interrupted:
                continue
        raise NetworkError("nftables' elements change too fast to be read.")


def _client(key: bytes, data: bytes) -> Client:
    source, address, protocol, port = _client_key.unpack(key)
    endpoint, number = _endpoint.unpack(data)
    return (
        str(ipaddress.IPv4Address(source)),
        str(ipaddress.IPv4Address(address)),
        _PROTOCOLS.get(protocol, str(protocol)),
        port,
        Endpoint(str(ipaddress.IPv4Address(endpoint)), number),
    )
