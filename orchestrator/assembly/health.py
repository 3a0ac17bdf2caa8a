"""What `/livez` and `/readyz` say of the store.

state                              /livez  /readyz  why
works                              ok      ok
a torn tail was dropped at start   ok      ok       nobody had been told of what it held: a remark, no fault
no space                           ok      ok       reads and watches go on and writes succeed once there is
                                                    space. A balancer that took the server out would take the
                                                    reads too, a restart frees no space. Writers see 507, the
                                                    operator the remark and `orchestrator_store_no_space`
stopped                            fails   fails    a write or sync failed: only a restart can tell what is on
                                                    disk, and it is what a liveness check asks for
"""

from pathlib import Path
from typing import Protocol

from orchestrator.server.health import Unhealthy


class Dropped(Protocol):
    """A torn tail: bytes from `start` up to `end` of `path`."""

    @property
    def path(self) -> Path: ...

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def what(self) -> str: ...


class StoreHealth(Protocol):
    """What engines tell of themselves."""

    @property
    def healthy(self) -> bool: ...

    @property
    def fault(self) -> str: ...

    @property
    def no_space(self) -> bool: ...


async def check_store(store: StoreHealth) -> str:
    """The remark of a store that serves. Raises `Unhealthy` for one that is stopped."""
    if not store.healthy:
        raise Unhealthy(f"writes are stopped until a restart: {store.fault or 'the store is closed'}")
    remarks = []
    if store.no_space:
        remarks.append("no space left on disk, writes are refused with 507 until there is")
    dropped: Dropped | None = getattr(store, "dropped", None)
    if dropped is not None:
        remarks.append(
            f"at the last start bytes {dropped.start} to {dropped.end} of {dropped.path.name} were dropped, "
            f"an unfinished write: {dropped.what}"
        )
    damaged: tuple[Path, ...] = getattr(store, "damaged_snapshots", ())
    if damaged:
        names = ", ".join(path.name for path in damaged)
        remarks.append(f"the last start could not read {names} and did without; nothing is lost")
    return "; ".join(remarks)
