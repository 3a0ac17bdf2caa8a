"""The cluster zone in memory: every name with its records, kept Service by Service.

`put` replaces the names of one Service and tells which names changed their answer, so that cached answers of just
those can be dropped. A name that only has names below it exists too (an empty answer, not NXDOMAIN).
Owner: the DNS server, on the event loop.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Collection, Iterator

from orchestrator.network.dns import wire
from orchestrator.network.dns.names import Names, address_of_reverse
from orchestrator.network.dns.wire import Query, Record, Reply

TTL_S = 5
SPECIFICATION_VERSION = "1.1.0"
STATIC = ""
"""The owner of names that belong to no Service."""

_pod_name = re.compile(r"(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})\.([a-z0-9-]{1,63})\.pod")
_NO_NAMES = Names()


class Zone:
    """`cluster_cidrs` are the ranges whose reverse names are answered here and never forwarded."""

    def __init__(self, domain: str, dns_address: str, cluster_cidrs: Collection[str]) -> None:
        self.domain = domain.rstrip(".").lower()
        self._ranges = [ipaddress.IPv4Network(cidr) for cidr in cluster_cidrs]
        self._records: dict[str, dict[int, list[bytes]]] = {}
        self._pointers: dict[str, dict[str, list[bytes]]] = {}
        self._parents: Counter[str] = Counter()
        self._owned: dict[str, Names] = {}
        soa = wire.soa_data(self.domain, 1, TTL_S)
        self._soa = Record(wire.SOA, TTL_S, soa, wire.encode_name(self.domain))
        self.put(STATIC, self._static(dns_address))

    def put(self, owner: str, names: Names | None) -> set[str]:
        """Give `owner` exactly these names (None: no names any more); returns the names whose answers changed."""
        before = self._owned.pop(owner, _NO_NAMES)
        after = names or _NO_NAMES
        if names is not None:
            self._owned[owner] = names
        changed: set[str] = set()
        if before.records != after.records:
            # All of them: an answer may carry the records of a neighbour as additional ones.
            changed = {*before.records, *after.records}
            for name in tuple(changed):
                changed |= self._replace(name, name in before.records, after.records.get(name))
        pointers = {*before.pointers, *after.pointers}
        for name in pointers:
            if before.pointers.get(name) != after.pointers.get(name):
                self._replace_pointer(owner, name, after.pointers.get(name))
                changed.add(name)
        return changed

    def covers(self, name: str) -> bool:
        """Whether this zone answers for the name, rather than the host's resolvers."""
        if name == self.domain or name.endswith("." + self.domain):
            return True
        address = address_of_reverse(name)
        return bool(address) and any(ipaddress.IPv4Address(address) in known for known in self._ranges)

    def alias(self, name: str) -> bytes:
        """The target of the name's CNAME in wire form, empty when it has none."""
        datas = self._records.get(name, {}).get(wire.CNAME)
        return datas[0] if datas else b""

    def answer(self, query: Query) -> Reply:
        """The answer for a covered name. An alias is answered as such, without its target."""
        reply = self._lookup(query.name, query.type)
        if reply is not None:
            return reply
        exists = query.name in self._records or self._parents[query.name] > 0
        return Reply(wire.NOERROR if exists else wire.NXDOMAIN, soa=self._soa)

    def _lookup(self, name: str, kind: int) -> Reply | None:
        found = self._records.get(name)
        if found is None:
            return self._computed(name, kind)
        if wire.CNAME in found:
            return Reply(answers=wire.records(wire.CNAME, TTL_S, found[wire.CNAME]))
        kinds = found if kind == wire.ANY else [k for k in (kind,) if k in found]
        answers = tuple(record for k in kinds for record in wire.records(k, TTL_S, found[k]))
        if not answers:
            return None
        return Reply(answers=answers, extra=tuple(self._targets(answers)))

    def _targets(self, answers: tuple[Record, ...]) -> Iterator[Record]:
        """Addresses of the hosts that SRV records name, each once."""
        targets = dict.fromkeys(record.data[6:] for record in answers if record.type == wire.SRV)
        for target in targets:
            for data in self._records.get(wire.text_of(target), {}).get(wire.A, ()):
                yield Record(wire.A, TTL_S, data, target)

    def _computed(self, name: str, kind: int) -> Reply | None:
        """Names that follow from their text: pods by address; and reverse names of several owners."""
        if name in self._pointers:
            if kind not in (wire.PTR, wire.ANY):
                return Reply(soa=self._soa)
            datas = dict.fromkeys(data for owned in self._pointers[name].values() for data in owned)
            return Reply(answers=wire.records(wire.PTR, TTL_S, datas))
        pod = (
            _pod_name.fullmatch(name.removesuffix("." + self.domain))
            if name.endswith("pod." + self.domain)
            else None
        )
        if pod is None or any(int(part) > 255 for part in pod.groups()[:4]):
            return None
        if kind not in (wire.A, wire.ANY):
            return Reply(soa=self._soa)
        return Reply(answers=(Record(wire.A, TTL_S, bytes(int(part) for part in pod.groups()[:4])),))

    def _replace(self, name: str, existed: bool, records: dict[int, list[bytes]] | None) -> set[str]:
        """Store one name; returns the parents that came into being or ceased to."""
        if records is None:
            del self._records[name]
        else:
            self._records[name] = records
        if existed == (records is not None):
            return set()
        return self._count_parents(name, 1 if records is not None else -1)

    def _count_parents(self, name: str, by: int) -> set[str]:
        touched = set()
        parent = name.partition(".")[2]
        while parent and parent != self.domain:
            if self._parents[parent] == 0 or self._parents[parent] + by == 0:
                touched.add(parent)
            self._parents[parent] += by
            if not self._parents[parent]:
                del self._parents[parent]
            parent = parent.partition(".")[2]
        return touched

    def _replace_pointer(self, owner: str, name: str, datas: list[bytes] | None) -> None:
        owners = self._pointers.setdefault(name, {})
        if datas:
            owners[owner] = datas
        else:
            owners.pop(owner, None)
        if not owners:
            del self._pointers[name]

    def _static(self, dns_address: str) -> Names:
        names = Names()
        name_server = f"ns.dns.{self.domain}"
        names.add(self.domain, wire.SOA, self._soa.data)
        names.add(self.domain, wire.NS, wire.encode_name(name_server))
        names.add(name_server, wire.A, wire.a_data(dns_address))
        names.add(f"dns-version.{self.domain}", wire.TXT, wire.txt_data(SPECIFICATION_VERSION))
        for branch in ("svc", "pod"):
            names.records[f"{branch}.{self.domain}"] = {}
        return names
