"""What servers of one cluster have in common beside the store: its CA, the key of its tokens, its address ranges.

1. The first server writes them to etcd, in a transaction that only one can win.
2. Every other one takes them into its data directory before it makes certificates.
3. A data directory that has another CA or key already belongs to another cluster and is refused; so is a config
   with other address ranges, and an etcd that has keys in our place but no identity: it belongs to somebody else.

Whoever reads this part of etcd can act as anybody in the cluster, as with every secret there: guard etcd by TLS.
A restore withholds the identity first and gives that of the backup last: meanwhile no server starts.
What they encrypt is another matter: see `agreement`. Called by `shared`, and by `backup` for a restore.
"""

import ipaddress
import tempfile
from pathlib import Path

import msgspec
import structlog

from orchestrator.assembly.etcd import Etcd
from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.config import Config
from orchestrator.pki.authority import Authority, ensure_signing_key, keep
from orchestrator.store.etcd.api import Message
from orchestrator.store.interface import StoreError

log = structlog.get_logger(__name__)

FILES = ("ca.crt", "ca.key", "sa.key")
SETTINGS = ("service_cidr", "pod_cidr", "dns_address", "cluster_domain")
SAMPLE = 20
"""Keys that are looked at to tell whose they are."""
KUBERNETES = b"k8s\0"
"""How a value begins that kube-apiserver wrote."""
_RESTORING = 0
"""The format of what stands in for an identity during a restore."""
_MOD_REVISION = 2


class _Identity(msgspec.Struct):
    format: int
    files: dict[str, str]
    settings: dict[str, str]


class Identity:
    """The cluster's, in etcd under `/orchestrator<prefix>/`. `check` changes nothing; `adopt` writes files."""

    def __init__(self, etcd: Etcd, config: Config, clock: Clock) -> None:
        self._etcd = etcd
        self._config = config
        self._clock = clock
        self._directory = config.data_dir / "pki"
        self._key = f"/orchestrator{etcd.keys.prefix}/identity".encode()

    async def check(self) -> None:
        """Whether this server fits what is there. Raises `StartupError`."""
        found = await self._read()
        if found is None and (values := await self._first_values()):
            found = await self._read()  # Another server may have made the cluster just now.
            if found is None:
                raise _foreign(self._etcd.keys.prefix, values)
        if found is not None:
            self._compare(found)

    async def adopt(self) -> None:
        """Take over the cluster's identity, or make it where there is none. Raises `StartupError`."""
        found = await self._read()
        if found is None:
            await self._publish()
            found = await self._read()
        if found is None:
            raise StartupError("The cluster's identity has gone from etcd again.", "Start anew.")
        self._compare(found)
        keep(self._directory, {name: found.files[name].encode() for name in FILES})

    async def withhold(self) -> None:
        """No server starts until an identity is given: part of the data is missing while they are restored."""
        value = msgspec.json.encode(_Identity(_RESTORING, {}, {}))
        await self._change({"put": {"key": self._key, "value": value}})

    async def give(self, files: dict[str, bytes]) -> None:
        """The cluster is that of a backup, whose files are given by their names in `pki`."""
        texts = {name: files[name].decode() for name in FILES}
        value = msgspec.json.encode(_Identity(1, texts, self._settings()))
        await self._change({"put": {"key": self._key, "value": value}})

    async def _change(self, operation: Message) -> None:
        try:
            await self._etcd.api.txn({"success": [operation]})
        except StoreError as error:
            raise _failed(error) from error

    async def _first_values(self) -> list[bytes]:
        """Of some keys in the store's place."""
        keys = self._etcd.keys
        try:
            answer = await self._etcd.api.range({"key": keys.first, "range_end": keys.end, "limit": SAMPLE})
        except StoreError as error:
            raise _failed(error) from error
        kvs = [kv for kv in answer.get("kvs", ()) if kv["key"] != keys.marker]
        return [kv.get("value", b"") for kv in kvs if keys.from_etcd(kv["key"]) is not None]

    def _compare(self, found: _Identity) -> None:
        for name in FILES:
            path = self._directory / name
            if path.exists() and path.read_text() != found.files[name]:
                raise StartupError(
                    f"{path} is not that of the cluster in etcd: this data directory belongs to another cluster.",
                    "Give another --data-dir, or other --etcd-endpoints or --etcd-prefix.",
                )
        for name, value in self._settings().items():
            theirs = found.settings.get(name, value)
            if theirs != value:
                raise StartupError(
                    f"{name} is {value} here, but {theirs} for the other servers of this cluster.",
                    f"Set {name} to {theirs}.",
                )

    def _settings(self) -> dict[str, str]:
        values = {name: str(getattr(self._config, name)) for name in SETTINGS}
        for name in ("service_cidr", "pod_cidr"):
            values[name] = str(ipaddress.ip_network(values[name]))
        return values

    async def _publish(self) -> None:
        """Ours, if nobody is faster: those of the data directory, or new ones made aside."""
        with tempfile.TemporaryDirectory(dir=self._config.run_dir) as aside:
            directory = self._directory if (self._directory / "ca.key").exists() else Path(aside)
            Authority(directory, self._clock)
            ensure_signing_key(directory / "sa.key")
            files = {name: (directory / name).read_text() for name in FILES}
        value = msgspec.json.encode(_Identity(1, files, self._settings()))
        if await self._put(self._key, value, 0):
            log.info("made the cluster's identity", etcd=self._etcd.client.endpoint)

    async def _read(self) -> _Identity | None:
        value, revision = await self._get(self._key)
        if not revision:
            return None
        try:
            found = msgspec.json.decode(value, type=_Identity)
        except msgspec.MsgspecError as error:
            raise self._damaged(str(error)) from error
        if found.format == _RESTORING:
            raise StartupError(
                "A restore into this etcd is under way, or was interrupted.",
                "Wait for its end; or run it again: orchestrator restore FILE --force.",
            )
        if found.format != 1 or any(name not in found.files for name in FILES):
            raise self._damaged(f"it has format {found.format}")
        return found

    def _damaged(self, why: str) -> StartupError:
        return StartupError(
            f"etcd's {self._key.decode()} can't be read: {why}.",
            "Run the version that wrote it, or restore etcd from a backup.",
        )

    async def _get(self, key: bytes) -> tuple[bytes, int]:
        """The value and its revision; 0 where there is none."""
        try:
            kvs = (await self._etcd.api.range({"key": key})).get("kvs", ())
        except StoreError as error:
            raise _failed(error) from error
        return (kvs[0].get("value", b""), int(kvs[0]["mod_revision"])) if kvs else (b"", 0)

    async def _put(self, key: bytes, value: bytes, revision: int) -> bool:
        """Whether it was written on top of `revision`."""
        request = {
            "compare": [{"target": _MOD_REVISION, "key": key, "mod_revision": revision}],
            "success": [{"put": {"key": key, "value": value}}],
        }
        try:
            return bool((await self._etcd.api.txn(request)).get("succeeded"))
        except StoreError as error:
            raise _failed(error) from error


def _foreign(prefix: str, values: list[bytes]) -> StartupError:
    if any(value.startswith(KUBERNETES) for value in values):
        return StartupError(
            f"This etcd is the store of another Kubernetes: kube-apiserver keeps its objects under {prefix}/.",
            "Use another etcd, or another place in this one: --etcd-prefix /registry-2.",
        )
    return StartupError(
        f"This etcd has keys under {prefix}/, but none of our clusters was made there.",
        "Use another etcd, or another place in this one with --etcd-prefix; or, where the keys are of no use, "
        f"remove them: etcdctl del --prefix {prefix}/",
    )


def _failed(error: StoreError) -> StartupError:
    return StartupError(
        f"The cluster's identity can't be read from or written to etcd: {error}.",
        "Look at etcd's log; its user needs readwrite on the prefix /orchestrator/.",
    )
