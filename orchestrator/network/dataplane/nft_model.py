"""What the nftables renderer last applied, and the smallest script from there to the desired rules.

Pure bookkeeping: `plan` looks, `commit` records; between them the renderer applies the script. A plan is a full
rewrite when nothing was applied yet, when ranges or node addresses change, when one front is claimed twice, or when
asked for; else it adds and deletes only the elements of changed ports.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.network.dataplane.interface import ServicePort, ServiceRules
from orchestrator.network.dataplane.render_nft import (
    SHARED_MAPS,
    SHARED_SETS,
    Elements,
    Kind,
    Layout,
    chains_block,
    element_lines,
    skeleton,
)


@dataclass(slots=True)
class Plan:
    """One change. `script` is empty when the kernel has what is wanted already."""

    layout: Layout
    ports: dict[str, ServicePort]
    full: bool
    deleted: Elements = field(default_factory=dict)
    added: Elements = field(default_factory=dict)
    kinds: set[Kind] = field(default_factory=set)
    timeouts_s: set[int] = field(default_factory=set)
    fronts: dict[tuple[str, str], str] = field(default_factory=dict)
    """Fronts that have a new owner, by name of the port; empty name: nobody any more."""
    hairpins: Counter[str] = field(default_factory=Counter)
    """By how many more (or less) ports each hairpin key is used."""
    disputed: bool = False
    changed: list[tuple[ServicePort | None, ServicePort | None]] = field(default_factory=list)
    """Old and new of each port that differs."""

    @property
    def script(self) -> str:
        parts = [skeleton(self.layout)] if self.full else []
        table = self.layout.table
        parts += element_lines(table, "delete", self.deleted)
        parts.append(chains_block(self.layout, self.kinds, self.timeouts_s))
        parts += element_lines(table, "add", self.added)
        return "".join(parts)


class NftModel:
    """The state of the table as last committed. Owner: the renderer."""

    def __init__(self, table: str, local_pods: str) -> None:
        self._table = table
        self._local_pods = local_pods
        self._rules: ServiceRules | None = None
        self._layout: Layout | None = None
        self._ports: dict[str, ServicePort] = {}
        self._fronts: dict[tuple[str, str], str] = {}
        self._hairpins: Counter[str] = Counter()
        self._kinds: set[Kind] = set()
        self._timeouts_s: set[int] = set()
        self._disputed = False
        self.counts: Counter[str] = Counter()
        """Number of elements in each map and set of fixed content."""

    @property
    def ports(self) -> Iterable[ServicePort]:
        """The ports as committed."""
        return self._ports.values()

    def forget(self) -> None:
        """The kernel's state is unknown: the next plan is a full rewrite."""
        self._rules = None

    def plan(self, rules: ServiceRules) -> Plan:
        """From what is committed to `rules`."""
        ports = {port.name: port for port in rules.ports}
        if self._same_frame(rules) and not self._disputed and self._layout is not None:
            plan = self._change(self._layout, ports)
            if plan is not None:
                return plan
        return self._full(Layout(self._table, self._local_pods, rules), ports)

    def commit(self, plan: Plan, rules: ServiceRules) -> None:
        """The kernel has taken `plan`, made from `rules`."""
        if plan.full:
            self._fronts, self._hairpins = {}, Counter()
            self._kinds, self._timeouts_s = set(), set()
            self.counts = Counter(dict.fromkeys((*SHARED_MAPS, *SHARED_SETS), 0))
        self._rules, self._layout, self._ports = rules, plan.layout, plan.ports
        self._disputed = plan.disputed
        self._kinds |= plan.kinds
        self._timeouts_s |= plan.timeouts_s
        self._hairpins.update(plan.hairpins)
        self._settle_fronts(plan.fronts)
        for sign, elements in ((-1, plan.deleted), (1, plan.added)):
            for name, entries in elements.items():
                self.counts[name] += sign * len(entries)

    def _settle_fronts(self, fronts: Mapping[tuple[str, str], str]) -> None:
        for front, name in fronts.items():
            if name:
                self._fronts[front] = name
            else:
                self._fronts.pop(front, None)

    def _same_frame(self, rules: ServiceRules) -> bool:
        had = self._rules
        return had is not None and (had.pod_cidr, had.service_cidr, had.node_addresses) == (
            rules.pod_cidr,
            rules.service_cidr,
            rules.node_addresses,
        )

    def _full(self, layout: Layout, ports: dict[str, ServicePort]) -> Plan:
        plan = Plan(layout, ports, full=True)
        plan.changed = list(_differences(self._ports, ports))
        for name in sorted(ports):
            self._claim(plan, ports[name], {})
        plan.added.setdefault("hairpin", {}).update(dict.fromkeys(plan.hairpins, ""))
        return plan

    def _change(self, layout: Layout, ports: dict[str, ServicePort]) -> Plan | None:
        """The difference; None when a front is claimed twice, which only a full rewrite settles."""
        plan = Plan(layout, ports, full=False)
        plan.changed = list(_differences(self._ports, ports))
        for old, _ in plan.changed:
            if old is not None:
                self._yield_up(plan, old)
        for _, new in plan.changed:
            if new is not None:
                self._claim(plan, new, self._fronts)
        if plan.disputed:
            return None
        self._count_hairpins(plan)
        _cancel_out(plan.deleted, plan.added)
        plan.kinds -= self._kinds
        plan.timeouts_s -= self._timeouts_s
        return plan

    def _yield_up(self, plan: Plan, port: ServicePort) -> None:
        for front in plan.layout.fronts(port):
            plan.fronts[front.prefix, front.key] = ""
            for name, key, value in plan.layout.elements(port, front):
                plan.deleted.setdefault(name, {})[key] = value
        plan.hairpins.subtract(plan.layout.hairpins(port))

    def _claim(self, plan: Plan, port: ServicePort, taken: Mapping[tuple[str, str], str]) -> None:
        for front in plan.layout.fronts(port):
            place = (front.prefix, front.key)
            if plan.fronts.get(place, taken.get(place)):
                plan.disputed = True
                continue
            plan.fronts[place] = port.name
            for name, key, value in plan.layout.elements(port, front):
                plan.added.setdefault(name, {})[key] = value
        plan.hairpins.update(plan.layout.hairpins(port))
        plan.kinds |= plan.layout.kinds(port)
        if port.affinity_s > 0 and port.endpoints:
            plan.timeouts_s.add(port.affinity_s)

    def _count_hairpins(self, plan: Plan) -> None:
        for key, more in plan.hairpins.items():
            before, after = self._hairpins[key], self._hairpins[key] + more
            if before and not after:
                plan.deleted.setdefault("hairpin", {})[key] = ""
            elif after and not before:
                plan.added.setdefault("hairpin", {})[key] = ""


def _differences(
    old: Mapping[str, ServicePort], new: Mapping[str, ServicePort]
) -> Iterator[tuple[ServicePort | None, ServicePort | None]]:
    for name, port in new.items():
        before = old.get(name)
        if before is not port and before != port:
            yield before, port
    for name, port in old.items():
        if name not in new:
            yield port, None


def _cancel_out(deleted: Elements, added: Elements) -> None:
    """Drop what would be deleted and added again unchanged."""
    for name, entries in added.items():
        gone = deleted.get(name, {})
        for key in [key for key, value in entries.items() if gone.get(key) == value and key in gone]:
            del entries[key], gone[key]
