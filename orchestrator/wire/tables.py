"""Field tables: which message has which field under which number. Text files of our own form, read lazily.

One folder per protocol, one file per package. A file is blocks apart by an empty line; a block is a message's
name (`choice` behind it: see `Message`), then a line per field: ` number name type`. A type is a word of
`scalars`, another message of the same file, `package.Message`, or `map<type>` with string keys, and ends in

    *  repeated
    ^  inline: its fields stand in the enclosing JSON object
    ?  a pointer in Go: a zero on the wire was set on purpose
    !  always written in JSON, also when zero
       (nothing) the zero value means "not set" and JSON leaves it out

Go writes zeros of plain fields to the wire and never to JSON, and zeros of pointers to both; so the marks are
what makes `replicas: 0` survive and `hostNetwork: false` disappear. Called by `protobuf`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.wire.raw import WireError

ROOT = Path(__file__).with_name("tables")

_line = re.compile(r" (\d+) (\S+) (map<)?([\w.-]+)>?([*^?!]?)").fullmatch
_qualified = re.compile(r"(.+_v\w+|runtime)\.(\w+)").fullmatch


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `message` is a qualified message name, or empty where `type` is a word of `scalars`."""

    number: int
    name: str
    type: str
    message: str
    is_map: bool
    repeated: bool
    inline: bool
    keeps_zero: bool


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Where `choice` is set, its JSON is the bare value of the field that is set."""

    name: str
    by_number: dict[int, Field]
    by_name: dict[str, Field]
    inlined: tuple[Field, ...]
    choice: bool


class Tables:
    """The messages of one protocol. Files are read, and messages parsed, at their first use."""

    def __init__(self, protocol: str) -> None:
        self._folder = ROOT / protocol
        self._blocks: dict[str, dict[str, str]] = {}
        self._messages: dict[str, Message] = {}

    def has(self, package: str, name: str) -> bool:
        return name in self._package(package)

    def message(self, qualified: str) -> Message:
        """`core_v1.Pod` and its like. Raises `WireError` for an unknown one."""
        found = self._messages.get(qualified)
        if found is None:
            package, _, name = qualified.rpartition(".")
            block = self._package(package).get(name)
            if block is None:
                raise WireError(f"no message {qualified} is known")
            found = self._messages[qualified] = _parse(package, name, block)
        return found

    def _package(self, package: str) -> dict[str, str]:
        blocks = self._blocks.get(package)
        if blocks is None:
            blocks = self._blocks[package] = self._read(package)
        return blocks

    def _read(self, package: str) -> dict[str, str]:
        path = self._folder / f"{package}.txt"
        if not re.fullmatch(r"[\w.-]+", package) or not path.is_file():
            return {}
        blocks = path.read_text("utf-8").rstrip("\n").split("\n\n")
        return {re.split(r"\s", block, maxsplit=1)[0]: block for block in blocks}


def _parse(package: str, name: str, block: str) -> Message:
    head, *lines = block.split("\n")
    fields = [_field(package, line) for line in lines]
    return Message(
        name=f"{package}.{name}",
        by_number={field.number: field for field in fields},
        by_name={field.name: field for field in fields if not field.inline},
        inlined=tuple(field for field in fields if field.inline),
        choice=head.endswith(" choice"),
    )


def _field(package: str, line: str) -> Field:
    match = _line(line)
    if match is None:
        raise WireError(f"the field table of {package} has a line that is no field: {line!r}")
    number, name, is_map, kind, mark = match.groups()
    message = ""
    if _qualified(kind):
        message = kind
    elif kind[0].isupper():
        message = f"{package}.{kind}"
    return Field(int(number), name, kind, message, bool(is_map), mark == "*", mark == "^", mark in ("?", "!"))
