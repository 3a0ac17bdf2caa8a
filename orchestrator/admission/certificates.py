"""Who asks for a certificate, who may decide on it, and who may sign it. Source: Kubernetes' certificate plugins.

1. A new request carries the name, groups, uid and extra of its author, whatever the author wrote there.
2. Nobody asks the clients' signer for a certificate of the masters' group.
3. A decision needs the verb `approve`, a certificate the verb `sign`, on the request's signer.
"""

from orchestrator.admission.chain import AdmissionRequest, Operation
from orchestrator.admission.escalation import MASTERS, Holdings
from orchestrator.admission.refusal import forbidden
from orchestrator.api.access import Attributes, Identity
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource

GROUP = "certificates.k8s.io"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


class CertificateRequests:
    """See the module."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        if resource.group != GROUP or resource.plural != "certificatesigningrequests":
            return False
        return operation == "CREATE" or (operation == "UPDATE" and subresource in ("approval", "status"))

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        if request.operation != "CREATE":
            return None
        obj = request.object or {}
        return {**obj, "spec": {**(obj.get("spec") or {}), **requester(request.identity)}}

    async def validate(self, request: AdmissionRequest) -> None:
        new, old = request.object or {}, request.old or {}
        signer = str((new.get("spec") or {}).get("signerName") or "")
        if request.operation == "CREATE":
            if signer == CLIENT_SIGNER and MASTERS in _organizations(new["spec"].get("request") or ""):
                text = f"use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
                raise forbidden(request, text)
        elif request.subresource == "approval":
            self._check(request, "approve", signer)
        elif _signed(new) != _signed(old):
            self._check(request, "sign", signer)

    def _check(self, request: AdmissionRequest, verb: str, signer: str) -> None:
        domain = signer.partition("/")[0]
        for name in (signer, f"{domain}/*"):
            if self._holdings.allows(request.identity, Attributes(verb, GROUP, "signers", name=name)):
                return
        raise forbidden(request, f'user not permitted to {verb} requests with signerName "{signer}"')


def requester(identity: Identity) -> Object:
    """The fields of a request's spec that say who asks."""
    found: Object = {"username": identity.name}
    if identity.uid:
        found["uid"] = identity.uid
    if identity.groups:
        found["groups"] = list(identity.groups)
    if identity.extra:
        found["extra"] = {name: list(values) for name, values in identity.extra.items()}
    return found


def _signed(obj: Object) -> tuple[object, object]:
    status = obj.get("status") or {}
    return status.get("certificate"), status.get("conditions")


def _organizations(request: str) -> list[str]:
    """Organizations of the subject; none for what is no request, which validation refuses."""
    from base64 import b64decode

    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        subject = x509.load_pem_x509_csr(b64decode(request)).subject
    except ValueError:
        return []
    return [str(entry.value) for entry in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
