"""In which order pods stop before the host goes down, and how long they get. Read by `config`, used by `shutdown`."""

from dataclasses import dataclass

CRITICAL = 2_000_000_000


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
