"""Certificate requests: approved for nodes that may ask, signed as their signer allows, cleaned up in time."""

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.api.item import Object, encode
from orchestrator.api.options import WriteOptions
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS
from orchestrator.api.times import seconds
from orchestrator.client.local import LocalClient
from orchestrator.controllers.certificateapproving import CertificateApprovingController
from orchestrator.controllers.certificatecleaning import CertificateCleaningController
from orchestrator.controllers.certificatecleaning import plan as due_s
from orchestrator.controllers.certificaterequests import problem
from orchestrator.controllers.certificatesigning import CertificateSigningController, plan
from orchestrator.pki.authority import Authority
from orchestrator.store.interface import Put, Txn

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING = "kubernetes.io/kubelet-serving"
USAGES = {CLIENT: ["client auth"], KUBELET: ["digital signature", "key encipherment", "client auth"],
          SERVING: ["digital signature", "server auth"]}  # fmt: skip


def _pem(name: str, organization: str = "", *others: x509.GeneralName, key: Any = None) -> bytes:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(parts))
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    made = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def _request(signer: str, pem: bytes, *decisions: str, **spec: Any) -> Object:
    conditions = [{"type": kind, "status": "True"} for kind in decisions]
    full = {
        "signerName": signer,
        "request": b64encode(pem).decode(),
        "usages": USAGES.get(signer, ["any"]),
        **spec,
    }
    return {"metadata": {"name": "r"}, "spec": full, "status": {"conditions": conditions}}


@pytest.fixture
def authority(tmp_path: Path, clock: Any) -> Authority:
    return Authority(tmp_path / "pki", clock)


@pytest.mark.parametrize(
    ("signer", "request_of", "text"),
    [
        (CLIENT, ("anybody",), ""),
        (KUBELET, ("system:node:n1", "system:nodes"), ""),
        (KUBELET, ("system:node:n1", "others"), "subject organization is not system:nodes"),
        (KUBELET, ("n1", "system:nodes"), "subject common name does not begin with system:node:"),
        (KUBELET, ("system:node:n1", "system:nodes", x509.DNSName("n1")), "DNS and IP subjectAltNames are not allowed"),
        (SERVING, ("system:node:n1", "system:nodes", x509.DNSName("n1")), ""),
        (SERVING, ("system:node:n1", "system:nodes"), "DNS or IP subjectAltName is required"),
        (SERVING, ("system:node:n1", "system:nodes", x509.RFC822Name("a@b.c")),
         "Email subjectAltNames are not allowed"),
    ],
)  # fmt: skip
def test_what_the_signers_sign(signer: str, request_of: Any, text: str) -> None:
    assert problem(_request(signer, _pem(*request_of))) == text


def test_usages_must_be_those_of_the_signer() -> None:
    assert problem(_request(CLIENT, _pem("x"), usages=["client auth", "server auth"])).startswith(
        "usages did not"
    )
    assert problem(_request(CLIENT, b"no request")).startswith("unable to parse csr")


def test_a_certificate_says_what_was_asked(authority: Authority, clock: Any) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = _pem("system:node:n1", "system:nodes", x509.DNSName("n1.local"), key=key)
    signed = plan(_request(SERVING, pem, "Approved", expirationSeconds=700), authority.sign)
    assert signed is not None
    found = x509.load_pem_x509_certificate(b64decode(signed["status"]["certificate"]))
    found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.pem))
    assert found.not_valid_after_utc.timestamp() == int(clock.now_s()) + 700
    assert found.public_key() == key.public_key()
    assert found.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1.local"]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(
    ("signer", "decisions"),
    [
        (CLIENT, ()),
        (CLIENT, ("Approved", "Failed")),
        (CLIENT, ("Denied",)),
        ("example.com/own", ("Approved",)),
    ],
)
def test_what_is_not_ours_to_sign_is_left_alone(authority: Authority, signer: str, decisions: Any) -> None:
    assert plan(_request(signer, _pem("x"), *decisions), authority.sign) is None


def test_a_request_that_breaks_its_signers_rules_fails(authority: Authority) -> None:
    failed = plan(_request(KUBELET, _pem("x"), "Approved"), authority.sign)
    assert failed is not None
    condition = failed["status"]["conditions"][-1]
    assert (condition["type"], condition["reason"]) == ("Failed", "SignerValidationFailure")
    assert "certificate" not in failed["status"]


async def _start(cluster: Any, authority: Authority, allowed: dict[str, str]) -> None:
    async def review(namespace: str, name: str, obj: Object, identity: Any) -> Object:
        spec = obj["spec"]
        right = spec["resourceAttributes"]["subresource"]
        return {**obj, "status": {"allowed": allowed.get(spec["user"]) == right}}

    base = cluster.client
    providers = {("authorization.k8s.io", "subjectaccessreviews", ""): review}
    client = LocalClient(cluster.registry, base._authorizer, base.identity, providers)
    parts = (client, cluster.clock, cluster.recorder)
    await cluster.start(
        CertificateApprovingController(*parts),
        CertificateSigningController(*parts, authority.sign),
        CertificateCleaningController(*parts),
        kubelet=False,
    )


async def _ask(cluster: Any, name: str, node: str, author: str) -> None:
    request = _request(KUBELET, _pem(f"system:node:{node}", "system:nodes"))
    body = {
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {**request["spec"]},
    }  # fmt: skip
    made = await cluster.registry.create(
        CERTIFICATESIGNINGREQUESTS, "", body, WriteOptions(), cluster.client.identity
    )
    assert made.created
    item = made.item.object
    key = CERTIFICATESIGNINGREQUESTS.key("", name)
    await _stamp(cluster, key, {**item, "spec": {**item["spec"], "username": author}})


async def _stamp(cluster: Any, key: str, obj: Object) -> None:
    """Who asks is stamped by admission, which this cluster does without."""
    await cluster.store.transact(Txn((), (Put(key, encode(obj)),)))
    await cluster.settle()


async def test_nodes_that_may_ask_get_their_certificate(cluster: Any, authority: Authority) -> None:
    await _start(cluster, authority, {"system:node:n1": "selfnodeclient", "token": "nodeclient"})
    for name, node, author in (
        ("own", "n1", "system:node:n1"),
        ("new", "n2", "token"),
        ("bad", "n2", "system:node:n1"),
    ):
        await _ask(cluster, name, node, author)
    found = {r["metadata"]["name"]: r["status"] for r in await cluster.list(CERTIFICATESIGNINGREQUESTS, None)}
    assert found["own"]["certificate"] and found["new"]["certificate"]
    assert found["own"]["conditions"][0]["message"].startswith("Auto approving self kubelet client")
    assert found["new"]["conditions"][0]["reason"] == "AutoApproved"
    assert not found["bad"].get("conditions")
    assert await cluster.is_at_rest()


@pytest.mark.parametrize(
    ("conditions", "goes_after_s"),
    [
        ([], 24 * 3600),
        ([{"type": "Denied", "lastUpdateTime": "2023-11-14T22:14:00Z"}], 60 + 3600),
        ([{"type": "Approved", "lastUpdateTime": "2023-11-14T22:14:00Z"},
          {"type": "Failed", "lastUpdateTime": "2023-11-14T22:15:00Z"}], 120 + 3600),
        ([{"type": "Seen", "lastUpdateTime": "2023-11-14T22:14:00Z"}], 24 * 3600),
    ],
)  # fmt: skip
def test_requests_go_in_time(conditions: Any, goes_after_s: float) -> None:
    created = "2023-11-14T22:13:00Z"
    request = {"metadata": {"creationTimestamp": created}, "status": {"conditions": conditions}}
    assert due_s(request) - seconds(created) == goes_after_s


def test_a_request_goes_with_its_certificate(authority: Authority) -> None:
    signed = plan(_request(CLIENT, _pem("x"), "Approved", expirationSeconds=600), authority.sign)
    assert signed is not None
    signed["metadata"]["creationTimestamp"] = "2023-11-14T22:13:20Z"
    assert due_s(signed) - seconds("2023-11-14T22:13:20Z") == 600


async def test_a_request_that_is_due_is_deleted(cluster: Any, authority: Authority) -> None:
    await _start(cluster, authority, {})
    await _ask(cluster, "own", "n1", "system:node:n1")
    old = {"type": "Denied", "status": "True", "lastUpdateTime": "2023-11-14T20:13:20Z"}
    await cluster.patch(
        CERTIFICATESIGNINGREQUESTS,
        "own",
        {"status": {"conditions": [old]}},
        namespace="",
        subresource="approval",
    )
    await cluster.settle()
    assert await cluster.list(CERTIFICATESIGNINGREQUESTS, None) == []
