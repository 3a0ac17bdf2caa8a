"""Arithmetic over resource lists (`{"cpu": "500m", "memory": "1Gi"}`), in the texts that objects hold. Pure.

A sum keeps the style (binary, decimal) of its first operand that is not zero, as Kubernetes' quantities do.
Called by quotas, limit ranges and whoever adds up what pods ask for.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

from orchestrator.api import quantity
from orchestrator.api.item import Object

Amounts = Mapping[str, str]


@lru_cache(maxsize=8192)
def total(one: str, other: str, factor: int = 1) -> str:
    """`one + factor · other` as a canonical text."""
    left, right = quantity.parse(one), quantity.parse(other)
    return quantity.render(left + factor * right, quantity.style_of(one if left else other))


def plus(one: Amounts, other: Amounts, factor: int = 1) -> dict[str, str]:
    """The union of names; what is missing on a side is zero there."""
    result = dict(one)
    for name, amount in other.items():
        result[name] = total(result.get(name, "0"), amount, factor)
    return result


def larger(one: Amounts, other: Amounts) -> dict[str, str]:
    """The greater amount of each name."""
    result = dict(one)
    for name, amount in other.items():
        if name not in result or quantity.parse(amount) > quantity.parse(result[name]):
            result[name] = amount
    return result


def only(amounts: Amounts, names: Iterable[str]) -> dict[str, str]:
    return {name: amounts[name] for name in names if name in amounts}


def equal(one: Amounts, other: Amounts) -> bool:
    """Whether both have the same names with the same amounts, however they are written."""
    return one.keys() == other.keys() and all(
        quantity.parse(amount) == quantity.parse(other[name]) for name, amount in one.items()
    )


def beyond(amounts: Amounts, limits: Amounts) -> list[str]:
    """Names, sorted, whose amount is more than its limit; without a limit nothing is too much."""
    return sorted(
        name
        for name, amount in amounts.items()
        if name in limits and quantity.parse(amount) > quantity.parse(limits[name])
    )


def shown(amounts: Amounts) -> str:
    """`cpu=1,memory=2Gi`, as messages have it."""
    return ",".join(f"{name}={quantity.canonical(amounts[name])}" for name in sorted(amounts))


def of_pod(spec: Object, kind: Literal["requests", "limits"]) -> dict[str, str]:
    """What the pod takes: its containers and sidecars together, or an init container with the sidecars started
    before it where that is more; what the pod itself says replaces that; its overhead comes on top.

    Source: Kubernetes' component helpers for resources. Overhead raises only limits that there are.
    """
    result: dict[str, str] = {}
    for container in spec.get("containers") or ():
        result = plus(result, of_container(container, kind))
    sidecars: dict[str, str] = {}
    peak: dict[str, str] = {}
    for container in spec.get("initContainers") or ():
        amounts = of_container(container, kind)
        if container.get("restartPolicy") == "Always":
            result, sidecars = plus(result, amounts), plus(sidecars, amounts)
            amounts = {}
        peak = larger(peak, plus(sidecars, amounts))
    result = larger(result, peak) | of_container(spec, kind)
    overhead = _good(spec.get("overhead"))
    if kind == "limits":
        overhead = only(overhead, result)
    return plus(result, overhead)


def of_container(holder: Object, kind: str) -> dict[str, str]:
    """Requests or limits of a container, or of a pod's spec as a whole. Amounts that are none are left out."""
    return _good((holder.get("resources") or {}).get(kind))


def _good(amounts: Object | None) -> dict[str, str]:
    return {name: str(amount) for name, amount in (amounts or {}).items() if quantity.is_quantity(amount)}
