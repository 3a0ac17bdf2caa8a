"""Dynamic resource allocation: classes of devices, claims of them, templates of claims, and what nodes have.

CEL of selectors is checked for presence and length; whether it compiles is decided where it is evaluated.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled
from orchestrator.registry.strategies.placement import validate_node_selector
from orchestrator.registry.strategies.volume_sources import validate_csi_driver_name

REQUESTS_MAX = CONSTRAINTS_MAX = CONFIG_MAX = SELECTORS_MAX = RESULTS_MAX = 32
FIRST_AVAILABLE_MAX = 8
RESERVED_MAX = 256
DEVICES_MAX = 128
ATTRIBUTES_MAX = 32
_EXPRESSION_BYTES_MAX = 10 * 1024
_POOL_LENGTH_MAX = 253
_MODES = ("All", "ExactCount")
_UNKNOWN_REQUEST = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_VALUES = ("bool", "bools", "int", "ints", "string", "strings", "version", "versions")

Rule = Callable[[Any, str], list[Cause]]


class DeviceClassStrategy(BaseStrategy):
    counts_generation = True

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new.get("spec") or {}
        found = _each(spec.get("selectors"), "spec.selectors", SELECTORS_MAX, _selector)
        found += _each(spec.get("config"), "spec.config", CONFIG_MAX, _configuration)
        name = spec.get("extendedResourceName")
        return found + (
            causes.problems("spec.extendedResourceName", name, names.is_qualified_name(name)) if name else []
        )


class ResourceClaimStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        return {**obj, "spec": default_claim_spec(obj.get("spec") or {})}

    def initial_status(self, obj: Object) -> Object:
        return {}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = causes.immutable("spec", new["spec"], old.get("spec")) if old is not None else []
        return found + validate_claim_spec(new["spec"], "spec")

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status, before = new.get("status") or {}, old.get("status") or {}
        allocation, reserved = status.get("allocation"), status.get("reservedFor") or []
        requests = _request_names((new.get("spec") or {}).get("devices") or {})
        found = _validate_allocation(allocation, "status.allocation", requests) if allocation else []
        found += _each(reserved, "status.reservedFor", RESERVED_MAX, _consumer, key="uid")
        if reserved and not allocation:
            text = "may not be specified when `allocated` is not set"
            found.append(causes.forbidden("status.reservedFor", text))
        elif new["metadata"].get("deletionTimestamp"):
            held = before.get("reservedFor") or []
            if any(entry not in held for entry in reserved):
                text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
                found.append(causes.forbidden("status.reservedFor", text))
        if before.get("allocation") and allocation:
            found += causes.immutable("status.allocation", allocation, before["allocation"])
        return found


class ResourceClaimTemplateStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        return {**obj, "spec": {**spec, "spec": default_claim_spec(spec.get("spec") or {})}}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = validate_claim_spec(new["spec"]["spec"], "spec.spec")
        return found + (causes.immutable("spec", new["spec"], old.get("spec")) if old is not None else [])


class ResourceSliceStrategy(BaseStrategy):
    counts_generation = True

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new.get("spec") or {}
        found = validate_csi_driver_name(spec.get("driver") or "", "spec.driver")
        found += _validate_pool(spec.get("pool") or {}, "spec.pool")
        found += _validate_places(spec)
        found += _each(spec.get("devices"), "spec.devices", DEVICES_MAX, _device, key="name")
        if old is None:
            return found
        before = old.get("spec") or {}
        pool, was = spec.get("pool") or {}, before.get("pool") or {}
        found += causes.immutable("spec.pool.name", pool.get("name"), was.get("name"))
        for name in ("driver", "nodeName"):
            found += causes.immutable(f"spec.{name}", spec.get(name) or "", before.get(name) or "")
        return found


def default_claim_spec(spec: Object) -> Object:
    """A `ResourceClaimSpec`: one device per request unless it says otherwise."""
    devices = spec.get("devices") or {}
    if not devices.get("requests"):
        return spec
    requests = [_default_request(request) for request in devices["requests"]]
    return {**spec, "devices": {**devices, "requests": requests}}


def _default_request(request: Object) -> Object:
    result = dict(request)
    if request.get("exactly") is not None:
        result["exactly"] = _default_exact(request["exactly"])
    if request.get("firstAvailable"):
        result["firstAvailable"] = [_default_exact(entry) for entry in request["firstAvailable"]]
    return result


def _default_exact(request: Object) -> Object:
    result = filled(request, {"allocationMode": "ExactCount"})
    if result["allocationMode"] == "ExactCount" and not result.get("count"):
        result["count"] = 1
    if result.get("tolerations"):
        result["tolerations"] = [filled(entry, {"operator": "Equal"}) for entry in result["tolerations"]]
    return result


def validate_claim_spec(spec: Object, field: str) -> list[Cause]:
    """What is wrong with a `ResourceClaimSpec`."""
    devices, path = spec.get("devices") or {}, f"{field}.devices"
    known = _request_names(devices)

    def constraint(entry: Object, where: str) -> list[Cause]:
        found = _validate_references(entry, where, known)
        attribute = entry.get("matchAttribute") or entry.get("distinctAttribute")
        if not attribute:
            return [*found, causes.required(f"{where}.matchAttribute")]
        return found + _validate_attribute_name(attribute, f"{where}.matchAttribute", qualified=True)

    def configuration(entry: Object, where: str) -> list[Cause]:
        return _validate_references(entry, where, known) + _configuration(entry, where)

    found = _each(devices.get("requests"), f"{path}.requests", REQUESTS_MAX, _request, key="name")
    found += _each(devices.get("constraints"), f"{path}.constraints", CONSTRAINTS_MAX, constraint)
    return found + _each(devices.get("config"), f"{path}.config", CONFIG_MAX, configuration)


def _each(entries: list[Any] | None, field: str, limit: int, rule: Rule, key: str = "") -> list[Cause]:
    """`rule` for each entry, at most `limit` of them; with a `key` they must differ in it."""
    entries = entries or []
    found = [causes.too_many(field, len(entries), limit)] if len(entries) > limit else []
    seen: set[str] = set()
    for at, entry in enumerate(entries[: limit + 1]):
        path = f"{field}[{at}]"
        found += rule(entry, path)
        name = (entry.get(key) or "") if key else ""
        if name and name in seen:
            found.append(causes.duplicate(f"{path}.{key}", name))
        seen.add(name)
    return found


def _request_names(devices: Object) -> frozenset[str]:
    """Names of requests, and of subrequests behind a slash."""
    found: set[str] = set()
    for request in devices.get("requests") or ():
        name = request.get("name") or ""
        found.add(name)
        found |= {f"{name}/{entry.get('name')}" for entry in request.get("firstAvailable") or ()}
    return frozenset(found)


def _validate_references(entry: Object, field: str, known: frozenset[str]) -> list[Cause]:
    return [
        causes.invalid_value(f"{field}.requests[{at}]", name, _UNKNOWN_REQUEST)
        for at, name in enumerate(entry.get("requests") or ())
        if name not in known
    ]


def _label(name: str, field: str) -> list[Cause]:
    return causes.problems(field, name, names.is_dns1123_label(name)) if name else [causes.required(field)]


def _request(request: Object, field: str) -> list[Cause]:
    exactly, choices = request.get("exactly"), request.get("firstAvailable")
    found = _label(request.get("name") or "", f"{field}.name")
    text = "exactly one of `exactly` or `firstAvailable` is required"
    if exactly is None and not choices:
        return [*found, causes.required(field, text)]
    if exactly is not None and choices:
        return [*found, causes.invalid_value(field, None, f"{text}, but multiple fields are set")]
    if exactly is not None:
        return found + _exact(exactly, f"{field}.exactly")
    return found + _each(choices, f"{field}.firstAvailable", FIRST_AVAILABLE_MAX, _subrequest, key="name")


def _subrequest(request: Object, field: str) -> list[Cause]:
    return _label(request.get("name") or "", f"{field}.name") + _exact(request, field)


def _exact(request: Object, field: str) -> list[Cause]:
    name, path = request.get("deviceClassName") or "", f"{field}.deviceClassName"
    found = causes.problems(path, name, names.is_dns1123_subdomain(name)) if name else [causes.required(path)]
    found += _each(request.get("selectors"), f"{field}.selectors", SELECTORS_MAX, _selector)
    mode, count = request.get("allocationMode"), request.get("count") or 0
    if mode not in _MODES:
        found.append(causes.not_supported(f"{field}.allocationMode", mode, _MODES))
    elif mode == "All" and count:
        text = "must not be specified when allocationMode is 'All'"
        found.append(causes.invalid_value(f"{field}.count", count, text))
    elif mode == "ExactCount" and count <= 0:
        found.append(causes.invalid_value(f"{field}.count", count, "must be greater than zero"))
    return found


def _selector(selector: Object, field: str) -> list[Cause]:
    cel = selector.get("cel")
    if cel is None:
        return [causes.required(f"{field}.cel")]
    expression, path = cel.get("expression") or "", f"{field}.cel.expression"
    if not expression:
        return [causes.required(path)]
    if len(expression) > _EXPRESSION_BYTES_MAX:
        return [causes.too_long(path, _EXPRESSION_BYTES_MAX)]
    return []


def _configuration(entry: Object, field: str) -> list[Cause]:
    opaque = entry.get("opaque")
    if opaque is None:
        return [causes.required(f"{field}.opaque")]
    found = validate_csi_driver_name(opaque.get("driver") or "", f"{field}.opaque.driver")
    path, parameters = f"{field}.opaque.parameters", opaque.get("parameters")
    if parameters is None:
        found.append(causes.required(path))
    elif not isinstance(parameters, dict):
        text = "parameters must be a valid JSON object"
        found.append(causes.invalid_value(path, "<value omitted>", text))
    return found


def _consumer(reference: Object, field: str) -> list[Cause]:
    return [
        causes.required(f"{field}.{name}") for name in ("resource", "name", "uid") if not reference.get(name)
    ]


def _validate_allocation(allocation: Object, field: str, requests: frozenset[str]) -> list[Cause]:
    devices, selector = allocation.get("devices") or {}, allocation.get("nodeSelector")

    def result(entry: Object, where: str) -> list[Cause]:
        found = validate_csi_driver_name(entry.get("driver") or "", f"{where}.driver")
        found += _pool_name(entry.get("pool") or "", f"{where}.pool")
        found += _label(entry.get("device") or "", f"{where}.device")
        name = entry.get("request") or ""
        if name not in requests:
            found.append(causes.invalid_value(f"{where}.request", name, _UNKNOWN_REQUEST))
        return found

    found = _each(devices.get("results"), f"{field}.devices.results", RESULTS_MAX, result)
    found += _each(devices.get("config"), f"{field}.devices.config", 2 * CONFIG_MAX, _allocated_configuration)
    if selector is not None:
        found += validate_node_selector(selector, f"{field}.nodeSelector")
        if len(selector.get("nodeSelectorTerms") or ()) > 1:
            text = "must have exactly one node selector term"
            found.append(causes.invalid_value(f"{field}.nodeSelector.nodeSelectorTerms", selector, text))
    return found


def _allocated_configuration(entry: Object, field: str) -> list[Cause]:
    source, path = entry.get("source") or "", f"{field}.source"
    found = causes.one_of(path, source, ("FromClaim", "FromClass")) if source else [causes.required(path)]
    return found + _configuration(entry, field)


def _validate_pool(pool: Object, field: str) -> list[Cause]:
    found = _pool_name(pool.get("name") or "", f"{field}.name")
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        found.append(causes.invalid_value(f"{field}.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        text = "must be greater than or equal to zero"
        found.append(causes.invalid_value(f"{field}.generation", generation, text))
    return found


def _pool_name(name: str, field: str) -> list[Cause]:
    if not name:
        return [causes.required(field)]
    found = [causes.too_long(field, _POOL_LENGTH_MAX)] if len(name) > _POOL_LENGTH_MAX else []
    for part in name.split("/"):
        found += causes.problems(field, part, names.is_dns1123_subdomain(part))
    return found


def _validate_places(spec: Object) -> list[Cause]:
    given = [name for name in _PLACES if spec.get(name)]
    text = "exactly one of " + ", ".join(f"`{name}`" for name in _PLACES) + " is required"
    if not given:
        return [causes.required("spec", text)]
    if len(given) > 1:
        shown = "{" + ", ".join(f"`{name}`" for name in given) + "}"
        return [causes.invalid_value("spec", shown, text)]
    if given == ["nodeSelector"]:
        return validate_node_selector(spec["nodeSelector"], "spec.nodeSelector")
    name = spec.get("nodeName")
    return causes.problems("spec.nodeName", name, names.is_dns1123_subdomain(name)) if name else []


def _device(device: Object, field: str) -> list[Cause]:
    found = _label(device.get("name") or "", f"{field}.name")
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    count = len(attributes) + len(capacity)
    if count > ATTRIBUTES_MAX:
        text = f"the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}"
        found.append(causes.invalid_value(field, count, text))
    for name, value in attributes.items():
        path = f"{field}.attributes[{name}]"
        found += _validate_attribute_name(name, path, qualified=False)
        given = [kind for kind in _VALUES if value.get(kind) is not None]
        if not given:
            found.append(causes.required(path, "exactly one value must be specified"))
        elif len(given) > 1:
            found.append(causes.invalid_value(path, value, "exactly one value must be specified"))
    for name in capacity:
        found += _validate_attribute_name(name, f"{field}.capacity[{name}]", qualified=False)
    return found


def _validate_attribute_name(name: str, field: str, *, qualified: bool) -> list[Cause]:
    """`driver/id` or, unless it must be `qualified`, the identifier alone."""
    domain, slash, identifier = name.rpartition("/")
    found: list[Cause] = []
    if qualified and not slash:
        found.append(causes.invalid_value(field, name, "must include a domain"))
    if slash:
        found += causes.problems(field, domain, names.is_dns1123_subdomain(domain.lower()))
    if not identifier.isidentifier() or not identifier.isascii() or len(identifier) > 32:
        text = "must be a valid C identifier of at most 32 characters (e.g. 'my_name', or 'MyName')"
        found.append(causes.invalid_value(field, identifier, text))
    return found
