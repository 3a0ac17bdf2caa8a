"""Reads the generated bundle of API definitions, `schemas.bin`; `hatch_build.py` at the root writes it.

Only the index stays in memory, and of a package that was asked for its structure as bytes; a definition is
decoded when first used. Descriptions are ten times the structure: they are read for OpenAPI and not kept.
Called by `schema` and `openapi`.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.base.errors import StartupError

MAGIC = b"ORCSCHM1"
PATH = Path(__file__).with_name("schemas.bin")

Definition = dict[str, Any]
"""One JSON schema. `$ref` holds the full name of another definition, descriptions are left out."""


class _Index(msgspec.Struct):
    version: str
    kinds: dict[str, str]
    chunks: dict[str, tuple[int, int, int, int]]


_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_texts = msgspec.json.Decoder(dict[str, dict[str, str]]).decode


class Bundle:
    """The definitions by full name, such as `io.k8s.api.core.v1.Pod`. Owner: `Schemas`."""

    def __init__(self, path: Path = PATH) -> None:
        """Reads the index. Raises `StartupError` when the bundle is absent or of another format."""
        self._path = path
        index, self._start = _read_index(path)
        self.version = index.version
        """Kubernetes' version of the definitions, such as `v1.36.0`."""
        self.kinds = index.kinds
        """Definition by `group/version/Kind`; the core group is empty."""
        self._chunks = index.chunks
        self._parts: dict[str, dict[str, msgspec.Raw]] = {}
        self._definitions: dict[str, Definition] = {}

    def definition(self, name: str) -> Definition:
        """The schema of `name`, without descriptions; the same dictionary each time. KeyError when absent."""
        found = self._definitions.get(name)
        if found is None:
            package, _, short = name.rpartition(".")
            found = self._definitions[name] = msgspec.json.decode(self._structure(package)[short])
        return found

    def names(self, package: str) -> list[str]:
        """Full names of a package's definitions."""
        return [f"{package}.{short}" for short in self._structure(package)]

    def packages(self) -> list[str]:
        return list(self._chunks)

    def texts(self, package: str) -> dict[str, dict[str, str]]:
        """Descriptions by last name, then field; `""` is the definition's own. Read each time, not kept."""
        return _decode_texts(self._chunk(*self._chunks[package][2:]))

    def fresh(self, package: str) -> dict[str, Definition]:
        """All schemas of a package by full name, decoded for the caller alone and not kept."""
        chunk = self._chunk(*self._chunks[package][:2])
        return {f"{package}.{short}": part for short, part in msgspec.json.decode(chunk).items()}

    def _structure(self, package: str) -> dict[str, msgspec.Raw]:
        parts = self._parts.get(package)
        if parts is None:
            parts = self._parts[package] = _decode_parts(self._chunk(*self._chunks[package][:2]))
        return parts

    def _chunk(self, offset: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._start + offset)
            return zlib.decompress(file.read(length))


def _read_index(path: Path) -> tuple[_Index, int]:
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + 4)
            if head[: len(MAGIC)] != MAGIC:
                raise StartupError(f"{path} is not a schema bundle of this version.", _FIX)
            (length,) = struct.unpack("<I", head[len(MAGIC) :])
            return msgspec.json.decode(zlib.decompress(file.read(length)), type=_Index), len(head) + length
    except (OSError, zlib.error, struct.error, msgspec.DecodeError) as error:
        raise StartupError(f"The API definitions can't be read from {path}: {error}.", _FIX) from error


_FIX = "Install the package again, or run `python hatch_build.py` in a source checkout."
