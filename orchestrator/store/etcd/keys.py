"""Where the store's keys lie in etcd. Pure."""

ROOT = "/registry"
"""How every key of the store begins; another prefix in etcd takes its place, as with kube-apiserver."""


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
        self.marker = f"{self.prefix}/orchestrator.internal/progress".encode()
        """Written to make the watch tell how far it is; no key of the store. See `feed`."""

    def to_etcd(self, key: str) -> bytes:
        return (self.prefix + key[len(self._root) :]).encode()

    def from_etcd(self, key: bytes) -> str:
        return self._root + key[self._skip :].decode()


def end_of(prefix: bytes) -> bytes:
    """The smallest key behind all that start with `prefix`, which ends in a byte below 0xff (UTF-8 always does)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
