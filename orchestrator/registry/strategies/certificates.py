"""CertificateSigningRequests: a spec that never changes, a decision, and a certificate that is set once.

Rules:
1. Who asks is stamped by admission; what a client wrote there is dropped, and so is a status on create.
2. The main resource changes neither spec nor status; `approval` changes conditions; `status` adds the certificate
   and other conditions, but neither adds nor changes a decision.
3. A decision or failure is never taken back, and `Approved` excludes `Denied`.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterable

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS, Resource
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, with_field
from orchestrator.registry.strategies.meta import validate_meta
from orchestrator.registry.strategies.signers import validate_signer_name

REQUESTER = ("username", "uid", "groups", "extra")
"""Fields of the spec that say who asks."""
_DECISIONS = ("Approved", "Denied")
_FINAL = ("Approved", "Denied", "Failed")
_LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
_DURATION_MIN_S = 600
_STATUSES = ("False", "True", "Unknown")
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip


class CertificateSigningRequestStrategy(BaseStrategy):
    def __init__(self, clock: Clock, resource: Resource = CERTIFICATESIGNINGREQUESTS) -> None:
        """`clock` stamps conditions."""
        super().__init__(resource)
        self._clock = clock

    def initial_status(self, obj: Object) -> Object:
        return {}

    def prepare_create(self, obj: Object) -> Object:
        spec = {name: value for name, value in (obj.get("spec") or {}).items() if name not in REQUESTER}
        return super().prepare_create({**obj, "spec": spec})

    def prepare_update(self, new: Object, old: Object, subresource: str) -> Object:
        fixed = {**new, "spec": old["spec"]}
        before = old.get("status") or {}
        if not subresource:
            return with_field(fixed, "status", old.get("status"))
        given = new.get("status") or {}
        conditions = list(given.get("conditions") or ())
        if subresource == "approval":
            status = with_field(before, "conditions", self._stamped(conditions, before) or None)
        else:
            conditions = _with_held_decisions(conditions, before.get("conditions") or [])
            status = with_field(given, "conditions", self._stamped(conditions, before) or None)
        return {**super().status_update(fixed, old), "status": status}

    def _stamped(self, conditions: list[Object], before: Object) -> list[Object]:
        """With the times that the author left out."""
        now = timestamp(self._clock.now_s())
        held = {(c.get("type"), c.get("status")): c for c in reversed(before.get("conditions") or ())}
        result = []
        for condition in conditions:
            same = held.get((condition.get("type"), condition.get("status"))) or {}
            times = {"lastUpdateTime": now, "lastTransitionTime": same.get("lastTransitionTime") or now}
            missing = {name: time for name, time in times.items() if not condition.get(name)}
            result.append({**condition, **missing} if missing else condition)
        return result

    def validate(self, new: Object, old: Object | None, subresource: str) -> list[Cause]:
        found = validate_meta(new, self.resource)
        if old is None:
            found += _validate_spec(new["spec"])
            return found
        status, before = new.get("status") or {}, old.get("status") or {}
        found += _validate_conditions(status.get("conditions") or [], before.get("conditions") or [])
        found += _validate_decisions(status, before, may_decide=subresource == "approval")
        return found + _validate_certificate(status, before, may_set=subresource == "status")


def _with_held_decisions(conditions: list[Object], before: list[Object]) -> list[Object]:
    """Decisions as they were, where their number is the same: a signer can't alter one by accident."""
    result = list(conditions)
    for kind in _DECISIONS:
        held = [c for c in before if c.get("type") == kind]
        places = [at for at, c in enumerate(result) if c.get("type") == kind]
        if len(held) == len(places):
            for at, condition in zip(places, held, strict=True):
                result[at] = condition
    return result


def _validate_spec(spec: Object) -> list[Cause]:
    problem = request_problem(spec.get("request") or "")
    found = [causes.invalid_value("spec.request", spec.get("request") or "", problem)] if problem else []
    usages: list[str] = spec.get("usages") or []
    if not usages:
        found.append(causes.required("spec.usages"))
    for at, usage in enumerate(usages):
        found += causes.one_of(f"spec.usages[{at}]", usage, _USAGES)
    found += [
        causes.duplicate(f"spec.usages[{at}]", usage)
        for at, usage in enumerate(usages)
        if usage in usages[:at]
    ]
    found += _validate_signer(spec.get("signerName") or "", "spec.signerName")
    duration_s = spec.get("expirationSeconds")
    if duration_s is not None and duration_s < _DURATION_MIN_S:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        found.append(causes.invalid_value("spec.expirationSeconds", duration_s, text))
    return found


def request_problem(text: str) -> str:
    """What is wrong with a base64 PEM certificate request; empty when its signature is good."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    pem = _decoded(text)
    if (
        b"-----BEGIN CERTIFICATE REQUEST-----" not in pem
        and b"-----BEGIN NEW CERTIFICATE REQUEST-----" not in pem
    ):
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        request = x509.load_pem_x509_csr(pem)
        return "" if request.is_signature_valid else "x509: the signature of the request is not valid"
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"x509: malformed certificate request: {error}"


def _validate_signer(name: str, field: str) -> list[Cause]:
    if name == _LEGACY_SIGNER:
        text = "the legacy signerName is not allowed via this API version"
        return [causes.invalid_value(field, name, text)]
    return validate_signer_name(name, field)


def _validate_conditions(conditions: list[Object], before: list[Object]) -> list[Cause]:
    field = "status.conditions"
    found: list[Cause] = []
    seen: set[str] = set()
    both = {"Approved", "Denied"} <= {c.get("type") for c in before}
    for at, condition in enumerate(conditions):
        kind, status = condition.get("type") or "", condition.get("status") or ""
        path = f"{field}[{at}]"
        if not kind:
            found.append(causes.required(f"{path}.type"))
        allowed = ("True",) if kind in _FINAL else _STATUSES
        if not status:
            found.append(causes.required(f"{path}.status"))
        else:
            found += causes.one_of(f"{path}.status", status, allowed)
        if kind in _DECISIONS and not both and seen & set(_DECISIONS) - {kind}:
            text = "Approved and Denied conditions are mutually exclusive"
            found.append(causes.invalid_value(f"{path}.type", kind, text))
        if kind in seen:
            found.append(causes.duplicate(f"{path}.type", kind))
        seen.add(kind)
    return found


def _validate_decisions(status: Object, before: Object, *, may_decide: bool) -> list[Cause]:
    found: list[Cause] = []
    field = "status.conditions"
    for kind in _FINAL:
        was, now = _of_type(before.get("conditions"), kind), _of_type(status.get("conditions"), kind)
        if len(now) < len(was):
            text = f'updates may not remove a condition of type "{kind}"'
            found.append(causes.forbidden(field, text))
        elif kind in _DECISIONS and not may_decide and now != was:
            what = "add" if len(now) > len(was) else "modify"
            found.append(causes.forbidden(field, f'updates may not {what} a condition of type "{kind}"'))
    return found


def _of_type(conditions: Iterable[Object] | None, kind: str) -> list[Object]:
    return [condition for condition in conditions or () if condition.get("type") == kind]


def _validate_certificate(status: Object, before: Object, *, may_set: bool) -> list[Cause]:
    field = "status.certificate"
    now, was = status.get("certificate") or "", before.get("certificate") or ""
    if now == was:
        return []
    if not may_set:
        return [causes.forbidden(field, "updates may not set certificate content")]
    if was:
        return [causes.forbidden(field, "updates may not modify existing certificate content")]
    problem = _certificate_problem(_decoded(now))
    return [causes.invalid_value(field, "<certificate data>", problem)] if problem else []


def _certificate_problem(pem: bytes) -> str:
    from cryptography import x509

    if b"-----BEGIN CERTIFICATE-----" not in pem:
        return "must contain at least one CERTIFICATE PEM block"
    if pem.count(b"-----BEGIN ") != pem.count(b"-----BEGIN CERTIFICATE-----"):
        return "only CERTIFICATE PEM blocks are allowed"
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        return f"x509: malformed certificate: {error}"
    return ""


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
