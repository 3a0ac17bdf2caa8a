"""What a failure to reach etcd is taken for."""

import pytest

from orchestrator.assembly.etcd import is_tls


@pytest.mark.parametrize(
    ("text", "endpoint", "wanted"),
    [
        ("DNS resolution failed for tls-etcd.example:2379", "https://tls-etcd.example:2379", False),
        ("DNS resolution failed for TLS-ETCD:2379: Domain name not found", "https://tls-etcd:2379", False),
        ("connect to ssl-1:2379: Connection refused", "http://ssl-1:2379", False),
        ("tls-etcd:2379: Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", "https://tls-etcd:2379", True),
        ("Peer name a is not in peer certificate", "https://a:2379", True),
    ],
)
def test_a_hosts_name_makes_no_failure_of_tls(text: str, endpoint: str, wanted: bool) -> None:
    assert is_tls(text, [endpoint]) is wanted
