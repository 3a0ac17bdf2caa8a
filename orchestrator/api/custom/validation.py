"""Compiled validators of custom objects: a function per place of a schema, made when a value is first there.

`Validator.check(new, old)` says what is wrong with `new`, in Kubernetes' words. A part that is as it was in `old`
is not looked at: what was accepted once stays acceptable (ratcheting); elements of a list are told apart by its map
keys, other lists are compared whole. CEL rules (`x-kubernetes-validations`) are not evaluated yet: they would run
where `_compile` gathers a place's checks.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any

from orchestrator.api.custom import problems
from orchestrator.api.custom.embedded import check_embedded
from orchestrator.api.custom.formats import accepts_of
from orchestrator.api.custom.regex import PatternError, search_of
from orchestrator.api.custom.schema import Definition
from orchestrator.api.errors import CAUSES_MAX, Cause, RequestEntityTooLarge

ABSENT: Any = object()
"""In place of the old value where there was none, or none that can be told."""

ALTERNATIVES_MAX = 3_000_000
"""Alternatives (of `anyOf`, `oneOf`, `allOf`, `not`) that one object may be compared with: some seconds of work, where
a schema of ten thousand alternatives and a list of as many elements would make minutes."""


class Work:
    """What was done for one object."""

    __slots__ = ("tried",)

    def __init__(self) -> None:
        self.tried = 0


class Faults(list[Cause]):
    """Causes that were found, and the work that took."""

    __slots__ = ("work",)

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work


Check = Callable[[Any, Any, str, Faults], None]
"""(value, old value, path, causes to add to)"""

_INT_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


class Validator:
    """The checks of one version's schema. Fills itself while it is used; nothing else changes."""

    def __init__(self, definition: Definition) -> None:
        self._root = _lazy(definition)

    def check(self, new: Any, old: Any = ABSENT) -> list[Cause]:
        """What is wrong with an object; `old` is what it replaces. Metadata is somebody else's business."""
        found = Faults(Work())
        self._root(new, old, "", found)
        return found[:CAUSES_MAX]


def check_value(definition: Definition, value: Any, path: str) -> list[Cause]:
    """What is wrong with one value, such as a default, at `path`."""
    found = Faults(Work())
    _lazy(definition)(value, ABSENT, path, found)
    return found


def _lazy(definition: Definition) -> Check:
    compiled: list[Check] = []

    def check(value: Any, old: Any, path: str, found: Faults) -> None:
        if not compiled:
            compiled.append(_compile(definition))
        compiled[0](value, old, path, found)

    return check


def _compile(definition: Definition) -> Check:
    is_type, wanted = _type_check(definition)
    nullable = bool(definition.get("nullable"))
    checks = _value_checks(definition)

    def check(value: Any, old: Any, path: str, found: Faults) -> None:
        if old is not ABSENT and value == old and type(value) is type(old):
            return
        if value is None:
            if not nullable and wanted:
                _refuse_type(path, wanted, "null", found)
            return
        if not is_type(value):
            _refuse_type(path, wanted, _type_name(value), found)
            return
        if len(found) < CAUSES_MAX:
            for each in checks:
                each(value, old, path, found)

    return check


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────


def _is_integer(value: Any) -> bool:
    return type(value) is int or (type(value) is float and isfinite(value) and value.is_integer())


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "integer": _is_integer,
    "number": lambda value: type(value) is int or type(value) is float,
}


def _type_check(definition: Definition) -> tuple[Callable[[Any], bool], str]:
    """The predicate, and how messages name it; empty for any type."""
    if definition.get("x-kubernetes-int-or-string"):
        return lambda value: type(value) is str or _is_integer(value), "integer,string"
    kind = definition.get("type", "")
    return _TYPES.get(kind, lambda value: True), kind


def _type_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "null")


def _refuse_type(path: str, wanted: str, actual: str, found: list[Cause]) -> None:
    text = f'{path} in body must be of type {wanted}: "{actual}"'
    found.append(problems.wrong_type(path, actual, text))


# ── what a value of the right type must be ───────────────────────────────────────────────────────────────


def _value_checks(definition: Definition) -> list[Check]:
    """Every check of the definition that applies to some type; each ignores values that it is not about."""
    makers: list[Callable[[Definition], Check | None]] = [
        _combined, _text, _number, _array, _enum, _object
    ]  # fmt: skip
    return [check for make in makers if (check := make(definition)) is not None]


def _text(definition: Definition) -> Check | None:
    low, high, pattern = (definition.get(key) for key in ("minLength", "maxLength", "pattern"))
    accepts = accepts_of(definition["format"]) if definition.get("format") else None
    if low is None and high is None and pattern is None and accepts is None:
        return None
    try:
        search = search_of(pattern) if pattern else None
    except PatternError:  # of a definition from before patterns were looked at: it says nothing
        search = None

    def check(value: Any, old: Any, path: str, found: Faults) -> None:
        if type(value) is not str:
            return
        if high is not None and len(value) > high:
            found.append(problems.too_long(path, high))
        if low is not None and len(value) < low:
            found.append(problems.invalid(path, value, f"{path} in body should be at least {low} chars long"))
        if search is not None and not search(value):
            found.append(problems.invalid(path, value, f"{path} in body should match '{pattern}'"))
        if accepts is not None and not accepts(value):
            wanted = definition["format"].replace("-", "")
            text = f"{path} in body must be of type {wanted}: {problems.quoted(value)}"
            found.append(problems.wrong_type(path, value, text))

    return check


def _number(definition: Definition) -> Check | None:
    names = ("minimum", "maximum", "multipleOf")
    span = _INT_RANGES.get(definition.get("format", "")) if definition.get("type") == "integer" else None
    if span is None and not any(definition.get(name) is not None for name in names):
        return None
    low, high, factor = (definition.get(name) for name in names)
    above, below = definition.get("exclusiveMinimum"), definition.get("exclusiveMaximum")

    def check(value: Any, old: Any, path: str, found: Faults) -> None:
        if type(value) is not int and type(value) is not float:
            return
        if span is not None and not span[0] <= value <= span[1]:
            text = f"Checked value must be of type integer with format {definition['format']}"
            found.append(problems.invalid("", "", text))
        if factor and not _is_multiple(value, factor):
            found.append(
                problems.invalid(path, value, f"{path} in body should be a multiple of {_shown(factor)}")
            )
        if high is not None and (value >= high if below else value > high):
            than = "less than" if below else "less than or equal to"
            found.append(problems.invalid(path, value, f"{path} in body should be {than} {_shown(high)}"))
        if low is not None and (value <= low if above else value < low):
            than = "greater than" if above else "greater than or equal to"
            found.append(problems.invalid(path, value, f"{path} in body should be {than} {_shown(low)}"))

    return check


def _is_multiple(value: float, factor: float) -> bool:
    if type(value) is int and type(factor) is int:
        return value % factor == 0
    try:
        return (value / factor).is_integer()
    except OverflowError:
        return False


def _shown(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _enum(definition: Definition) -> Check | None:
    allowed = definition.get("enum")
    if not allowed:
        return None

    def check(value: Any, old: Any, path: str, found: Faults) -> None:
        if not any(value == each and (type(value) is bool) == (type(each) is bool) for each in allowed):
            found.append(problems.unsupported(path or problems.ROOT, value, allowed))

    return check


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────


def _array(definition: Definition) -> Check | None:
    if definition.get("type", "array") != "array":
        return None
    low, high = definition.get("minItems"), definition.get("maxItems")
    item = _lazy(definition["items"]) if "items" in definition else None
    kind = definition.get("x-kubernetes-list-type", "atomic")
    keys = tuple(definition.get("x-kubernetes-list-map-keys") or ())
    defaults = _key_defaults(definition, keys)

    def check(value: Any, old: Any, path: str, found: Faults) -> None:
        if type(value) is not list:
            return
        if low is not None and len(value) < low:
            text = f"{path} in body should have at least {low} items"
            found.append(problems.invalid(path, len(value), text))
        if high is not None and len(value) > high:
            found.append(problems.too_many(path, len(value), high))
            return  # the bound is there so that nobody looks at all of them
        if kind == "set":
            _check_set(value, path, found)
        before = _keyed(value, path, keys, defaults, old, found) if kind == "map" else {}
        if item is not None:
            for index, part in enumerate(value):
                item(part, before.get(index, ABSENT), f"{path}[{index}]", found)

    return check


def _key_defaults(definition: Definition, keys: tuple[str, ...]) -> Definition:
    properties = (definition.get("items") or {}).get("properties") or {}
    return {
        key: properties[key]["default"] for key in keys if properties.get(key, {}).get("default") is not None
    }


def _check_set(values: list[Any], path: str, found: list[Cause]) -> None:
    seen: set[Any] = set()
    for index, value in enumerate(values):
        mark = _identity(value)
        if mark in seen:
            found.append(problems.duplicate(f"{path}[{index}]", value))
        seen.add(mark)


def _keyed(
    values: list[Any], path: str, keys: tuple[str, ...], defaults: Definition, old: Any, found: list[Cause]
) -> dict[int, Any]:
    """Names elements with the same keys; returns what each element was before."""
    olds = {_key_of(each, keys, defaults): each for each in old} if type(old) is list else {}
    seen: set[Any] = set()
    before: dict[int, Any] = {}
    for index, value in enumerate(values):
        if type(value) is not dict:
            continue
        mark = _key_of(value, keys, defaults)
        if mark in seen:
            shown = {key: value[key] for key in keys if key in value}
            found.append(problems.duplicate(f"{path}[{index}]", shown))
        seen.add(mark)
        if mark in olds:
            before[index] = olds[mark]
    return before


def _key_of(value: Any, keys: tuple[str, ...], defaults: Definition) -> Any:
    if type(value) is not dict:
        return _identity(value)
    return tuple(_identity(value.get(key, defaults.get(key))) for key in keys)


def _identity(value: Any) -> Any:
    """A hashable stand-in that is equal for equal JSON."""
    if type(value) is dict or type(value) is list:
        return problems.quoted(_sorted(value))
    return (type(value) is bool, value)


def _sorted(value: Any) -> Any:
    if type(value) is dict:
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(part) for part in value] if type(value) is list else value


# ── objects ──────────────────────────────────────────────────────────────────────────────────────────────


class _Fields(dict[str, Check | None]):
    """Checks by field name, made at a field's first use; None for a field that nothing is said of."""

    def __init__(self, definition: Definition) -> None:
        self._properties: Definition = definition.get("properties") or {}
        additional = definition.get("additionalProperties")
        self._additional = _lazy(additional) if isinstance(additional, dict) else None

    def __missing__(self, name: str) -> Check | None:
        part = self._properties.get(name)
        check = self._additional if part is None else _compile(part)
        if part is not None:
            self[name] = check
        return check


def _object(definition: Definition) -> Check | None:
    if definition.get("type", "object") != "object":
        return None
    fields, required = _Fields(definition), definition.get("required") or ()
    low, high = definition.get("minProperties"), definition.get("maxProperties")
    embedded = bool(definition.get("x-kubernetes-embedded-resource"))

    def check(value: Any, old: Any, path: str, found: Faults) -> None:
        if type(value) is not dict:
            return
        dot = f"{path}." if path else ""
        if high is not None and len(value) > high:
            found.append(problems.too_many(path, len(value), high))
            return
        if low is not None and len(value) < low:
            text = f"{path} in body should have at least {low} properties"
            found.append(problems.invalid(path, len(value), text))
        for name in required:
            if name not in value:
                found.append(problems.required(dot + name))
        if embedded:
            found.extend(check_embedded(value, path))
        before = old if type(old) is dict else {}
        for name, part in value.items():
            field = fields[name]
            if field is not None:
                field(part, before.get(name, ABSENT), dot + name, found)

    return check


# ── junctors ─────────────────────────────────────────────────────────────────────────────────────────────


def _combined(definition: Definition) -> Check | None:
    every = [_lazy(part) for part in definition.get("allOf") or ()]
    some = [_lazy(part) for part in definition.get("anyOf") or ()]
    one = [_lazy(part) for part in definition.get("oneOf") or ()]
    never = _lazy(definition["not"]) if definition.get("not") is not None else None
    if not (every or some or one or never):
        return None

    def check(value: Any, old: Any, path: str, found: Faults) -> None:
        if some:
            faults = _faults(some, value, path, found, one_is_enough=True)
            if all(faults):
                _refuse(f'"{path}" must validate at least one schema (anyOf)', min(faults, key=len), found)
        if one:
            faults = _faults(one, value, path, found)
            valid = sum(not each for each in faults)
            if valid != 1:
                why = f"Found {valid} valid alternatives" if valid else "Found none valid"
                best = [] if valid else min(faults, key=len)
                _refuse(f'"{path}" must validate one and only one schema (oneOf). {why}', best, found)
        faults = [each for each in _faults(every, value, path, found) if each]
        if faults:
            text = f'"{path}" must validate all the schemas (allOf)'
            _refuse(text, [cause for each in faults for cause in each], found)
        if never is not None and not _faults([never], value, path, found)[0]:
            _refuse(f'"{path}" must not validate the schema (not)', [], found)

    return check


def _faults(
    checks: list[Check], value: Any, path: str, whole: Faults, *, one_is_enough: bool = False
) -> list[Faults]:
    """What each alternative finds. Raises `RequestEntityTooLarge` when that was asked too often."""
    found: list[Faults] = []
    for each in checks:
        whole.work.tried += 1
        if whole.work.tried > ALTERNATIVES_MAX:
            raise RequestEntityTooLarge(
                f"the object takes too long to validate: more than {ALTERNATIVES_MAX} alternatives of its schema apply"
            )
        own = Faults(whole.work)
        each(value, ABSENT, path, own)
        found.append(own)
        if one_is_enough and not own:
            break
    return found


def _refuse(text: str, because: list[Cause], found: list[Cause]) -> None:
    found.append(problems.invalid("", "", text))
    found.extend(because)
