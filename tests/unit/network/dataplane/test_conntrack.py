"""Which tracked UDP flows a change of rules leaves behind."""

from dataclasses import replace

from orchestrator.network.dataplane.conntrack import Flow, stale_flows
from orchestrator.network.dataplane.interface import Endpoint, ServicePort

A, B = Endpoint("10.42.0.2", 53), Endpoint("10.42.0.3", 53)
PORT = ServicePort("d/dns:", "udp", ("10.43.0.53",), 53, (A, B), 30053)


def test_a_vanished_endpoint_leaves_its_flows_at_every_front():
    assert stale_flows([(PORT, replace(PORT, endpoints=(A,)))]) == [
        Flow("", 30053, "10.42.0.3"),
        Flow("10.43.0.53", 53, "10.42.0.3"),
    ]


def test_a_deleted_service_leaves_all_of_its_flows():
    assert len(stale_flows([(PORT, None)])) == 4


def test_a_moved_front_leaves_its_flows():
    assert {flow.address for flow in stale_flows([(PORT, replace(PORT, addresses=("10.43.0.54",)))])} == {
        "10.43.0.53"
    }


def test_first_endpoints_release_flows_that_met_none():
    empty = replace(PORT, endpoints=())
    assert stale_flows([(empty, PORT)]) == [Flow("", 30053, ""), Flow("10.43.0.53", 53, "")]


def test_new_services_and_other_protocols_leave_nothing():
    assert stale_flows([(None, PORT), (replace(PORT, protocol="tcp"), None)]) == []
