"""The two ways into a stream protocol: `Upgrade: SPDY/3.1` and `Upgrade: websocket`.

A request that can't be upgraded is answered with plain HTTP that says what is spoken here.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from orchestrator.web.streams.websocket import accept_value, choose
from orchestrator.web.upgrade import RawStream, take_over

PROTOCOL_HEADER = "X-Stream-Protocol-Version"
ACCEPTED_HEADER = "X-Accepted-Stream-Protocol-Versions"
SPDY = "SPDY/3.1"


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection that now speaks `transport` with the subprotocol `protocol` (maybe empty)."""

    stream: RawStream
    transport: Literal["spdy", "websocket"]
    protocol: str


async def upgrade(
    request: web.BaseRequest, spdy_protocols: Sequence[str], websocket_protocols: Sequence[str]
) -> Upgraded | web.Response:
    """Take the connection over, or the answer that says why not.

    `""` in a list of protocols means that a client which names none is served as well.
    """
    wanted = request.headers.get("Upgrade", "").lower()
    if "upgrade" not in request.headers.get("Connection", "").lower():
        wanted = ""
    if wanted == "websocket":
        return await _websocket(request, websocket_protocols)
    if wanted == SPDY.lower():
        return await _spdy(request, spdy_protocols)
    return refusal(400, "BadRequest", f"you must specify {SPDY} or websocket in the Upgrade header")


async def _spdy(request: web.BaseRequest, known: Sequence[str]) -> Upgraded | web.Response:
    offered = _names(request, PROTOCOL_HEADER) or [""]
    protocol = choose(offered, known)
    if protocol is None:
        message = f"unable to upgrade: unable to negotiate protocol: client supports {offered}"
        return refusal(403, "Forbidden", f"{message}, server accepts {list(known)}", known)
    head = [f"Connection: Upgrade\r\nUpgrade: {SPDY}"]
    if protocol:
        head.append(f"{PROTOCOL_HEADER}: {protocol}")
    return Upgraded(await take_over(request, _head(head)), "spdy", protocol)


async def _websocket(request: web.BaseRequest, known: Sequence[str]) -> Upgraded | web.Response:
    key = request.headers.get("Sec-WebSocket-Key", "")
    if request.headers.get("Sec-WebSocket-Version") != "13" or not _is_key(key):
        return refusal(400, "BadRequest", "not a WebSocket handshake of version 13")
    offered = _names(request, "Sec-WebSocket-Protocol")
    protocol = choose(offered or [""], known)
    if protocol is None:
        return refusal(400, "BadRequest", f"unsupported subprotocols {offered}, accepted are {list(known)}")
    head = ["Connection: Upgrade\r\nUpgrade: websocket", f"Sec-WebSocket-Accept: {accept_value(key)}"]
    if protocol:
        head.append(f"Sec-WebSocket-Protocol: {protocol}")
    return Upgraded(await take_over(request, _head(head)), "websocket", protocol)


def _head(lines: list[str]) -> bytes:
    return ("HTTP/1.1 101 Switching Protocols\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _names(request: web.BaseRequest, header: str) -> list[str]:
    values = request.headers.getall(header, [])
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def refusal(code: int, reason: str, message: str, accepted: Sequence[str] = ()) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    response = web.Response(status=code, body=json.dumps(status).encode(), content_type="application/json")
    for name in filter(None, accepted):
        response.headers.add(ACCEPTED_HEADER, name)
    return response
