r"""JSONPath as printer columns and selectable fields use it (client-go's `jsonpath`, without templates). Pure.

Understood: `.field`, `['field']`, `\.` in a name, `[0]`, `[-1]`, `[1:3]`, `[*]`, `.*`, `..field`, `[0,1]`, and filters
`[?(@.a == "b")]`, with `== != < <= > >=` against texts, numbers and booleans, or without a comparison for mere
existence. What is missing on the way gives no result.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

Step = Callable[[Iterable[Any]], list[Any]]

LENGTH_MAX = 1024


class PathError(ValueError):
    """The path can't be read; the message says where."""


@lru_cache(maxsize=4096)
def compile_path(text: str) -> Callable[[Any], list[Any]]:
    """A function from a value to everything at the path, in order. Raises `PathError`."""
    if len(text) > LENGTH_MAX:
        raise PathError(f"longer than {LENGTH_MAX} characters")
    steps = _Parser(text.strip().removeprefix("{").removesuffix("}")).parse()

    def find(value: Any) -> list[Any]:
        found: list[Any] = [value]
        for step in steps:
            found = step(found)
        return found

    return find


def simple_parts(text: str) -> tuple[str, ...] | None:
    """The field names of a path that is made of nothing else, such as `.spec.replicas`; None for others."""
    if not re.fullmatch(r"(\.[A-Za-z_][A-Za-z0-9_-]*)+", text, re.ASCII):
        return None
    return tuple(text[1:].split("."))


_NAME = re.compile(r"(?:\\.|[^.\[\]\\\s'\"{}()])+")
_QUOTED = re.compile(r"'((?:\\.|[^'\\])*)'|\"((?:\\.|[^\"\\])*)\"")
_FILTER = re.compile(r"\?\(\s*(.*?)\s*\)\s*$", re.DOTALL)
_COMPARISON = re.compile(r"^(@.*?)\s*(==|!=|<=|>=|<|>)\s*(.+)$", re.DOTALL)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> list[Step]:
        steps: list[Step] = []
        text = self._text
        if text.startswith(("@", "$")):
            self._at = 1
        while self._at < len(text):
            char = text[self._at]
            if char == ".":
                steps.append(self._dotted())
            elif char == "[":
                steps.append(self._bracketed())
            elif not steps and self._at == 0:
                steps.append(_field(self._name()))
            else:
                raise PathError(f"unexpected {char!r} at {self._at}")
        return steps

    def _dotted(self) -> Step:
        deep = self._text.startswith("..", self._at)
        self._at += 2 if deep else 1
        if self._text.startswith("[", self._at):
            return _descend if deep else _same
        if self._at == len(self._text) and not deep:
            return _same
        if self._text.startswith("*", self._at):
            self._at += 1
            return _descend if deep else _children
        name = self._name()
        return _deep_field(name) if deep else _field(name)

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise PathError(f"a field's name is missing at {self._at}")
        self._at = match.end()
        return re.sub(r"\\(.)", r"\1", match.group())

    def _bracketed(self) -> Step:
        end = _closing(self._text, self._at)
        inside = self._text[self._at + 1 : end].strip()
        self._at = end + 1
        match = _FILTER.match(inside)
        if match is not None:
            return _filter(match.group(1))
        return _union([_element(part.strip()) for part in _split(inside)])


def _closing(text: str, start: int) -> int:
    depth, at = 0, start
    while at < len(text):
        match = _QUOTED.match(text, at)
        if match is not None:
            at = match.end()
            continue
        depth += {"[": 1, "]": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 1
    raise PathError("unterminated array")


def _split(text: str) -> list[str]:
    parts, start, at = [], 0, 0
    while at < len(text):
        match = _QUOTED.match(text, at)
        if match is not None:
            at = match.end()
            continue
        if text[at] == ",":
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def _element(text: str) -> Step:
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        return _field(re.sub(r"\\(.)", r"\1", quoted.group(1) or quoted.group(2) or ""))
    if text == "*":
        return _children
    if not re.fullmatch(r"-?\d{1,9}|(-?\d{1,9})?:(-?\d{1,9})?(:(-?\d{1,9})?)?", text, re.ASCII):
        raise PathError(f"invalid array index {text}")
    numbers = [int(part) if part else None for part in text.split(":")]
    if len(numbers) == 1:
        index = numbers[0] or 0
        return lambda values: [v[index] for v in values if type(v) is list and -len(v) <= index < len(v)]
    if len(numbers) == 3 and numbers[2] is not None and numbers[2] <= 0:
        raise PathError("step must be > 0")
    part = slice(*numbers)
    return lambda values: [each for v in values if type(v) is list for each in v[part]]


def _same(values: Iterable[Any]) -> list[Any]:
    return list(values)


def _children(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += value.values() if type(value) is dict else value if type(value) is list else ()
    return found


def _field(name: str) -> Step:
    return lambda values: [value[name] for value in values if type(value) is dict and name in value]


def _descend(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    waiting = list(values)[::-1]
    while waiting:
        value = waiting.pop()
        found.append(value)
        waiting += _children([value])[::-1]
    return found


def _deep_field(name: str) -> Step:
    step = _field(name)
    return lambda values: step(_descend(values))


def _union(steps: list[Step]) -> Step:
    if len(steps) == 1:
        return steps[0]

    def step(values: Iterable[Any]) -> list[Any]:
        held = list(values)
        return [found for each in steps for found in each(held)]

    return step


def _filter(text: str) -> Step:
    match = _COMPARISON.match(text)
    if match is None:
        path = compile_path(text)
        return lambda values: [each for each in _children(values) if path(each)]
    path, sign, wanted = compile_path(match.group(1)), match.group(2), _literal(match.group(3).strip())
    compare = _COMPARE[sign]

    def step(values: Iterable[Any]) -> list[Any]:
        return [
            each for each in _children(values) if any(_holds(compare, found, wanted) for found in path(each))
        ]

    return step


def _holds(compare: Callable[[Any, Any], bool], found: Any, wanted: Any) -> bool:
    try:
        return compare(found, wanted)
    except TypeError:
        return False


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def _literal(text: str) -> Any:
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted.group(1) or quoted.group(2) or "")
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        raise PathError(f"unrecognized value {text} in a filter") from None
