"""The `format`s that texts of custom objects are checked for, named as OpenAPI and Kubernetes do. Pure.

A format that is not here says nothing, as in Kubernetes; `unrecognized` tells the author so.
"""

import base64
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime

from orchestrator.api import names, quantity

Accepts = Callable[[str], object]

LENGTH_MAX = 4096
"""Longer texts have none of the formats but `byte` and `password`."""


def _pattern(text: str, flags: int = re.ASCII) -> Accepts:
    return re.compile(text, flags).fullmatch


def _uuid(version: str, variant: str = "[0-9a-f]") -> Accepts:
    text = f"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{version}[0-9a-f]{{3}}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}"
    return _pattern(text, re.ASCII | re.IGNORECASE)


def _parses(parse: Callable[[str], object]) -> Accepts:
    def accepts(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, OverflowError):
            return False
        return True

    return accepts


def _byte(text: str) -> object:
    return base64.b64decode(text.encode("ascii"), validate=True)


def _is_quantity(text: str) -> bool:
    try:
        quantity.canonical(text)
    except quantity.QuantityError:
        return False
    return True


_DATE_TIME = _pattern(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:?\d\d)?")


def _is_date_time(text: str) -> bool:
    if not _DATE_TIME(text):
        return False
    try:
        datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))
    except ValueError:
        return False
    return True


def _digits(text: str) -> str:
    return re.sub(r"[- ]", "", text)


def _isbn10(text: str) -> bool:
    digits = _digits(text)
    if not re.fullmatch(r"\d{9}[\dX]", digits, re.ASCII):
        return False
    values = [10 if char == "X" else int(char) for char in digits]
    return sum((10 - at) * value for at, value in enumerate(values)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = _digits(text)
    if not re.fullmatch(r"\d{13}", digits, re.ASCII):
        return False
    return sum(int(char) * (3 if at % 2 else 1) for at, char in enumerate(digits)) % 10 == 0


_CREDIT_CARD = _pattern(
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})"
)
_URI = _pattern(r"([A-Za-z][A-Za-z0-9+.-]*:[^\s]*|/[^\s]*)")
_EMAIL = _pattern(r"(?:[^<>@,;]*<)?[^\s<>@,;]+@[^\s<>@,;]+>?", 0)
_DURATION = _pattern(
    r"[+-]?(?:0|(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))*"
    r"|\d+ ?(?:d|day|days|h|hour|hours|m|min|minute|minutes|s|sec|second|seconds|ms|milli|millis|millisecond"
    r"|milliseconds|us|micro|micros|microsecond|microseconds|ns|nano|nanos|nanosecond|nanoseconds|w|week|weeks)",
    0,
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = _pattern(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_RGB = _pattern(r"rgb\((?:(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5]),){2}(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])\)")

_FORMATS: dict[str, Accepts] = {
    "bsonobjectid": _pattern(r"[0-9a-fA-F]{24}"),
    "uri": _URI,
    "email": _EMAIL,
    "hostname": _HOSTNAME,
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": lambda text: "/" in text and _parses(lambda part: ipaddress.ip_network(part, strict=False))(text),
    "mac": _pattern(r"([0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5,19})|([0-9a-fA-F]{4}(\.[0-9a-fA-F]{4}){2,9})"),
    "uuid": _uuid("[0-9a-f]"),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", "[89ab]"),
    "uuid5": _uuid("5", "[89ab]"),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": lambda text: _CREDIT_CARD(re.sub(r"\D", "", text)),
    "ssn": _pattern(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "hexcolor": _pattern(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _RGB,
    "byte": _parses(_byte),
    "password": lambda text: True,
    "date": lambda text: len(text) == 10 and _parses(date.fromisoformat)(text),
    "duration": _DURATION,
    "datetime": _is_date_time,
    "quantity": _is_quantity,
    "k8sshortname": lambda text: not names.is_dns1123_label(text),
    "k8slongname": lambda text: not names.is_dns1123_subdomain(text),
}
_OF_ANY_LENGTH = ("byte", "password")
_NUMBERS = {"integer": ("int32", "int64"), "number": ("float", "double")}


def accepts_of(name: str) -> Accepts | None:
    """The check of a text's format; None for one that is not known, which says nothing."""
    name = name.replace("-", "")
    accepts = _FORMATS.get(name)
    if accepts is None or name in _OF_ANY_LENGTH:
        return accepts
    return lambda text: len(text) <= LENGTH_MAX and accepts(text)


def unrecognized(kind: str, name: str) -> bool:
    """Whether a schema of this `type` names a format that is not looked at."""
    if kind in ("", "string"):
        return accepts_of(name) is None
    return name not in _NUMBERS.get(kind, ())
