"""The server on real sockets, over a real registry: cluster names, aliases, forwarding, garbage, TCP."""

import asyncio
import random
import socket

import pytest

from orchestrator.api.resources import SERVICES
from orchestrator.network.dataplane.interface import NetworkError
from orchestrator.network.dns import wire
from orchestrator.network.dns.cluster import ClusterDNS

NAME = "web.default.svc.cluster.local"


@pytest.fixture
async def dns(world, outside):
    made = ClusterDNS(
        world.informers,
        domain="cluster.local",
        dns_address="10.43.0.10",
        addresses=[("127.0.0.1", 0)],
        cluster_cidrs=["10.42.0.0/16", "10.43.0.0/16"],
        upstreams=lambda: [outside.server],
        clock=world.clock,
        rng=random.Random(4),
    )
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def running(world, dns):
    """The server's address once the zone is filled."""
    world.informers.start()
    await dns.synced.wait()
    return dns.bound[0]


async def test_cluster_names_wait_for_the_first_list(world, dns, ask_udp):
    assert (await ask_udp(dns.bound[0], NAME)).rcode == wire.SERVFAIL
    world.informers.start()
    await dns.synced.wait()
    assert (await ask_udp(dns.bound[0], NAME)).rcode == wire.NXDOMAIN


async def test_names_follow_their_services_past_every_kept_answer(world, running, ask_udp):
    async def answer_is(rcode, *addresses):
        async with asyncio.timeout(5):
            while True:
                reply = await ask_udp(running, NAME)
                if (reply.rcode, [r.data for r in reply.answers]) == (
                    rcode,
                    [wire.a_data(a) for a in addresses],
                ):
                    return
                await asyncio.sleep(0.001)

    await answer_is(wire.NXDOMAIN)
    await answer_is(wire.NXDOMAIN)
    await world.put(world.service(clusterIP="10.43.0.5"))
    await answer_is(wire.NOERROR, "10.43.0.5")
    await answer_is(wire.NOERROR, "10.43.0.5")
    await world.client.delete(SERVICES, "web", "default")
    await answer_is(wire.NXDOMAIN)


async def test_members_of_a_headless_service_come_in_changing_order(world, running, dns, ask_udp):
    await world.put(world.service(clusterIP="None"))
    await world.put(world.slice("10.42.0.2", "10.42.0.3", "10.42.0.4"))
    await world.until(lambda: "2.0.42.10.in-addr.arpa" in dns.zone._pointers)
    replies = [await ask_udp(running, NAME) for _ in range(30)]
    assert len({tuple(r.data for r in reply.answers) for reply in replies}) > 1
    assert {frozenset(r.data for r in reply.answers) for reply in replies} == {
        frozenset(map(wire.a_data, ["10.42.0.2", "10.42.0.3", "10.42.0.4"]))
    }


async def test_answers_too_long_for_udp_come_by_tcp(world, running, dns, ask_udp, ask_tcp, make_question):
    await world.put(world.service(clusterIP="None"))
    await world.put(world.slice(*(f"10.42.1.{n}" for n in range(2, 90))))
    await world.until(lambda: "2.1.42.10.in-addr.arpa" in dns.zone._pointers)
    short = await ask_udp(running, NAME, edns=512)
    assert short.flags & wire.TRUNCATED and not short.answers
    first, second = await ask_tcp(running, make_question(NAME), make_question("gone." + NAME))
    assert len(first.answers) == 88 and second.rcode == wire.NXDOMAIN


async def test_other_names_are_asked_outside(running, outside, ask_udp):
    outside.table["example.org"] = (wire.NOERROR, ["192.0.2.9"])
    for _ in range(2):
        reply = await ask_udp(running, "example.org")
        assert [record.data for record in reply.answers] == [wire.a_data("192.0.2.9")]
    assert outside.real("example.org") == 1


async def test_aliases_are_followed_outside_and_inside(world, running, outside, dns, ask_udp):
    outside.table["example.org"] = (wire.NOERROR, ["192.0.2.9"])
    await world.put(world.service(clusterIP="10.43.0.5"))
    for name, target in (("out", "example.org"), ("in", NAME), ("loop", "loop.default.svc.cluster.local")):
        alias = {"type": "ExternalName", "externalName": target, "ports": None}
        obj = world.service(name)
        obj["spec"] = {key: value for key, value in {**obj["spec"], **alias}.items() if value is not None}
        await world.put(obj)
    await world.until(lambda: dns.zone.alias("loop.default.svc.cluster.local"))
    for name, address in (("out", "192.0.2.9"), ("in", "10.43.0.5")):
        reply = await ask_udp(running, f"{name}.default.svc.cluster.local")
        assert [record.type for record in reply.answers] == [wire.CNAME, wire.A]
        assert reply.answers[1].data == wire.a_data(address)
    assert (await ask_udp(running, "loop.default.svc.cluster.local")).rcode == wire.SERVFAIL


async def test_garbage_gets_an_error_or_silence_and_the_next_question_an_answer(
    running, ask_udp, make_question
):
    noise = random.Random(6)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(running)
        for size in range(200):
            client.send(noise.randbytes(size))
        client.send(b"\0\1\x80\0" + make_question(NAME)[4:])
    broken = make_question(NAME)[:-1]
    assert (await ask_udp(running, "", data=broken)).rcode == wire.FORMERR
    assert (await ask_udp(running, NAME)).rcode == wire.NXDOMAIN


async def test_a_newer_edns_is_refused_by_its_version(running, ask_udp, make_question):
    data = bytearray(make_question(NAME, edns=1232))
    data[-5] = 1
    assert (await ask_udp(running, "", data=bytes(data))).rcode == wire.BADVERS & 0xF


async def test_a_taken_address_is_named(world, dns):
    host, port = dns.bound[0]
    other = ClusterDNS(
        world.informers, domain="x", dns_address="10.43.0.10", addresses=[(host, port)], cluster_cidrs=[]
    )
    with pytest.raises(NetworkError, match=f"{host}:{port}"):
        await other.start()
    await other.stop()
