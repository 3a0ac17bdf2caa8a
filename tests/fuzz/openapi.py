"""schemathesis against our own OpenAPI: whatever its requests hold, no answer may be a server error.

`python -m tests.fuzz.openapi [--seconds N] [--seed N]` starts a server in this process, draws requests for every
operation of every document and prints what went wrong; exits 1 then. schemathesis is not among the tests' own
dependencies, because it makes every start of pytest slower: `tests/nightly.sh` fetches it.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from orchestrator.api.schema import Schemas
from orchestrator.pki.authority import CertificateSpec
from tests.contract.api_support import Cluster, served

ALLOWED = (501, 503, 504)
"""What a node that is not there, or a revision that does not exist yet, is answered with."""
SKIPPED = ("/watch/", "/proxy", "/exec", "/attach", "/portforward", "/log")
"""Streams, and what needs a node."""


class _Served:
    """A server on a loop of its own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.cluster: Cluster | None = None
        self.files = tempfile.TemporaryDirectory(prefix="orchestrator-fuzz-")
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with served(Path(self.files.name), Schemas.load()) as cluster:
            self.cluster = cluster
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> Cluster:
        self._thread.start()
        self._ready.wait(60)
        assert self.cluster is not None
        return self.cluster

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None and self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self.files.cleanup()


def _session(cluster: Cluster) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # A machine's own certificates would take precedence.
    pair, _ = cluster.authority.ensure("fuzz", CertificateSpec("fuzz", ("system:masters",)))
    session.cert, session.verify = (
        (str(pair.certificate), str(pair.key)),
        str(cluster.authority.pair.certificate),
    )
    return session


def _operations(cluster: Cluster, session: requests.Session) -> Iterator[Any]:
    index = session.get(f"{cluster.base}/openapi/v3", timeout=30).json()["paths"]
    for entry in index.values():
        document = session.get(cluster.base + entry["serverRelativeURL"], timeout=60).json()
        schema = schemathesis.openapi.from_dict(document)
        for result in schema.get_all_operations():
            operation = result.ok()
            if not any(part in operation.path for part in SKIPPED):
                yield operation


def _faults(
    operation: Any, cluster: Cluster, session: requests.Session, examples: int, number: int
) -> list[str]:
    """What went wrong with requests drawn for one operation."""
    found: list[str] = []

    @seed(number)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=st.one_of(operation.as_strategy()))
    def draw(case: Any) -> None:
        query = dict(case.query or {})
        query.pop("watch", None)
        case.query = {**query, "timeoutSeconds": 1}
        answer = case.call(base_url=cluster.base, session=session, timeout=30, verify=session.verify)
        if answer.status_code >= 500 and answer.status_code not in ALLOWED:
            found.append(
                f"{operation.method} {operation.path}: {answer.status_code} {case.as_curl_command()[:2000]}"
            )

    draw()
    return found[:3]


def main() -> int:
    """Whole rounds over all operations until the time is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--examples", type=int, default=3)
    options = parser.parse_args()
    end_s = time.monotonic() + options.seconds
    faults: list[str] = []
    with _Served() as cluster:
        session = _session(cluster)
        operations = list(_operations(cluster, session))
        random.Random(options.seed).shuffle(operations)
        tried = 0
        while time.monotonic() < end_s:
            operation = operations[tried % len(operations)]
            faults += _faults(operation, cluster, session, options.examples, options.seed + tried)
            tried += 1
    print(f"{tried} draws of {options.examples} over {len(operations)} operations (seed {options.seed})")
    print("\n".join(faults) or "no server error")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
