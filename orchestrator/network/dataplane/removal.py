"""Takes an instance's network off a host on which no daemon of it runs any more. Called by `orchestrator cleanup`.

Everything is found by the instance's name, never by what a daemon remembers, and may be absent.
"""

from pathlib import Path

from orchestrator.network.dataplane import command, nft
from orchestrator.network.dataplane.podnet import BridgePodNetwork


async def remove_everything(instance: str, pod_cidr: str, service_cidr: str, state_dir: Path) -> None:
    """Remove links with their addresses and routes, tables, labelled rules, and put kernel settings back.

    `state_dir` is the one that the pod network had. Raises `NetworkError` naming what could not be removed.
    """
    network = BridgePodNetwork(instance, pod_cidr, pod_cidr, state_dir, service_cidr=service_cidr)
    try:
        if command.available("nft"):
            await nft.delete_table(f"orc{instance}")
        await network.remove()
    finally:
        await network.close()
