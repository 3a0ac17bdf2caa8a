"""systemd-logind, which lets a program delay the host's shutdown: the lock, the announcement, the longest delay.

Spoken through systemd's own `systemd-inhibit` and `busctl`: they are where logind is, and a library for D-Bus would
be in every node's memory for one call and one signal. The lock is a child that holds it until its input ends, so it
goes with this process whatever happens to it. Called by `shutdown`.
"""

import asyncio
import contextlib
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from orchestrator.base.clock import Clock

log = structlog.get_logger(__name__)

BOOTED = Path("/run/systemd/system")
"""There when systemd is the host's init."""
OVERRIDES = Path("/run/systemd/logind.conf.d")
"""Gone with the next boot."""
CALL_S = 10.0
_MANAGER = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_MATCH = (
    "type='signal',sender='org.freedesktop.login1',interface='org.freedesktop.login1.Manager',"
    "member='PrepareForShutdown'"
)


class LogindFailure(Exception):
    """logind, or what speaks to it, does not do its part."""


class Logind:
    """Owner of the lock and of the setting for its instance."""

    def __init__(self, instance: str, clock: Clock) -> None:
        self._clock = clock
        self._override = OVERRIDES / f"99-orchestrator-{instance}.conf"
        self._lock: Process | None = None

    @staticmethod
    def present() -> bool:
        """Whether this host has it."""
        return BOOTED.is_dir() and bool(shutil.which("systemd-inhibit")) and bool(shutil.which("busctl"))

    async def allow(self, duration_s: int) -> float:
        """Have logind wait so long at least; returns how long it will."""
        allowed_s = await self._allowed_s()
        if allowed_s >= duration_s:
            return allowed_s
        self._set(duration_s)
        await _output("systemctl", "kill", "--signal=HUP", "systemd-logind.service")
        await self._clock.sleep(0.5)  # It reads its settings anew without saying when it is done.
        return await self._allowed_s()

    def _set(self, duration_s: int) -> None:
        try:
            self._override.parent.mkdir(parents=True, exist_ok=True)
            self._override.write_text(f"[Login]\nInhibitDelayMaxSec={duration_s}\n")
        except OSError as error:
            raise LogindFailure(f"{self._override}: {error.strerror}") from error

    async def _allowed_s(self) -> float:
        text = await _output("busctl", "--system", "get-property", *_MANAGER, "InhibitDelayMaxUSec")
        try:
            return int(text.split()[1]) / 1e6
        except (IndexError, ValueError):
            raise LogindFailure(f"unexpected answer: {text[:100]!r}") from None

    async def hold(self) -> None:
        """Take the lock, unless it is held. Raises `LogindFailure`."""
        if self._lock is not None and self._lock.returncode is None:
            return
        what = ("--what=shutdown", "--mode=delay", "--who=orchestrator", "--why=Pods are stopped first")
        lock = await _started("systemd-inhibit", *what, "cat", reads=True)
        assert lock.stdin is not None and lock.stdout is not None
        try:
            # The child is begun once the lock is held; its echo says that it has.
            lock.stdin.write(b"held\n")
            answer = await asyncio.wait_for(lock.stdout.readline(), CALL_S)
        except (OSError, TimeoutError):
            answer = b""
        if answer != b"held\n":
            await _end(lock)
            raise LogindFailure("the lock that delays a shutdown was not given")
        self._lock = lock

    async def release(self) -> None:
        """Let the shutdown go on. May be called twice."""
        lock, self._lock = self._lock, None
        if lock is not None:
            await _end(lock)

    async def announcements(self) -> AsyncIterator[bool]:
        """True when the host is about to go down, False when it is not any more. Raises `LogindFailure` at the end."""
        monitor = await _started("busctl", "--system", "--json=short", "monitor", f"--match={_MATCH}")
        assert monitor.stdout is not None
        try:
            while line := await monitor.stdout.readline():
                found = _announced(line)
                if found is not None:
                    yield found
            raise LogindFailure("busctl monitor has ended")
        finally:
            await _end(monitor)

    async def close(self) -> None:
        """Give the lock back and take the setting away."""
        await self.release()
        with contextlib.suppress(OSError):
            self._override.unlink(missing_ok=True)


def _announced(line: bytes) -> bool | None:
    try:
        message = json.loads(line)
        if message.get("member") != "PrepareForShutdown":
            return None
        return bool(message["payload"]["data"][0])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


async def _started(*command: str, reads: bool = False) -> Process:
    """A child with a pipe to read from. In a session of its own: it is not to go with a terminal's Ctrl-C."""
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE if reads else DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise LogindFailure(f"{command[0]}: {error.strerror}") from error


async def _output(*command: str) -> str:
    child = await _started(*command)
    try:
        out, _ = await asyncio.wait_for(child.communicate(), CALL_S)
    except TimeoutError:
        raise LogindFailure(f"{command[0]} does not end") from None
    finally:
        await _end(child)
    if child.returncode:
        raise LogindFailure(f"{' '.join(command[:3])} failed with {child.returncode}")
    return out.decode(errors="replace")


async def _end(child: Process) -> None:
    """Have a child end: its input first, then a signal to all of it."""
    if child.stdin is not None:
        child.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 2.0)
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, 9)
        await child.wait()
