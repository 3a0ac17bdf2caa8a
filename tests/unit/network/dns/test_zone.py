"""The names of the cluster, by the words of Kubernetes' DNS specification."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.network.dns import wire
from orchestrator.network.dns.names import service_names
from orchestrator.network.dns.wire import Query
from orchestrator.network.dns.zone import Zone

DOMAIN = "cluster.local"


def zone():
    return Zone(DOMAIN, "10.43.0.10", ["10.42.0.0/16", "10.43.0.0/16"])


def ask(found, name, kind=wire.A):
    reply = found.answer(Query(1, 0, name, kind, b"", 0))
    return {wire.NOERROR: "", wire.NXDOMAIN: "NXDOMAIN"}[reply.rcode], [show(r) for r in reply.answers]


def show(record):
    if record.type == wire.A:
        return ".".join(map(str, record.data))
    if record.type == wire.SRV:
        return f"{int.from_bytes(record.data[4:6], 'big')} {wire.text_of(record.data[6:])}"
    if record.type in (wire.PTR, wire.CNAME, wire.NS):
        return wire.text_of(record.data)
    return record.data


def service(name="web", namespace="default", **spec):
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def endpoint(address, hostname="", ready=True):
    return {"addresses": [address], "hostname": hostname, "conditions": {"ready": ready}}


def endpoint_slice(*endpoints):
    return {
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


PORTS = [{"name": "http", "port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]
WEB = service(clusterIP="10.43.0.5", clusterIPs=["10.43.0.5", "fd00::5"], ports=PORTS)
HEADLESS = service("db", clusterIP="None", ports=PORTS)
MEMBERS = [
    endpoint_slice(endpoint("10.42.0.2", "db-0"), endpoint("10.42.0.3"), endpoint("10.42.0.4", "db-2", False))
]


@pytest.fixture
def filled():
    found = zone()
    found.put("default/web", service_names(WEB, [], DOMAIN))
    found.put("default/db", service_names(HEADLESS, MEMBERS, DOMAIN))
    return found


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("web.default.svc.cluster.local", wire.A, ["10.43.0.5"]),
        ("web.default.svc.cluster.local", wire.AAAA, []),
        ("_http._tcp.web.default.svc.cluster.local", wire.SRV, ["80 web.default.svc.cluster.local"]),
        (
            "web.default.svc.cluster.local",
            wire.SRV,
            ["80 web.default.svc.cluster.local", "53 web.default.svc.cluster.local"],
        ),
        ("5.0.43.10.in-addr.arpa", wire.PTR, ["web.default.svc.cluster.local"]),
        ("db.default.svc.cluster.local", wire.A, ["10.42.0.2", "10.42.0.3"]),
        ("db-0.db.default.svc.cluster.local", wire.A, ["10.42.0.2"]),
        ("10-42-0-3.db.default.svc.cluster.local", wire.A, ["10.42.0.3"]),
        (
            "_http._tcp.db.default.svc.cluster.local",
            wire.SRV,
            ["8080 db-0.db.default.svc.cluster.local", "8080 10-42-0-3.db.default.svc.cluster.local"],
        ),
        ("2.0.42.10.in-addr.arpa", wire.PTR, ["db-0.db.default.svc.cluster.local"]),
        ("10-42-0-3.default.pod.cluster.local", wire.A, ["10.42.0.3"]),
        ("10-42-0-3.default.pod.cluster.local", wire.AAAA, []),
        ("default.svc.cluster.local", wire.A, []),
        ("_tcp.web.default.svc.cluster.local", wire.A, []),
        ("cluster.local", wire.NS, ["ns.dns.cluster.local"]),
        ("ns.dns.cluster.local", wire.A, ["10.43.0.10"]),
        ("dns-version.cluster.local", wire.TXT, [b"\x051.1.0"]),
    ],
)
def test_names_that_exist(filled, name, kind, answer):
    assert ask(filled, name, kind) == ("", answer)


@pytest.mark.parametrize(
    "name",
    [
        "gone.default.svc.cluster.local",
        "web.other.svc.cluster.local",
        "other.svc.cluster.local",
        "db-2.db.default.svc.cluster.local",
        "10-42-0-300.default.pod.cluster.local",
        "9.0.43.10.in-addr.arpa",
        "web.cluster.local",
    ],
)
def test_names_that_do_not_exist(filled, name):
    assert ask(filled, name) == ("NXDOMAIN", [])


def test_service_records_bring_the_addresses_of_their_hosts(filled):
    reply = filled.answer(Query(1, 0, "_http._tcp.db.default.svc.cluster.local", wire.SRV, b"", 0))
    assert [(wire.text_of(r.name), show(r)) for r in reply.extra] == [
        ("db-0.db.default.svc.cluster.local", "10.42.0.2"),
        ("10-42-0-3.db.default.svc.cluster.local", "10.42.0.3"),
    ]


def test_not_ready_addresses_are_published_on_request():
    obj = service("db", clusterIP="None", publishNotReadyAddresses=True)
    found = zone()
    found.put("default/db", service_names(obj, MEMBERS, DOMAIN))
    assert ask(found, "db-2.db.default.svc.cluster.local") == ("", ["10.42.0.4"])


def test_external_names_are_aliases():
    found = zone()
    found.put(
        "default/ext",
        service_names(service("ext", type="ExternalName", externalName="Example.ORG."), [], DOMAIN),
    )
    assert ask(found, "ext.default.svc.cluster.local") == ("", ["example.org"])
    assert wire.text_of(found.alias("ext.default.svc.cluster.local")) == "example.org"


def test_an_external_name_that_is_no_name_is_left_out():
    bad = service("ext", type="ExternalName", externalName="a..b")
    assert service_names(bad, [], DOMAIN).records == {}


def test_two_services_share_the_reverse_name_of_one_pod(filled):
    filled.put("default/db2", service_names(service("db2", clusterIP="None"), MEMBERS, DOMAIN))
    both = ask(filled, "2.0.42.10.in-addr.arpa", wire.PTR)[1]
    assert sorted(both) == ["db-0.db.default.svc.cluster.local", "db-0.db2.default.svc.cluster.local"]
    filled.put("default/db", None)
    assert ask(filled, "2.0.42.10.in-addr.arpa", wire.PTR)[1] == ["db-0.db2.default.svc.cluster.local"]


def test_the_zone_covers_its_names_and_ranges_only():
    found = zone()
    for name in ("cluster.local", "x.cluster.local", "1.0.42.10.in-addr.arpa"):
        assert found.covers(name)
    for name in (
        "notcluster.local",
        "local",
        "example.org",
        "1.0.168.192.in-addr.arpa",
        "42.10.in-addr.arpa",
        "",
    ):
        assert not found.covers(name)


OWNERS = st.sampled_from(["a", "b"])
SPECS = st.sampled_from(["gone", "cluster", "headless", "headless without members", "external"])
ASKED = [
    "a.ns.svc.cluster.local",
    "b.ns.svc.cluster.local",
    "ns.svc.cluster.local",
    "_http._tcp.a.ns.svc.cluster.local",
    "_tcp.a.ns.svc.cluster.local",
    "db-0.a.ns.svc.cluster.local",
    "5.0.43.10.in-addr.arpa",
    "2.0.42.10.in-addr.arpa",
]


def names_of(owner, spec):
    kinds = {
        "cluster": (service(owner, "ns", clusterIP="10.43.0.5", ports=PORTS), []),
        "headless": (service(owner, "ns", clusterIP="None"), MEMBERS),
        "headless without members": (service(owner, "ns", clusterIP="None"), []),
        "external": (service(owner, "ns", type="ExternalName", externalName="x.org"), []),
    }
    return service_names(*kinds[spec], DOMAIN) if spec in kinds else None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(OWNERS, SPECS), max_size=8))
def test_every_answer_that_changes_is_told_and_the_way_leaves_no_trace(changes):
    found, last = zone(), {}
    kinds = (wire.A, wire.SRV, wire.PTR, wire.CNAME)
    for owner, spec in changes:
        before = {(name, kind): ask(found, name, kind) for name in ASKED for kind in kinds}
        told = found.put(owner, names_of(owner, spec))
        last[owner] = spec
        after = {(name, kind): ask(found, name, kind) for name in ASKED for kind in kinds}
        assert {name for name, kind in before if before[name, kind] != after[name, kind]} <= told
    fresh = zone()
    for owner, spec in last.items():
        fresh.put(owner, names_of(owner, spec))
    for name in ASKED:
        for kind in kinds:
            assert ask(found, name, kind)[0] == ask(fresh, name, kind)[0]
            assert sorted(ask(found, name, kind)[1]) == sorted(ask(fresh, name, kind)[1])
