"""Container engines for the benchmark of pods: started for it or given, and their own clients as peers."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from orchestrator.runtime.imagetar import Entry, build
from tests.contract.runtime_support import containerd_endpoint, docker_endpoint

AT_ONCE = 10
"""More clients at a time than this slow each other down."""
DEADLINE_S = 120.0


class Engine:
    """`with Engine(socket) as engine:` takes the engine that listens there, or starts one."""

    name: ClassVar[str]
    client: ClassVar[str]

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._stack = contextlib.ExitStack()
        self._left: list[str] = []

    def __enter__(self) -> "Engine":
        if not self.socket:
            start = docker_endpoint if self.name == "docker" else containerd_endpoint
            self.socket = self._stack.enter_context(start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._left:
            self._remove(name)
        self._stack.close()

    def load(self, image: str, instance: str) -> None:
        """An image with nothing but busybox, where bare containers and the instance's find it."""
        busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
        archive = build(
            image,
            {"/bin/busybox": Entry(data=busybox), "/bin/sleep": Entry(link="busybox")},
            {"Env": ["PATH=/bin"]},
        )
        self._load(archive, instance)

    def bare(self, image: str, command: Sequence[str], name: str) -> float:
        """Seconds until a container without network runs, started by the engine's client; it is removed after."""
        took_s = self._timed(image, command, f"bare-{name}")
        self._remove(f"bare-{name}")
        return took_s

    def bare_many(self, image: str, command: Sequence[str], count: int) -> float:
        """Seconds until so many run."""
        names = [f"bare-many-{number}" for number in range(count)]
        began_s = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self._timed(image, command, name), names))
            took_s = time.perf_counter() - began_s
            list(pool.map(self._remove, names))
        return took_s

    def _timed(self, image: str, command: Sequence[str], name: str) -> float:
        self._left.append(name)
        began_s = time.perf_counter()
        self._run(image, command, name)
        return time.perf_counter() - began_s

    def _load(self, archive: bytes, instance: str) -> None:
        raise NotImplementedError

    def _run(self, image: str, command: Sequence[str], name: str) -> None:
        raise NotImplementedError

    def _remove(self, name: str) -> None:
        raise NotImplementedError


class Docker(Engine):
    """Docker Engine and `docker`."""

    name, client = "docker", "docker"

    def _load(self, archive: bytes, instance: str) -> None:
        self._docker("load", data=archive)

    def _run(self, image: str, command: Sequence[str], name: str) -> None:
        self._docker("run", "-d", "--network", "none", "--name", name, image, *command)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._docker("rm", "-f", name)

    def _docker(self, *arguments: str, data: bytes | None = None) -> None:
        _check("docker", "-H", f"unix://{self.socket.removeprefix('unix://')}", *arguments, data=data)


class Containerd(Engine):
    """containerd and `ctr`, in a namespace of its own."""

    name, client = "containerd", "ctr"
    _NAMESPACE = "orc-bench"

    def _load(self, archive: bytes, instance: str) -> None:
        for namespace in (self._NAMESPACE, f"orc{instance}"):
            self._ctr("images", "import", "-", namespace=namespace, data=archive)

    def _run(self, image: str, command: Sequence[str], name: str) -> None:
        self._ctr("run", "-d", "--null-io", image, name, *command)

    def _remove(self, name: str) -> None:
        for words in (("tasks", "rm", "-f", name), ("containers", "rm", name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                self._ctr(*words)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._left:
            self._remove(name)
        self._left = []
        for words in (
            ("images", "rm", "orchestrator.internal/bench:1"),
            ("namespaces", "rm", self._NAMESPACE),
        ):
            with contextlib.suppress(subprocess.CalledProcessError):
                self._ctr(*words)
        super().__exit__(kind, error, trace)

    def _ctr(self, *arguments: str, namespace: str = _NAMESPACE, data: bytes | None = None) -> None:
        _check("ctr", "-a", self.socket.removeprefix("unix://"), "-n", namespace, *arguments, data=data)


def _check(*command: str, data: bytes | None = None) -> None:
    subprocess.run(command, input=data, check=True, capture_output=True, timeout=DEADLINE_S)


ENGINES: Mapping[str, type[Engine]] = {"docker": Docker, "containerd": Containerd}
