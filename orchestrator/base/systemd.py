"""sd_notify: tells systemd that we are ready, alive, or stopping. Does nothing where no socket is named.

Source: sd_notify(3).
"""

import os
import socket

from orchestrator.base.clock import Clock


def notify(state: str) -> None:
    """Send one state, such as `READY=1`; a service manager that is gone is no error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.connect(address)
            channel.send(state.encode())
        except OSError:
            return


async def watchdog(clock: Clock) -> None:
    """Say twice per interval that the event loop turns; returns at once when no watchdog is set."""
    interval_us = int(os.environ.get("WATCHDOG_USEC", "0") or 0)
    if not interval_us or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    while True:
        notify("WATCHDOG=1")
        await clock.sleep(interval_us / 2_000_000)
