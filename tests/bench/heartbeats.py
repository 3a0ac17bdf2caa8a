"""What the heartbeats of an idle cluster write: a lease per node every ten seconds, a status every five minutes.

`heartbeat_bytes` gives a store of its own one simulated hour of them, each as durable as any write, and reads
what this process sent to the disk from `/proc/self/io`. Nodes renew one after the other, evenly spread, so that
no two share a sync: the worst case. The first allocation of the log is not counted, later ones are.

Run alone: `python -m tests.bench.heartbeats`; also rows of `tests.bench.store`.
"""

import asyncio
import json
import tempfile
from pathlib import Path

from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Compare, Put, Txn
from tests.bench.report import row

RENEW_S = 10.0
REPORT_S = 300.0
TARGET_BYTES = 4 * 1024 * 1024
"""Per node and hour."""


def heartbeat_bytes(directory: Path, nodes: int, hours: float = 1.0) -> float:
    """Bytes written to disk per node and simulated hour. `directory` must be on a disk, not in memory."""
    return asyncio.run(_run(directory, nodes, hours)) / nodes / hours


async def _run(directory: Path, nodes: int, hours: float) -> int:
    clock = VirtualClock()
    supervisor = Supervisor("heartbeats", clock)
    store = await LogStore.open(directory, clock, supervisor)
    try:
        revisions = {}
        for node in range(nodes):
            for key, value in ((_lease_key(node), _lease(node, 0.0)), (_node_key(node), _status(node, 0.0))):
                revisions[key] = (await store.transact(Txn((), (Put(key, value),)))).revision
        before = written_bytes()
        for beat in range(int(hours * 3600 / RENEW_S)):
            for node in range(nodes):
                await clock.advance(RENEW_S / nodes)
                await _beat(store, revisions, node, clock.monotonic_s(), beat)
        return written_bytes() - before
    finally:
        await store.close()
        await supervisor.stop()


async def _beat(store: LogStore, revisions: dict[str, int], node: int, now_s: float, beat: int) -> None:
    puts = [(_lease_key(node), _lease(node, now_s))]
    if beat % int(REPORT_S / RENEW_S) == node % int(REPORT_S / RENEW_S):
        puts.append((_node_key(node), _status(node, now_s)))
    for key, value in puts:
        result = await store.transact(Txn((Compare(key, revisions[key]),), (Put(key, value),)))
        assert result.succeeded
        revisions[key] = result.revision


def written_bytes() -> int:
    """What this process has sent to disks."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def _lease_key(node: int) -> str:
    return f"/registry/leases/kube-node-lease/node-{node}"


def _node_key(node: int) -> str:
    return f"/registry/minions/node-{node}"


def _metadata(node: int) -> dict[str, object]:
    uid = f"8d2bd1b6-0d4a-4b9c-9a53-{node:012d}"
    return {"name": f"node-{node}", "creationTimestamp": "2026-01-01T00:00:00Z", "uid": uid}


def _lease(node: int, now_s: float) -> bytes:
    """As the agent writes it."""
    metadata = _metadata(node)
    owner = {"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"]}
    spec = {"holderIdentity": metadata["name"], "leaseDurationSeconds": 40, "renewTime": _time(now_s)}
    body = {
        "metadata": {**metadata, "namespace": "kube-node-lease", "ownerReferences": [owner]},
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "spec": spec,
    }
    return json.dumps(body, separators=(",", ":")).encode()


def _status(node: int, now_s: float) -> bytes:
    """A node with the usual labels, conditions and resources, and forty images of 100 bytes each."""
    condition = {
        "lastHeartbeatTime": _time(now_s),
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "message": "kubelet has sufficient memory available",
        "reason": "KubeletHasSufficientMemory",
        "status": "False",
    }
    resources = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    body = {
        "metadata": {**_metadata(node), "labels": {f"kubernetes.io/label-{n}": "x" * 12 for n in range(8)}},
        "apiVersion": "v1",
        "kind": "Node",
        "spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": kind, **condition} for kind in ("Memory", "Disk", "PID", "Ready")],
            "images": [
                {"names": ["registry.example/" + "y" * 60], "sizeBytes": 100_000_000} for _ in range(40)
            ],
        },
    }
    return json.dumps(body, separators=(",", ":")).encode()


def _time(now_s: float) -> str:
    return f"2026-01-01T{int(now_s // 3600) % 24:02d}:{int(now_s // 60) % 60:02d}:{now_s % 60:09.6f}Z"


async def measure_heartbeats(directory: Path, seconds: float = 0.0) -> None:
    """Print a row for one node's hour and one for a hundred nodes' six minutes; `seconds` does not matter."""
    for nodes, hours in ((1, 1.0), (100, 0.1)):
        written = await _run(directory / f"nodes-{nodes}", nodes, hours)
        name = f"heartbeats, bytes on disk per node and hour, {nodes} nodes"
        row("store", name, written / nodes / hours, "B", "lower", TARGET_BYTES)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="orc-heartbeats-", dir="/var/tmp") as made:
        asyncio.run(measure_heartbeats(Path(made)))
