"""DNS messages, by hand: only what a cluster resolver needs of RFC 1035, 6891 (EDNS) and 2308 (negative answers).

Names are bytes in wire form without compression (`\\x03web\\x07default…\\x00`) where they go into messages, and lower
case text without the last dot where they are keys. Whatever bytes come in, only `FormatError` comes out.
"""

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
UDP_PLAIN_BYTES = 512
UDP_EDNS_BYTES = 1232
NAME_MAX = 255
QR, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED, RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080

_header = struct.Struct("!HHHHHH")
_question = struct.Struct("!HH")
_record = struct.Struct("!HHIH")
_srv = struct.Struct("!HHH")


class FormatError(Exception):
    """A message that can't be understood; `rcode` is what its sender should be told."""

    def __init__(self, message: str, rcode: int = FORMERR) -> None:
        super().__init__(message)
        self.rcode = rcode


@dataclass(frozen=True, slots=True)
class Query:
    """One question, with all that the answer depends on."""

    id: int
    flags: int
    name: str
    type: int
    question: bytes
    """The question section as it came, letter case included."""
    edns_bytes: int
    """The sender's receive size, 0 without EDNS."""
    edns_version: int = 0

    @property
    def size_max(self) -> int:
        """How long an answer by UDP may be."""
        return max(UDP_PLAIN_BYTES, min(self.edns_bytes, UDP_EDNS_BYTES))


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record; an empty `name` is the question's."""

    type: int
    ttl_s: int
    data: bytes
    name: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. `soa` goes into the authority section of an empty answer."""

    rcode: int = NOERROR
    answers: tuple[Record, ...] = ()
    extra: tuple[Record, ...] = ()
    soa: Record | None = None
    authoritative: bool = True


def encode_name(name: str) -> bytes:
    """`web.default` → wire form. Raises `FormatError` for labels that don't fit."""
    parts = []
    for label in name.rstrip(".").split(".") if name.rstrip(".") else ():
        raw = label.encode("utf-8", "surrogateescape")
        if not 0 < len(raw) < 64:
            raise FormatError(f"label {label!r} of {name!r} has no or too many bytes")
        parts.append(bytes((len(raw),)) + raw)
    wire = b"".join(parts) + b"\0"
    if len(wire) > NAME_MAX:
        raise FormatError(f"name {name!r} is too long")
    return wire


def read_name(data: bytes, offset: int) -> tuple[bytes, int]:
    """(name in wire form, offset behind it), following compression pointers, which may only point back."""
    parts: list[bytes] = []
    end, size, floor = -1, 1, offset
    while True:
        length = _byte(data, offset)
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | _byte(data, offset + 1)
            end = offset + 2 if end < 0 else end
            if target >= floor:
                raise FormatError("compression pointer does not point back")
            offset = floor = target
        elif length >= 0x40:
            raise FormatError("unknown label type")
        elif length == 0:
            parts.append(b"\0")
            return b"".join(parts), offset + 1 if end < 0 else end
        else:
            size += length + 1
            if size > NAME_MAX or offset + 1 + length > len(data):
                raise FormatError("name too long or cut off")
            parts.append(data[offset : offset + 1 + length])
            offset += 1 + length


def text_of(name: bytes) -> str:
    """Wire form → lower case text. Bytes beyond ASCII survive as surrogates and match nothing; a dot inside a label
    becomes one that no name of ours has."""
    labels, offset = [], 0
    while name[offset]:
        length = name[offset]
        labels.append(name[offset + 1 : offset + 1 + length].replace(b".", b"\xff"))
        offset += 1 + length
    return b".".join(labels).lower().decode("ascii", "surrogateescape")


def parse_query(data: bytes) -> Query:
    """Raises `FormatError`; the id can then be taken from the first two bytes."""
    if len(data) < 12:
        raise FormatError("shorter than a header")
    identity, flags, questions, answers, authorities, extras = _header.unpack_from(data)
    if flags & QR:
        raise FormatError("is an answer")
    if flags >> 11 & 0xF:
        raise FormatError("operation is not a query", NOTIMP)
    if questions != 1 or answers or authorities:
        raise FormatError("must have one question and nothing else")
    name, end = read_name(data, 12)
    if end + 4 > len(data) or end - 12 != len(name):
        raise FormatError("question cut off or compressed")
    kind, klass = _question.unpack_from(data, end)
    if klass not in (IN, 255):
        raise FormatError("class is not IN", REFUSED)
    size, version = _edns(data, end + 4, extras)
    return Query(identity, flags, text_of(name), kind, data[12 : end + 4], size, version)


def _edns(data: bytes, offset: int, count: int) -> tuple[int, int]:
    """(receive size, version) from the OPT record; (0, 0) without one."""
    found = (0, 0)
    for _ in range(count):
        _, offset = read_name(data, offset)
        kind, klass, ttl, length = _fixed(data, offset)
        offset += 10 + length
        if offset > len(data):
            raise FormatError("record cut off")
        if kind == OPT:
            found = (max(UDP_PLAIN_BYTES, klass), ttl >> 16 & 0xFF)
    return found


def encode_reply(query: Query, reply: Reply) -> bytes:
    """The whole answer, however long; `truncate` shortens it for UDP."""
    authority = (reply.soa,) if reply.soa is not None and not reply.answers else ()
    extra = len(reply.extra) + (1 if query.edns_bytes else 0)
    flags = QR | query.flags & RECURSION_DESIRED | RECURSION_AVAILABLE | reply.rcode & 0xF
    if reply.authoritative:
        flags |= AUTHORITATIVE
    head = _header.pack(query.id, flags, 1, len(reply.answers), len(authority), extra)
    parts = [head, query.question]
    parts += map(_encode_record, (*reply.answers, *authority, *reply.extra))
    if query.edns_bytes:
        parts.append(b"\0" + _record.pack(OPT, UDP_EDNS_BYTES, (reply.rcode >> 4) << 24, 0))
    return b"".join(parts)


def encode_error(data: bytes, rcode: int) -> bytes:
    """An answer to something that could not be parsed: header only. `data` has at least two bytes."""
    return data[:2] + _header.pack(0, QR | rcode & 0xF, 0, 0, 0, 0)[2:]


def truncate(query: Query, message: bytes, size_max: int) -> bytes:
    """The message if it fits, else one without records that tells the client to ask by TCP."""
    if len(message) <= size_max:
        return message
    flags = int.from_bytes(message[2:4], "big") | TRUNCATED
    opt = b"\0" + _record.pack(OPT, UDP_EDNS_BYTES, 0, 0) if query.edns_bytes else b""
    return _header.pack(query.id, flags, 1, 0, 0, 1 if opt else 0) + query.question + opt


def _encode_record(record: Record) -> bytes:
    owner = record.name or b"\xc0\x0c"
    return owner + _record.pack(record.type, IN, record.ttl_s, len(record.data)) + record.data


def a_data(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed


def srv_data(port: int, target: str, priority: int = 0, weight: int = 100) -> bytes:
    return _srv.pack(priority, weight, port) + encode_name(target)


def soa_data(zone: str, serial: int, negative_s: int) -> bytes:
    names = encode_name(f"ns.dns.{zone}") + encode_name(f"hostmaster.{zone}")
    return names + struct.pack("!IIIII", serial & 0xFFFFFFFF, 7200, 1800, 86400, negative_s)


def txt_data(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


@dataclass(frozen=True, slots=True)
class Parsed:
    """Another server's answer as far as a cache and a chain of aliases need it."""

    flags: int
    answers: tuple[Record, ...]
    ttl_offsets: tuple[int, ...]
    """Where in the message the records' times to live stand."""
    ttl_s: int
    """How long it may be kept: the least of all records, of the SOA's minimum when there is no answer; 0 if unknown."""

    @property
    def rcode(self) -> int:
        return self.flags & 0xF


def parse_reply(data: bytes) -> Parsed:
    """Raises `FormatError`."""
    if len(data) < 12:
        raise FormatError("shorter than a header")
    _, flags, questions, *counts = _header.unpack_from(data)
    offset = 12
    for _ in range(questions):
        _, offset = read_name(data, offset)
        offset += 4
    answers: list[Record] = []
    offsets: list[int] = []
    lives: list[int] = []
    for section, count in enumerate(counts):
        for _ in range(count):
            owner, offset = read_name(data, offset)
            kind, _, ttl_s, length = _fixed(data, offset)
            if offset + 10 + length > len(data):
                raise FormatError("record cut off")
            if kind != OPT:
                offsets.append(offset + 4)
                lives.append(_life(data, offset, kind, ttl_s, length))
            if section == 0:
                answers.append(Record(kind, ttl_s, _data(data, offset + 10, kind, length), owner))
            offset += 10 + length
    return Parsed(flags, tuple(answers), tuple(offsets), min(lives, default=0))


def _life(data: bytes, offset: int, kind: int, ttl_s: int, length: int) -> int:
    """For a SOA the negative time to live at its end counts as well (RFC 2308)."""
    if kind == SOA and length >= 20:
        return min(ttl_s, int.from_bytes(data[offset + 6 + length : offset + 10 + length], "big"))
    return ttl_s & 0x7FFFFFFF


def _data(data: bytes, offset: int, kind: int, length: int) -> bytes:
    """The record's data; names in it that may be compressed are written out."""
    if kind in (CNAME, NS, PTR):
        return read_name(data, offset)[0]
    return data[offset : offset + length]


def with_lives(data: bytes, offsets: Sequence[int], elapsed_s: int) -> bytes:
    """The message with every time to live less by `elapsed_s`."""
    changed = bytearray(data)
    for offset in offsets:
        left = max(0, int.from_bytes(changed[offset : offset + 4], "big") - elapsed_s)
        changed[offset : offset + 4] = left.to_bytes(4, "big")
    return bytes(changed)


def encode_query(identity: int, name: bytes, kind: int) -> bytes:
    """A question of our own, with EDNS."""
    head = _header.pack(identity, RECURSION_DESIRED, 1, 0, 0, 1)
    return head + name + _question.pack(kind, IN) + b"\0" + _record.pack(OPT, UDP_EDNS_BYTES, 0, 0)


def records(kind: int, ttl_s: int, datas: Iterable[bytes]) -> tuple[Record, ...]:
    return tuple(Record(kind, ttl_s, data) for data in datas)


def _fixed(data: bytes, offset: int) -> tuple[int, int, int, int]:
    if offset + 10 > len(data):
        raise FormatError("record cut off")
    kind, klass, ttl_s, length = _record.unpack_from(data, offset)
    return kind, klass, ttl_s, length


def _byte(data: bytes, offset: int) -> int:
    if offset >= len(data):
        raise FormatError("name cut off")
    return data[offset]
