"""What a pod takes from a node, from the specs of its containers. Pure.

Units: CPU in thousandths, memory and storage in bytes, everything else in whole units. Also the part of a pod's spec
that the scheduler decodes at all (`Spec`), in one place so that decoding stays cheap.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from orchestrator.api.quantity import as_int, as_milli

DEFAULT_SCHEDULER = "default-scheduler"
SCORED_CPU_MILLI = 100
SCORED_MEMORY_BYTES = 200 * 1024 * 1024
"""What a container without a request counts as when nodes are compared (not when they are filtered)."""


class Resources(msgspec.Struct, omit_defaults=True):
    requests: dict[str, str | int | float] | None = None


class Port(msgspec.Struct, rename="camel", omit_defaults=True):
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")
    protocol: str = "TCP"


class Container(msgspec.Struct, rename="camel", omit_defaults=True):
    image: str = ""
    resources: Resources | None = None
    ports: list[Port] | None = None
    restart_policy: str = ""


class Volume(msgspec.Struct, rename="camel", omit_defaults=True):
    """A pod's volume, as far as it says where the pod can run."""

    name: str = ""
    persistent_volume_claim: dict[str, Any] | None = None
    ephemeral: dict[str, Any] | None = None
    gce_persistent_disk: dict[str, Any] | None = None
    aws_elastic_block_store: dict[str, Any] | None = msgspec.field(default=None, name="awsElasticBlockStore")
    iscsi: dict[str, Any] | None = None
    rbd: dict[str, Any] | None = None


class Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    """The part of a pod's spec that decisions read."""

    node_name: str = ""
    scheduler_name: str = DEFAULT_SCHEDULER
    priority: int = 0
    preemption_policy: str = ""
    node_selector: dict[str, str] | None = None
    affinity: dict[str, Any] | None = None
    tolerations: list[dict[str, Any]] | None = None
    containers: list[Container] = []
    init_containers: list[Container] | None = None
    overhead: dict[str, str | int | float] | None = None
    resources: Resources | None = None
    scheduling_gates: list[Any] | None = None
    topology_spread_constraints: list[dict[str, Any]] | None = None
    volumes: list[Volume] | None = None
    resource_claims: list[dict[str, Any]] | None = None


@lru_cache(maxsize=8192)
def amount(resource: str, quantity: str | int | float) -> int:
    """A quantity in the unit of its resource, rounded up."""
    return as_milli(quantity) if resource == "cpu" else as_int(quantity)


def pod_requests(spec: Spec) -> tuple[tuple[str, int], ...]:
    """What the pod takes from a node: all containers and sidecars, or an init container with the sidecars
    started before it, whichever is more; pod-level requests replace that; overhead is added."""
    total = _effective(spec, lambda container: _amounts(container.resources))
    if spec.resources is not None:
        total |= _amounts(spec.resources)
    for name, value in (spec.overhead or {}).items():
        total[name] = total.get(name, 0) + amount(name, value)
    total["pods"] = 1
    return tuple(sorted((name, value) for name, value in total.items() if value))


def scored_requests(spec: Spec, requests: Mapping[str, int]) -> tuple[int, int]:
    """CPU and memory with defaults for containers that request none."""
    total = _effective(spec, _with_defaults)
    pod_level = _amounts(spec.resources)
    total |= {name: value for name, value in pod_level.items() if name in ("cpu", "memory")}
    for name in ("cpu", "memory"):
        extra = (spec.overhead or {}).get(name)
        total[name] = total.get(name, 0) + (amount(name, extra) if extra is not None else 0)
    return max(total["cpu"], requests.get("cpu", 0)), max(total["memory"], requests.get("memory", 0))


def _with_defaults(container: Container) -> dict[str, int]:
    found = _amounts(container.resources)
    return {
        "cpu": found.get("cpu", SCORED_CPU_MILLI),
        "memory": found.get("memory", SCORED_MEMORY_BYTES),
    }


def _effective(spec: Spec, of: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for container in spec.containers:
        _add(total, of(container))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.init_containers or ():
        wanted = of(container)
        if container.restart_policy == "Always":
            _add(sidecars, wanted)
            _add(total, wanted)
            wanted = {}
        for name in sidecars.keys() | wanted.keys():
            peak[name] = max(peak.get(name, 0), sidecars.get(name, 0) + wanted.get(name, 0))
    for name, value in peak.items():
        total[name] = max(total.get(name, 0), value)
    return total


def _add(total: dict[str, int], amounts: dict[str, int]) -> None:
    for name, value in amounts.items():
        total[name] = total.get(name, 0) + value


def _amounts(resources: Resources | None) -> dict[str, int]:
    if resources is None or not resources.requests:
        return {}
    return {name: amount(name, value) for name, value in resources.requests.items()}
