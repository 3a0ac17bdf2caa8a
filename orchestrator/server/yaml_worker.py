"""YAML bodies that take long are read by a process of their own, one at a time. Owner of that process.

It is started for the first such body and ends when none came for `IDLE_S`; one that does not answer in time, or dies,
costs its request a 400 and is replaced. Called by the handlers; `close` with the server.
"""

import asyncio
import re
import sys

import msgspec

from orchestrator.api.codec import YAML_TYPES, Decoded, media_type
from orchestrator.api.errors import BadRequest, TooManyRequests

SMALL_BYTES = 32 * 1024
"""Larger YAML goes to the process, and any that has aliases."""
TIMEOUT_S = 20.0
IDLE_S = 120.0
WAITING_MAX = 16
ANSWER_BYTES_MAX = 64 * 1024 * 1024

_alias = re.compile(rb"(?:^|[\s\[,{:?-])\*[^\s,\[\]{}]").search
"""Now and then finds something inside of a text: such a body takes the longer way."""


def wants_process(data: bytes, content_type: str) -> bool:
    """Whether a body is YAML that could hold the loop, or take much memory. JSON in a YAML body is not."""
    if media_type(content_type) not in YAML_TYPES:
        return False
    return (len(data) > SMALL_BYTES or _alias(data) is not None) and not _is_json(data)


def _is_json(data: bytes) -> bool:
    """By its look: what starts as JSON and is none is refused by the decoder as YAML in flow style is slow."""
    if data.lstrip()[:1] != b"{":
        return False
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class _Answer(msgspec.Struct):
    object: object
    duplicates: tuple[str, ...]
    repeats: tuple[str, ...]


_decode = msgspec.json.Decoder(_Answer).decode


class YamlWorker:
    """Owner of the process and its pipes."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._idle: asyncio.TimerHandle | None = None

    async def decode(self, data: bytes) -> Decoded:
        """The value of a document. Raises `BadRequest`, and `TooManyRequests` while many wait."""
        if self._waiting >= WAITING_MAX:
            raise TooManyRequests("too many large YAML bodies wait to be read", retry_after_s=1)
        self._waiting += 1
        try:
            async with self._turn:
                answer = await self._ask(data)
        finally:
            self._waiting -= 1
        if answer[:1] != b"\0":
            raise BadRequest(answer[1:].decode(errors="replace") or "the body can't be read as YAML")
        found = await asyncio.to_thread(_decode, answer[1:])
        return Decoded(found.object, found.duplicates, found.repeats)

    async def _ask(self, data: bytes) -> bytes:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._exchange(data)
        except (TimeoutError, OSError, EOFError) as error:
            await self._end()
            why = "in time" if isinstance(error, TimeoutError) else "with the memory a request may have"
            raise BadRequest(f"the body could not be read as YAML {why}") from None
        except BaseException:
            await self._end()  # An answer that is still to come would be the next one's.
            raise
        self._rest()
        return answer

    async def _exchange(self, data: bytes) -> bytes:
        if self._idle is not None:
            self._idle.cancel()
        process = self._process
        ended = process is None or process.returncode is not None
        if process is None or process.stdin is None or ended or process.stdin.is_closing():
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestrator.api.codec_worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(len(data).to_bytes(4, "big") + data)
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(4), "big")
        if size > ANSWER_BYTES_MAX:
            raise EOFError
        return await process.stdout.readexactly(size)

    def _rest(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._let_go)

    def _let_go(self) -> None:
        """End an idle process by ending its stdin."""
        process = self._process
        if process is not None and process.stdin is not None and not self._turn.locked():
            process.stdin.close()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # nothing else closes its pipes at once

    async def close(self) -> None:
        """End the process. May be called twice."""
        if self._idle is not None:
            self._idle.cancel()
        await self._end()
