"""Reading nftables' state by netlink: generation, rules, number of elements. `nft list` loads everything (about 1 s at
10,000 services); these questions cost microseconds to milliseconds. Reads only; writes go through `nft -f`.

Blocking and short; long dumps belong on a thread. Callers: the nftables renderer and the pod network's guard.
"""

import socket
import struct
import zlib
from collections.abc import Iterator

from orchestrator.network.dataplane.interface import NetworkError

NETLINK_NETFILTER = 12
SUBSYSTEM = 10 << 8
GETRULE, GETSETELEM, GETGEN = SUBSYSTEM | 7, SUBSYSTEM | 13, SUBSYSTEM | 16
REQUEST, DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
FAMILY_IPV4 = 2
GEN_ID = 1
RULE_TABLE, LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 1, 2, 3
ELEMENT_KEY, ELEMENT_DATA, DATA_VALUE = 1, 2, 1
TYPE_MASK = 0x3FFF
RECEIVE_BYTES = 1 << 18
DEADLINE_S = 10.0

DUMP_INTERRUPTED = 0x10

_header = struct.Struct("=IHHII")
_attribute = struct.Struct("=HH")


class Interrupted(NetworkError):
    """The ruleset changed while it was read; what was read means nothing. Ask again."""


def generation() -> int:
    """Number of the ruleset's last change by anybody in this network namespace. Raises `NetworkError`."""
    for body in _ask(GETGEN, REQUEST, b""):
        for kind, value in _attributes(body[4:]):
            if kind == GEN_ID:
                return int.from_bytes(value, "big")
    raise NetworkError("nftables: the kernel told no generation.")


def rules_digest(table: str) -> tuple[int, int]:
    """(number of rules, checksum over them and their handles) of `table`; (0, 0) when it is absent."""
    count = digest = 0
    for body in _ask(GETRULE, REQUEST | DUMP, _string(RULE_TABLE, table)):
        count += 1
        digest = zlib.crc32(body[4:], digest)
    return count, digest


def element_count(table: str, name: str) -> int:
    """Number of elements of one set or map; 0 when it is absent."""
    return sum(
        sum(1 for _ in _attributes(value))
        for body in _elements(table, name)
        for kind, value in _attributes(body[4:])
        if kind == LIST_ELEMENTS
    )


def elements(table: str, name: str) -> Iterator[tuple[bytes, bytes]]:
    """(key, data) of each element of a map, as the kernel holds them: fields padded to four bytes."""
    for body in _elements(table, name):
        for kind, value in _attributes(body[4:]):
            if kind == LIST_ELEMENTS:
                yield from (_element(element) for _, element in _attributes(value))


def _elements(table: str, name: str) -> Iterator[bytes]:
    return _ask(GETSETELEM, REQUEST | DUMP, _string(LIST_TABLE, table) + _string(LIST_SET, name))


def _element(body: bytes) -> tuple[bytes, bytes]:
    parts = {kind: value for kind, value in _attributes(body) if kind in (ELEMENT_KEY, ELEMENT_DATA)}
    key, data = (_value(parts.get(kind, b"")) for kind in (ELEMENT_KEY, ELEMENT_DATA))
    return key, data


def _value(body: bytes) -> bytes:
    return next((value for kind, value in _attributes(body) if kind == DATA_VALUE), b"")


def _string(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    return _attribute.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    offset, end = 0, len(body)
    while offset + 4 <= end:
        length, kind = _attribute.unpack_from(body, offset)
        if length < 4:
            return
        yield kind & TYPE_MASK, body[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _ask(kind: int, flags: int, attributes: bytes) -> Iterator[bytes]:
    """Bodies of the answers. A table or set that does not exist answers nothing."""
    request = struct.pack("=BBH", FAMILY_IPV4, 0, 0) + attributes
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        ) as link:
            link.settimeout(DEADLINE_S)
            link.send(_header.pack(16 + len(request), kind, flags, 1, 0) + request)
            yield from _answers(link, bool(flags & DUMP))
    except OSError as error:
        raise NetworkError(f"reading nftables' state: {error.strerror or error}.") from error


def _answers(link: socket.socket, several: bool) -> Iterator[bytes]:
    while True:
        data = link.recv(RECEIVE_BYTES)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, *_ = _header.unpack_from(data, offset)
            if flags & DUMP_INTERRUPTED and several:
                raise Interrupted("nftables' state changed while it was read.")
            if kind in (NLMSG_ERROR, NLMSG_DONE):
                return
            yield data[offset + 16 : offset + length]
            offset += (length + 3) & ~3
        if not several:
            return
