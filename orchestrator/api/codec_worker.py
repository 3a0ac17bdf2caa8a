"""A process that reads YAML for the server, so that a document of many megabytes once its aliases are expanded takes
neither the server's time nor its memory: `python -m orchestrator.api.codec_worker`.

On stdin: four bytes of length (big-endian) and a document. On stdout: likewise, a byte that is 0 for a value or 1 for
a message why there is none, then `{"object": …, "duplicates": […], "repeats": […]}` or the message. It ends
with its stdin. Started by `server.yaml_worker`.
"""

import resource
import sys
from typing import BinaryIO

import msgspec

from orchestrator.api.codec import YAML, decode_value
from orchestrator.api.errors import ApiError

MEMORY_BYTES_MAX = 192 * 1024 * 1024
"""The interpreter's own and 128 MiB for one document."""


def main() -> None:
    """Serve until stdin ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, hard))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while data := _frame(source):
        answer = _answer(data)
        sink.write(len(answer).to_bytes(4, "big") + answer)
        sink.flush()


def _frame(source: BinaryIO) -> bytes:
    head = source.read(4)
    return source.read(int.from_bytes(head, "big")) if len(head) == 4 else b""


def _answer(data: bytes) -> bytes:
    try:
        decoded = decode_value(data, YAML, (YAML,))
        found = {"object": decoded.object, "duplicates": decoded.duplicates, "repeats": decoded.repeats}
        return b"\0" + msgspec.json.encode(found)
    except ApiError as error:
        return b"\1" + error.message.encode()
    except (MemoryError, RecursionError):
        return b"\1the body takes more memory than one request may have"


if __name__ == "__main__":
    main()
