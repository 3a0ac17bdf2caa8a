"""Label and field selectors: parse once, match often.

Matching needs only `item.meta` except for a kind's own selectable fields; those are read by decoding just
these fields, and for an equality a byte search rules out nearly every object before that.
Grammar and error texts are those of Kubernetes' `labels` and `fields` packages (v1.36).
Called by registry (list, watch), controllers, scheduler and client.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from keyword import iskeyword
from sys import intern
from typing import Any

import msgspec

from orchestrator.api import names
from orchestrator.api.errors import BadRequest
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import Resource

_CACHE_SIZE = 1024
_int64 = re.compile(r"[+-]?\d+", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Requirement:
    """`key operator values`. Operators: `in`, `notin`, `exists`, `!`, `gt`, `lt`; `=` is an `in` of one."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        return value is not None and self._compare(value)

    def _compare(self, value: str) -> bool:
        """`gt` and `lt`; a label that is no integer matches neither."""
        if not _int64(value):
            return False
        bound = int(next(iter(self.values)))
        return int(value) > bound if self.operator == "gt" else int(value) < bound

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "gt" | "lt":
                return f"{self.key}{'>' if self.operator == 'gt' else '<'}{next(iter(self.values))}"
            case "in" if len(self.values) == 1:
                return f"{self.key}={next(iter(self.values))}"
            case "notin" if len(self.values) == 1:
                return f"{self.key}!={next(iter(self.values))}"
        return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"


@dataclass(frozen=True, slots=True)
class Selector:
    """A conjunction of requirements. No requirements match everything, unless `nothing`."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def everything(self) -> bool:
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.nothing:
            return False
        # A generator would cost more than the comparisons.
        for requirement in self.requirements:  # noqa: SIM110
            if not requirement.matches(labels):
                return False
        return True

    def __str__(self) -> str:
        """The selector as clients write it, ordered by key."""
        return ",".join(map(str, sorted(self.requirements, key=lambda requirement: requirement.key)))


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


@lru_cache(maxsize=_CACHE_SIZE)
def parse_label_selector(text: str) -> Selector:
    """`a=b,c in (d,e),!f,g,h>1`. Raises `BadRequest` with Kubernetes' text."""
    return Selector(_LabelParser(text).parse()) if text else EVERYTHING


def from_set(labels: Mapping[str, str] | None) -> Selector:
    """A plain map as in Services and ReplicationControllers; empty or None selects everything."""
    return Selector(
        tuple(Requirement(key, "in", frozenset((value,))) for key, value in (labels or {}).items())
    )


_EXPRESSIONS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}


def from_label_selector(selector: Object | None) -> Selector:
    """A `LabelSelector` object. None selects nothing, an empty one everything. Raises `BadRequest`."""
    if selector is None:
        return NOTHING
    requirements = list(from_set(selector.get("matchLabels")).requirements)
    for expression in selector.get("matchExpressions") or ():
        operator = _EXPRESSIONS.get(expression.get("operator", ""))
        if operator is None or operator in ("gt", "lt"):
            raise BadRequest(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        requirements.append(
            _requirement(expression.get("key") or "", operator, expression.get("values") or ())
        )
    return Selector(tuple(requirements))


def from_node_selector_term(expressions: list[Object]) -> Selector:
    """`matchExpressions` of a node selector term; these may compare with `Gt` and `Lt`. Raises `BadRequest`."""
    requirements = []
    for expression in expressions:
        operator = _EXPRESSIONS.get(expression.get("operator", ""))
        if operator is None:
            raise BadRequest(f'"{expression.get("operator", "")}" is not a valid node selector operator')
        requirements.append(
            _requirement(expression.get("key") or "", operator, expression.get("values") or ())
        )
    return Selector(tuple(requirements))


def _requirement(key: str, operator: str, values: Any) -> Requirement:
    problems = names.is_qualified_name(key)
    if problems:
        raise _unparsable(f'key: Invalid value: "{key}": {"; ".join(problems)}')
    if operator in ("in", "notin") and not values:
        raise _unparsable("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    if operator in ("gt", "lt") and (len(values) != 1 or not all(map(_int64, values))):
        raise _unparsable(
            "values: Invalid value: for 'Gt', 'Lt' operators, exactly one integer value is required"
        )
    if operator in ("exists", "!") and values:
        raise _unparsable("values: Invalid value: values set must be empty for exists and does not exist")
    for value in values:
        for problem in names.is_label_value(value):
            raise _unparsable(f'values[0][{key}]: Invalid value: "{value}": {problem}')
    return Requirement(key, operator, frozenset(values))


def _unparsable(why: str) -> BadRequest:
    return BadRequest(f"unable to parse requirement: {why}")


_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^ \t\r\n=!(),<>]+|$)")
_SPECIAL = frozenset(("==", "!=", "=", "!", "(", ")", ",", "<", ">", ""))
_OPERATORS = {"=": "in", "==": "in", "!=": "notin", "in": "in", "notin": "notin", ">": "gt", "<": "lt"}


class _LabelParser:
    """Recursive descent over the tokens of one selector; the empty token is the end."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text) or [""]
        self._next = 0

    def parse(self) -> tuple[Requirement, ...]:
        requirements = []
        while self._peek():
            requirements.append(self._requirement())
            token = self._take()
            if token == ",":
                if self._peek() in _SPECIAL - {"!"}:
                    raise BadRequest(f"found '{self._peek()}', expected: identifier after ','")
            elif token:
                raise BadRequest(f"found '{token}', expected: ',' or 'end of string'")
        return tuple(requirements)

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def _requirement(self) -> Requirement:
        absent = self._peek() == "!"
        if absent:
            self._take()
        key = self._take()
        if key in _SPECIAL:
            raise _unparsable(f"found '{key}', expected: identifier")
        if absent:
            return _requirement(key, "!", ())
        if self._peek() in ("", ","):
            return _requirement(key, "exists", ())
        token = self._take()
        if token not in _OPERATORS:
            raise _unparsable(f"found '{token}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._values() if token in ("in", "notin") else [self._exact()]
        return _requirement(key, _OPERATORS[token], values)

    def _exact(self) -> str:
        """The value after `=`; nothing before a comma or the end is the empty value."""
        if self._peek() in ("", ","):
            return ""
        token = self._take()
        if token in _SPECIAL:
            raise _unparsable(f"found '{token}', expected: identifier")
        return token

    def _values(self) -> list[str]:
        """`(a,b,c)`; an empty place between commas is the empty value."""
        token = self._take()
        if token != "(":
            raise _unparsable(f"found '{token}' expected: '('")
        values: list[str] = []
        while True:
            values.append("" if self._peek() in (",", ")") else self._identifier())
            token = self._take()
            if token == ")":
                return values
            if token != ",":
                raise _unparsable(f"found '{token}', expected: ',' or ')'")

    def _identifier(self) -> str:
        token = self._take()
        if token in _SPECIAL:
            raise _unparsable(f"found '{token}', expected: ',', ')' or identifier")
        return token


# ── Field selectors ──────────────────────────────────────────────────────────────────────────────────────

_ABSENT_VALUES = {
    "spec.unschedulable": "false", "spec.hostNetwork": "false", "status.replicas": "0", "status.successful": "0",
}  # fmt: skip
"""What a missing field compares as, where that is not the empty text."""
_PATHS = {"source": "source.component", "status.successful": "status.succeeded"}
"""Selectable names that are not the path of the field they mean."""
_OTHERWISE = {"source": "reportingComponent"}
"""Selectable names that mean another field where theirs is absent or empty."""
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9._:/ -]+").fullmatch

_Reader = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """`field = value` or, when `negated`, `field != value`."""

    field: str
    value: str
    negated: bool = False


class FieldSelector:
    """A conjunction of comparisons with fields of one resource."""

    __slots__ = ("_fields", "_literals", "_name", "_namespace", "_reader", "requirements")

    def __init__(self, requirements: tuple[FieldRequirement, ...]) -> None:
        self.requirements = requirements
        self._name = [(r.value, r.negated) for r in requirements if r.field == "metadata.name"]
        self._namespace = [(r.value, r.negated) for r in requirements if r.field == "metadata.namespace"]
        compared = [r for r in requirements if not r.field.startswith("metadata.")]
        self._fields = [(_value_of(r.field), r.value, r.negated) for r in compared]
        self._literals = [
            _literal(r.value)
            for r in compared
            if not r.negated and not _ABSENT_VALUES.get(r.field) and _PLAIN_TEXT(r.value)
        ]
        self._reader = _reader(_paths(r.field for r in compared)) if compared else None

    @property
    def everything(self) -> bool:
        return not self.requirements

    def exact(self, field: str) -> str | None:
        """The one value that `field` must have, if the selector demands one. For choosing an index."""
        return next((r.value for r in self.requirements if r.field == field and not r.negated), None)

    def matches(self, item: Item) -> bool:
        for value, negated in self._name:
            if (item.meta.name == value) is negated:
                return False
        for value, negated in self._namespace:
            if (item.meta.namespace == value) is negated:
                return False
        return self._reader is None or self._matches_fields(item.raw, self._reader)

    def _matches_fields(self, raw: bytes, reader: _Reader) -> bool:
        for literal in self._literals:
            if literal not in raw:
                return False
        root = reader(raw)
        return all((read(root) == value) is not negated for read, value, negated in self._fields)

    def __str__(self) -> str:
        return ",".join(f"{r.field}{'!=' if r.negated else '='}{_escape(r.value)}" for r in self.requirements)


@lru_cache(maxsize=256)
def _reader(paths: tuple[str, ...]) -> _Reader:
    """A decoder of just these dotted paths; it skips everything else in the object."""
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for part in path.split("."):
            node = node.setdefault(part, {})
    return msgspec.json.Decoder(_struct(tree)).decode


def _struct(tree: dict[str, Any]) -> Any:
    if not tree:
        return Any
    names = {_attribute(name): name for name in tree}
    fields = [
        (attribute, _struct(tree[name]) | None if tree[name] else Any, None)
        for attribute, name in names.items()
    ]
    return msgspec.defstruct("Selected", fields, rename=names)


def _attribute(name: str) -> str:
    """A field's name as a Python attribute: custom kinds may call a field `foo-bar` or `class`."""
    return name if name.isidentifier() and not iskeyword(name) else f"x{name.encode().hex()}"


def _attributes(path: str) -> list[str]:
    return [_attribute(part) for part in path.split(".")]


def _literal(value: str) -> bytes:
    """What stands in the bytes of every object that has this value: quotes only around what can't be a number
    or a boolean."""
    bare = value in ("true", "false") or _int64(value) is not None
    return value.encode() if bare else b'"%s"' % value.encode()


def _follow(node: Any, path: list[str]) -> Any:
    for part in path:
        if node is None:
            return None
        node = getattr(node, part)
    return node


def _paths(fields: Iterable[str]) -> tuple[str, ...]:
    """What must be read of an object to compare these fields."""
    found: dict[str, None] = {}
    for field in fields:
        found[_PATHS.get(field, field)] = None
        if field in _OTHERWISE:
            found[_OTHERWISE[field]] = None
    return tuple(found)


def _value_of(field: str) -> Callable[[Any], str]:
    """A reader of what `field` compares as, from what `_reader` made of an object."""
    path, absent = _attributes(_PATHS.get(field, field)), _ABSENT_VALUES.get(field, "")
    if field not in _OTHERWISE:
        return lambda root: _text(_follow(root, path), absent)
    other = _attributes(_OTHERWISE[field])
    return lambda root: _text(_follow(root, path) or _follow(root, other), absent)


def _text(value: Any, absent: str) -> str:
    if value is None:
        return absent
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def field_values(fields: tuple[str, ...]) -> Callable[[Item], tuple[str, ...]]:
    """A reader of what these selectable fields compare as, in one pass over an object's bytes: for indexes."""
    plain = _paths(field for field in fields if not field.startswith("metadata."))
    reader = _reader(plain) if plain else None
    wanted = [
        (field.removeprefix("metadata."), None) if field.startswith("metadata.") else ("", _value_of(field))
        for field in fields
    ]

    def read(item: Item) -> tuple[str, ...]:
        root = reader(item.raw) if reader is not None else None
        return tuple(
            getattr(item.meta, meta) if value_of is None else intern(value_of(root))
            for meta, value_of in wanted
        )

    return read


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


@lru_cache(maxsize=_CACHE_SIZE)
def parse_field_selector(text: str, resource: Resource) -> FieldSelector:
    """`metadata.name=a,spec.nodeName!=b`. Raises `BadRequest` for bad syntax or a field that the resource's
    row does not offer."""
    requirements = tuple(_field_requirement(term, text) for term in _split_terms(text) if term)
    allowed = {"metadata.name", *resource.selectable}
    if resource.namespaced:
        allowed.add("metadata.namespace")
    for requirement in requirements:
        if requirement.field not in allowed:
            raise BadRequest(_not_supported(requirement.field, resource))
    return FieldSelector(requirements)


_NOT_SUPPORTED = {
    ("apps", "statefulsets"): "field label not supported for appsv1.StatefulSet: {}",
    ("batch", "jobs"): 'field label "{}" not supported for Job',
    ("resource.k8s.io", "resourceslices"): (
        "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {}"
    ),
}


def _not_supported(field: str, resource: Resource) -> str:
    """Why `field` can't be selected by: kinds say it in different words."""
    text = _NOT_SUPPORTED.get((resource.group, resource.plural))
    if text is not None:
        return text.format(field)
    if resource.selectable or resource.columns is not None:
        return f"field label not supported: {field}"
    known = '"metadata.name", "metadata.namespace"'
    return f'"{field}" is not a known field selector: only {known}'


def _split_terms(text: str) -> list[str]:
    """Terms between commas that no backslash escapes; escapes stay in."""
    terms, start, escaped = [], 0, False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            terms.append(text[start:at])
            start = at + 1
    return [*terms, text[start:]]


def _field_requirement(term: str, text: str) -> FieldRequirement:
    escaped = False
    for at, char in enumerate(term):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            for sign in ("!=", "==", "="):
                if term.startswith(sign, at):
                    value = _unescape(term[at + len(sign) :])
                    return FieldRequirement(term[:at], value, sign == "!=")
    raise BadRequest(f"invalid selector: '{text}'; can't understand '{term}'")


def _unescape(value: str) -> str:
    out, escaped = [], False
    for char in value:
        if escaped:
            if char not in "\\,=":
                raise BadRequest(f"invalid field selector: invalid escape sequence: \\{char}")
            out.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in ",=":
            raise BadRequest(f"invalid field selector: unescaped character in value: {char}")
        else:
            out.append(char)
    if escaped:
        raise BadRequest("invalid field selector: unterminated escape sequence")
    return "".join(out)
