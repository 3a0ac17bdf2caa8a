"""Who might adopt whom, found through indexes over labels instead of scans. Pure but for what it reads from informers.

    owners.add_index("selecting", selecting_index(selector_of))     # what their selectors demand
    dependents.add_index("orphan", orphan_index)                    # the labels of those without a manager

    orphans_for(dependents, namespace, selector) -> list[Item]      # what a selector may adopt
    selecting(owners, dependent, selector_of) -> list[Item]         # owners whose selector matches a dependent

A selector is filed under one label that it demands; one that demands none under its namespace alone. So ten thousand
orphans cost nothing to those whose labels differ. Used by controllers that adopt.
"""

from collections.abc import Callable
from functools import lru_cache

import msgspec

from orchestrator.api.item import Item
from orchestrator.api.selectors import NOTHING, Selector, from_label_selector, from_set
from orchestrator.controllers.objects import controller_of
from orchestrator.informer.cache import IndexFunction, Informer

HASH_LABEL = "pod-template-hash"
"""Of a Deployment's ReplicaSets; of all labels it tells most."""

SelectorOf = Callable[[Item], Selector]

_ABSENT = msgspec.Raw()


class _Spec(msgspec.Struct):
    selector: msgspec.Raw = _ABSENT


class _Owner(msgspec.Struct):
    spec: _Spec


_decode_owner = msgspec.json.Decoder(_Owner).decode


def selector_of(item: Item) -> Selector:
    """`spec.selector` of a workload, a `LabelSelector`; decoded without the rest of the object."""
    return _label_selector(bytes(_decode_owner(item.raw).spec.selector))


def plain_selector_of(item: Item) -> Selector:
    """`spec.selector` of a kind whose selector is a plain map; an empty one selects nothing here."""
    return _plain_selector(bytes(_decode_owner(item.raw).spec.selector))


@lru_cache(maxsize=2048)
def _label_selector(text: bytes) -> Selector:
    return from_label_selector(msgspec.json.decode(text)) if text else NOTHING


@lru_cache(maxsize=2048)
def _plain_selector(text: bytes) -> Selector:
    labels = msgspec.json.decode(text) if text else None
    return from_set(labels) if labels else NOTHING


def orphan_index(item: Item) -> tuple[str, ...]:
    """Index function `orphan`: its namespace and each of its labels, while nobody manages the item."""
    if controller_of(item.meta) is not None:
        return ()
    namespace = item.meta.namespace
    return (f"{namespace}/", *(f"{namespace}/{key}={value}" for key, value in item.labels.items()))


def selecting_index(select: SelectorOf) -> IndexFunction:
    """Index function `selecting` of owners, whose selectors `select` reads."""
    return lambda item: _filed_under(item.meta.namespace, select(item))


def orphans_for(dependents: Informer, namespace: str, selector: Selector) -> list[Item]:
    """Items without a manager that `selector` matches."""
    found = (
        item for value in _filed_under(namespace, selector) for item in dependents.by_index("orphan", value)
    )
    return [item for item in found if selector.matches(item.labels)]


def selecting(owners: Informer, dependent: Item, select: SelectorOf) -> list[Item]:
    """Owners in the namespace of `dependent` whose selector matches its labels."""
    namespace = dependent.meta.namespace
    values = [f"{namespace}/", *(f"{namespace}/{key}={value}" for key, value in dependent.labels.items())]
    found = (owner for value in values for owner in owners.by_index("selecting", value))
    return [owner for owner in found if select(owner).matches(dependent.labels)]


def _filed_under(namespace: str, selector: Selector) -> tuple[str, ...]:
    """One demanded label, each value of it if several will do."""
    if selector.nothing:
        return ()
    demanded = [requirement for requirement in selector.requirements if requirement.operator == "in"]
    if not demanded:
        return (f"{namespace}/",)
    best = min(demanded, key=lambda demand: (len(demand.values), demand.key != HASH_LABEL, demand.key))
    return tuple(f"{namespace}/{best.key}={value}" for value in sorted(best.values))
