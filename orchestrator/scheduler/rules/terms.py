"""Affinity terms and spread constraints of a pod, parsed once per pod template. Pure.

A `Target` names a set of pods by namespaces and labels. Both what a pod asks of others (its affinity terms, its
spread constraints) and what placed pods ask of it (symmetry) come down to targets counted per topology domain.
Source of the rules: `GetAffinityTerms` and `podtopologyspread` of Kubernetes' scheduler framework.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from orchestrator.api.item import Object
from orchestrator.api.selectors import NOTHING, Requirement, Selector, from_label_selector

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Target:
    """Pods in `namespaces`, or in those that `others` selects, that `selector` selects."""

    namespaces: frozenset[str]
    others: Selector
    selector: Selector

    def covers(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether pods of a namespace with these labels are meant, by where they are."""
        if namespace in self.namespaces:
            return True
        return not self.others.nothing and self.others.matches(labels)

    @property
    def local(self) -> bool:
        """Whether it names its namespaces."""
        return self.others.nothing


@dataclass(frozen=True, slots=True)
class Term:
    """A pod (anti-)affinity term; `weight` is 0 for a required one."""

    target: Target
    topology: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """A topology spread constraint. `self_match` is 1 when the pod counts itself."""

    topology: str
    max_skew: int
    hard: bool
    target: Target
    min_domains: int
    honor_affinity: bool
    honor_taints: bool
    self_match: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What one pod spec asks of other pods."""

    affinity: tuple[Term, ...] = ()
    anti: tuple[Term, ...] = ()
    preferred: tuple[Term, ...] = ()
    """Weights are negative for preferred anti-affinity."""
    spread: tuple[Spread, ...] = ()


NONE = Terms()


def terms_of(namespace: str, labels: Mapping[str, str], affinity: Object, spread: Sequence[Object]) -> Terms:
    """Parse; pods of one template share the result. Raises `BadRequest` for selectors that can't be read."""
    pod, anti = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    if not pod and not anti and not spread:
        return NONE
    return _terms(namespace, _relevant(labels, spread), _encode((pod, anti)), _encode(spread))


@lru_cache(maxsize=4096)
def _terms(namespace: str, labels: tuple[tuple[str, str], ...], affinity: bytes, spread: bytes) -> Terms:
    pod, anti = _decode(affinity)
    weighted = _weighted(pod, namespace, 1) + _weighted(anti, namespace, -1)
    constraints = tuple(_spread(namespace, dict(labels), constraint) for constraint in _decode(spread))
    return Terms(_required(pod, namespace), _required(anti, namespace), weighted, constraints)


def _relevant(labels: Mapping[str, str], spread: Sequence[Object]) -> tuple[tuple[str, str], ...]:
    """The pod's own labels that its spread constraints look at."""
    keys: set[str] = set()
    for constraint in spread:
        selector = constraint.get("labelSelector") or {}
        keys.update(selector.get("matchLabels") or ())
        keys.update(entry["key"] for entry in selector.get("matchExpressions") or ())
        keys.update(constraint.get("matchLabelKeys") or ())
    return tuple(sorted((key, labels[key]) for key in keys if key in labels))


def _required(affinity: Object, namespace: str) -> tuple[Term, ...]:
    return tuple(
        Term(_target(term, namespace), term.get("topologyKey") or "") for term in affinity.get(REQUIRED) or ()
    )


def _weighted(affinity: Object, namespace: str, sign: int) -> tuple[Term, ...]:
    found = []
    for entry in affinity.get(PREFERRED) or ():
        term = entry.get("podAffinityTerm") or {}
        weight = sign * int(entry.get("weight") or 0)
        found.append(Term(_target(term, namespace), term.get("topologyKey") or "", weight))
    return tuple(found)


def _target(term: Object, namespace: str) -> Target:
    """Without namespaces and namespaceSelector the pod's own namespace is meant."""
    names, others = term.get("namespaces") or (), term.get("namespaceSelector")
    if not names and others is None:
        names = (namespace,)
    return Target(
        frozenset(names), from_label_selector(others), from_label_selector(term.get("labelSelector"))
    )


def _spread(namespace: str, labels: Mapping[str, str], constraint: Object) -> Spread:
    selector = from_label_selector(constraint.get("labelSelector"))
    added = [
        Requirement(key, "in", frozenset((labels[key],)))
        for key in constraint.get("matchLabelKeys") or ()
        if key in labels
    ]
    if added and not selector.nothing:
        selector = Selector((*selector.requirements, *added))
    return spread_of(
        namespace,
        labels,
        selector,
        constraint.get("topologyKey") or "",
        int(constraint.get("maxSkew") or 1),
        hard=constraint.get("whenUnsatisfiable") != "ScheduleAnyway",
        min_domains=int(constraint.get("minDomains") or 1),
        policies=(constraint.get("nodeAffinityPolicy"), constraint.get("nodeTaintsPolicy")),
    )


def spread_of(
    namespace: str, labels: Mapping[str, str], selector: Selector, topology: str, max_skew: int, *,
    hard: bool = False, min_domains: int = 1, policies: tuple[Any, Any] = (None, None),
) -> Spread:  # fmt: skip
    """A constraint over the pods of one namespace. The policies are `Honor` and `Ignore` unless given; an empty
    selector counts nobody, as in Kubernetes, yet matches the pod itself."""
    counted = selector if selector.requirements else NOTHING
    return Spread(
        topology,
        max_skew,
        hard,
        Target(frozenset((namespace,)), NOTHING, counted),
        min_domains,
        policies[0] != "Ignore",
        policies[1] == "Honor",
        int(selector.matches(labels)),
    )
