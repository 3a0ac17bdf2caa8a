"""Validation of how a pod is called and what it resolves names with. Pure; called by `pod_spec`.

Source: core validation of Kubernetes v1.36; the limits of `dnsConfig` are those of the C library's resolver.
"""

import re

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes

_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_NAMESERVERS_MAX = 3
_SEARCHES_MAX = 32
_SEARCHES_LENGTH_MAX = 2048
_HOST_NAME_LENGTH_MAX = 64
_SEARCH_LENGTH_MAX = 253
_LABEL = "[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?"
_match_search = re.compile(rf"{_LABEL}(\.{_LABEL})*").fullmatch
_SEARCH_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    f" '{_LABEL}(\\.{_LABEL})*')"
)


def validate_dns(spec: Object, field: str) -> list[Cause]:
    """`dnsPolicy` and `dnsConfig` of the spec at `field`."""
    policy, config = spec.get("dnsPolicy"), spec.get("dnsConfig")
    found: list[Cause] = []
    if not policy:
        found.append(causes.required(f"{field}.dnsPolicy"))
    elif policy not in _POLICIES:
        found.append(causes.not_supported(f"{field}.dnsPolicy", policy, _POLICIES))
    field = f"{field}.dnsConfig"
    if config is None:
        text = "must provide `dnsConfig` when `dnsPolicy` is None"
        return [*found, causes.required(field, text)] if policy == "None" else found
    if policy == "None" and not config.get("nameservers"):
        text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        return [*found, causes.required(f"{field}.nameservers", text)]
    return found + _validate_config(config, field)


def _validate_config(config: Object, field: str) -> list[Cause]:
    servers: list[str] = config.get("nameservers") or []
    searches: list[str] = config.get("searches") or []
    found: list[Cause] = []
    if len(servers) > _NAMESERVERS_MAX:
        text = f"must not have more than {_NAMESERVERS_MAX} nameservers"
        found.append(causes.invalid_value(f"{field}.nameservers", servers, text))
    for at, server in enumerate(servers):
        found += causes.problems(f"{field}.nameservers[{at}]", server, names.is_ip_address(server))
    if len(searches) > _SEARCHES_MAX:
        text = f"must not have more than {_SEARCHES_MAX} search paths"
        found.append(causes.invalid_value(f"{field}.searches", searches, text))
    if len(" ".join(searches)) > _SEARCHES_LENGTH_MAX:
        text = (
            f"must not have more than {_SEARCHES_LENGTH_MAX} characters (including spaces) in the search list"
        )
        found.append(causes.invalid_value(f"{field}.searches", searches, text))
    for at, search in enumerate(searches):
        found += _validate_search(search, f"{field}.searches[{at}]")
    return found + [
        causes.required(f"{field}.options[{at}]", "must not be empty")
        for at, option in enumerate(config.get("options") or ())
        if not option.get("name")
    ]


def _validate_search(search: str, field: str) -> list[Cause]:
    """A domain in which hosts may have underscores, or the root alone."""
    if search == ".":
        return []
    name = search.removesuffix(".")
    found: list[Cause] = []
    if len(name) > _SEARCH_LENGTH_MAX:
        found.append(causes.invalid_value(field, name, f"must be no more than {_SEARCH_LENGTH_MAX} bytes"))
    if not _match_search(name):
        found.append(causes.invalid_value(field, name, _SEARCH_RULE))
    return found


def validate_host_names(spec: Object, field: str) -> list[Cause]:
    """`hostname`, `subdomain` and `hostnameOverride`."""
    found: list[Cause] = []
    for name in ("hostname", "subdomain"):
        value = spec.get(name)
        if value:
            found += causes.problems(f"{field}.{name}", value, names.is_dns1123_label(value))
    given = spec.get("hostnameOverride")
    if not given:
        return found
    path = f"{field}.hostnameOverride"
    if len(given) > _HOST_NAME_LENGTH_MAX:
        found.append(causes.too_long(path, _HOST_NAME_LENGTH_MAX))
    found += causes.problems(path, given, names.is_dns1123_subdomain(given))
    for other in ("setHostnameAsFQDN", "hostNetwork"):
        if spec.get(other):
            text = f"may not be set when `{other}` is true"
            found.append(causes.forbidden(path, text))
    return found


def validate_host_aliases(aliases: list[Object], field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, alias in enumerate(aliases):
        address = alias.get("ip", "")
        found += causes.problems(f"{field}[{at}].ip", address, names.is_ip_address(address))
        for nth, name in enumerate(alias.get("hostnames") or ()):
            path = f"{field}[{at}].hostnames[{nth}]"
            found += causes.problems(path, name, names.is_dns1123_subdomain(name))
    return found
