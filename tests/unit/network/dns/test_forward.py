"""Forwarding: caching with lives, the next resolver when one fails, sharing, loops."""

import asyncio
import os
import random

import pytest

from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.network.dns import forward, wire
from orchestrator.network.dns.forward import Forwarder, ResolvConf, parse_resolv_conf


@pytest.fixture
async def make_forwarder():
    made = []

    def make(*servers, clock=None):
        made.append(Forwarder(lambda: list(servers), clock or VirtualClock(), random.Random(3)))
        return made[-1]

    yield make
    for forwarder in made:
        await forwarder.stop()


def test_resolv_conf_names_its_servers_once_and_without_ourselves():
    lines = [
        "# c",
        "search x",
        "nameserver 10.0.0.1",
        "nameserver  10.43.0.10",
        "nameserver",
        "nameserver 10.0.0.1",
    ]
    text = "\n".join([*lines, "nameserver ::1"])
    assert parse_resolv_conf(text, {"10.43.0.10"}) == [("10.0.0.1", 53), ("::1", 53)]


def test_resolv_conf_is_read_again_when_it_changes_and_kept_when_it_goes(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 10.0.0.1\n")
    servers = ResolvConf(file)
    assert servers() == [("10.0.0.1", 53)]
    file.write_text("nameserver 10.0.0.2\n")
    os.utime(file, ns=(1, 1))
    assert servers() == [("10.0.0.2", 53)]
    file.unlink()
    assert servers() == [("10.0.0.2", 53)]


async def test_answers_are_kept_for_their_life_and_grow_older(make_forwarder, outside, make_question):
    clock = VirtualClock()
    outside.table["a.org"] = (wire.NOERROR, ["192.0.2.9"])
    forwarder = make_forwarder(outside.server, clock=clock)
    first = await forwarder.ask(make_question("a.org", identity=1))
    assert first[:2] == b"\0\1" and wire.parse_reply(first).answers[0].ttl_s == 20
    await clock.advance(15)
    second = await forwarder.ask(make_question("a.org", identity=2))
    assert second[:2] == b"\0\2" and wire.parse_reply(second).answers[0].ttl_s == 5
    assert outside.real("a.org") == 1
    await clock.advance(6)
    await forwarder.ask(make_question("a.org"))
    assert outside.real("a.org") == 2


async def test_names_that_do_not_exist_are_kept_as_the_soa_says(make_forwarder, outside, make_question):
    clock = VirtualClock()
    outside.table["no.org"] = (wire.NXDOMAIN, [])
    forwarder = make_forwarder(outside.server, clock=clock)
    for _ in range(2):
        assert wire.parse_reply(await forwarder.ask(make_question("no.org"))).rcode == wire.NXDOMAIN
    assert outside.real("no.org") == 1
    await clock.advance(10)
    await forwarder.ask(make_question("no.org"))
    assert outside.real("no.org") == 2


async def test_equal_questions_in_flight_share_one_answer(make_forwarder, outside, make_question):
    outside.table["a.org"] = (wire.NOERROR, ["192.0.2.9"])
    forwarder = make_forwarder(outside.server)
    answers = await asyncio.gather(*(forwarder.ask(make_question("a.org", identity=n)) for n in range(20)))
    assert [answer[:2] for answer in answers] == [n.to_bytes(2, "big") for n in range(20)]
    assert outside.real("a.org") == 1


async def test_the_next_resolver_is_asked_when_one_is_silent_closed_or_refuses(
    make_forwarder, outside, make_question, monkeypatch
):
    monkeypatch.setattr(forward, "TIMEOUT_S", 0.05)
    loop = asyncio.get_running_loop()
    outside.table["a.org"] = (wire.NOERROR, ["192.0.2.9"])
    others = []
    for kind in ("silent", "refusing"):
        transport, other = await loop.create_datagram_endpoint(type(outside), local_addr=("127.0.0.1", 0))
        other.silent = kind == "silent"
        other.table["a.org"] = (wire.REFUSED, [])
        others.append((transport, other))
    closed = ("127.0.0.1", 9)
    forwarder = make_forwarder(closed, *(other.server for _, other in others), outside.server)
    answer = wire.parse_reply(await forwarder.ask(make_question("a.org")))
    assert answer.answers[0].data == wire.a_data("192.0.2.9")
    assert all(other.real("a.org") == 1 for _, other in others)
    for transport, _ in others:
        transport.close()


async def test_no_resolver_means_no_answer(make_forwarder, make_question):
    assert await make_forwarder().ask(make_question("a.org")) is None
    assert await make_forwarder(clock=SystemClock()).resolve(wire.encode_name("a.org"), wire.A) is None


async def test_a_resolver_that_leads_back_is_left_out(make_forwarder, outside, make_question):
    outside.table["a.org"] = (wire.NOERROR, ["192.0.2.9"])
    forwarder = make_forwarder(outside.server)
    await forwarder.ask(make_question("a.org"))
    async with asyncio.timeout(5):
        while not (probes := [name for name in outside.asked if name.endswith(forward.PROBE_ZONE)]):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert not forwarder.noticed("a.org")
    assert forwarder.noticed(probes[0])
    assert await forwarder.ask(make_question("b.org")) is None
