"""The server's certificates name every address at which it is asked, and are renewed while it runs."""

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from orchestrator.assembly.certificates import RENEW_CHECK_S, Certificates
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return replace(
        Config(),
        data_dir=tmp_path,
        write_kubeconfig=tmp_path / "kubeconfig",
        node_name="n1",
        node_ip="192.0.2.7",
        advertise_address="192.0.2.8",
    )


def names(path: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def test_the_api_is_trusted_by_every_name(config: Config, tmp_path: Path) -> None:
    Certificates(config, VirtualClock()).server_context()
    assert names(tmp_path / "pki" / "server.crt") >= {
        "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
        "localhost", "n1", "127.0.0.1", "10.43.0.1", "192.0.2.8",
    }  # fmt: skip


def test_the_agent_is_trusted_by_its_node(config: Config, tmp_path: Path) -> None:
    Certificates(config, VirtualClock()).agent_context()
    assert names(tmp_path / "pki" / "agent.crt") == {"n1", "192.0.2.7", "127.0.0.1"}


def test_the_kubeconfig_leads_to_the_port_that_was_taken(config: Config) -> None:
    certificates = Certificates(config, VirtualClock())
    certificates.write_kubeconfig(7777)
    written = yaml.safe_load(config.write_kubeconfig.read_text())
    assert written["clusters"][0]["cluster"]["server"].endswith(":7777")


async def test_an_ageing_certificate_is_replaced_in_the_running_listener(
    config: Config, tmp_path: Path
) -> None:
    clock = VirtualClock()
    certificates = Certificates(config, clock)
    context = certificates.server_context()
    assert isinstance(context, ssl.SSLContext)
    before = (tmp_path / "pki" / "server.crt").read_bytes()
    supervisor = Supervisor("t", clock)
    supervisor.serve("renewal", certificates.renew)
    await clock.advance(240 * 86400)
    assert (tmp_path / "pki" / "server.crt").read_bytes() == before
    await clock.advance(5 * 86400 + RENEW_CHECK_S)
    assert (tmp_path / "pki" / "server.crt").read_bytes() != before
    await supervisor.stop()
