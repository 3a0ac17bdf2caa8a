"""Rows of what extends or steers the API: certificates, webhooks, policies, API services, flows, devices, runtimes."""

from typing import Any

from orchestrator.api.item import Object
from orchestrator.api.printing.columns import (
    AGE,
    NAME,
    NONE,
    Column,
    Printer,
    age_of,
    name_of,
    part,
    selector_text,
)
from orchestrator.api.printing.duration import human_duration

_UNSET = "<unset>"
_ADMISSION = "admissionregistration.k8s.io"
_FLOWS = "flowcontrol.apiserver.k8s.io"
_DEVICES = "resource.k8s.io"


# ── Certificates ─────────────────────────────────────────────────────────────────────────────────────────


def _request_cells(request: Object, now_s: float) -> list[Any]:
    spec = part(request, "spec")
    duration_s = spec.get("expirationSeconds")
    return [
        name_of(request),
        age_of(request, now_s),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if duration_s is None else human_duration(duration_s),
        _request_state(part(request, "status")),
    ]


def _request_state(status: Object) -> str:
    kinds = {condition.get("type") for condition in status.get("conditions") or ()}
    state = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    if "Failed" in kinds:
        state += ",Failed"
    return state + ",Issued" if status.get("certificate") else state


_REQUESTS = Printer(
    (
        NAME,
        AGE,
        Column("SignerName", "Signer that is asked"),
        Column("Requestor", "Who asks"),
        Column("RequestedDuration", "How long the certificate shall be valid"),
        Column("Condition", "Whether it is approved, denied, issued"),
    ),
    _request_cells,
)


# ── Admission ────────────────────────────────────────────────────────────────────────────────────────────


def _hook_cells(item: Object, now_s: float) -> list[Any]:
    return [name_of(item), len(item.get("webhooks") or ()), age_of(item, now_s)]


_HOOKS = Printer((NAME, Column("Webhooks", "Number of webhooks", type="integer"), AGE), _hook_cells)


def _policy(title: str, field: str, description: str) -> Printer:
    def cells(policy: Object, now_s: float) -> list[Any]:
        spec = part(policy, "spec")
        kind = spec.get("paramKind")
        text = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind is not None else _UNSET
        return [name_of(policy), len(spec.get(field) or ()), text, age_of(policy, now_s)]

    columns = (Column(title, description, type="integer"), Column("ParamKind", "Kind of the parameters"))
    return Printer((NAME, *columns, AGE), cells)


def _policy_binding_cells(binding: Object, now_s: float) -> list[Any]:
    spec = part(binding, "spec")
    return [name_of(binding), spec.get("policyName", ""), _parameters(spec), age_of(binding, now_s)]


def _parameters(spec: Object) -> str:
    reference = spec.get("paramRef")
    if reference is None:
        return _UNSET
    if reference.get("selector") is not None:
        return selector_text(reference["selector"])
    return f"{reference.get('namespace') or '*'}/{reference.get('name') or ''}"


_POLICY_BINDINGS = Printer(
    (
        NAME,
        Column("PolicyName", "Policy that is bound"),
        Column("ParamRef", "Objects with the parameters"),
        AGE,
    ),
    _policy_binding_cells,
)


# ── API services ─────────────────────────────────────────────────────────────────────────────────────────


def _service_cells(item: Object, now_s: float) -> list[Any]:
    service = part(item, "spec").get("service")
    where = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    conditions = part(item, "status").get("conditions") or ()
    available = next((c for c in conditions if c.get("type") == "Available"), None)
    text = "Unknown"
    if available is not None:
        text = available.get("status", "Unknown")
        if text != "True" and available.get("reason"):
            text += f" ({available['reason']})"
    return [name_of(item), where, text, age_of(item, now_s)]


_API_SERVICES = Printer(
    (
        NAME,
        Column("Service", "Who serves the version"),
        Column("Available", "Whether it answers"),
        AGE,
    ),
    _service_cells,
)


# ── Flows ────────────────────────────────────────────────────────────────────────────────────────────────


def _schema_cells(schema: Object, now_s: float) -> list[Any]:
    spec = part(schema, "spec")
    conditions = part(schema, "status").get("conditions") or ()
    dangling = next((c.get("status") for c in conditions if c.get("type") == "Dangling"), "?")
    return [
        name_of(schema),
        part(spec, "priorityLevelConfiguration").get("name", ""),
        spec.get("matchingPrecedence", 0),
        part(spec, "distinguisherMethod").get("type") or NONE,
        age_of(schema, now_s),
        dangling,
    ]


_SCHEMAS = Printer(
    (
        NAME,
        Column("PriorityLevel", "Priority level of its requests"),
        Column("MatchingPrecedence", "The lowest that matches decides"),
        Column("DistinguisherMethod", "What its requests are told apart by"),
        AGE,
        Column("MissingPL", "Whether the priority level is missing"),
    ),
    _schema_cells,
)


def _level_cells(level: Object, now_s: float) -> list[Any]:
    spec = part(level, "spec")
    limits = part(spec, "limited") or part(spec, "exempt")
    queuing = part(part(limits, "limitResponse"), "queuing")
    return [
        name_of(level),
        spec.get("type", ""),
        limits.get("nominalConcurrencyShares", NONE),
        *(queuing.get(name, NONE) for name in ("queues", "handSize", "queueLengthLimit")),
        age_of(level, now_s),
    ]


_LEVELS = Printer(
    (
        NAME,
        Column("Type", "Whether its requests are limited"),
        Column("NominalConcurrencyShares", "Share of the requests that run at once"),
        Column("Queues", "Number of queues"),
        Column("HandSize", "Number of queues that a flow is dealt"),
        Column("QueueLengthLimit", "Requests that wait in one queue at most"),
        AGE,
    ),
    _level_cells,
)


# ── Devices and runtimes ─────────────────────────────────────────────────────────────────────────────────


def _named_cells(obj: Object, now_s: float) -> list[Any]:
    return [name_of(obj), age_of(obj, now_s)]


_NAMED = Printer((NAME, AGE), _named_cells)


def _claim_cells(claim: Object, now_s: float) -> list[Any]:
    status = part(claim, "status")
    states = ["deleted"] if claim["metadata"].get("deletionTimestamp") else []
    if status.get("allocation") is not None:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    return [name_of(claim), ",".join(states or ["pending"]), age_of(claim, now_s)]


_CLAIMS = Printer((NAME, Column("State", "Whether devices are allocated, and reserved"), AGE), _claim_cells)


def _slice_cells(item: Object, now_s: float) -> list[Any]:
    spec = part(item, "spec")
    place = spec.get("nodeName") or (
        "<all>" if spec.get("allNodes") else "<selector>" if spec.get("nodeSelector") else _UNSET
    )
    return [
        name_of(item),
        place,
        spec.get("driver", ""),
        part(spec, "pool").get("name", ""),
        age_of(item, now_s),
    ]


_SLICES = Printer(
    (
        NAME,
        Column("Node", "Node that has the devices"),
        Column("Driver", "Driver of the devices"),
        Column("Pool", "Pool that the slice is part of"),
        AGE,
    ),
    _slice_cells,
)


def _runtime_cells(item: Object, now_s: float) -> list[Any]:
    return [name_of(item), item.get("handler", ""), age_of(item, now_s)]


_RUNTIMES = Printer((NAME, Column("Handler", "How the runtime knows the class"), AGE), _runtime_cells)


# ── Components ───────────────────────────────────────────────────────────────────────────────────────────


def _component_cells(component: Object, now_s: float) -> list[Any]:
    conditions = component.get("conditions") or ()
    healthy: Object = next((c for c in conditions if c.get("type") == "Healthy"), {})
    state = {"True": "Healthy", "False": "Unhealthy"}.get(healthy.get("status", ""), "Unknown")
    return [name_of(component), state, healthy.get("message", ""), healthy.get("error", "")]


_COMPONENTS = Printer(
    (
        NAME,
        Column("Status", "Whether the component is well"),
        Column("Message", "What it says"),
        Column("Error", "What is wrong"),
    ),
    _component_cells,
)

PRINTERS: dict[tuple[str, str], Printer] = {
    ("certificates.k8s.io", "certificatesigningrequests"): _REQUESTS,
    (_ADMISSION, "validatingwebhookconfigurations"): _HOOKS,
    (_ADMISSION, "mutatingwebhookconfigurations"): _HOOKS,
    (_ADMISSION, "validatingadmissionpolicies"): _policy(
        "Validations", "validations", "Number of validations"
    ),
    (_ADMISSION, "mutatingadmissionpolicies"): _policy("Mutations", "mutations", "Number of mutations"),
    (_ADMISSION, "validatingadmissionpolicybindings"): _POLICY_BINDINGS,
    (_ADMISSION, "mutatingadmissionpolicybindings"): _POLICY_BINDINGS,
    ("apiregistration.k8s.io", "apiservices"): _API_SERVICES,
    (_FLOWS, "flowschemas"): _SCHEMAS,
    (_FLOWS, "prioritylevelconfigurations"): _LEVELS,
    (_DEVICES, "deviceclasses"): _NAMED,
    (_DEVICES, "resourceclaimtemplates"): _NAMED,
    (_DEVICES, "resourceclaims"): _CLAIMS,
    (_DEVICES, "resourceslices"): _SLICES,
    ("node.k8s.io", "runtimeclasses"): _RUNTIMES,
    ("", "componentstatuses"): _COMPONENTS,
}
