"""A store that several servers share: everything that a server on etcd does which one on its own log need not.

reach ─ join ─ open ─ announce ─ leader_work          in the order in which `daemon` calls them
"""

from collections.abc import Awaitable, Callable, Sequence

from orchestrator.assembly.agreement import Agreement
from orchestrator.assembly.apiservers import ApiServers
from orchestrator.assembly.etcd import Etcd, check_etcd
from orchestrator.assembly.identity import Identity
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client
from orchestrator.config import Config
from orchestrator.server.health import Unhealthy
from orchestrator.store.etcd import transfer
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.keyring import Keyring
from orchestrator.store.sealing import Sealer


class SharedStore:
    """The store on etcd and this server's part in the cluster there. Owner of the connections."""

    def __init__(self, etcd: Etcd, config: Config, clock: Clock) -> None:
        self._etcd = etcd
        self._config = config
        self._clock = clock
        self._identity = Identity(etcd, config, clock)
        self._agreement = Agreement(etcd, clock)
        self._store: EtcdStore | None = None
        self._sealer = Sealer()

    @classmethod
    async def reach(cls, config: Config, clock: Clock) -> "SharedStore":
        """Connect, and see whether this server fits; changes nothing. Raises `StartupError`."""
        etcd = await Etcd.connect(config, clock)
        shared = cls(etcd, config, clock)
        try:
            await shared._identity.check()
        except BaseException:
            await etcd.close()
            raise
        return shared

    async def join(self) -> None:
        """Take over the cluster's CA and keys, or give it ours. Raises `StartupError`."""
        await self._identity.adopt()

    async def open(self, supervisor: Supervisor, sealer: Sealer | None = None) -> EtcdStore:
        """The store, loaded. Raises `StartupError`, also where other servers encrypt something else, or otherwise."""
        self._sealer = sealer or Sealer()
        await self._agreement.join(self._sealer, supervisor)
        self._store = await self._etcd.open_store(supervisor, self._sealer)
        return self._store

    async def reseal(self) -> int:
        """Write anew what is not in the form that the sealer gives now, and forget older forms; how many those were.

        Raises `StoreError`, `StartupError`.
        """
        await self._agreement.confirm()
        count = await transfer.reseal(self._etcd.api, self._etcd.keys, self._sealer)
        await self.store.compact(self.store.revision)
        return count

    async def agree(self, keyring: Keyring) -> None:
        """Before the newest key of `keyring` seals anything. Raises as `Agreement.change` does."""
        await self._agreement.change(keyring, self._sealer.prefixes)

    @property
    def store(self) -> EtcdStore:
        if self._store is None:
            raise RuntimeError("the store is not open yet")
        return self._store

    async def check(self) -> str:
        """Readiness. Raises `Unhealthy`."""
        if self._agreement.broken:
            raise Unhealthy("restart this server: others encrypt otherwise since it was cut off")
        return await check_etcd(self.store)

    async def announce(
        self, client: Client, port: int, supervisor: Supervisor
    ) -> Callable[[], Awaitable[None]]:
        """Be an endpoint of the API; what is returned ends that."""
        address = self._config.advertise_address
        servers = ApiServers(self.store, client, address, port, supervisor, self._clock)
        await servers.start()
        return servers.stop

    def leader_work(self) -> Sequence[tuple[str, Callable[[], Awaitable[None]]]]:
        """Services that run on the leader only."""
        return (("etcd-compaction", self.store.compact_by_age),)

    async def close(self) -> None:
        await self._agreement.leave()
        await self._etcd.close()
