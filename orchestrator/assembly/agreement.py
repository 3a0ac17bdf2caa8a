"""What servers of one cluster that run at the same time must agree on for encryption at rest: which key seals what.

In etcd below `/orchestrator<prefix>/` there is `encryption`, which says so, and `servers/<id>` per server, on a lease.

1. A server joins before it loads anything, in one transaction: it is among the servers only if what they agreed on is
   what its own settings say. So of two that start together with different keys one is refused.
2. The agreement changes (other settings, a new key) only in a transaction that finds no other server.
3. A server that was cut off for so long that its lease ended joins again; it is not ready where the others have
   agreed on something else since then.

Called by `shared`.
"""

import asyncio
import secrets

import msgspec
import structlog

from orchestrator.assembly.etcd import Etcd
from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.store.etcd.api import Message
from orchestrator.store.etcd.keys import end_of
from orchestrator.store.interface import LeaseNotFoundError, StoreError, UnknownOutcomeError
from orchestrator.store.keyring import Keyring
from orchestrator.store.sealing import Sealer

log = structlog.get_logger(__name__)

LEASE_S = 15
RENEW_S = 5.0
ATTEMPTS = 20
RETRY_S = 0.1
LEAVE_TIMEOUT_S = 3.0
_MOD_REVISION = 2


class Terms(msgspec.Struct, frozen=True):
    """The id of the key that seals the values under `prefixes`; both empty where nothing is encrypted."""

    key: str = ""
    prefixes: tuple[str, ...] = ()


def terms_of(keyring: Keyring, prefixes: tuple[str, ...]) -> Terms:
    return Terms(keyring.primary.id, tuple(sorted(prefixes))) if prefixes else Terms()


class Agreement:
    """One server's part in it. Owner of its lease."""

    def __init__(self, etcd: Etcd, clock: Clock) -> None:
        root = f"/orchestrator{etcd.keys.prefix}"
        self.broken = ""
        """Why this server must not go on as it does; empty while all is well."""
        self._api = etcd.api
        self._clock = clock
        self._key = f"{root}/encryption".encode()
        self._servers = f"{root}/servers/".encode()
        self._own = self._servers + secrets.token_hex(8).encode()
        self._lease = 0
        self._terms = Terms()

    async def join(self, sealer: Sealer, supervisor: Supervisor) -> None:
        """Be among the servers from now on. Raises `StartupError` where these settings are not theirs."""
        try:
            self._lease = await self._api.lease_grant(LEASE_S)
            await self.change(sealer.keyring, sealer.prefixes)
        except StoreError as error:
            raise StartupError(
                f"What the servers of this cluster encrypt can't be read from or written to etcd: {error}.",
                "Look at etcd's log; its user needs readwrite on the prefix /orchestrator/.",
            ) from error
        supervisor.serve("presence", self._stay)

    async def change(self, keyring: Keyring, prefixes: tuple[str, ...]) -> None:
        """Agree on the newest key of `keyring`. Raises `StartupError` when that is refused for certain: nothing has
        changed then; `StoreError` when it may have been agreed on."""
        wanted, known = terms_of(keyring, prefixes), {key.id for key in keyring.keys}
        for _ in range(ATTEMPTS):
            found, revision = await self._read()
            if found is not None and found.key and found.key not in known:
                raise _unknown_key(found.key)
            if await self._write(wanted, revision, same=found == wanted):
                self._terms, self.broken = wanted, ""
                return
            if found != wanted and await self.others() and (await self._read())[1] == revision:
                raise _others_differ(found or Terms(), wanted)
            await self._clock.sleep(RETRY_S)
        raise StoreError("etcd gave no answer several times, or what the servers agreed on keeps changing")

    async def confirm(self) -> None:
        """Raises `StartupError` unless what this server does is still what was agreed on."""
        found, _ = await self._read()
        if found != self._terms:
            raise _others_differ(found or Terms(), self._terms)

    async def others(self) -> int:
        """How many other servers there are; one that died counts until its lease ends."""
        answer = await self._api.range(
            {"key": self._servers, "range_end": end_of(self._servers), "keys_only": True}
        )
        return sum(kv["key"] != self._own for kv in answer.get("kvs", ()))

    async def forget(self) -> None:
        """Let the next server say what is encrypted. Raises `StartupError` while there are servers."""
        if count := await self.others():
            raise StartupError(
                f"{count} servers run on this etcd.",
                f"Stop them first; one that died is waited for {LEASE_S} s.",
            )
        await self._api.txn({"success": [{"delete": {"key": self._key}}]})

    async def leave(self) -> None:
        """Be no server any more; where etcd can't be told the lease ends by itself."""
        if not self._lease:
            return
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self._api.lease_revoke(self._lease)
        except (StoreError, TimeoutError) as error:
            said = str(error) or f"nothing within {LEAVE_TIMEOUT_S:.0f} s"
            log.info("this server counts as one until its lease ends", error=said)
        self._lease = 0

    async def _stay(self) -> None:
        while True:
            await self._clock.sleep(RENEW_S)
            try:
                if not await self._api.lease_keep_alive(self._lease):
                    await self._rejoin()
            except StoreError as error:
                log.warning("this server's presence was not renewed", error=str(error))

    async def _rejoin(self) -> None:
        found, revision = await self._read()
        if found != self._terms:
            self.broken = str(_others_differ(found or Terms(), self._terms))
            log.error("this server must be restarted", cause=self.broken)
            return
        self._lease = await self._api.lease_grant(LEASE_S)
        if await self._write(self._terms, revision, same=True):
            self.broken = ""

    async def _read(self) -> tuple[Terms | None, int]:
        """What was agreed on and its revision; None and 0 before there was a server."""
        kvs = (await self._api.range({"key": self._key})).get("kvs", ())
        if not kvs:
            return None, 0
        try:
            return msgspec.json.decode(kvs[0].get("value", b""), type=Terms), int(kvs[0]["mod_revision"])
        except msgspec.MsgspecError as error:
            raise StartupError(
                f"etcd's {self._key.decode()} can't be read: {error}.",
                "Run the version that wrote it, or restore etcd from a backup.",
            ) from error

    async def _write(self, wanted: Terms, revision: int, *, same: bool) -> bool:
        """Whether this server is among those that agree on `wanted`, on top of what was at `revision`."""
        compare: list[Message] = [_at(self._key, revision)]
        puts: list[Message] = [{"put": {"key": self._own, "value": b"", "lease": self._lease}}]
        if not same:
            compare += [_none(self._servers, self._own), _none(self._own + b"\0", end_of(self._servers))]
            puts.append({"put": {"key": self._key, "value": msgspec.json.encode(wanted)}})
        try:
            return bool((await self._api.txn({"compare": compare, "success": puts})).get("succeeded"))
        except LeaseNotFoundError:
            self._lease = await self._api.lease_grant(LEASE_S)
        except UnknownOutcomeError:
            log.debug("asking again what was agreed on")
        return False


def _at(key: bytes, revision: int) -> Message:
    return {"target": _MOD_REVISION, "key": key, "mod_revision": revision}


def _none(first: bytes, end: bytes) -> Message:
    """Holds when there is no key from `first` to before `end`."""
    return {"target": _MOD_REVISION, "key": first, "range_end": end, "mod_revision": 0}


def _unknown_key(key: str) -> StartupError:
    return StartupError(
        f"The servers of this cluster seal values with key {key}, which this server does not have.",
        "Copy the keys file (encryption_keys) from one of them to this host, and use the same encrypt setting.",
    )


def _others_differ(found: Terms, wanted: Terms) -> StartupError:
    return StartupError(
        f"The other servers of this cluster encrypt {_described(found)}, this one {_described(wanted)}.",
        "Use the same encrypt setting and the same keys file on every host. To change them, or to rotate the key, stop "
        f"all other servers; one that died counts for {LEASE_S} s.",
    )


def _described(terms: Terms) -> str:
    return f"{', '.join(terms.prefixes)} with key {terms.key}" if terms.prefixes else "nothing"
