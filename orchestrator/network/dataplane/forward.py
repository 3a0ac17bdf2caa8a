"""Pod traffic beside other tools that drop forwarded packets: one labelled rule at the hook each of them offers.

An `accept` of ours does not overrule another's `drop` on the same kernel hook, so the pod range must be accepted where
the other tool lets its user do so. Docker offers the chain `DOCKER-USER`; further tools (firewalld, ufw) become
further rows of `HOOKS`. Rules of others are never listed, parsed or flushed: our jump is asked for by its exact text.
"""

from dataclasses import dataclass

from orchestrator.network.dataplane import command

DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Hook:
    """A chain in which its owner leaves room for rules of others."""

    tool: str
    table: str
    chain: str


HOOKS = (Hook("docker", "filter", "DOCKER-USER"),)


class ForwardAcceptance:
    """Keeps the jumps to our chain, which accepts whatever comes from or goes to the pod range."""

    def __init__(self, instance: str, pod_cidr: str) -> None:
        self.chain = f"ORC-{instance}"
        self._pod_cidr = pod_cidr
        self._label = f"orchestrator {instance}"

    async def ensure(self) -> bool:
        """Put the rules where a hook exists and they are missing; whether anything was missing."""
        if not command.available("iptables"):
            return False
        changed = False
        for hook in HOOKS:
            if await self._present(hook):
                continue
            if await self._try(hook, "-S", hook.chain):
                await self._install(hook)
                changed = True
        return changed

    async def remove(self) -> None:
        """Take the jumps and our chain away; absent ones are fine."""
        if not command.available("iptables"):
            return
        for hook in HOOKS:
            while await self._try(hook, "-D", hook.chain, *self._jump()):
                pass
            await self._try(hook, "-F", self.chain)
            await self._try(hook, "-X", self.chain)

    async def _present(self, hook: Hook) -> bool:
        if not await self._try(hook, "-C", hook.chain, *self._jump()):
            return False
        return all([await self._try(hook, "-C", self.chain, *accept) for accept in self._accepts()])

    async def _install(self, hook: Hook) -> None:
        await self._try(hook, "-N", self.chain)
        await self._must(hook, "-F", self.chain)
        for accept in self._accepts():
            await self._must(hook, "-A", self.chain, *accept)
        if not await self._try(hook, "-C", hook.chain, *self._jump()):
            await self._must(hook, "-I", hook.chain, "1", *self._jump())

    def _accepts(self) -> tuple[tuple[str, ...], ...]:
        return tuple((side, self._pod_cidr, "-j", "ACCEPT") for side in ("-s", "-d"))

    def _jump(self) -> tuple[str, ...]:
        return ("-m", "comment", "--comment", self._label, "-j", self.chain)

    async def _try(self, hook: Hook, *arguments: str) -> bool:
        outcome = await command.run(
            "iptables", "-w", "5", "-t", hook.table, *arguments, deadline_s=DEADLINE_S
        )
        return outcome.ok

    async def _must(self, hook: Hook, *arguments: str) -> None:
        await command.must("iptables", "-w", "5", "-t", hook.table, *arguments, deadline_s=DEADLINE_S)
