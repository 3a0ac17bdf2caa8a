"""Validation of the names of certificate signers: a domain, a slash and a path. Pure.

Called by `certificates`, and by `projections` for what a pod is given of a signer.
"""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.registry.strategies import causes

_SIGNER_LENGTH_MAX = 253 + 1 + 253 + 63 + 1


def validate_signer_name(name: str, field: str) -> list[Cause]:
    """`example.com/signer-name`."""
    if not name:
        return [causes.required(field)]
    domain, slash, path = name.partition("/")
    if not slash or "/" in path:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [causes.invalid_value(field, name, text)]
    found: list[Cause] = []
    if len(domain) > names.SUBDOMAIN_LENGTH_MAX:
        found.append(causes.too_long(field, names.SUBDOMAIN_LENGTH_MAX))
    found += _first_bad_label(domain, field, names.is_dns1123_label)
    if "." not in domain:
        text = "should be a domain with at least two segments separated by dots"
        found.append(causes.invalid_value(field, domain, text))
    found += _first_bad_label(path, field, names.is_dns1123_subdomain)
    if len(name) > _SIGNER_LENGTH_MAX:
        found.append(causes.too_long(field, _SIGNER_LENGTH_MAX))
    return found


def _first_bad_label(text: str, field: str, rule: names.Rule) -> list[Cause]:
    for label in text.split("."):
        problems = rule(label)
        if problems:
            return [causes.invalid_value(field, text, f'validating label "{label}": {p}') for p in problems]
    return []
