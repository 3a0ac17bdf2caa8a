"""What controllers look at in pods and nodes: slotted projections, decoded from stored bytes once per revision.

Decoding a projection costs a fraction of decoding the whole object, and keeps a tenth of its memory. The
cache is bounded, first in first out, and shared by all controllers of the process.
"""

from typing import Any

import msgspec

from orchestrator.api.item import Item
from orchestrator.api.times import seconds

CACHED_MAX = 20_000


class Condition(msgspec.Struct, rename="camel"):
    type: str
    status: str
    reason: str = ""
    last_transition_time: str | None = None


class Port(msgspec.Struct, rename="camel"):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(msgspec.Struct, rename="camel"):
    ports: list[Port] | None = None
    restart_policy: str | None = None


class Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    containers: list[Container] = []
    init_containers: list[Container] | None = None
    tolerations: list[dict[str, Any]] | None = None


class Address(msgspec.Struct):
    ip: str = ""


class Restarts(msgspec.Struct, rename="camel"):
    restart_count: int = 0


class Status(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = "Pending"
    conditions: list[Condition] | None = None
    container_statuses: list[Restarts] | None = None
    init_container_statuses: list[Restarts] | None = None
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[Address] | None = msgspec.field(default=None, name="podIPs")


class Metadata(msgspec.Struct, rename="camel"):
    annotations: dict[str, str] | None = None
    creation_timestamp: str = ""


_NO_STATUS = Status()
_NO_SPEC = Spec()


class PodView(msgspec.Struct):
    """A pod as far as controllers decide by it. Labels, owners and deletion stand in `Item.meta`."""

    metadata: Metadata
    spec: Spec = _NO_SPEC
    status: Status = _NO_STATUS
    ready: bool = False
    """Whether the Ready condition is True; a terminating pod may still be. Computed once: it is asked for most."""
    finished: bool = False
    """Whether no container of it will run again."""

    def __post_init__(self) -> None:
        condition = self.condition("Ready")
        self.ready = condition is not None and condition.status == "True"
        self.finished = self.status.phase in ("Succeeded", "Failed")

    def condition(self, kind: str) -> Condition | None:
        return next((c for c in self.status.conditions or () if c.type == kind), None)

    @property
    def ips(self) -> list[str]:
        ips = [address.ip for address in self.status.pod_ips or () if address.ip]
        return ips or ([self.status.pod_ip] if self.status.pod_ip else [])


_decoder = msgspec.json.Decoder(PodView)
_views: dict[str, tuple[int, PodView]] = {}


def pod_view(item: Item) -> PodView:
    """The projection of a pod, from the cache when this revision was looked at before."""
    uid = item.meta.uid
    known = _views.get(uid)
    if known is not None and known[0] == item.revision:
        return known[1]
    view = _decoder.decode(item.raw)
    _views.pop(uid, None)
    _views[uid] = (item.revision, view)
    if len(_views) > CACHED_MAX:
        del _views[next(iter(_views))]
    return view


def available_in_s(view: PodView, min_ready_s: int, now_s: float) -> float:
    """Seconds until a ready pod counts as available; 0 when it does."""
    condition = view.condition("Ready")
    if not min_ready_s or condition is None or not condition.last_transition_time:
        return 0.0
    return max(0.0, seconds(condition.last_transition_time) + min_ready_s - now_s)


def node_index(item: Item) -> tuple[str, ...]:
    """Index function `node` of pods: the node it is bound to, if any."""
    name = pod_view(item).spec.node_name
    return (name,) if name else ()
