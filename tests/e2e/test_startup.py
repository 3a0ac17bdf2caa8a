"""A host on which the server can't run: a clear message, code 1, and nothing has changed."""

import os
import socket
import subprocess
import sys

import pytest

from tests.e2e import inventory
from tests.e2e.cluster import ROOT, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture
def start(engine, tmp_path):
    """Run a server that is expected to refuse; returns its message. The host is compared before and after."""

    def run(*flags: str, prefix: tuple[str, ...] = ()) -> str:
        settings = {
            "--data-dir": f"{tmp_path}/data",
            "--run-dir": f"{tmp_path}/run",
            "--write-kubeconfig": f"{tmp_path}/kubeconfig",
            "--port": str(free_port()),
            "--agent-port": str(free_port()),
            "--pod-cidr": "10.64.0.0/16",
            "--service-cidr": "10.65.0.0/16",
            "--dns-address": "10.65.0.10",
            "--runtime-endpoint": engine,
        } | dict(zip(flags[::2], flags[1::2], strict=True))
        words = [word for pair in settings.items() for word in pair]
        before = sections(engine)
        done = subprocess.run(
            [*prefix, "timeout", "30", sys.executable, "-m", "orchestrator", "server", *words],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        inventory.check(before, lambda: sections(engine), may_end=("links", "mounts"))
        assert not os.listdir(tmp_path), "files were made"
        assert "Traceback" not in done.stderr
        return done.stderr

    return run


def sections(engine: str) -> inventory.Inventory:
    """What a server makes first; a cluster that runs beside changes the rest, and ends pods of its own."""
    found = inventory.take(engine)
    return {name: found[name] for name in ("links", "files", "mounts", "settings")}


def test_no_engine(start):
    message = start("--runtime-endpoint", "/run/no-such.sock", "--runtime", "docker")
    assert "/run/no-such.sock" in message
    assert "apt-get install docker.io" in message


def test_no_root(start):
    # In a user namespace without a mapping we are nobody, and still may read this Python.
    prefix = ("unshare", "--user")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel forbids user namespaces")
    message = start(prefix=prefix)
    assert "needs root" in message
    assert "--no-agent" in message


def test_a_range_that_overlaps_a_route(start):
    route = next(r for r in inventory._ip("route") if "/" in r["dst"])
    message = start("--pod-cidr", route["dst"])
    assert route["dst"] in message
    assert "--pod-cidr" in message


def test_ranges_that_overlap_each_other(start):
    message = start("--pod-cidr", "10.65.128.0/17")
    assert "10.65.128.0/17" in message
    assert "overlap" in message


def test_a_port_in_use(start):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"Port {port} " in start("--port", port)
        assert f"Port {port} " in start("--agent-port", port)


def test_a_config_file_with_a_fault(start, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "config.toml"
    for text, word in (("colour = 1\n", "colour"), ("port = 'x'\n", "port"), ("port = \n", "TOML")):
        file.write_text(text)
        assert word in start("--config", str(file))
