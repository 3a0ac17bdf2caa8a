"""`/livez`, `/readyz`, `/healthz` and `/version`: what anybody may ask without credentials."""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog

from orchestrator import KUBERNETES_VERSION, __version__
from orchestrator.server.errors import HEADERS, NO_CACHE
from orchestrator.server.query import Query
from orchestrator.web.answer import TEXT, Answer

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[str | None]]
"""Returns when all is well, perhaps with a remark for `?verbose`; raises otherwise."""

CHECK_TIMEOUT_S = 5.0


class Unhealthy(Exception):
    """A check's failure whose text anybody may read; what else a check raises is told to the log only."""


async def _ping() -> None:
    """The event loop answers, or nobody would be here."""


class Health:
    """Named checks per endpoint. The daemon hands them in; `ping` is always there."""

    def __init__(
        self, live: Mapping[str, Check] | None = None, ready: Mapping[str, Check] | None = None
    ) -> None:
        self._live = {"ping": _ping, **(live or {})}
        self._ready = {**self._live, **(ready or {})}

    async def answer(self, path: str, query: Query) -> Answer | None:
        """The answer to `path`, None when it is none of ours."""
        _, endpoint, *rest = path.rstrip("/").split("/")
        checks = self._ready if endpoint == "readyz" else self._live
        if not rest:
            return await self._all(endpoint, checks, query)
        if len(rest) == 1 and rest[0] in checks:
            failed, remark = await _run(rest[0], checks[rest[0]])
            if failed:
                return _text(500, f"internal server error: {rest[0]} failed: {remark}\n")
            return _text(200, f"ok: {remark}\n" if remark and query.has("verbose") else "ok")
        return None

    async def _all(self, endpoint: str, checks: Mapping[str, Check], query: Query) -> Answer:
        excluded = set(query.all("exclude"))
        names = [name for name in checks if name not in excluded]
        outcomes = await asyncio.gather(*(_run(name, checks[name]) for name in names))
        lines = [_line(name, *outcome) for name, outcome in zip(names, outcomes, strict=True)]
        if any(failed for failed, _ in outcomes):
            return _text(500, "\n".join([*lines, f"{endpoint} check failed", ""]))
        if not query.has("verbose"):
            return _text(200, "ok")
        return _text(200, "\n".join([*lines, f"{endpoint} check passed", ""]))


async def _run(name: str, check: Check) -> tuple[bool, str]:
    """Whether it failed, and what anybody may know of it: whoever asks need not be known. The rest goes to the log."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return False, await check() or ""
    except Exception as error:
        log.warning("health check failed", check=name, error=repr(error))
        return True, str(error) if isinstance(error, Unhealthy) else "reason withheld"


def _line(name: str, failed: bool, remark: str) -> str:
    if failed:
        return f"[-]{name} failed: {remark}"
    return f"[+]{name} ok: {remark}" if remark else f"[+]{name} ok"


def _text(status: int, text: str) -> Answer:
    return Answer(status, text.encode(), TEXT + NO_CACHE)


def version_answer() -> Answer:
    """`/version`, in the shape that clients decode."""
    major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
    build = f"{KUBERNETES_VERSION}+orchestrator-{__version__}"
    body = {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": KUBERNETES_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{_MACHINES.get(platform.machine(), platform.machine())}",
        "orchestrator": build,
    }
    return Answer(200, msgspec.json.encode(body), HEADERS)


_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
