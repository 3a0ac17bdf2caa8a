"""A host that was a node before serves the API while its container engine is away."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.config import Config
from orchestrator.daemon import Daemon


def daemon(directory: Path) -> Daemon:
    return Daemon(
        replace(
            Config(),
            data_dir=directory / "data",
            runtime="docker",
            runtime_endpoint=str(directory / "no.sock"),
            pod_cidr="10.132.0.0/16",
            service_cidr="10.133.0.0/16",
            dns_address="10.133.0.10",
        )
    )


@pytest.fixture
def packet_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packet filter is not what is asked here, and asking it needs root."""

    async def found(instance: str, local_pods: str) -> None:
        return None

    monkeypatch.setattr("orchestrator.assembly.engine.select_renderer", found)


async def test_a_new_host_without_an_engine_is_refused(tmp_path: Path, packet_filter: None) -> None:
    with pytest.raises(StartupError, match=r"no\.sock"):
        await daemon(tmp_path)._find_engine("abc123")


async def test_a_known_host_goes_on_without_its_engine(tmp_path: Path, packet_filter: None) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "instance").write_text("abc123\n")
    engine = await daemon(tmp_path)._find_engine("abc123")
    assert engine is not None
    assert engine.runtime is None
