"""The kernel's early warning that memory gets short, before the next look would find it. Linux only.

cgroup v2: pressure stall information, where tasks waited 150 ms of 2 s for memory. cgroup v1: `memory.pressure_level`
of the root group at `medium`. A kernel that offers neither leaves the looks. Owner: the eviction manager.
"""

import asyncio
import contextlib
import os
import select
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

STALLED = b"some 150000 2000000\0"
LEVEL = "medium"
PSI = Path("/proc/pressure/memory")
V1 = Path("/sys/fs/cgroup/memory")


class MemoryAlarm:
    """Calls `ring` from the loop whenever the kernel warns. `start`, then `close`."""

    def __init__(self, ring: Callable[[], None], psi: Path = PSI, v1: Path = V1) -> None:
        self._ring = ring
        self._psi = psi
        self._v1 = v1
        self._fds: list[int] = []
        self._watched = -1
        self._epoll: select.epoll | None = None

    def start(self) -> bool:
        """Whether this kernel warns."""
        for begin in (self._begin_psi, self._begin_v1):
            try:
                begin()
                return True
            except OSError as error:
                log.debug("no early warning of memory pressure this way", error=str(error))
                self.close()
        return False

    def close(self) -> None:
        """Stop listening; may be called twice."""
        if self._watched >= 0:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = -1
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        while self._fds:
            with contextlib.suppress(OSError):
                os.close(self._fds.pop())

    def _begin_psi(self) -> None:
        """The file tells by an exceptional condition, which loops don't watch for; an epoll around it is readable."""
        trigger = self._open(self._psi, os.O_RDWR | os.O_NONBLOCK)
        os.write(trigger, STALLED)
        self._epoll = select.epoll()
        self._epoll.register(trigger, select.EPOLLPRI)
        self._watch(self._epoll.fileno(), lambda: self._drain_epoll())

    def _begin_v1(self) -> None:
        event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._fds.append(event)
        level = self._open(self._v1 / "memory.pressure_level", os.O_RDONLY)
        control = self._open(self._v1 / "cgroup.event_control", os.O_WRONLY)
        os.write(control, f"{event} {level} {LEVEL}".encode())
        self._watch(event, lambda: os.eventfd_read(event))

    def _open(self, path: Path, flags: int) -> int:
        self._fds.append(os.open(path, flags | os.O_CLOEXEC))
        return self._fds[-1]

    def _watch(self, fd: int, drain: Callable[[], object]) -> None:
        def told() -> None:
            with contextlib.suppress(BlockingIOError):
                drain()
            self._ring()

        asyncio.get_running_loop().add_reader(fd, told)
        self._watched = fd

    def _drain_epoll(self) -> None:
        assert self._epoll is not None
        self._epoll.poll(0)
