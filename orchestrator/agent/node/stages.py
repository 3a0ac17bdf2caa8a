"""In which order pods stop before the host goes down, and how long they get. Read by `config`, used by `shutdown`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.base.errors import StartupError

CRITICAL = 2_000_000_000
_ENTRY = re.compile(r"(-?[0-9]{1,10})=([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Stage:
    """Pods of this priority and above, up to the next stage's, and the seconds that they get."""

    priority: int
    grace_s: int


def stages(grace_s: int, critical_s: int) -> tuple[Stage, ...]:
    """The whole period, of which critical pods have the last part; none for no period."""
    if grace_s <= 0:
        return ()
    return Stage(0, grace_s - critical_s), Stage(CRITICAL, critical_s)


def stages_of(entries: Iterable[str]) -> tuple[Stage, ...]:
    """`priority=seconds` entries, by rising priority. Raises `StartupError`."""
    found: dict[int, Stage] = {}
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        if match is None or int(match[1]) in found:
            raise StartupError(
                f"shutdown_grace_period_by_pod_priority has {entry!r}.",
                "Write each priority once, with its seconds, as 100000=60.",
            )
        found[int(match[1])] = Stage(int(match[1]), int(match[2]))
    return tuple(found[priority] for priority in sorted(found))
