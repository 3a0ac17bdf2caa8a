"""Syntax of names, labels, ports and their like. Each check returns a list of problems, empty when all is well.

Wording and limits are those of Kubernetes' apimachinery validation (v1.36); clients match on the texts.
Called by selectors and by the strategies in `registry`.
"""

import ipaddress
import re
from collections.abc import Callable

Rule = Callable[[str], list[str]]
"""What is wrong with a text; nothing when all is well."""

LABEL_LENGTH_MAX = 63
SUBDOMAIN_LENGTH_MAX = 253
_CONFIG_KEY_LENGTH_MAX = 253
_PORT_NAME_LENGTH_MAX = 15

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"
_PERCENT = r"[0-9]+%"

_match_label = re.compile(_LABEL).fullmatch
_match_subdomain = re.compile(_SUBDOMAIN).fullmatch
_match_label_1035 = re.compile(_LABEL_1035).fullmatch
_match_qualified = re.compile(_QUALIFIED).fullmatch
_match_config_key = re.compile(_CONFIG_KEY).fullmatch
_match_percent = re.compile(_PERCENT).fullmatch
_match_env_name = re.compile(r"[ -<>-~]+").fullmatch
_match_port_name = re.compile(r"[-a-z0-9]+").fullmatch


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def _pattern(rule: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_RULE = _pattern(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start"
    " and end with an alphanumeric character",
    _LABEL, "my-name", "123-abc",
)  # fmt: skip
_SUBDOMAIN_RULE = _pattern(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and"
    " must start and end with an alphanumeric character",
    _SUBDOMAIN, "example.com",
)  # fmt: skip
_LABEL_1035_RULE = _pattern(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
    " character, and end with an alphanumeric character",
    _LABEL_1035, "my-name", "abc-123",
)  # fmt: skip
_QUALIFIED_RULE = _pattern(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character",
    _QUALIFIED, "MyName", "my.name", "123-abc",
)  # fmt: skip
_LABEL_VALUE_RULE = _pattern(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
    " start and end with an alphanumeric character",
    f"({_QUALIFIED})?", "MyValue", "my_value", "12345",
)  # fmt: skip
_CONFIG_KEY_RULE = _pattern(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY, "key.name", "KEY_NAME", "key-name",
)  # fmt: skip
_PERCENT_RULE = _pattern(
    "a valid percent string must be a numeric string followed by an ending '%'", _PERCENT, "1%", "93%"
)
_ENV_NAME_RULE = (
    "a valid environment variable name must consist only of printable ASCII characters other than '='"
)


def is_dns1123_label(value: str) -> list[str]:
    """A name of at most 63 characters without dots."""
    if len(value) <= LABEL_LENGTH_MAX and _match_label(value):
        return []
    problems = [_too_long(LABEL_LENGTH_MAX)] if len(value) > LABEL_LENGTH_MAX else []
    if not _match_label(value):
        problems.append(_LABEL_RULE)
    return problems


def is_dns1123_subdomain(value: str) -> list[str]:
    """Dotted labels, at most 253 characters."""
    if len(value) <= SUBDOMAIN_LENGTH_MAX and _match_subdomain(value):
        return []
    problems = [_too_long(SUBDOMAIN_LENGTH_MAX)] if len(value) > SUBDOMAIN_LENGTH_MAX else []
    if not _match_subdomain(value):
        problems.append(_SUBDOMAIN_RULE)
    return problems


def is_dns1035_label(value: str) -> list[str]:
    """A label that starts with a letter, as Services are named."""
    if len(value) <= LABEL_LENGTH_MAX and _match_label_1035(value):
        return []
    problems = [_too_long(LABEL_LENGTH_MAX)] if len(value) > LABEL_LENGTH_MAX else []
    if not _match_label_1035(value):
        problems.append(_LABEL_1035_RULE)
    return problems


def is_path_segment(value: str) -> list[str]:
    """What can stand between two slashes of a URL, as RBAC objects are named."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in value]


def is_qualified_name(value: str) -> list[str]:
    """`name` or `prefix/name`: keys of labels and annotations, resource names, finalizers, conditions."""
    prefix, slash, name = value.rpartition("/")
    if len(name) <= LABEL_LENGTH_MAX and _match_qualified(name) and not slash:
        return []
    if "/" in prefix:
        return [
            f"a qualified name {_QUALIFIED_RULE} with an optional DNS subdomain prefix and '/'"
            " (e.g. 'example.com/MyName')"
        ]
    problems: list[str] = []
    if slash:
        problems = ["prefix part " + text for text in is_dns1123_subdomain(prefix)]
        if not prefix:
            problems = ["prefix part must be non-empty"]
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > LABEL_LENGTH_MAX:
        problems.append("name part " + _too_long(LABEL_LENGTH_MAX))
    if not _match_qualified(name):
        problems.append("name part " + _QUALIFIED_RULE)
    return problems


def is_label_value(value: str) -> list[str]:
    """Empty, or at most 63 characters of a narrow set."""
    if not value or (len(value) <= LABEL_LENGTH_MAX and _match_qualified(value)):
        return []
    problems = [_too_long(LABEL_LENGTH_MAX)] if len(value) > LABEL_LENGTH_MAX else []
    if not _match_qualified(value):
        problems.append(_LABEL_VALUE_RULE)
    return problems


def is_env_var_name(value: str) -> list[str]:
    """Printable ASCII without an equals sign."""
    return [] if _match_env_name(value) else [_ENV_NAME_RULE]


def is_config_map_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret; it becomes a file name."""
    problems: list[str] = []
    if len(value) > _CONFIG_KEY_LENGTH_MAX:
        problems.append(_too_long(_CONFIG_KEY_LENGTH_MAX))
    if not _match_config_key(value):
        problems.append(_CONFIG_KEY_RULE)
    if value in (".", ".."):
        problems.append(f"must not be '{value}'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def is_port_name(value: str) -> list[str]:
    """An IANA service name: at most 15 of a-z, 0-9 and single hyphens, with a letter."""
    problems: list[str] = []
    if len(value) > _PORT_NAME_LENGTH_MAX:
        problems.append(f"must be no more than {_PORT_NAME_LENGTH_MAX} bytes")
    if not _match_port_name(value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= char <= "z" for char in value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        problems.append("must not begin or end with a hyphen")
    return problems


def is_port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def is_ip_address(value: str) -> list[str]:
    """An IPv4 or IPv6 address without a zone."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"] if "%" in value else []


def is_cidr(value: str) -> list[str]:
    """An address with a prefix length."""
    try:
        ipaddress.ip_interface(value)
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    return [] if "/" in value else ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]


def is_percent(value: str) -> list[str]:
    return [] if _match_percent(value) else [_PERCENT_RULE]


_match_wildcard = re.compile(rf"\*\.{_SUBDOMAIN}").fullmatch
_WILDCARD_RULE = _pattern(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of"
    " lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    rf"\*\.{_SUBDOMAIN}", "*.example.com",
)  # fmt: skip


def is_wildcard_dns1123_subdomain(value: str) -> list[str]:
    """`*.` and a subdomain, as hosts of an Ingress may be."""
    problems = [_too_long(SUBDOMAIN_LENGTH_MAX)] if len(value) > SUBDOMAIN_LENGTH_MAX else []
    return problems if _match_wildcard(value) else [*problems, _WILDCARD_RULE]


_match_http_path = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+").fullmatch


def is_domain_prefixed_path(value: str) -> list[str]:
    """`example.com/some/path`, as controllers of ingress classes are named."""
    domain, slash, path = value.partition("/")
    if not slash or not domain or not path:
        return ['must be a domain-prefixed path (such as "acme.io/foo")']
    problems = is_dns1123_subdomain(domain)
    if not _match_http_path(path):
        problems.append(_pattern("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"))
    return problems


def is_fully_qualified_name(value: str) -> list[str]:
    """A subdomain with at least three segments, as webhooks are named."""
    problems = is_dns1123_subdomain(value)
    if not problems and len(value.split(".")) < 3:
        return ["should be a domain with at least three segments separated by dots"]
    return problems


def is_strict_ip(value: str) -> list[str]:
    """An address in its one canonical form, as IPAddress objects are named."""
    problems = is_ip_address(value)
    if not problems and str(ipaddress.ip_address(value)) != value:
        return [f'must be in canonical form ("{ipaddress.ip_address(value)}")']
    return problems


def is_strict_cidr(value: str) -> list[str]:
    """A network in canonical form, without bits beyond its prefix."""
    problems = is_cidr(value)
    if problems:
        return problems
    interface = ipaddress.ip_interface(value)
    if interface.ip != interface.network.network_address:
        return ["must not have bits set beyond the prefix length"]
    if str(interface.network) != value:
        return [f'must be in canonical form ("{interface.network}")']
    return []
