"""Encryption at rest: what a value looks like on disk (or in etcd) when its resource is to be encrypted. Pure.

    sealed  = magic, 1, key id (8 bytes), nonce (12 bytes), AES-256-GCM ciphertext with its tag
    escaped = magic, 0, value                 a plain value that happens to begin with the magic

Everything else is plain. The store key and the head are authenticated with the ciphertext: a value copied to
another key, or under another key id, does not open. Engines call `seal` and `unseal` only where bytes go to or
come from the disk; memory, watches and reads have plain values. An engine without a key still needs a `Sealer`,
else it would take a sealed value for an object.

Nonces are random, 96 bits: one key is good for 2**32 values (NIST SP 800-38D, 8.3). At 100 writes of secrets a
second that is 497 days; rotate before (`orchestrator store rotate-key`). Called from the loop and from threads.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.api import resources
from orchestrator.base.errors import StartupError
from orchestrator.store.interface import StoreError
from orchestrator.store.keyring import EMPTY, KEY_ID_BYTES, Keyring

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\0OSEAL"
"""No JSON text begins with a zero byte."""
ESCAPED = MAGIC + b"\0"
SEALED = MAGIC + b"\1"
HEAD_BYTES = len(SEALED) + KEY_ID_BYTES
NONCE_BYTES = 12
OVERHEAD_BYTES = HEAD_BYTES + NONCE_BYTES + 16
"""What sealing adds to a value."""
KEY_USES_MAX = 2**32


class SealError(StoreError):
    """A sealed value does not open: its key is not here, or its bytes are not what was sealed under this name."""


class Sealer:
    """Seals the values under `prefixes` with the keyring's newest key; opens what any of its keys sealed."""

    def __init__(
        self,
        keyring: Keyring = EMPTY,
        prefixes: Sequence[str] = (),
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`prefixes` of store keys come from `prefixes_of`; without a key there must be none."""
        if prefixes and not keyring.keys:
            raise ValueError("nothing can be sealed without a key")
        self.prefixes = tuple(prefixes)
        self.seals = 0
        """Values sealed since the start, for metrics."""
        self._random_bytes = random_bytes
        self.use(keyring)

    def use(self, keyring: Keyring) -> None:
        """Seal with the newest key of `keyring` from now on."""
        self.keyring = keyring
        self._ciphers: dict[bytes, AESGCM] = {}
        self._primary = (SEALED + bytes.fromhex(keyring.primary.id)) if keyring.keys else b""

    def wants(self, key: str) -> bool:
        """Whether the value of the store key `key` is to be encrypted."""
        return key.startswith(self.prefixes) if self.prefixes else False

    def seal(self, key: str, value: bytes) -> bytes:
        """The stored form of `value`."""
        if not self.wants(key):
            return ESCAPED + value if value.startswith(MAGIC) else value
        self.seals += 1
        head, nonce = self._primary, self._random_bytes(NONCE_BYTES)
        return head + nonce + self._cipher(head).encrypt(nonce, value, head + key.encode())

    def unseal(self, key: str, stored: bytes) -> bytes:
        """The value behind its stored form. Raises `SealError`."""
        if not stored.startswith(MAGIC):
            return stored
        if stored.startswith(ESCAPED):
            return stored[len(ESCAPED) :]
        if not stored.startswith(SEALED) or len(stored) < OVERHEAD_BYTES:
            raise SealError(f"the value of {key} is sealed in a form that this version does not know")
        head, rest = stored[:HEAD_BYTES], HEAD_BYTES + NONCE_BYTES
        try:
            return self._cipher(head).decrypt(stored[HEAD_BYTES:rest], stored[rest:], head + key.encode())
        except ValueError as error:
            raise SealError(str(error)) from error
        except Exception as error:
            if type(error).__name__ != "InvalidTag":  # of cryptography, which is not imported for its name
                raise
            raise SealError(
                f"the value of {key} does not open with key {head[len(SEALED) :].hex()}: "
                "its bytes were changed or moved here from another name"
            ) from error

    def is_current(self, key: str, stored: bytes) -> bool:
        """Whether `seal` would give this form today: sealed with the newest key, or plain where that is wanted."""
        if self.wants(key):
            return stored.startswith(self._primary)
        return not stored.startswith(SEALED)

    def _cipher(self, head: bytes) -> "AESGCM":
        id = head[len(SEALED) :]
        cipher = self._ciphers.get(id)
        if cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            cipher = self._ciphers[id] = AESGCM(self.keyring.secret(id.hex()))
        return cipher


def key_id_of(stored: bytes) -> str:
    """The id of the key that sealed `stored`; empty for a plain value."""
    return stored[len(SEALED) : HEAD_BYTES].hex() if stored.startswith(SEALED) else ""


def prefixes_of(names: Iterable[str]) -> tuple[str, ...]:
    """Prefixes of store keys for resources as the config names them: `secrets`, `apps/deployments`.

    A group's resource that is not built in is taken for a custom one. Raises `StartupError` for anything else.
    """
    return tuple(dict.fromkeys(_prefix_of(name) for name in names))


def _prefix_of(name: str) -> str:
    group, _, plural = name.rpartition("/")
    for resource in resources.BUILT_IN:
        if (resource.group, resource.plural) == (group, plural):
            return resource.key_prefix()
    if not plural or "/" in group or "." not in group:
        raise StartupError(
            f"encrypt names {name!r}, which is no resource.",
            'Write "secrets", "configmaps" or "<group>/<resource>", both in their plural.',
        )
    return f"/registry/{group}/{plural}/"
