"""What a simulated container uses: steady figures that follow from its spec, so that autoscaling can be tried.

A quarter of the CPU that it requests (1 m without a request) and a quarter of its memory limit (16 MiB without
one), unless its environment says otherwise: `SIMULATED_CPU` in cores or `250m`, `SIMULATED_MEMORY` in bytes.
"""

from collections.abc import Mapping
from functools import lru_cache

from orchestrator.runtime.interface import ContainerSpec
from orchestrator.runtime.usage import Interface, Usage

CPU, MEMORY = "SIMULATED_CPU", "SIMULATED_MEMORY"
IDLE_CORES = 0.001
MEMORY_BYTES = 16 << 20
SHARES_PER_CORE = 1024
SHARES_LEAST = 2
PACKET_BYTES = 512


def usage(spec: ContainerSpec, ran_s: float) -> Usage:
    """Of a container that has run for `ran_s` seconds."""
    env, resources = dict(spec.env), spec.resources
    memory = _memory_bytes(env, resources.memory_limit_bytes)
    cpu_ns = int(max(0.0, ran_s) * _cores(env, resources.cpu_shares) * 1e9)
    return Usage(
        cpu_ns=cpu_ns,
        cpu_user_ns=cpu_ns,
        memory_bytes=memory,
        working_set_bytes=memory,
        rss_bytes=memory,
        memory_limit_bytes=resources.memory_limit_bytes,
        memory_peak_bytes=memory,
        processes=1,
        cpu_quota_us=resources.cpu_quota_us,
        cpu_period_us=resources.cpu_period_us,
        cpu_shares=resources.cpu_shares,
    )


def network(ran_s: float) -> tuple[Interface, ...]:
    """A packet each way per second."""
    packets = int(max(0.0, ran_s))
    amount = packets * PACKET_BYTES
    return (Interface("eth0", amount, packets, 0, 0, amount, packets),)


def _cores(env: Mapping[str, str], shares: int) -> float:
    said = _decimal(env.get(CPU, ""))
    if said is not None:
        return said
    return shares / SHARES_PER_CORE / 4 if shares > SHARES_LEAST else IDLE_CORES


def _memory_bytes(env: Mapping[str, str], limit_bytes: int) -> int:
    said = env.get(MEMORY, "")
    if said.isascii() and said.isdecimal():
        return int(said[:15])
    return limit_bytes // 4 or MEMORY_BYTES


@lru_cache(maxsize=64)
def _decimal(text: str) -> float | None:
    """`0.5` or `500m`."""
    try:
        value = float(text.removesuffix("m"))
    except ValueError:
        return None
    value = value / 1000 if text.endswith("m") else value
    return value if 0 <= value < 1e6 else None
