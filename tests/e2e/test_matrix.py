"""The client matrix: kubectls from 1.27 on run one script of about 160 commands against one cluster.

The oldest, the middle one and the newest by themselves; with `MATRIX=all` every one that is here, as in
`tests/nightly.sh`, or those it names (`MATRIX="kubectl.1.27 kubectl.1.33"`). Each runs in a namespace of its own,
two at a time. The summary of the run holds a table of command by version.
"""

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tabulate import tabulate

from tests.e2e.cluster import Api, Cluster, Kubectl
from tests.e2e.conftest import kubectls
from tests.e2e.matrix import SCRIPT, Step

pytestmark = pytest.mark.e2e

AT_ONCE = 2
EDITOR = '#!/bin/sh\nsed -i s/round/square/ "$1"\n'
NOT_YET, FINE = "-", "ok"


class Run:
    """One kubectl and its way through the script."""

    def __init__(self, program: str, cluster: Cluster, home: Path) -> None:
        self.name = Path(program).name
        self.minor = int(re.sub(r"\D*1\.", "", self.name) or 99)
        self.namespace = "matrix-" + self.name.replace(".", "-")
        self.verdicts: dict[str, str] = {}
        self._cluster = cluster
        self._api: Api = cluster.api
        home.mkdir()
        editor = home / "editor"
        editor.write_text(EDITOR)
        editor.chmod(0o755)
        self._env = {"KUBE_EDITOR": str(editor)}
        self._kubectl = Kubectl(program, cluster.kubeconfig, home)

    def all(self) -> None:
        """Every step in turn, whatever became of those before it."""
        with self._cluster.namespace(self.namespace):
            for step in SCRIPT:
                applies = step.since <= self.minor <= step.until
                self.verdicts[step.name] = self._try(step) if applies else NOT_YET

    def failures(self) -> list[tuple[str, str]]:
        return [(name, verdict) for name, verdict in self.verdicts.items() if verdict not in (FINE, NOT_YET)]

    def cell(self, step: Step) -> str:
        """What the table says."""
        verdict = self.verdicts[step.name]
        return verdict if verdict in (FINE, NOT_YET) else "FAILED"

    def _try(self, step: Step) -> str:
        until_s = time.monotonic() + step.patience_s
        while True:
            verdict = self._once(step)
            if verdict == FINE or time.monotonic() >= until_s:
                return verdict
            time.sleep(0.3)

    def _once(self, step: Step) -> str:
        words = ["--namespace", self.namespace, *step.words(self.namespace)]
        stdin = step.stdin.replace("{ns}", self.namespace)
        code, output, errors = self._kubectl.run(*words, stdin=stdin, env=self._env)
        if code != step.code:
            return f"ended with {code}: {(errors or output).strip()[:300]}"
        if not step.prints_it(output):
            return f"printed {output[:300]!r} {errors.strip()[:200]}"
        if step.then is not None:
            try:
                if not step.then(self._api, self.namespace):
                    return "the object is not as it should be"
            except (AssertionError, KeyError, IndexError) as error:
                return f"the object is not as it should be: {error!r}"[:300]
        return FINE


def test_kubectls_of_all_ages_do_the_same(
    cluster: Cluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = chosen(kubectls(), os.environ.get("MATRIX", ""))
    if not found:
        pytest.skip("no kubectl on PATH")
    runs = [Run(program, cluster, tmp_path / Path(program).name) for program in found]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in [pool.submit(run.all) for run in runs]:
            outcome.result()
    record_property("table", _table(runs))
    wrong = [f"{run.name}: {name}: {verdict}" for run in runs for name, verdict in run.failures()]
    assert not wrong, f"{len(wrong)} of {len(runs) * len(SCRIPT)} failed:\n" + "\n".join(wrong)


def chosen(programs: list[str], names: str) -> list[str]:
    """Of `programs`, oldest first: `all`, those that are named, or by default a sample of at most three."""
    if names == "all":
        return programs
    if names:
        return [program for program in programs if Path(program).name in names.split()]
    return list(dict.fromkeys(programs[i] for i in (0, len(programs) // 2, -1) if programs))


def _table(runs: list[Run]) -> str:
    cells = [[step.name, *(run.cell(step) for run in runs)] for step in SCRIPT]
    return tabulate(cells, ["command", *(run.name for run in runs)])
