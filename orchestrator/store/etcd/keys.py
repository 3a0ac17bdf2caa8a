"""Where the store's keys lie in etcd."""

import structlog

log = structlog.get_logger(__name__)

ROOT = "/registry"
"""How every key of the store begins; another prefix in etcd takes its place, as with kube-apiserver."""
SPARES = 64


class Keys:
    """Translates keys: `/registry/pods/default/web` is `<prefix>/pods/default/web` in etcd."""

    def __init__(self, prefix: str = ROOT, root: str = ROOT) -> None:
        """`prefix` is in etcd, `root` what it replaces; neither ends in a slash."""
        self.prefix = prefix.rstrip("/")
        self._root = root
        self._skip = len(self.prefix.encode())
        self.first = f"{self.prefix}/".encode()
        """The keys of the store are those from here, inclusive, …"""
        self.end = end_of(self.first)
        """… to here, exclusive."""
        self._internal = self.first + b"orchestrator.internal/"
        self.marker = self._internal + b"progress"
        """Written to make the watch tell how far it is; no key of the store. See `feed`."""
        self.spare = self._internal + b"spare/"
        """Keys under it are there to be deleted for the same purpose, when etcd is full and takes no writes."""
        self._told = False

    @property
    def spares(self) -> list[bytes]:
        """All there may be."""
        return [self.spare + b"%02d" % number for number in range(SPARES)]

    def to_etcd(self, key: str) -> bytes:
        return (self.prefix + key[len(self._root) :]).encode()

    def from_etcd(self, key: bytes) -> str | None:
        """None for what is no key of the store: markers, and what others wrote that is not UTF-8 (told once)."""
        if key.startswith(self._internal):
            return None
        try:
            return self._root + key[self._skip :].decode()
        except UnicodeDecodeError:
            if not self._told:
                log.warning("etcd has keys under our prefix that are not ours; they are left alone", key=key)
            self._told = True
            return None


def end_of(prefix: bytes) -> bytes:
    """The smallest key behind all that start with `prefix`, which ends in a byte below 0xff (UTF-8 always does)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
