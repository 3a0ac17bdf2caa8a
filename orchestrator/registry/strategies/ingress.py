"""Ingresses and their classes: hosts, paths, backends and certificates. Source: networking validation (v1.36)."""

from ipaddress import ip_address

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_CONTROLLER_BYTES_MAX = 250
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")


class IngressStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        return obj if "spec" in obj else {**obj, "spec": {}}

    def initial_status(self, obj: Object) -> Object:
        return {"loadBalancer": {}}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new.get("spec") or {}
        found = _validate_spec(spec, old)
        named = spec.get("ingressClassName")
        if old is None and named is not None:
            annotation = (new["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION, named)
            if annotation != named:
                text = "must match `ingressClassName` when both are specified"
                found.append(causes.invalid_value(f"annotations.{CLASS_ANNOTATION}", annotation, text))
        return found

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        found: list[Cause] = []
        entries = ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        for at, entry in enumerate(entries):
            path, host = f"status.loadBalancer.ingress[{at}]", entry.get("hostname")
            if entry.get("ip"):
                found += causes.problems(f"{path}.ip", entry["ip"], names.is_ip_address(entry["ip"]))
            if host:
                found += causes.problems(f"{path}.hostname", host, names.is_dns1123_subdomain(host))
                found += _no_address(f"{path}.hostname", host)
        return found

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        if old is None and CLASS_ANNOTATION in (new["metadata"].get("annotations") or {}):
            return [
                f"annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"
            ]
        return []


class IngressClassStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        if spec.get("parameters"):
            spec = {**spec, "parameters": filled(spec["parameters"], {"scope": "Cluster"})}
        return {**obj, "spec": spec}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        controller: str = spec.get("controller") or ""
        found: list[Cause] = []
        if old is not None:
            was = (old.get("spec") or {}).get("controller") or ""
            found += causes.immutable("spec.controller", controller, was)
        if not controller:
            found.append(causes.required("spec.controller"))
        else:
            if len(controller) > _CONTROLLER_BYTES_MAX:
                found.append(causes.too_long("spec.controller", _CONTROLLER_BYTES_MAX))
            found += causes.problems("spec.controller", controller, names.is_domain_prefixed_path(controller))
        if spec.get("parameters") is not None:
            found += _validate_parameters(spec["parameters"], "spec.parameters")
        return found


def _validate_spec(spec: Object, old: Object | None) -> list[Cause]:
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    found: list[Cause] = []
    if not rules and backend is None:
        text = "either `defaultBackend` or `rules` must be specified"
        found.append(causes.invalid_value("spec", spec.get("rules"), text))
    if backend is not None:
        found += _validate_backend(backend, "spec.defaultBackend")
    for at, rule in enumerate(rules):
        found += _validate_rule(rule, f"spec.rules[{at}]")
    for at, tls in enumerate(spec.get("tls") or ()):
        found += _validate_tls(tls, f"spec.tls[{at}]", secret_may_be_bad=_has_bad_secret(old))
    name = spec.get("ingressClassName")
    if name is not None:
        found += causes.problems("spec.ingressClassName", name, names.is_dns1123_subdomain(name))
    return found


def _has_bad_secret(old: Object | None) -> bool:
    """What was stored with a bad name may be kept."""
    entries = ((old or {}).get("spec") or {}).get("tls") or ()
    return any(e.get("secretName") and names.is_dns1123_subdomain(e["secretName"]) for e in entries)


def _validate_tls(tls: Object, field: str, *, secret_may_be_bad: bool) -> list[Cause]:
    found: list[Cause] = []
    for at, host in enumerate(tls.get("hosts") or ()):
        found += causes.problems(f"{field}.hosts[{at}]", host, _host_problems(host))
    secret = tls.get("secretName")
    if secret and not secret_may_be_bad:
        found += causes.problems(f"{field}.secretName", secret, names.is_dns1123_subdomain(secret))
    return found


def _host_problems(host: str) -> list[str]:
    return names.is_wildcard_dns1123_subdomain(host) if "*" in host else names.is_dns1123_subdomain(host)


def _no_address(field: str, host: str) -> list[Cause]:
    try:
        ip_address(host)
    except ValueError:
        return []
    return [causes.invalid_value(field, host, "must be a DNS name, not an IP address")]


def _validate_rule(rule: Object, field: str) -> list[Cause]:
    host: str = rule.get("host") or ""
    found: list[Cause] = []
    if host:
        found += _no_address(f"{field}.host", host)
        found += causes.problems(f"{field}.host", host, _host_problems(host))
    http = rule.get("http")
    if http is None:
        return found
    if not http.get("paths"):
        found.append(causes.required(f"{field}.http.paths"))
    for at, path in enumerate(http.get("paths") or ()):
        found += _validate_path(path, f"{field}.http.paths[{at}]")
    return found


def _validate_path(entry: Object, field: str) -> list[Cause]:
    kind, path = entry.get("pathType"), entry.get("path") or ""
    if kind is None:
        return [causes.required(f"{field}.pathType", "pathType must be specified")]
    found: list[Cause] = []
    if kind not in _PATH_TYPES:
        found.append(causes.not_supported(f"{field}.pathType", kind, _PATH_TYPES))
    elif (path or kind != "ImplementationSpecific") and not path.startswith("/"):
        found.append(causes.invalid_value(f"{field}.path", path, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        texts = [f"must not contain '{part}'" for part in _BAD_SEQUENCES if part in path]
        texts += [f"cannot end with '{end}'" for end in _BAD_ENDS if path.endswith(end)]
        found += causes.problems(f"{field}.path", path, texts)
    return found + _validate_backend(entry.get("backend") or {}, f"{field}.backend")


def _validate_backend(backend: Object, field: str) -> list[Cause]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [causes.invalid_value(field, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _validate_reference(resource, f"{field}.resource")
    if service is None:
        return [causes.invalid_value(field, "", "resource or service backend is required")]
    name: str = service.get("name") or ""
    path = f"{field}.service.name"
    found = causes.problems(path, name, names.is_dns1123_label(name)) if name else [causes.required(path)]
    return found + _validate_port(service.get("port") or {}, field)


def _validate_port(port: Object, field: str) -> list[Cause]:
    name, number = port.get("name"), port.get("number")
    if name and number:
        return [causes.invalid_value(field, "", "cannot set both port name & port number")]
    if name:
        return causes.problems(f"{field}.service.port.name", name, names.is_port_name(name))
    if number:
        return causes.problems(f"{field}.service.port.number", number, names.is_port_number(number))
    return [causes.required(field, "port name or number is required")]


def _validate_reference(reference: Object, field: str) -> list[Cause]:
    """A typed reference within the namespace, or to a class's parameters."""
    found: list[Cause] = []
    group = reference.get("apiGroup")
    if group is not None:
        found += causes.problems(f"{field}.apiGroup", group, names.is_dns1123_subdomain(group))
    for name in ("kind", "name"):
        value, path = reference.get(name) or "", f"{field}.{name}"
        found += (
            causes.problems(path, value, names.is_path_segment(value)) if value else [causes.required(path)]
        )
    return found


def _validate_parameters(reference: Object, field: str) -> list[Cause]:
    found = _validate_reference(reference, field)
    scope, namespace, path = reference.get("scope"), reference.get("namespace"), f"{field}.namespace"
    if scope not in ("Cluster", "Namespace"):
        return [*found, causes.not_supported(f"{field}.scope", scope, ("Cluster", "Namespace"))]
    if scope == "Cluster" and namespace is not None:
        found.append(causes.forbidden(path, "`parameters.scope` is set to 'Cluster'"))
    elif scope == "Namespace" and namespace is None:
        found.append(causes.required(path, "`parameters.scope` is set to 'Namespace'"))
    elif namespace is not None:
        found += causes.problems(path, namespace, names.is_dns1123_label(namespace))
    return found
