"""One external command with a deadline: `nft`, `iptables`, `conntrack`. Never blocks the event loop."""

import asyncio
import shutil
from dataclasses import dataclass

from orchestrator.network.dataplane.interface import NetworkError

DEADLINE_S = 30.0
MESSAGE_MAX = 600


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    code: int
    output: str
    errors: str

    @property
    def ok(self) -> bool:
        return self.code == 0


def available(program: str) -> bool:
    """Whether `program` is on the PATH (with the administrator's folders, which cron and others leave out)."""
    return find(program) is not None


def find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


async def run(*arguments: str, stdin: str = "", deadline_s: float = DEADLINE_S) -> Outcome:
    """Run a command and return what it said, whatever its exit code.

    Raises `NetworkError` when it is missing or has not ended after `deadline_s`; it is then killed.
    """
    program = find(arguments[0])
    if program is None:
        raise NetworkError(f"{arguments[0]} is not installed.")
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments[1:],
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(deadline_s):
            output, errors = await process.communicate(stdin.encode() or None)
    except TimeoutError as error:
        raise NetworkError(f"{' '.join(arguments)} did not end within {deadline_s:g} s.") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Outcome(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


async def must(*arguments: str, stdin: str = "", deadline_s: float = DEADLINE_S) -> str:
    """As `run`, but a failing command raises `NetworkError` with what it wrote; returns its output."""
    outcome = await run(*arguments, stdin=stdin, deadline_s=deadline_s)
    if not outcome.ok:
        said = (outcome.errors or outcome.output).strip()[:MESSAGE_MAX]
        raise NetworkError(f"{' '.join(arguments)} failed ({outcome.code}): {said}")
    return outcome.output
