"""Messages: what comes in is understood or refused, never a crash; what goes out reads back."""

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.network.dns import wire
from orchestrator.network.dns.wire import FormatError, Record, Reply

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=6).map(".".join)


def question(name="web.default.svc.cluster.local", kind=wire.A, identity=7, edns=0, flags=0x0100, version=0):
    data = struct.pack("!HHHHHH", identity, flags, 1, 0, 0, 1 if edns else 0)
    data += wire.encode_name(name) + struct.pack("!HH", kind, 1)
    return data + (b"\0" + struct.pack("!HHIH", wire.OPT, edns, version << 16, 0) if edns else b"")


def parsed(data):
    return wire.parse_query(data)


@settings(max_examples=50, deadline=None)
@given(NAME, st.sampled_from([wire.A, wire.AAAA, wire.SRV]), st.sampled_from([0, 512, 1232, 4096]))
def test_questions_read_back(name, kind, edns):
    query = parsed(question(name, kind, edns=edns))
    assert (query.name, query.type, query.edns_bytes) == (name, kind, edns)
    assert query.size_max == (1232 if edns >= 1232 else 512)


@settings(max_examples=50, deadline=None)
@given(NAME, st.lists(st.binary(min_size=4, max_size=4), max_size=20), st.booleans())
def test_answers_read_back(name, addresses, edns):
    query = parsed(question(name, edns=1232 if edns else 0))
    answers = wire.records(wire.A, 5, addresses)
    reply = wire.parse_reply(wire.encode_reply(query, Reply(answers=answers)))
    assert [record.data for record in reply.answers] == addresses
    assert all(record.name == wire.encode_name(name) for record in reply.answers)
    assert reply.ttl_s == (5 if addresses else 0) and reply.rcode == wire.NOERROR


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=80), st.integers(0, 60))
def test_garbage_is_refused_not_crashed_on(junk, more, cut):
    valid = question(edns=1232)
    for data in (junk, valid[:cut] + junk, valid[:12] + junk + more, valid + junk):
        for read in (wire.parse_query, wire.parse_reply):
            with contextlib.suppress(FormatError):
                read(data)


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (question(flags=0x2800), wire.NOTIMP),
        (question()[:20], wire.FORMERR),
        (question()[:-2] + b"\0\3", wire.REFUSED),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", wire.FORMERR),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\x40a\0\0\1\0\1", wire.FORMERR),
        (struct.pack("!HHHHHH", 1, 0, 2, 0, 0, 0) + question()[12:], wire.FORMERR),
    ],
)
def test_odd_questions_are_told_what_is_wrong(data, rcode):
    with pytest.raises(FormatError) as caught:
        wire.parse_query(data)
    assert caught.value.rcode == rcode


def test_letter_case_is_ignored_and_echoed():
    query = parsed(question("WeB.Default.SVC.cluster.local"))
    assert query.name == "web.default.svc.cluster.local"
    assert b"\x03WeB" in wire.encode_reply(query, Reply())


def test_a_dot_inside_a_label_is_no_separator():
    data = question("x")
    data = data[:12] + b"\x0bweb.default\x03svc\0" + data[-4:]
    assert parsed(data).name != "web.default.svc"


def test_long_answers_are_cut_to_an_invitation_to_tcp():
    query = parsed(question(edns=512))
    message = wire.encode_reply(query, Reply(answers=wire.records(wire.A, 5, [bytes(4)] * 60)))
    cut = wire.truncate(query, message, query.size_max)
    assert (
        len(cut) <= 512
        and wire.parse_reply(cut).flags & wire.TRUNCATED
        and wire.parse_reply(cut).answers == ()
    )
    assert wire.truncate(query, message, 65535) == message


def test_negative_answers_carry_the_soa_and_its_life():
    soa = Record(wire.SOA, 30, wire.soa_data("cluster.local", 1, 5), wire.encode_name("cluster.local"))
    reply = wire.parse_reply(wire.encode_reply(parsed(question()), Reply(wire.NXDOMAIN, soa=soa)))
    assert (reply.rcode, reply.ttl_s) == (wire.NXDOMAIN, 5)


def test_lives_grow_shorter_in_place():
    query = parsed(question())
    message = wire.encode_reply(query, Reply(answers=wire.records(wire.A, 30, [bytes(4), bytes(4)])))
    offsets = wire.parse_reply(message).ttl_offsets
    assert wire.parse_reply(wire.with_lives(message, offsets, 12)).ttl_s == 18
    assert wire.parse_reply(wire.with_lives(message, offsets, 99)).ttl_s == 0


def test_compressed_aliases_are_written_out():
    query = parsed(question("a.example"))
    alias = Record(wire.CNAME, 5, b"\x01b\xc0\x0e")
    reply = wire.parse_reply(wire.encode_reply(query, Reply(answers=(alias,))))
    assert reply.answers[0].data == wire.encode_name("b.example")


@pytest.mark.parametrize("name", ["a" * 64, "a..b", ".".join(["abcdefgh"] * 30)])
def test_impossible_names_are_refused(name):
    with pytest.raises(FormatError):
        wire.encode_name(name)
