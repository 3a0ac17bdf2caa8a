"""The host's container engine and packet filter, looked for before anything on the host is changed."""

from pathlib import Path

from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config
from orchestrator.network.dataplane.select import select_renderer
from orchestrator.runtime.interface import Runtime
from orchestrator.runtime.select import Places
from orchestrator.runtime.select import select as select_runtime

POD_LOGS = Path("/var/log/pods")


class Engine:
    """Owner of the connection to the engine."""

    def __init__(self, config: Config, instance: str, clock: Clock) -> None:
        self._config = config
        self._instance = instance
        self._clock = clock
        self._supervisor = Supervisor("engine", clock)
        self.runtime: Runtime | None = None

    async def find(self) -> None:
        """Raises `StartupError` where one is missing. Changes nothing but that the pause image is loaded."""
        config = self._config
        if config.runtime != "simulated":
            await select_renderer(self._instance, config.pod_cidr)
        self.runtime = await select_runtime(
            config.runtime,
            config.runtime_endpoint,
            self._instance,
            Places(config.run_dir, log_dir(config), Path(config.registries)),
            self._clock,
            self._supervisor,
        )

    async def close(self) -> None:
        """Let go; containers run on."""
        if self.runtime is not None:
            await self.runtime.close()
        await self._supervisor.stop()


def log_dir(config: Config) -> Path:
    """Where pods' logs lie when the engine leaves them to us: where log collectors look, but for a server with
    another data directory than the usual, which keeps to that."""
    usual = type(config)().data_dir
    return POD_LOGS if config.data_dir == usual else config.data_dir / "pod-logs"
