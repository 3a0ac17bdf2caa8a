"""Which certificates this server needs, and where they lie. Renewed by `renew` in the running process."""

import ssl
from collections.abc import Iterable
from pathlib import Path

import structlog

from orchestrator.assembly import bootstrap, host
from orchestrator.base.clock import Clock
from orchestrator.config import Config
from orchestrator.pki import kubeconfig
from orchestrator.pki.authority import Authority, CertificateSpec, KeyPair, ensure_signing_key
from orchestrator.pki.tls import client_context, server_context

log = structlog.get_logger(__name__)

RENEW_CHECK_S = 12 * 3600.0
ADMIN = CertificateSpec("kubernetes-admin", ("system:masters",))
AGENT_CLIENT = CertificateSpec("kube-apiserver-kubelet-client", ("system:masters",))


class Certificates:
    """The server's keys and certificates. Owner of `<data>/pki`."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._directory = config.data_dir / "pki"
        self._authority = Authority(self._directory, clock)
        self._contexts: dict[str, ssl.SSLContext] = {}

    @property
    def ca_pem(self) -> bytes:
        return self._authority.pem

    def sign(self, request_pem: bytes, usages: Iterable[str], life_s: float) -> bytes:
        """The PEM certificate for a request of others. Raises `ValueError` for what is no request."""
        return self._authority.sign(request_pem, usages, life_s)

    def signing_key(self) -> bytes:
        """PEM of the key for service-account tokens."""
        return ensure_signing_key(self._directory / "sa.key")

    def server_context(self) -> ssl.SSLContext:
        """For the API's listener."""
        return self._serving("server", self._server_spec())

    def agent_context(self) -> ssl.SSLContext:
        """For the listener of this host's agent."""
        return self._serving("agent", self._agent_spec())

    def agent_client_context(self) -> ssl.SSLContext:
        """For the API server's calls to agents."""
        pair, _ = self._authority.ensure("agent-client", AGENT_CLIENT)
        return client_context(self._ca, pair)

    def write_kubeconfig(self, port: int) -> None:
        """The admin's kubeconfig for an API on `port` of this host."""
        pair, _ = self._authority.ensure("admin", ADMIN)
        bind = self._config.bind
        address = "127.0.0.1" if bind in ("0.0.0.0", "::") else bind
        text = kubeconfig.render(f"https://{address}:{port}", self.ca_pem, pair, ADMIN.common_name)
        kubeconfig.write(self._config.write_kubeconfig, text)

    async def renew(self) -> None:
        """Look twice a day; a new certificate serves connections made from then on."""
        while True:
            await self._clock.sleep(RENEW_CHECK_S)
            for name, spec in (("server", self._server_spec()), ("agent", self._agent_spec())):
                context = self._contexts.get(name)
                if context is None:
                    continue
                pair, renewed = self._authority.ensure(name, spec)
                if renewed:
                    context.load_cert_chain(pair.certificate, pair.key)
                    log.info("certificate renewed", name=name)

    @property
    def _ca(self) -> Path:
        return self._authority.pair.certificate

    def _serving(self, name: str, spec: CertificateSpec) -> ssl.SSLContext:
        pair: KeyPair = self._authority.ensure(name, spec)[0]
        context = self._contexts[name] = server_context(pair, self._ca)
        return context

    def _server_spec(self) -> CertificateSpec:
        config = self._config
        names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{config.cluster_domain}",
            "localhost",
            config.node_name,
            *config.tls_names,
        ]
        own = [config.bind] if config.bind not in ("0.0.0.0", "::") else host.local_addresses()
        addresses = [
            "127.0.0.1",
            "::1",
            bootstrap.api_service_address(config.service_cidr),
            config.advertise_address,
            *own,
        ]
        hosts = tuple(dict.fromkeys([*names, *addresses]))
        return CertificateSpec("kube-apiserver", (), hosts, ("server",))

    def _agent_spec(self) -> CertificateSpec:
        config = self._config
        hosts = tuple(dict.fromkeys([config.node_name, config.node_ip, "127.0.0.1"]))
        return CertificateSpec(
            f"system:node:{config.node_name}", ("system:nodes",), hosts, ("server", "client")
        )
