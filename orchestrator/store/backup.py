"""What a backup is: one tar file with every entry of the store at one revision, and the files beside the store.

    format.json            {"format": 1, "version": …}: read first, so that a newer format is refused by name
    files/<name>           files of the data directory and the configuration, as they are
    store/<number>         entries in key order, a MessagePack array of `Kept` each; values as stored, so sealed
                           ones stay sealed
    store/leases           MessagePack array of [id, ttl in seconds]
    manifest.json          revision, instance, time, and SHA-256 and size of every member before it
    manifest.json.sha256   of the manifest itself

It knows nothing of how an engine keeps its data, so any engine's backup can be restored into any. Pure but for
the streams that it is handed. Called by `assembly.backup`.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from orchestrator.base.errors import StartupError

FORMAT = 1
CHUNK_BYTES = 4 * 1024 * 1024
MEMBER_BYTES_MAX = 256 * 1024 * 1024
"""No member is larger; a damaged length must not fill the memory."""
FILE_MODE = 0o600
_FIRST, _MANIFEST, _SUM, _LEASES = "format.json", "manifest.json", "manifest.json.sha256", "store/leases"
_INTACT = "Take another backup; this one is left as it is."

T = TypeVar("T")


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """One key's newest entry. `value` is the stored form; revisions are those of its creation and last write."""

    key: str
    value: bytes
    create_revision: int
    revision: int
    version: int
    lease: int


class Member(msgspec.Struct, frozen=True):
    """Size in bytes and SHA-256 in hex."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """`created` is UTC as RFC 3339, `version` that of the program, `engine` the store's."""

    format: int
    version: str
    engine: str
    instance: str
    revision: int
    created: str
    entries: int
    last_lease: int
    members: dict[str, Member]


class _First(msgspec.Struct):
    format: int
    version: str


@dataclass(slots=True)
class Contents:
    """What goes into a backup. `files` are (name, bytes); names may have slashes."""

    engine: str
    version: str
    instance: str
    created: str
    revision: int
    last_lease: int
    entries: Iterable[Kept]
    leases: list[tuple[int, int]] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)


class _Writer:
    """Adds members to a tar stream and remembers their sums."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self.members: dict[str, Member] = {}
        self._tar = tar

    def add(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), FILE_MODE
        self._tar.addfile(info, io.BytesIO(data))
        self.members[name] = Member(len(data), hashlib.sha256(data).hexdigest())


def write(stream: IO[bytes], contents: Contents) -> Manifest:
    """Write a whole backup; the stream is neither closed nor synced. Raises `OSError`."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        writer = _Writer(tar)
        writer.add(_FIRST, msgspec.json.encode(_First(FORMAT, contents.version)))
        for name, data in contents.files:
            writer.add(f"files/{name}", data)
        count = 0
        for number, chunk in enumerate(_chunks(contents.entries), 1):
            writer.add(f"store/{number:08d}", msgspec.msgpack.encode(chunk))
            count += len(chunk)
        writer.add(_LEASES, msgspec.msgpack.encode(contents.leases))
        manifest = _manifest(contents, count, dict(writer.members))
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        writer.add(_MANIFEST, text)
        writer.add(_SUM, f"{hashlib.sha256(text).hexdigest()}  {_MANIFEST}\n".encode())
    return manifest


def _manifest(contents: Contents, entries: int, members: dict[str, Member]) -> Manifest:
    return Manifest(
        FORMAT,
        contents.version,
        contents.engine,
        contents.instance,
        contents.revision,
        contents.created,
        entries,
        contents.last_lease,
        members,
    )


def _chunks(entries: Iterable[Kept]) -> Iterator[list[Kept]]:
    chunk: list[Kept] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += len(entry.key) + len(entry.value) + 64
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class Backup:
    """A backup file that was verified from end to end. Make one with `open`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> "Backup":
        """Read all of it once. Raises `StartupError` saying what is wrong with it."""
        sums: dict[str, Member] = {}
        last: dict[str, bytes] = {}
        for name, data in _members(path):
            if not sums:
                _check_first(path, name, data)
            if name in sums:
                raise damaged(path, f"{name} is in it twice")
            sums[name] = Member(len(data), hashlib.sha256(data).hexdigest())
            if name in (_MANIFEST, _SUM):
                last[name] = data
        return cls(path, _check_sums(path, sums, last))

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The files beside the store: (name, bytes)."""
        for name, data in _members(self.path):
            if name.startswith("files/"):
                yield name.removeprefix("files/"), data

    def entries(self) -> Iterator[Kept]:
        """Every entry, in key order."""
        for name, data in _members(self.path):
            if name.startswith("store/") and name != _LEASES:
                yield from _decoded(self.path, name, data, list[Kept])

    def leases(self) -> list[tuple[int, int]]:
        """(id, time to live in seconds)."""
        for name, data in _members(self.path):
            if name == _LEASES:
                return _decoded(self.path, name, data, list[tuple[int, int]])
        return []


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every member. Raises `StartupError` for anything but a whole tar of plain files."""
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if not info.isreg() or info.size > MEMBER_BYTES_MAX or not _is_safe(info.name):
                    raise damaged(path, f"{info.name!r} does not belong into a backup")
                file = tar.extractfile(info)
                yield info.name, file.read() if file is not None else b""
    except OSError as error:
        raise StartupError(
            f"The backup {path} can't be read: {error.strerror or error}.", "Give another file."
        ) from error
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise damaged(path, str(error)) from error


def _is_safe(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


def _check_first(path: Path, name: str, data: bytes) -> None:
    if name != _FIRST:
        raise damaged(path, "it does not begin as a backup does")
    first = _decoded(path, name, data, _First)
    if first.format != FORMAT:
        raise StartupError(
            f"The backup {path} has format {first.format}, made by orchestrator {first.version}; "
            f"this version reads format {FORMAT}.",
            "Install the version that made it, or a newer one.",
        )


def _check_sums(path: Path, sums: dict[str, Member], last: dict[str, bytes]) -> Manifest:
    if len(last) < 2:
        raise damaged(path, "it ends too early: the manifest, which comes last, is missing")
    text = last[_MANIFEST]
    if not last[_SUM].startswith(hashlib.sha256(text).hexdigest().encode()):
        raise damaged(path, "the manifest is not what was written")
    manifest = _decoded(path, _MANIFEST, text, Manifest)
    found = {name: member for name, member in sums.items() if name not in last}
    for name in sorted(found.keys() | manifest.members.keys()):
        if found.get(name) != manifest.members.get(name):
            raise damaged(path, f"{name} is not what was written")
    return manifest


def _decoded(path: Path, name: str, data: bytes, type: type[T]) -> T:
    decode: Any = msgspec.json.decode if name.endswith(".json") else msgspec.msgpack.decode
    try:
        result: T = decode(data, type=type)
    except msgspec.MsgspecError as error:
        raise damaged(path, f"{name}: {error}") from error
    return result


def damaged(path: Path, what: str) -> StartupError:
    """The refusal of a backup that is not as it was written."""
    return StartupError(f"The backup {path} is damaged: {what}.", _INTACT)
