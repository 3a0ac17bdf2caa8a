"""Which node a pod's own spec allows: `nodeSelector` and required node affinity. Pure, no columns.

Used by the scheduler's rule over columns for its terms, and by controllers that look at one node at a time.
"""

from collections.abc import Mapping

from orchestrator.api.item import Object
from orchestrator.api.selectors import Requirement, from_node_selector_term

NAME = "metadata.name"
"""The one field that `matchFields` may name."""


def requirements(term: Object) -> list[Requirement]:
    """What a node selector term demands, of labels and of `NAME`. An empty term demands nothing and matches nothing."""
    found = list(from_node_selector_term(term.get("matchExpressions") or []).requirements)
    for field in term.get("matchFields") or ():
        operator = "in" if field["operator"] == "In" else "notin"
        found.append(Requirement(NAME, operator, frozenset(field.get("values") or ())))
    return found


def required_terms(node_affinity: Object) -> list[Object] | None:
    """Terms of which one must match; None where there is no such demand."""
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required.get("nodeSelectorTerms") or [] if required is not None else None


class NodeChoice:
    """The nodes that one pod spec allows; parsed once, asked per node."""

    def __init__(self, spec: Object) -> None:
        self._labels = spec.get("nodeSelector") or {}
        affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
        terms = required_terms(affinity)
        self._terms = None if terms is None else [found for term in terms if (found := requirements(term))]

    def allows(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod of the spec may run on the node called `name` with `labels`."""
        if not self._labels.items() <= labels.items():
            return False
        if self._terms is None:
            return True
        return any(all(_matches(entry, name, labels) for entry in term) for term in self._terms)


def _matches(requirement: Requirement, name: str, labels: Mapping[str, str]) -> bool:
    return requirement.matches({NAME: name} if requirement.key == NAME else labels)
