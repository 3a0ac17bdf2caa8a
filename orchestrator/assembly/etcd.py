"""The way to etcd, for a server whose store lies there: connecting with words for what goes wrong, and readiness.

Nothing on the host is changed before `connect` has returned. Called by `daemon` (and by `backup` through `api`).
"""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config
from orchestrator.server.health import Unhealthy
from orchestrator.store.etcd.api import PATIENCE_S as CALL_PATIENCE_S
from orchestrator.store.etcd.api import Credentials, EtcdApi
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.failures import AccessError
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import StoreError
from orchestrator.store.sealing import Sealer
from orchestrator.wire.grpc import TLS, GrpcClient

log = structlog.get_logger(__name__)

PATIENCE_S = 20.0
"""How long a server waits for an etcd that starts at the same time."""
RETRY_S = 0.5
CHECK_TIMEOUT_S = 3.0
OLDEST = (3, 4)
_TLS_WORDS = re.compile(r"certificate|ssl|handshake|tls|verification|unwrap", re.IGNORECASE)


class Etcd:
    """A cluster of etcd that answers. Owner of the connections."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.keys = Keys(config.etcd_prefix)
        self._endpoints = [endpoint.rstrip("/") for endpoint in config.etcd_endpoints]
        self.client = GrpcClient(self._endpoints, tls_of(config))
        self.api = EtcdApi(self.client, clock, credentials_of(config))
        self._clock = clock

    @classmethod
    async def connect(cls, config: Config, clock: Clock, patience_s: float = PATIENCE_S) -> "Etcd":
        """Raises `StartupError` when etcd does not answer in time, is too old, or does not let us."""
        etcd = cls(config, clock)
        try:
            await etcd._reach(clock.monotonic_s() + patience_s)
        except BaseException:
            await etcd.close()
            raise
        return etcd

    async def open_store(self, supervisor: Supervisor, sealer: Sealer | None) -> EtcdStore:
        """The store, loaded. Raises `StartupError`."""
        try:
            return await EtcdStore.open(self.api, self._clock, supervisor, keys=self.keys, sealer=sealer)
        except StoreError as error:
            raise StartupError(
                f"What etcd holds under {self.keys.prefix} can't be loaded: {error}.",
                "Look at etcd's log; for a sealed value, name the right keys file with encryption_keys.",
            ) from error

    async def close(self) -> None:
        await self.client.close()

    async def _reach(self, until_s: float) -> None:
        told = False
        self.api.patience_s = 0.0
        while True:
            try:
                await self.api.revision(self.keys.first)
                self._check_version((await self.api.status()).get("version", ""))
                self.api.patience_s = CALL_PATIENCE_S
                return
            except AccessError as error:
                raise _refused(error, self.keys) from error
            except StoreError as error:
                if is_tls(str(error), self._endpoints):
                    raise _untrusted(error) from error
                if self._clock.monotonic_s() >= until_s:
                    raise _unreachable(error) from error
                if not told:
                    log.warning("waiting for etcd", error=str(error))
                told = True
            await self._clock.sleep(RETRY_S)

    def _check_version(self, version: str) -> None:
        parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if len(parts) == 2 and parts < OLDEST:
            raise StartupError(f"etcd {version} is too old.", "Use etcd 3.4 or newer.")


def tls_of(config: Config) -> TLS:
    """The PEM files that the config names. Raises `StartupError`."""
    return TLS(*(_read(name, getattr(config, name)) for name in ("etcd_ca", "etcd_cert", "etcd_key")))


def _read(name: str, path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StartupError(
            f"{name} {path} can't be read: {error.strerror}.", "Name an existing file that we may read."
        ) from error


def credentials_of(config: Config) -> Credentials:
    """The user that the config names; its password is read from the file for each new token."""
    if not config.etcd_user:
        return Credentials()
    _read("etcd_password_file", config.etcd_password_file)
    return Credentials(config.etcd_user, lambda: Path(config.etcd_password_file).read_text().strip())


async def check_etcd(store: EtcdStore) -> str:
    """Readiness of a server on etcd: it answers, and this server has all of it. Raises `Unhealthy`.

    Liveness does not ask for it: a restart would mend nothing, while a server that waits comes back by itself.
    """
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await store.ping()
    except (StoreError, TimeoutError) as error:
        log.warning("etcd does not answer", error=str(error) or f"nothing within {CHECK_TIMEOUT_S:.0f} s")
        raise Unhealthy("etcd does not answer") from error
    return "etcd has no space, writes are refused with 507 until it has" if store.no_space else ""


def is_tls(text: str, endpoints: Iterable[str]) -> bool:
    """Whether an error of gRPC is about TLS: it has no code of its own. A host's name says nothing about that."""
    for host in {urlsplit(endpoint).hostname or "" for endpoint in endpoints} - {""}:
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "", text, flags=re.IGNORECASE)
    return bool(_TLS_WORDS.search(text))


def _unreachable(error: Exception) -> StartupError:
    return StartupError(
        f"No etcd endpoint answers: {str(error) or 'nothing came in time'}.".replace(
            "etcd does not answer: ", ""
        ),
        "Start etcd, or name its servers with --etcd-endpoints (https:// where it serves TLS).",
    )


def _untrusted(error: Exception) -> StartupError:
    return StartupError(
        f"No secure connection to etcd: {error}.".replace("etcd does not answer: ", ""),
        "Name the CA of etcd's certificate with --etcd-ca; where etcd asks for a client certificate, that with "
        "--etcd-cert and --etcd-key. An endpoint's host must be a name in etcd's certificate. Where etcd serves "
        "without TLS, write http://.",
    )


def _refused(error: Exception, keys: Keys) -> StartupError:
    return StartupError(
        f"etcd does not let this server in: {error}.".replace(": etcd: etcdserver", ""),
        f"Check --etcd-user and --etcd-password-file; the user's role needs readwrite on the prefixes {keys.prefix}/ "
        "and /orchestrator/.",
    )
