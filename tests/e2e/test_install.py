"""`install.sh` and `uninstall.sh` for real, in directories and ranges of their own, beside the cluster under test."""

import os
import shutil
import subprocess

import pytest

from tests.e2e import inventory
from tests.e2e.cluster import ROOT, Api, condition, free_port
from tests.e2e.conftest import kubectls

pytestmark = pytest.mark.e2e

INSTALL_DEADLINE_S = 420


@pytest.fixture
def checkout(tmp_path_factory):
    """A copy of the sources, so that nobody changes them between two runs."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("orchestrator", "config", "systemd"):
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache", "*.bin")
        )
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def script(checkout, engine, unchanged_host, tmp_path):
    """Run one of the scripts; its output, both kinds, and exit code."""
    settings = {
        "data_dir": f"{tmp_path}/data",
        "run_dir": f"{tmp_path}/run",
        "write_kubeconfig": f"{tmp_path}/kubeconfig",
        "runtime_endpoint": engine,
        "pod_cidr": "10.68.0.0/16",
        "service_cidr": "10.69.0.0/16",
        "dns_address": "10.69.0.10",
    }
    lines = [f'{key} = "{value}"\n' for key, value in settings.items()]
    lines += [f"port = {free_port()}\n", f"agent_port = {free_port()}\n"]
    (tmp_path / "config.toml").write_text("".join(lines))
    environment = {
        **os.environ,
        inventory.MARKER: "1",
        "ORCHESTRATOR_PREFIX": f"{tmp_path}/prefix",
        "ORCHESTRATOR_CONFIG": f"{tmp_path}/config.toml",
        "ORCHESTRATOR_BIN": f"{tmp_path}/orchestrator",
        "ORCHESTRATOR_LOG": f"{tmp_path}/log",
        "ORCHESTRATOR_UNIT": f"orchestrator-e2e-{os.getpid()}.service",
        "PYTHONDONTWRITEBYTECODE": "",
    }

    def run(name: str, *arguments: str, code: int = 0) -> str:
        with (tmp_path / "output").open("w+") as output:
            # A file, because the daemon that stays behind would keep a pipe open.
            done = subprocess.run(
                ["sh", f"systemd/{name}.sh", *arguments],
                cwd=checkout, env=environment, stdout=output, stderr=output, timeout=INSTALL_DEADLINE_S, check=False,
            )  # fmt: skip
        said = (tmp_path / "output").read_text()
        assert done.returncode == code, said
        return said

    yield run
    run("uninstall", "--purge")


def test_installing_twice_and_removing(script, engine, tmp_path):
    before = inventory.settled(lambda: inventory.take(engine))
    said = script("install")
    assert "3 of 3 pods available" in said
    assert said.count("Hello from web-") == 2, said
    assert "Try next" in said
    api = Api(tmp_path / "kubeconfig")
    pods = api.items("/api/v1/namespaces/default/pods")
    assert [condition(pod, "Ready") for pod in pods] == ["True"] * 3
    if kubectls():
        done = subprocess.run(
            [kubectls()[-1], "--kubeconfig", str(tmp_path / "kubeconfig"), "get", "nodes", "-o", "name"],
            capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.stdout.startswith("node/")

    revision = [pod["metadata"]["resourceVersion"] for pod in pods]
    again = script("install")
    assert "nothing changed" in again
    assert [
        p["metadata"]["resourceVersion"] for p in api.items("/api/v1/namespaces/default/pods")
    ] == revision

    said = script("uninstall")
    assert "only the data is left" in said
    inventory.check(before, lambda: inventory.take(engine))
    assert {path.name for path in tmp_path.iterdir()} - {"output", ".kube"} == {"data"}


def test_an_unknown_argument_is_refused(script):
    said = script("uninstall", "--everything", code=1)
    assert "--everything" in said
    assert "fix: usage" in said


def test_without_root_nothing_is_done(checkout):
    prefix = ("unshare", "--user")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel forbids user namespaces")
    for name in ("install", "uninstall"):
        done = subprocess.run(
            [*prefix, "sh", f"systemd/{name}.sh"], cwd=checkout, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "needs root" in done.stderr
        assert "fix: run it as root" in done.stderr
