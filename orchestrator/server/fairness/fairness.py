"""Fairness: the configuration in force, and from a request to its flow. Owner of the levels and the counts.

`configure` takes the FlowSchemas and PriorityLevelConfigurations as they are in the API (`assembly.fairness`
does so at every change); levels keep who is in them. Classifying is one dictionary lookup for a kind of request
that was seen before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.api.access import Identity
from orchestrator.api.item import Object
from orchestrator.server.fairness import defaults
from orchestrator.server.fairness.level import Level, Pool, shape_of
from orchestrator.server.fairness.match import Test, matcher, names_namespaces
from orchestrator.server.paths import RequestInfo
from orchestrator.web.answer import header

SEATS_MAX = 600
"""Requests worked on at once by this server, exempt ones aside: Kubernetes' 400 reading and 200 changing."""
KINDS_MAX = 4096
"""Kinds of requests whose flow is remembered. Anybody can ask for new ones, so they are forgotten together."""
WAITS_S = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
FLOW_SCHEMA_UID = "X-Kubernetes-PF-FlowSchema-UID"
LEVEL_UID = "X-Kubernetes-PF-PriorityLevel-UID"

_Kind = tuple[Identity, str, str, str, str, str | bool, str]


@dataclass(eq=False, slots=True)
class Counts:
    """What happened to requests of one FlowSchema at one level. `waits` counts by `WAITS_S`, the last is the rest."""

    dispatched: int = 0
    executing: int = 0
    queued: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    waits: list[int] = field(default_factory=lambda: [0] * (len(WAITS_S) + 1))
    waited_s: float = 0.0


@dataclass(eq=False, slots=True)
class Flow:
    """A FlowSchema in force. `block` and `headers` tell a client what its request was counted as."""

    name: str
    uid: str
    level: Level
    distinguisher: str
    matches: Test
    counts: Counts
    block: bytes
    headers: dict[str, str]

    def of(self, identity: Identity, info: RequestInfo) -> str:
        """The one of this schema's flows that the request is in."""
        if self.distinguisher == "ByUser":
            return f"{self.name}/{identity.name}"
        if self.distinguisher == "ByNamespace":
            return f"{self.name}/{info.namespace}"
        return self.name


class Fairness:
    """Classifies requests. One per server."""

    def __init__(self, seats_max: int = SEATS_MAX) -> None:
        self.pool = Pool(seats_max)
        self.counts: dict[tuple[str, str], Counts] = {}
        """By level and FlowSchema, for metrics; they outlive a change of the configuration that leaves both."""
        self._flows: list[Flow] = []
        self._known: dict[_Kind, Flow] = {}
        self._by_namespace = False
        self.configure((), ())

    def configure(self, schemas: Iterable[Object], levels: Iterable[Object]) -> None:
        """Take these objects; mandatory ones that are missing are imagined. A schema without its level is left out."""
        by_name = _completed(levels, defaults.priority_levels())
        self.pool.configure(
            (name, obj["metadata"].get("uid", ""), shape_of(obj["spec"])) for name, obj in by_name.items()
        )
        wanted = sorted(_completed(schemas, defaults.flow_schemas()).values(), key=_order)
        self._flows = [self._flow(schema) for schema in wanted if level_name(schema) in self.pool.levels]
        self._by_namespace = any(names_namespaces(schema["spec"]) for schema in wanted)
        self._known.clear()
        self._forget_counts()

    def _forget_counts(self) -> None:
        """Those of schemas that are gone, once none of their requests is left."""
        current = {(flow.level.name, flow.name) for flow in self._flows}
        for key, counts in list(self.counts.items()):
            if key not in current and not counts.executing and not counts.queued:
                del self.counts[key]

    def _flow(self, schema: Object) -> Flow:
        metadata, spec = schema["metadata"], schema["spec"]
        level = self.pool.levels[level_name(schema)]
        name, uid = metadata["name"], metadata.get("uid", "")
        counts = self.counts.setdefault((level.name, name), Counts())
        headers = {FLOW_SCHEMA_UID: uid, LEVEL_UID: level.uid} if uid and level.uid else {}
        block = b"".join(header(key, value) for key, value in headers.items())
        distinguisher = (spec.get("distinguisherMethod") or {}).get("type") or ""
        return Flow(name, uid, level, distinguisher, matcher(spec), counts, block, headers)

    def flow_of(self, identity: Identity, info: RequestInfo) -> Flow:
        """The flow of a request: the first FlowSchema by precedence that matches."""
        kind = (
            identity,
            info.verb,
            info.group,
            info.resource,
            info.subresource,
            info.namespace if self._by_namespace else info.namespace != "",
            "" if info.resource else info.path,
        )
        flow = self._known.get(kind)
        if flow is None:
            flow = self._classify(identity, info)
            if len(self._known) >= KINDS_MAX:
                self._known.clear()
            self._known[kind] = flow
        return flow

    def _classify(self, identity: Identity, info: RequestInfo) -> Flow:
        for flow in self._flows:
            if flow.matches(identity, info):
                return flow
        return next(flow for flow in self._flows if flow.name == "catch-all")


def level_name(schema: Object) -> str:
    """The priority level that a FlowSchema names."""
    return str(schema["spec"]["priorityLevelConfiguration"]["name"])


def _order(schema: Object) -> tuple[int, str]:
    precedence = schema["spec"].get("matchingPrecedence")
    return (1000 if precedence is None else precedence), schema["metadata"]["name"]


def _completed(objects: Iterable[Object], standard: list[Object]) -> dict[str, Object]:
    """By name, with the mandatory ones; with nothing at all, as before the first read, the defaults."""
    found = {obj["metadata"]["name"]: obj for obj in objects}
    given = {obj["metadata"]["name"]: obj for obj in standard}
    return {name: obj for name, obj in given.items() if not found or name in defaults.MANDATORY} | found
