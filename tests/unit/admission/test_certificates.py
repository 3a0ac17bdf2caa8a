"""Who asks for a certificate is stamped; deciding and signing need rights on the signer."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.admission.certificates import CertificateRequests
from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import Identity
from orchestrator.api.errors import Forbidden
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS as CSRS

JANE = Identity("jane", ("devs",), "u1", {"scope": ("a",)})


class Rights:
    """Verbs on signers that everybody has."""

    def __init__(self, *allowed: tuple[str, str]) -> None:
        self._allowed = allowed

    def allows(self, identity, attributes):
        assert (attributes.group, attributes.resource) == ("certificates.k8s.io", "signers")
        return (attributes.verb, attributes.name) in self._allowed

    def rules(self, identity, namespace):
        return ()


def _csr(signer="a.b/c", request="", **status):
    return {"metadata": {"name": "x"}, "spec": {"signerName": signer, "request": request}, "status": status}


def _masters_request():
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")])
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


async def test_the_author_is_stamped(request_for):
    chain = AdmissionChain((CertificateRequests(Rights()),))
    admitted = await chain.admit(request_for("CREATE", CSRS, _csr(), identity=JANE))
    assert admitted["spec"] == {
        "signerName": "a.b/c", "request": "", "username": "jane", "uid": "u1", "groups": ["devs"],
        "extra": {"scope": ["a"]},
    }  # fmt: skip


async def test_nobody_asks_for_the_masters(request_for):
    chain = AdmissionChain((CertificateRequests(Rights()),))
    wanted = _csr("kubernetes.io/kube-apiserver-client", _masters_request())
    with pytest.raises(Forbidden, match="signer with system:masters group is not allowed"):
        await chain.admit(request_for("CREATE", CSRS, wanted, identity=JANE))
    await chain.admit(request_for("CREATE", CSRS, _csr("a.b/c", _masters_request()), identity=JANE))


@pytest.mark.parametrize(
    ("subresource", "rights", "why"),
    [
        ("approval", [("approve", "a.b/c")], None),
        ("approval", [("approve", "a.b/*")], None),
        ("approval", [("sign", "a.b/c")], 'not permitted to approve requests with signerName "a.b/c"'),
        ("status", [("sign", "a.b/c")], None),
        ("status", [("approve", "a.b/c")], 'not permitted to sign requests with signerName "a.b/c"'),
    ],
)
async def test_deciding_and_signing_need_rights(request_for, subresource, rights, why):
    chain = AdmissionChain((CertificateRequests(Rights(*rights)),))
    new = _csr(conditions=[{"type": "Ready"}])
    request = request_for("UPDATE", CSRS, new, _csr(), identity=JANE, subresource=subresource)
    if why is None:
        await chain.admit(request)
    else:
        with pytest.raises(Forbidden, match=why):
            await chain.admit(request)
    await chain.admit(request_for("UPDATE", CSRS, _csr(), _csr(), identity=JANE, subresource="status"))
