"""A running API server for the contract tests that ask for one."""

from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import pytest

from orchestrator.api.schema import Schemas
from tests.contract.api_support import Cluster, served
from tests.contract.etcd_support import Etcd, etcd_running

load_schemas = cache(Schemas.load)


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    """One etcd for the whole session; each test has a prefix of its own."""
    with etcd_running() as running:
        yield running


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with served(tmp_path, load_schemas()) as cluster:
        yield cluster


@pytest.fixture
async def ready(cluster: Cluster) -> Cluster:
    """With a namespace to write into."""
    status, _, _ = await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}})
    assert status == 201
    return cluster
