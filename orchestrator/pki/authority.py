"""The cluster's certificate authority: makes keys and certificates, checks and renews the files that hold them.

Keys are EC P-256 in files of mode 0600; every file is written whole and renamed into place. A certificate is
made anew when it is absent, names other hosts than wanted, was signed by another CA, or has less than a third
of its life left. Called by `daemon` at start and by its renewal task.
"""

import datetime
import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.pki.requests import extended

CA_LIFE_DAYS = 3650
LEAF_LIFE_DAYS = 365
_USAGE = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """What a leaf certificate says. `hosts` are DNS names and IP addresses, `usages` of `server`, `client`."""

    common_name: str
    organizations: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    usages: tuple[str, ...] = ("client",)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate and its key."""

    certificate: Path
    key: Path

    def certificate_pem(self) -> bytes:
        return self.certificate.read_bytes()

    def key_pem(self) -> bytes:
        return self.key.read_bytes()


class Authority:
    """A CA whose key lies in `directory`. Owner of every file there."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Load the CA, or make one. Raises `StartupError` when its files are damaged."""
        self._directory = directory
        self._clock = clock
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.pair = KeyPair(directory / "ca.crt", directory / "ca.key")
        if not self.pair.key.exists():
            self._refuse_second_ca()
            self._create_ca()
        self._certificate, self._key = self._load(self.pair)

    @property
    def pem(self) -> bytes:
        """The CA certificate, for kubeconfigs and `kube-root-ca.crt`."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def ensure(self, name: str, spec: CertificateSpec) -> tuple[KeyPair, bool]:
        """The key pair `name` with a certificate as `spec` says, and whether it had to be made anew."""
        pair = KeyPair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        if pair.certificate.exists() and pair.key.exists() and self._usable(pair, spec):
            return pair, False
        key = ec.generate_private_key(ec.SECP256R1())
        _write(pair.key, _key_pem(key))
        _write(pair.certificate, self._sign(spec, key).public_bytes(serialization.Encoding.PEM))
        return pair, True

    def sign(self, request_pem: bytes, usages: Iterable[str], life_s: float) -> bytes:
        """The PEM certificate for a request, valid from five minutes ago for `life_s`, but not longer than the CA.

        Raises `ValueError` for what is no request.
        """
        request = x509.load_pem_x509_csr(request_pem)
        ends = min(self._now() + datetime.timedelta(seconds=life_s), self._certificate.not_valid_after_utc)
        builder = self._builder(request.subject, self._certificate.subject, request.public_key(), ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = extended(builder, request, usages).sign(self._key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    def _refuse_second_ca(self) -> None:
        """Certificates without their CA's key: a new CA would silently lock every client out."""
        issued = sorted(path.name for path in self._directory.glob("*.crt") if path != self.pair.certificate)
        if self.pair.certificate.exists() and issued:
            raise StartupError(
                f"{self.pair.key} is missing, but its CA has issued {', '.join(issued)}.",
                "Restore it from a backup, or remove the whole directory to begin anew with every client.",
            )

    def _create_ca(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orchestrator-ca")])
        public = key.public_key()
        certificate = (
            self._builder(name, name, public, self._in_days(CA_LIFE_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(self.pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        _write(self.pair.key, _key_pem(key))

    def _load(self, pair: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate_pem())
            key = serialization.load_pem_private_key(pair.key_pem(), None)
        except (OSError, ValueError) as error:
            raise StartupError(
                f"The certificate authority in {self._directory} can't be read: {error}.",
                "Restore ca.crt and ca.key from a backup; without them every client must be set up anew.",
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise StartupError(
                f"{pair.key} does not belong to {pair.certificate}.", "Restore both from the same backup."
            )
        return certificate, key

    def _usable(self, pair: KeyPair, spec: CertificateSpec) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate_pem())
            key = serialization.load_pem_private_key(pair.key_pem(), None)
            certificate.verify_directly_issued_by(self._certificate)
        except (OSError, ValueError, TypeError, InvalidSignature):
            return False
        now = self._now()
        left = certificate.not_valid_after_utc - now
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return (
            key.public_key() == certificate.public_key()
            and certificate.subject == _subject(spec)
            and _hosts_of(certificate) == set(spec.hosts)
            and left > life / 3
        )

    def _sign(self, spec: CertificateSpec, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        builder = (
            self._builder(
                _subject(spec), self._certificate.subject, key.public_key(), self._in_days(LEAF_LIFE_DAYS)
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_USAGE[usage] for usage in spec.usages]), critical=False)
        )
        if spec.hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in spec.hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _builder(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        public: CertificatePublicKeyTypes,
        ends: datetime.datetime,
    ) -> x509.CertificateBuilder:
        now = self._now()
        own = subject == issuer
        issuer_key = (
            public if isinstance(public, ec.EllipticCurvePublicKey) and own else self._key.public_key()
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        )

    def _in_days(self, days: int) -> datetime.datetime:
        return self._now() + datetime.timedelta(days=days)

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.now_s(), datetime.UTC)


def keep(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write those of `files` that `directory` lacks, the others being the same: keys that come from elsewhere."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, data in files.items():
        if not (directory / name).exists():
            _write(directory / name, data)


def ensure_signing_key(path: Path) -> bytes:
    """The PEM of the key that signs service-account tokens; made at first use. Raises `StartupError`."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    try:
        pem = path.read_bytes()
        key = serialization.load_pem_private_key(pem, None)
    except (OSError, ValueError) as error:
        raise StartupError(f"{path} can't be read: {error}.", _LOST_SIGNING_KEY) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StartupError(f"{path} holds no EC key.", _LOST_SIGNING_KEY)
    return pem


_LOST_SIGNING_KEY = "Restore it from a backup, or remove it: every service-account token is then issued anew."


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes) -> None:
    """Write `path` whole, readable by its owner only, durable before it is seen."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _subject(spec: CertificateSpec) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in spec.organizations]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, spec.common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in names}


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
