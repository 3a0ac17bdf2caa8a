"""Validation of addresses that other hosts are to reach: endpoints and external addresses of Services. Pure."""

import ipaddress

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.registry.strategies import causes

_LINK_LOCAL_GROUPS = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))


def validate_plain_address(address: str, field: str) -> list[Cause]:
    """An address that means the same everywhere."""
    found = causes.problems(field, address, names.is_ip_address(address))
    if found:
        return found
    ip = ipaddress.ip_address(address)
    texts: list[str] = []
    if ip.is_unspecified:
        texts.append(f"may not be unspecified ({address})")
    if ip.is_loopback:
        texts.append("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if ip.is_link_local:
        texts.append("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if any(ip in group for group in _LINK_LOCAL_GROUPS if group.version == ip.version):
        texts.append("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    return causes.problems(field, address, texts)
