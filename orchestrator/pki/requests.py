"""Certificates for requests that others made: what a PKCS#10 request asks for, and the extensions of the answer.

Usages are Kubernetes' names (`client auth`, `digital signature`, …). Called by the certificate controllers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "data encipherment": "data_encipherment",
    "key agreement": "key_agreement",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED_USAGES = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": ObjectIdentifier("2.16.840.1.113730.4.1"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom a request is for."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


def read(pem: bytes) -> Asked:
    """Raises `ValueError` for what is no request, or one whose signature is not its key's."""
    request = x509.load_pem_x509_csr(pem)
    if not request.is_signature_valid:
        raise ValueError("the signature of the request is not valid")
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organizations = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    others = _alternative_names(request)

    def of(kind: type[x509.GeneralName]) -> tuple[str, ...]:
        return tuple(str(name.value) for name in others if isinstance(name, kind))

    return Asked(
        str(names[-1].value) if names else "",
        tuple(str(entry.value) for entry in organizations),
        of(x509.DNSName), of(x509.IPAddress), of(x509.RFC822Name), of(x509.UniformResourceIdentifier),
    )  # fmt: skip


def extended(
    builder: x509.CertificateBuilder, request: x509.CertificateSigningRequest, usages: Iterable[str]
) -> x509.CertificateBuilder:
    """`builder` with names of the request, and what the certificate may be used for."""
    wanted = set(usages)
    flags = dict.fromkeys(_KEY_USAGES.values(), False)
    flags |= {_KEY_USAGES[usage]: True for usage in wanted if usage in _KEY_USAGES}
    if any(flags.values()):
        builder = builder.add_extension(_key_usage(flags), critical=True)
    purposes = [_EXTENDED_USAGES[usage] for usage in sorted(wanted) if usage in _EXTENDED_USAGES]
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(dict.fromkeys(purposes)), critical=False)
    names = _alternative_names(request)
    if names:
        critical = not len(request.subject)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical)
    return builder


def _key_usage(flags: dict[str, bool]) -> x509.KeyUsage:
    """What only a key agreement can have is dropped without one."""
    agrees = flags["key_agreement"]
    only = {name: flags[name] and agrees for name in ("encipher_only", "decipher_only")}
    return x509.KeyUsage(**{**flags, **only})


def _alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
