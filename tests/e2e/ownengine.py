"""An engine that a story may stop, freeze and start again, and a cluster on it."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.e2e import images
from tests.e2e.cluster import Cluster, Object, wait_for

KINDS = ("containerd", "docker-live-restore", "docker")
STOP_DEADLINE_S = 40.0
SETTINGS = """version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{directory}/engine.sock"
[ttrpc]
  address = "{directory}/engine.sock.ttrpc"
"""


class OwnEngine:
    """`kind` is one of `KINDS`; everything of it lies below `directory`, whose path is short."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.socket = str(directory / "engine.sock")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runtime(self) -> str:
        return "containerd" if self.kind == "containerd" else "docker"

    @property
    def keeps_containers(self) -> bool:
        """Whether what it runs outlives it."""
        return self.kind != "docker"

    def start(self) -> None:
        (self.directory / "config.toml").write_text(SETTINGS.format(directory=self.directory))
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, start_new_session=True)
        wait_for(self._answers, f"{self.kind} answers")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_DEADLINE_S)
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def load(self, archive: bytes, instance: str) -> None:
        """An image, where the node of `instance` finds it."""
        if self.runtime == "docker":
            images.load(self.socket, archive)
            return
        command = ["ctr", "-a", self.socket, "-n", f"orc{instance}", "images", "import", "-"]
        subprocess.run(command, input=archive, capture_output=True, timeout=90, check=True)

    def held(self, instance: str) -> list[str]:
        """Ids of what it has of an instance, running or not, asked past the product."""
        if self.runtime == "docker":
            label = f"label=orchestrator.internal/instance={instance}"
            command = ["docker", "-H", f"unix://{self.socket}", "ps", "-aq", "--filter", label]
        else:
            command = ["ctr", "-a", self.socket, "-n", f"orc{instance}", "containers", "ls", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return sorted(done.stdout.split())

    def _command(self) -> list[str]:
        if self.runtime == "containerd":
            return ["containerd", "--config", str(self.directory / "config.toml")]
        return [
            "dockerd",
            f"--host=unix://{self.socket}",
            *(f"--{name}={self.directory}/{name}" for name in ("data-root", "exec-root", "pidfile")),
            *("--bridge=none", "--iptables=false"),
            *(["--live-restore"] if self.keeps_containers else []),
        ]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()[-800:]
        if self.runtime == "docker":
            command = ["docker", "-H", f"unix://{self.socket}", "version"]
        else:
            command = ["ctr", "--connect-timeout", "2s", "-a", self.socket, "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _signal(self, number: int) -> None:
        """To the daemon, and to the containerd that a dockerd has started."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in map(int, children):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "containerd":
                    os.kill(child, number)


@contextlib.contextmanager
def on_own_engine(kind: str, net: int = 97) -> Iterator[tuple[Cluster, OwnEngine]]:
    """A cluster that is ready, on an engine of its own; both go with everything that they made."""
    directory = Path(tempfile.mkdtemp(prefix="orcf", dir="/tmp"))
    engine = OwnEngine(kind, directory)
    (directory / "cluster").mkdir()
    try:
        engine.start()
        cluster = _cluster(engine, directory / "cluster", net)
        try:
            cluster.start()
            engine.load(images.web_archive(), cluster.instance)
            yield cluster, engine
        finally:
            engine.thaw()
            cluster.clean_up()
    finally:
        engine.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _cluster(engine: OwnEngine, directory: Path, net: int) -> Cluster:
    """Pods get 10.`net`.0.0/16, Services the /16 ten above."""
    cluster = Cluster(directory, engine.socket)
    settings: Object = tomllib.loads(cluster.config.read_text())
    settings |= {
        "runtime": engine.runtime,
        "pod_cidr": f"10.{net}.0.0/16",
        "service_cidr": f"10.{net + 10}.0.0/16",
        "dns_address": f"10.{net + 10}.0.10",
    }
    lines = (
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
        for key, value in settings.items()
    )
    cluster.config.write_text("\n".join(lines) + "\n")
    return cluster
