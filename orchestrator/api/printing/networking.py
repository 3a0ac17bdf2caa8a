"""Rows of the kinds of `networking.k8s.io`."""

from typing import Any

from orchestrator.api.item import Object
from orchestrator.api.printing.columns import (
    AGE,
    NAME,
    NONE,
    Column,
    Printer,
    age_of,
    joined,
    name_of,
    part,
    selector_text,
)

_HOSTS_SHOWN_MAX = 3


def _ingress_cells(ingress: Object, now_s: float) -> list[Any]:
    spec = part(ingress, "spec")
    entries = part(part(ingress, "status"), "loadBalancer").get("ingress") or ()
    return [
        name_of(ingress),
        spec.get("ingressClassName") or NONE,
        _hosts(spec.get("rules") or ()),
        ",".join(sorted({entry.get("ip") or entry.get("hostname") or "" for entry in entries} - {""})),
        "80, 443" if spec.get("tls") else "80",
        age_of(ingress, now_s),
    ]


def _hosts(rules: Any) -> str:
    hosts = [rule["host"] for rule in rules if rule.get("host")]
    if not hosts:
        return "*"
    text = ",".join(hosts[:_HOSTS_SHOWN_MAX])
    return f"{text} + {len(hosts) - _HOSTS_SHOWN_MAX} more..." if len(hosts) > _HOSTS_SHOWN_MAX else text


INGRESSES = Printer(
    (
        NAME,
        Column("Class", "Class of the controller that serves it"),
        Column("Hosts", "Host names that it answers for"),
        Column("Address", "Addresses at which it is reached"),
        Column("Ports", "Ports that it listens on; 443 with certificates"),
        AGE,
    ),
    _ingress_cells,
)


def _class_cells(item: Object, now_s: float) -> list[Any]:
    spec = part(item, "spec")
    reference = spec.get("parameters")
    text = NONE
    if reference is not None:
        text = reference.get("kind", "")
        if reference.get("apiGroup"):
            text += f".{reference['apiGroup']}"
        text += f"/{reference.get('name', '')}"
    return [name_of(item), spec.get("controller", ""), text, age_of(item, now_s)]


CLASSES = Printer(
    (
        NAME,
        Column("Controller", "Controller that serves Ingresses of the class"),
        Column("Parameters", "Object with the controller's settings"),
        AGE,
    ),
    _class_cells,
)


def _policy_cells(policy: Object, now_s: float) -> list[Any]:
    return [
        name_of(policy),
        selector_text(part(policy, "spec").get("podSelector") or {}),
        age_of(policy, now_s),
    ]


POLICIES = Printer((NAME, Column("Pod-Selector", "Labels of the pods it is for"), AGE), _policy_cells)


def _address_cells(address: Object, now_s: float) -> list[Any]:
    parent = part(part(address, "spec"), "parentRef")
    resource = parent.get("resource", "")
    if parent.get("group"):
        resource += f".{parent['group']}"
    names = [parent[key] for key in ("namespace", "name") if parent.get(key)]
    return [name_of(address), "/".join([resource, *names]) if parent else "", age_of(address, now_s)]


ADDRESSES = Printer((NAME, Column("ParentRef", "Object that has the address"), AGE), _address_cells)


def _cidr_cells(item: Object, now_s: float) -> list[Any]:
    return [name_of(item), joined(part(item, "spec").get("cidrs") or ()), age_of(item, now_s)]


CIDRS = Printer((NAME, Column("CIDRs", "Ranges that Services get addresses from"), AGE), _cidr_cells)

PRINTERS: dict[tuple[str, str], Printer] = {
    ("networking.k8s.io", "ingresses"): INGRESSES,
    ("networking.k8s.io", "ingressclasses"): CLASSES,
    ("networking.k8s.io", "networkpolicies"): POLICIES,
    ("networking.k8s.io", "ipaddresses"): ADDRESSES,
    ("networking.k8s.io", "servicecidrs"): CIDRS,
}
