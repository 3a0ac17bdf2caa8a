"""SPDY/3.1 on the wire: frames and compressed header blocks. Pure.

Numbers are big-endian. A control frame begins with its highest bit set and the version 3; header blocks of one
direction share one zlib stream that is primed with the protocol's dictionary.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

FRAME_BYTES_MAX: Final = 1 << 20
HEADER_BLOCK_BYTES_MAX: Final = 64 * 1024
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN: Final = 1
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5
INITIAL_WINDOW_SIZE: Final = 7
"""The id of the one setting that concerns us."""

_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges "
    "age allow authorization cache-control connection content-base content-encoding content-language "
    "content-length content-location content-md5 content-range content-type date etag expect expires from "
    "host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location "
    "max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status"
)
_MORE_NAMES = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = (
    b"".join(struct.pack(">I", len(name)) + name.encode() for name in (*_NAMES.split(), *_MORE_NAMES))
    + _TEXT.encode()
)


class SpdyError(Exception):
    """The peer broke the protocol; the session ends."""


@dataclass(frozen=True, slots=True)
class DataFrame:
    stream_id: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class ControlFrame:
    """A control frame of any type; `payload` is still undecoded."""

    type: int
    flags: int
    payload: bytes

    @property
    def stream_id(self) -> int:
        """The first number, which is the stream's id in every type that has one."""
        return self.number(0) & 0x7FFFFFFF

    def number(self, index: int) -> int:
        """The 32-bit number at `index` (counted in numbers). Raises `SpdyError` if the frame is too short."""
        if len(self.payload) < 4 * index + 4:
            raise SpdyError(f"frame of type {self.type} is too short")
        value: int = struct.unpack_from(">I", self.payload, 4 * index)[0]
        return value


class Parser:
    """Bytes in, frames out. One per connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[DataFrame | ControlFrame]:
        """Frames that are complete now. Raises `SpdyError`."""
        self._buffer += data
        frames: list[DataFrame | ControlFrame] = []
        position = 0
        while len(self._buffer) - position >= 8:
            first, second = struct.unpack_from(">II", self._buffer, position)
            flags, size = second >> 24, second & 0xFFFFFF
            if size > FRAME_BYTES_MAX:
                raise SpdyError(f"frame of {size} bytes; at most {FRAME_BYTES_MAX}")
            end = position + 8 + size
            if len(self._buffer) < end:
                break
            payload = bytes(self._buffer[position + 8 : end])
            frames.append(_frame(first, flags, payload))
            position = end
        del self._buffer[:position]
        return frames


def _frame(first: int, flags: int, payload: bytes) -> DataFrame | ControlFrame:
    if not first >> 31:
        return DataFrame(first, payload, bool(flags & FLAG_FIN))
    version = first >> 16 & 0x7FFF
    if version != 3:
        raise SpdyError(f"SPDY version {version}, expected 3")
    return ControlFrame(first & 0xFFFF, flags, payload)


def data_frame(stream_id: int, data: bytes, fin: bool = False) -> bytes:
    return struct.pack(">II", stream_id, (FLAG_FIN if fin else 0) << 24 | len(data)) + data


def control_frame(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload


def numbers_frame(kind: int, *numbers: int) -> bytes:
    """A control frame that consists of 32-bit numbers: RST_STREAM, PING, GOAWAY, WINDOW_UPDATE."""
    return control_frame(kind, struct.pack(f">{len(numbers)}I", *numbers))


@dataclass(slots=True)
class HeaderDecoder:
    """Decompresses the peer's header blocks, in order."""

    _zlib: "zlib._Decompress" = field(default_factory=lambda: zlib.decompressobj(zdict=DICTIONARY))

    def decode(self, block: bytes) -> dict[str, str]:
        """Lower-case names to values; of several values of a name the first. Raises `SpdyError`."""
        try:
            plain = self._zlib.decompress(block, HEADER_BLOCK_BYTES_MAX)
        except zlib.error as error:
            raise SpdyError(f"header block: {error}") from error
        if self._zlib.unconsumed_tail:
            raise SpdyError(f"header block of more than {HEADER_BLOCK_BYTES_MAX} bytes")
        return _pairs(plain)


def _pairs(plain: bytes) -> dict[str, str]:
    strings: list[str] = []
    try:
        count: int = struct.unpack_from(">I", plain, 0)[0]
        position = 4
        for _ in range(2 * min(count, HEADER_BLOCK_BYTES_MAX)):
            size: int = struct.unpack_from(">I", plain, position)[0]
            if position + 4 + size > len(plain):
                raise SpdyError("header block is cut off")
            strings.append(plain[position + 4 : position + 4 + size].decode("latin-1"))
            position += 4 + size
    except struct.error as error:
        raise SpdyError("header block is cut off") from error
    return {
        name.lower(): value.split("\0")[0] for name, value in zip(strings[::2], strings[1::2], strict=True)
    }


@dataclass(slots=True)
class HeaderEncoder:
    """Compresses our header blocks, in order."""

    _zlib: "zlib._Compress" = field(default_factory=lambda: zlib.compressobj(zdict=DICTIONARY))

    def encode(self, headers: Mapping[str, str]) -> bytes:
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.lower(), value):
                plain += struct.pack(">I", len(text)) + text.encode("latin-1")
        return self._zlib.compress(plain) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
