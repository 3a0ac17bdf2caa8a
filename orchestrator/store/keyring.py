"""The keys of encryption at rest, and the file that holds them.

The file is JSON, mode 0600, always written whole and renamed into place:
`{"format": 1, "keys": [{"id": "16 hex digits", "secret": "base64 of 32 bytes", "created": "RFC 3339"}]}`.
The last key is the one that seals; the others still open what they sealed. Ids are random, so that a file that
was lost and made anew can't pass for the old one. Called by `assembly.encryption` and the command line.
"""

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from orchestrator.base.errors import StartupError

FORMAT = 1
KEY_ID_BYTES = 8
SECRET_BYTES = 32
_RESTORE = "Restore the file from a backup; without its keys what they sealed can't be read."


@dataclass(frozen=True, slots=True)
class Key:
    """`created` is UTC as RFC 3339."""

    id: str
    secret: bytes
    created: str

    def __repr__(self) -> str:
        return f"Key({self.id})"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys from the oldest to the newest."""

    keys: tuple[Key, ...] = ()

    @property
    def primary(self) -> Key:
        """The key that seals."""
        return self.keys[-1]

    def secret(self, id: str) -> bytes:
        """Raises `ValueError` for a key that is not here."""
        for key in self.keys:
            if key.id == id:
                return key.secret
        raise ValueError(f"the encryption key {id} is not in the keys file")

    def with_new(self, created: str) -> "Keyring":
        """With a further key, the new primary."""
        key = Key(os.urandom(KEY_ID_BYTES).hex(), os.urandom(SECRET_BYTES), created)
        return Keyring((*self.keys, key))

    def only_primary(self) -> "Keyring":
        """Without the keys that seal no more."""
        return Keyring(self.keys[-1:])


EMPTY = Keyring()


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    secret: str
    created: str


class _File(msgspec.Struct):
    format: int
    keys: list[_Key]


def load(path: Path) -> Keyring | None:
    """The keys in `path`; None when there is no such file. Raises `StartupError` for one that can't be used."""
    try:
        mode, data = path.stat().st_mode, path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartupError(
            f"The encryption keys {path} can't be read: {error.strerror}.", "Run as its owner."
        ) from error
    if mode & 0o077:
        raise StartupError(f"The encryption keys {path} can be read by others.", f"Run: chmod 600 {path}")
    return parse(data, str(path))


def parse(data: bytes, name: str) -> Keyring:
    """The keys of a file's bytes. Raises `StartupError` naming what is wrong."""
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.MsgspecError as error:
        raise StartupError(f"The encryption keys {name} are damaged: {error}.", _RESTORE) from error
    if file.format != FORMAT:
        raise StartupError(
            f"The encryption keys {name} have format {file.format}; this version reads format {FORMAT}.",
            "Install the version of orchestrator that wrote them, or a newer one.",
        )
    keys = tuple(_key(entry, name) for entry in file.keys)
    if not keys or len({key.id for key in keys}) != len(keys):
        raise StartupError(f"The encryption keys {name} hold no key, or one twice.", _RESTORE)
    return Keyring(keys)


def _key(entry: _Key, name: str) -> Key:
    try:
        secret = base64.b64decode(entry.secret, validate=True)
        id_bytes = len(bytes.fromhex(entry.id))
    except (binascii.Error, ValueError):
        secret, id_bytes = b"", 0
    if len(secret) != SECRET_BYTES or id_bytes != KEY_ID_BYTES:
        raise StartupError(f"The encryption keys {name} hold a key of another size.", _RESTORE)
    return Key(entry.id.lower(), secret, entry.created)


def save(path: Path, keyring: Keyring) -> None:
    """Write the keys file. Raises `StartupError`; the old file then stays as it was."""
    write(path, render(keyring))


def write(path: Path, data: bytes) -> None:
    """Replace a file by one for its owner's eyes only, and wait for the disk. Raises `StartupError`."""
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise StartupError(
            f"{path} can't be written: {error.strerror}.", "Make its directory writable, with space left."
        ) from error


def render(keyring: Keyring) -> bytes:
    """The file's bytes."""
    keys = [_Key(key.id, base64.b64encode(key.secret).decode(), key.created) for key in keyring.keys]
    return msgspec.json.format(msgspec.json.encode(_File(FORMAT, keys)), indent=2) + b"\n"


def sync_directory(path: Path) -> None:
    """Wait until the names in `path` are on disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
