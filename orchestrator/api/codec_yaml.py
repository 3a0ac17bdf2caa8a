"""YAML to JSON values, straight from the parser's events: bounded in depth and in what aliases expand to.

Plain scalars are read as Kubernetes' YAML library does: `yes` and `on` are true, `0777` is octal, dates and
`22:22` stay text, keys become text. Building from events instead of PyYAML's node graph bounds depth before
recursion, and shows duplicate keys with their path. Called by `codec`; importing PyYAML waits for the first body.
"""

import re
from typing import Any

VALUES_MAX = 200_000
"""Values in one document, with every use of an alias counted anew."""

_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_number_start = frozenset("+-.0123456789")
_integer = re.compile(r"([-+]?)(0b[01_]+|0o[0-7_]+|0x[\da-fA-F_]+|0[0-7_]*|[1-9][\d_]*)", re.ASCII).fullmatch
_float = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII).fullmatch
_special = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)").fullmatch
_CORE_TAG = "tag:yaml.org,2002:"


class YamlError(ValueError):
    """A document that can't be read as JSON. Says why, with the line."""


def decode_yaml(data: bytes, depth_max: int) -> tuple[Any, list[str], list[str]]:
    """The first document's value, the paths of its duplicate keys and the same in words. Raises `YamlError`."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = data.decode()
        builder = _Builder(depth_max)
        for event in yaml.parse(text, Loader=loader):
            builder.take(type(event).__name__, event)
            if builder.done:
                break
    except UnicodeDecodeError as error:
        raise YamlError(f"it is not UTF-8: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from None
    return builder.root, builder.duplicates, builder.repeats


class _Frame:
    """A list or map that is being filled. `key` is the map's key that waits for its value."""

    __slots__ = ("anchor", "count", "key", "path", "value")

    def __init__(self, value: Any, path: str, anchor: str | None, count: int) -> None:
        self.value = value
        self.path = path
        self.anchor = anchor
        self.count = count
        self.key: str | None = None


class _Builder:
    """Takes events in order. Owner of the value under construction."""

    def __init__(self, depth_max: int) -> None:
        self.root: Any = None
        self.done = False
        self.duplicates: list[str] = []
        self.repeats: list[str] = []
        self._depth_max = depth_max
        self._stack: list[_Frame] = []
        self._merges: dict[int, list[Any]] = {}
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0

    def take(self, kind: str, event: Any) -> None:
        if kind == "ScalarEvent":
            self._scalar(event)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._open({} if kind == "MappingStartEvent" else [], event)
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._close()
        elif kind == "AliasEvent":
            self._alias(event)
        elif kind == "DocumentEndEvent":
            self.done = True

    def _scalar(self, event: Any) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._key(frame, event)
            return
        value = _resolve(event)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._add(value, 1)

    def _key(self, frame: _Frame, event: Any) -> None:
        plain = event.value == "<<" and event.implicit[0]
        frame.key = "<<" if plain else _key_text(_resolve(event))
        if not plain and frame.key in frame.value:
            self.duplicates.append(_joined(frame.path, frame.key))
            line = event.start_mark.line + 1
            self.repeats.append(f'line {line}: key "{frame.key}" already set in map')

    def _open(self, value: Any, event: Any) -> None:
        _known_tag(event)
        if len(self._stack) >= self._depth_max:
            raise YamlError(f"it is nested deeper than {self._depth_max} levels")
        self._stack.append(_Frame(value, self._here(event), event.anchor, self._count))

    def _here(self, event: Any) -> str:
        """The path of the value that comes next."""
        if not self._stack:
            return ""
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            return f"{frame.path}[{len(frame.value)}]"
        if frame.key is None:
            raise YamlError(f"a key is not plain text, line {event.start_mark.line + 1}")
        return _joined(frame.path, frame.key)

    def _close(self) -> None:
        frame = self._stack.pop()
        for source in self._merges.pop(id(frame.value), ()):
            for key, part in source.items():
                frame.value.setdefault(key, part)
        if frame.anchor:
            self._anchors[frame.anchor] = (frame.value, self._count - frame.count + 1)
        self._add(frame.value, 1)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise YamlError(
                f"alias {event.anchor!r} is unknown or contains itself, line {event.start_mark.line + 1}"
            )
        value, count = self._anchors[event.anchor]
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            frame.key = _key_text(value)
            return
        self._spend(count)
        self._add(_copied(value, self._depth_max - len(self._stack)), 0)

    def _add(self, value: Any, count: int) -> None:
        self._spend(count)
        if not self._stack:
            self.root = value
            return
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            frame.value.append(value)
            return
        key, frame.key = frame.key, None
        if key == "<<":
            self._merges.setdefault(id(frame.value), []).extend(_mergeable(value))
        else:
            frame.value[key] = value

    def _spend(self, count: int) -> None:
        self._count += count
        if self._count > VALUES_MAX:
            raise YamlError(f"it holds more than {VALUES_MAX} values once aliases are expanded")


def _mergeable(value: Any) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in found):
        raise YamlError("only maps can be merged with <<")
    return found


def _copied(value: Any, depth_left: int) -> Any:
    """A copy that shares nothing, so that no two places of an object are the same dictionary."""
    if isinstance(value, dict | list) and depth_left <= 0:
        raise YamlError("aliases nest it too deeply")
    if isinstance(value, dict):
        return {key: _copied(part, depth_left - 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_copied(part, depth_left - 1) for part in value]
    return value


def _resolve(event: Any) -> Any:
    """The JSON value of a scalar, by its tag, its quotes and its look."""
    text: str = event.value
    tag = event.tag
    if tag is None or tag == "!":
        return _plain(text) if event.implicit[0] and tag is None else text
    short = _known_tag(event)
    if short == "str":
        return text
    if short == "binary":
        return _binary(text)
    value = _plain(text)
    kinds = {"null": (type(None),), "bool": (bool,), "int": (int,), "float": (int, float)}
    if type(value) not in kinds.get(short, ()):
        raise YamlError(f"{text[:40]!r} is no {short}, line {event.start_mark.line + 1}")
    return value


def _known_tag(event: Any) -> str:
    tag = event.tag or ""
    if tag in ("", "!"):
        return ""
    short = str(tag.removeprefix(_CORE_TAG))
    if short not in ("str", "int", "float", "bool", "null", "map", "seq", "binary"):
        raise YamlError(f"tag {tag[:60]!r} is not in use, line {event.start_mark.line + 1}")
    return short


def _plain(text: str) -> Any:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text in _NULLS:
        return None
    if text[0] not in _number_start or len(text) > 400:
        return text
    if match := _integer(text):
        return _whole(match[1], match[2].replace("_", ""))
    if _float(text):
        number = float(text)
        return int(number) if number.is_integer() and abs(number) < 1e18 else number
    if _special(text):
        raise YamlError(f"{text} has no JSON form")
    return text


def _whole(sign: str, digits: str) -> int:
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2].lower(), 8 if digits[0] == "0" else 10)
    number = int(digits[2:] if digits[:2] in ("0b", "0o", "0x") else digits, base)
    return -number if sign == "-" else number


def _binary(text: str) -> str:
    import base64

    try:
        return base64.b64decode(text).decode()
    except ValueError as error:
        raise YamlError(f"binary text can't be decoded: {error}") from None


def _key_text(value: Any) -> str:
    """JSON has text keys only."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise YamlError("a key is null, a list or a map")


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
