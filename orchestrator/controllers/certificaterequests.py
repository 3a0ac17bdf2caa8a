"""What the certificate controllers know of a CertificateSigningRequest: its state, and the rules of the signers. Pure.

1. `kubernetes.io/kube-apiserver-client` signs for clients, whatever their names.
2. `kubernetes.io/kube-apiserver-client-kubelet` signs for nodes as clients: organization `system:nodes`, a common name
   `system:node:…`, no other names.
3. `kubernetes.io/kubelet-serving` signs for nodes as servers, with DNS names or addresses and nothing else.

Source: Kubernetes' documented rules for its signers.
"""

import binascii
from base64 import b64decode

from orchestrator.api.item import Object
from orchestrator.pki.requests import Asked, read

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
SIGNERS = (CLIENT, KUBELET_CLIENT, KUBELET_SERVING)
_OPTIONAL = {"digital signature", "key encipherment"}
_NODES = "system:nodes"
_NODE = "system:node:"


def has(request: Object, kind: str) -> bool:
    """Whether a condition of that type is true."""
    conditions = (request.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == kind and c.get("status", "True") == "True" for c in conditions)


def pem(request: Object) -> bytes:
    """Raises `ValueError`."""
    try:
        return b64decode(request["spec"].get("request") or "", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def asked(request: Object) -> Asked:
    """Whom the request is for. Raises `ValueError`."""
    return read(pem(request))


def problem(request: Object) -> str:
    """Why its signer does not sign it; empty when it does."""
    spec = request["spec"]
    signer, usages = spec.get("signerName"), set(spec.get("usages") or ())
    try:
        wanted = asked(request)
    except ValueError as error:
        return f"unable to parse csr: {error}"
    purpose = "server auth" if signer == KUBELET_SERVING else "client auth"
    if signer == CLIENT:
        return "" if purpose in usages and usages <= _OPTIONAL | {purpose} else _wrong_usages(usages)
    found = _node_problem(wanted, signer == KUBELET_SERVING)
    needed = {purpose, "digital signature"}
    return found or ("" if needed <= usages <= needed | _OPTIONAL else _wrong_usages(usages))


def _node_problem(wanted: Asked, serving: bool) -> str:
    if wanted.organizations != (_NODES,):
        return f"subject organization is not {_NODES}"
    if not wanted.common_name.startswith(_NODE):
        return f"subject common name does not begin with {_NODE}"
    if wanted.emails:
        return "Email subjectAltNames are not allowed"
    if wanted.uris:
        return "URI subjectAltNames are not allowed"
    hosts = bool(wanted.dns_names or wanted.ip_addresses)
    if serving and not hosts:
        return "DNS or IP subjectAltName is required"
    if not serving and hosts:
        return "DNS and IP subjectAltNames are not allowed"
    return ""


def _wrong_usages(usages: set[str]) -> str:
    return f"usages did not match the expected usages: {sorted(usages)}"
