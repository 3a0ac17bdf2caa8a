"""How far this host lets an engine lower `oom_score_adj`.

Without CAP_SYS_RESOURCE a process may raise its score but not go below the one it was given, and a container
that asks for less doesn't start at all. So the wish is clamped, and that is said once.
"""

from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

CAP_SYS_RESOURCE = 24
OOM_SCORE_ADJ_MIN = -1000


def floor(pid: int, proc: Path = Path("/proc")) -> int:
    """The lowest value that the process `pid`, which starts containers, may give them.

    A process that can't be looked at (another namespace) counts as this one.
    """
    directory = proc / str(pid) if pid > 0 and (proc / str(pid)).exists() else proc / "self"
    for line in (directory / "status").read_text().splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1:
            return OOM_SCORE_ADJ_MIN
    return int((directory / "oom_score_adj").read_text())


class OomScores:
    """Clamps scores to what the host allows. Owner: a runtime."""

    def __init__(self, floor: int = OOM_SCORE_ADJ_MIN) -> None:
        self.floor = floor
        self._said = False

    def clamp(self, wanted: int) -> int:
        """`wanted`, or the lowest score that the host allows."""
        if wanted >= self.floor:
            return wanted
        if not self._said:
            self._said = True
            log.warning(
                "this host forbids lowering oom_score_adj (no CAP_SYS_RESOURCE); scores are clamped",
                wanted=wanted,
                lowest=self.floor,
            )
        return self.floor
