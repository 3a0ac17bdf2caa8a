"""Which Service renderer this host can run. nftables now; iptables becomes a second row of the choice."""

from orchestrator.base.errors import StartupError
from orchestrator.network.dataplane import command
from orchestrator.network.dataplane.interface import NetworkError, ServiceRenderer, ServiceRules
from orchestrator.network.dataplane.nft_model import NftModel
from orchestrator.network.dataplane.nft_renderer import NftRenderer

PROBE_DEADLINE_S = 10.0


async def select_renderer(instance: str, local_pods: str) -> ServiceRenderer:
    """The renderer for this host. Raises `StartupError` saying what is missing; changes nothing."""
    await _probe_nft()
    return NftRenderer(instance, local_pods)


async def _probe_nft() -> None:
    """Let the kernel check, without doing it, everything that our rules use."""
    probe = NftModel("orcprobe", "10.42.0.0/24").plan(ServiceRules((), "10.42.0.0/16", "10.43.0.0/16", ()))
    try:
        await command.must("nft", "-c", "-f", "-", stdin=probe.script, deadline_s=PROBE_DEADLINE_S)
    except NetworkError as error:
        raise StartupError(
            f"Service rules can't be set on this host: {error}",
            "Install the package nftables and run as root on a kernel with nf_tables and NAT (5.10 or later).",
        ) from error
