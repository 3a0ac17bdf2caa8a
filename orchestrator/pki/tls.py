"""TLS contexts for the API, the agents' API and their clients: 1.2 and newer, client certificates optional."""

import ssl
from pathlib import Path

from orchestrator.pki.authority import KeyPair


def server_context(pair: KeyPair, client_ca: Path) -> ssl.SSLContext:
    """Serves `pair`; a client may show a certificate, which must then come from `client_ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(ca: Path, pair: KeyPair | None = None) -> ssl.SSLContext:
    """Trusts `ca` only and shows `pair` when given."""
    context = ssl.create_default_context(cafile=str(ca))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context
