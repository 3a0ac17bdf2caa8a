"""Certificates: made once, made anew when they do not fit any more, refused when the CA is damaged."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.pki.authority import Authority, CertificateSpec, KeyPair, ensure_signing_key

DAY_S = 86400.0
SERVER = CertificateSpec("kube-apiserver", (), ("kubernetes", "10.43.0.1", "::1"), ("server",))
ADMIN = CertificateSpec("admin", ("system:masters", "others"))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def authority(tmp_path: Path, clock: VirtualClock) -> Authority:
    return Authority(tmp_path, clock)


def certificate(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate_pem())


def test_a_server_certificate_names_its_hosts_and_nothing_else(authority: Authority) -> None:
    pair, made = authority.ensure("server", SERVER)
    assert made
    found = certificate(pair)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["kubernetes", "10.43.0.1", "::1"]
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    found.verify_directly_issued_by(certificate(authority.pair))


def test_a_client_certificate_carries_user_and_groups(authority: Authority) -> None:
    subject = certificate(authority.ensure("admin", ADMIN)[0]).subject.rfc4514_string()
    assert subject == "CN=admin,O=others,O=system:masters"


def test_keys_are_for_their_owner_only(authority: Authority) -> None:
    pair, _ = authority.ensure("admin", ADMIN)
    assert [path.stat().st_mode & 0o777 for path in (pair.key, authority.pair.key)] == [0o600, 0o600]


def test_what_fits_is_kept(authority: Authority, tmp_path: Path, clock: VirtualClock) -> None:
    pair, _ = authority.ensure("server", SERVER)
    before = pair.certificate_pem()
    again, made = Authority(tmp_path, clock).ensure("server", SERVER)
    assert not made and again.certificate_pem() == before


async def test_a_certificate_is_renewed_in_the_last_third_of_its_life(
    authority: Authority, clock: VirtualClock
) -> None:
    pair, _ = authority.ensure("server", SERVER)
    await clock.advance(240 * DAY_S)
    assert not authority.ensure("server", SERVER)[1]
    await clock.advance(5 * DAY_S)
    assert authority.ensure("server", SERVER)[1]
    left = certificate(pair).not_valid_after_utc - datetime.datetime.fromtimestamp(
        clock.now_s(), datetime.UTC
    )
    assert left > datetime.timedelta(days=360)


@pytest.mark.parametrize(
    "spec",
    [
        CertificateSpec("kube-apiserver", (), ("kubernetes", "10.43.0.2", "::1"), ("server",)),
        CertificateSpec("another", (), SERVER.hosts, ("server",)),
    ],
    ids=["hosts", "name"],
)
def test_a_changed_wish_makes_a_new_one(authority: Authority, spec: CertificateSpec) -> None:
    authority.ensure("server", SERVER)
    assert authority.ensure("server", spec)[1]


@pytest.mark.parametrize("suffix", ["crt", "key"])
@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_leaf_is_made_anew(
    authority: Authority, tmp_path: Path, suffix: str, damage: bytes
) -> None:
    authority.ensure("server", SERVER)
    (tmp_path / f"server.{suffix}").write_bytes(damage)
    pair, made = authority.ensure("server", SERVER)
    assert made
    certificate(pair).verify_directly_issued_by(certificate(authority.pair))


def test_a_leaf_of_another_ca_is_made_anew(authority: Authority, tmp_path: Path, clock: VirtualClock) -> None:
    other = Authority(tmp_path / "other", clock)
    pair, _ = other.ensure("server", SERVER)
    for suffix in ("crt", "key"):
        (tmp_path / f"server.{suffix}").write_bytes((tmp_path / "other" / f"server.{suffix}").read_bytes())
    assert authority.ensure("server", SERVER)[1]
    assert pair.certificate.exists()


def test_a_damaged_ca_stops_the_start_and_says_where(authority: Authority, tmp_path: Path) -> None:
    authority.pair.certificate.write_bytes(b"nothing")
    with pytest.raises(StartupError, match=str(tmp_path)):
        Authority(tmp_path, VirtualClock())


def test_a_ca_key_of_another_ca_stops_the_start(
    authority: Authority, tmp_path: Path, clock: VirtualClock
) -> None:
    other = Authority(tmp_path / "other", clock)
    authority.pair.key.write_bytes(other.pair.key_pem())
    with pytest.raises(StartupError, match="does not belong to"):
        Authority(tmp_path, clock)


def test_a_lost_ca_key_is_not_replaced_behind_everybodys_back(
    authority: Authority, tmp_path: Path, clock: VirtualClock
) -> None:
    authority.ensure("admin", ADMIN)
    authority.pair.key.unlink()
    with pytest.raises(StartupError, match=r"ca\.key is missing.*admin\.crt"):
        Authority(tmp_path, clock)


def test_a_first_start_that_was_cut_off_begins_again(
    authority: Authority, tmp_path: Path, clock: VirtualClock
) -> None:
    authority.pair.key.unlink()
    assert Authority(tmp_path, clock).ensure("admin", ADMIN)[1]


def test_openssl_accepts_the_chain(tmp_path: Path) -> None:
    authority = Authority(tmp_path, SystemClock())
    pair, _ = authority.ensure("server", SERVER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(authority.pair.certificate)


def test_the_signing_key_stays_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pki" / "sa.key"
    assert ensure_signing_key(path) == ensure_signing_key(path)
    path.write_bytes(b"\0")
    with pytest.raises(StartupError, match=r"sa\.key"):
        ensure_signing_key(path)
