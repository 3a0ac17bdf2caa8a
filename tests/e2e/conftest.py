"""One engine and one cluster for the whole session; the host must look the same after it as before."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.runtime_support import containerd_endpoint, docker_endpoint
from tests.e2e import images, inventory
from tests.e2e.cluster import Api, Cluster, Kubectl

NEEDED = {
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "curl": "curl",
}


def lacking(reason: str) -> None:
    """Skip; where everything can be installed (CI), fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def kubectls() -> list[str]:
    """Every kubectl on this host: that on PATH and kubectl.1.27 … beside it."""
    first = shutil.which("kubectl")
    if first is None:
        return []
    beside = Path(os.path.realpath(first)).parent.glob("kubectl.1.*")
    versions = {path.name: str(path) for path in beside if re.fullmatch(r"kubectl\.1\.\d+", path.name)}
    return [versions[name] for name in sorted(versions)] or [first]


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """The socket of a Docker engine."""
    if os.geteuid() != 0:
        lacking("a cluster needs root")
    for program, package in NEEDED.items():
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            lacking(f"{program} is not installed (package {package})")
    if not images.is_static_busybox():
        lacking("busybox-static is not installed")
    with docker_endpoint() as socket:
        yield socket


@pytest.fixture(scope="session")
def unchanged_host(engine: str) -> Iterator[None]:
    """Fails the run when anything is left on the host. Set SHARED_HOST where others work on it meanwhile."""
    before = inventory.take(engine)
    yield
    inventory.check(before, lambda: inventory.take(engine))


@pytest.fixture(scope="session")
def cluster(engine: str, unchanged_host: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster under test, with the web server's image loaded."""
    images.load(engine, images.web_archive())
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), engine)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.clean_up()
        images.remove(engine, images.WEB)


@pytest.fixture(scope="session")
def containerd_cluster(unchanged_host: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Another, whose node runs its pods on a containerd of its own."""
    with containerd_endpoint() as socket:
        cluster = Cluster(tmp_path_factory.mktemp("containerd"), socket, "containerd", net=70)
        try:
            cluster.start()
            images.load_into_containerd(socket, images.web_archive(), cluster.instance)
            yield cluster
        finally:
            cluster.clean_up()


@pytest.fixture(autouse=True)
def server_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Shows the end of the server's log beside a failure."""
    yield
    report = getattr(request.node, "report", None)
    if report is not None and report.failed:
        for argument in request.node.funcargs.values():
            if isinstance(argument, Cluster):
                print(argument.tail())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.report = report
    return report


def pytest_terminal_summary(terminalreporter):
    """Tables that tests recorded."""
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for name, value in report.user_properties:
            if name == "table":
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(value)


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return cluster.api


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace named after the test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:50].strip("-")
    with cluster.namespace(name) as made:
        yield made


@pytest.fixture
def kubectl(cluster: Cluster, tmp_path: Path) -> Kubectl:
    """The newest kubectl."""
    found = kubectls()
    if not found:
        pytest.skip("no kubectl on PATH")
    return Kubectl(found[-1], cluster.kubeconfig, tmp_path)


LONG = (
    list(dict.fromkeys([*kubectls()[:1], *kubectls()[-1:]]))
    if "ALL_KUBECTLS" not in os.environ
    else kubectls()
)
"""For stories that take long: the oldest and the newest, unless all are asked for."""


@pytest.fixture(params=LONG or [""], ids=lambda path: Path(path).name or "none")
def oldest_and_newest_kubectl(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Kubectl:
    """The two ends of what is supported."""
    if not request.param:
        pytest.skip("no kubectl on PATH")
    return Kubectl(request.param, cluster.kubeconfig, tmp_path)
