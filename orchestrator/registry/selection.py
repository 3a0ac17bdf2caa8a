"""Which objects a list or watch means: selectors parsed once, and the revision that a client asks for."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestrator.api.conversion import View
from orchestrator.api.errors import BadRequest, Cause, Timeout
from orchestrator.api.item import Item
from orchestrator.api.resources import Resource
from orchestrator.api.selectors import (
    FieldRequirement,
    FieldSelector,
    Selector,
    parse_field_selector,
    parse_label_selector,
)

REVISION_DIGITS_MAX = 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Label and field selector together."""

    labels: Selector
    fields: FieldSelector
    view: View | None = None
    """How a stored item must be seen before its fields are compared; None as it is."""

    @classmethod
    def parse(cls, resource: Resource, label_selector: str, field_selector: str) -> "Selection":
        """Raises `BadRequest` naming what can't be parsed or is not selectable."""
        return cls(parse_label_selector(label_selector), parse_field_selector(field_selector, resource))

    def through(self, view: View) -> "Selection":
        """The same for items that are shown through `view`: metadata is the same in every version, so only
        other fields need the conversion."""
        if all(requirement.field.startswith("metadata.") for requirement in self.fields.requirements):
            return self
        return replace(self, view=view)

    @property
    def everything(self) -> bool:
        return self.labels.everything and self.fields.everything

    @property
    def compared(self) -> tuple[FieldRequirement, ...]:
        """Comparisons of fields that an index over stored objects can help with."""
        own = self.view is None
        return tuple(
            r
            for r in self.fields.requirements
            if not r.negated and (r.field == "metadata.name" or (own and not r.field.startswith("metadata.")))
        )

    @property
    def narrows(self) -> bool:
        """Whether an index can tell what can't match: not where only the absence of a label is asked for."""
        wanted = any(r.operator not in ("notin", "!") for r in self.labels.requirements)
        return wanted or bool(self.compared)

    @property
    def matcher(self) -> Callable[[Item], bool]:
        """The cheapest predicate that decides."""
        by_label, by_field = self.labels.matches, self._by_field
        if self.fields.everything:
            return lambda item: by_label(item.meta.labels or {})
        if self.labels.everything:
            return by_field
        return lambda item: by_label(item.meta.labels or {}) and by_field(item)

    @property
    def _by_field(self) -> Callable[[Item], bool]:
        matches, view = self.fields.matches, self.view
        return matches if view is None else lambda item: matches(view.item(item))

    def prefix(self, resource: Resource, namespace: str | None) -> str:
        """The narrowest key prefix of what can match; one object's key when the name is given."""
        name = self.fields.exact("metadata.name")
        if not resource.namespaced:
            return resource.key("", name) if name else resource.key_prefix()
        namespace = namespace or self.fields.exact("metadata.namespace")
        if name and namespace:
            return resource.key(namespace, name)
        return resource.key_prefix(namespace)

    def single(self, resource: Resource, namespace: str | None) -> bool:
        """Whether at most one object, whose key is `prefix`, can match."""
        return bool(self.fields.exact("metadata.name")) and (not resource.namespaced or bool(namespace))


def parse_revision(text: str, field: str = "resourceVersion") -> int:
    """The client's revision; empty is 0. Raises `BadRequest`."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f'{field}: Invalid value: "{text}": must be a non-negative whole number')
    if len(text) > REVISION_DIGITS_MAX:
        raise BadRequest(f'{field}: Invalid value: "{text[:REVISION_DIGITS_MAX]}…": does not fit 64 bits')
    return int(text)


def check_not_future(revision: int, newest: int) -> None:
    """Raises `Timeout` for a revision that this store has not reached, with the cause that clients test for."""
    if revision > newest:
        raise Timeout(
            f"Timeout: Too large resource version: {revision}, current: {newest}",
            causes=(Cause("ResourceVersionTooLarge", "Too large resource version", ""),),
            retry_after_s=1,
        )
