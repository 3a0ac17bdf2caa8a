"""Resource quantities: `100m`, `1.5Gi`, `2e3`. Exact decimals, parsed once per distinct text.

A quantity is a `Decimal` between ±(2^63-1), rounded away from zero to whole nano units as Kubernetes does.
Sums and comparisons are ordinary arithmetic. Called by strategies, scheduler, agent and printing.
"""

import re
from decimal import ROUND_CEILING, ROUND_UP, Context, Decimal
from functools import lru_cache

Quantity = Decimal

_TEXT_LENGTH_MAX = 128
_WIDE = Context(prec=300, rounding=ROUND_UP)
_NANO = Decimal("1e-9")
_MAX = Decimal(2**63 - 1)
_split = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?([eE][+-]?\d{1,9}|[numkMGTPE]|[KMGTPE]i)?", re.ASCII).fullmatch

_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIXES = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_BINARY_NAMES = {power: suffix for suffix, power in _BINARY_SUFFIXES.items()}


class QuantityError(ValueError):
    """The text is no quantity. The message is Kubernetes'."""


def parse(value: str | int | float | Decimal) -> Quantity:
    """The quantity's exact value. Raises `QuantityError`."""
    if isinstance(value, Decimal):
        return value
    return _parse(_text(value))[0]


def is_quantity(value: object) -> bool:
    """Whether `value`, as it stands in an object, is a quantity."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        parse(value)
    except QuantityError:
        return False
    return True


def as_milli(value: str | int | float | Decimal) -> int:
    """Thousandths, rounded up: CPU shares, scores."""
    return _up(parse(value) * 1000)


def as_int(value: str | int | float | Decimal) -> int:
    """Whole units, rounded up: bytes, counts."""
    return _up(parse(value))


def canonical(value: str | int | float) -> str:
    """The text the API answers for `value`: `0.5` → `500m`, `1024Mi` → `1Gi`. Raises `QuantityError`."""
    return _canonical(_text(value))


def canonical_milli(value: str | int | float) -> str:
    """`canonical`, rounded up to whole thousandths, as resource lists are defaulted."""
    return _canonical_milli(_text(value))


def style_of(value: str | int | float) -> str:
    """How `value` is written: `decimal`, `binary` or `exponent`. Raises `QuantityError`."""
    return _parse(_text(value))[1]


def render(value: Decimal, style: str = "decimal") -> str:
    """A canonical text of `value`; `style` is `decimal` (k, M, G), `binary` (Ki, Mi) or `exponent`."""
    if not value:
        return "0"
    if style == "binary" and abs(value) >= 1024 and value == value.to_integral_value():
        return _binary(int(value))
    return _decimal(value, style)


def _text(value: str | int | float) -> str:
    return value.strip() if isinstance(value, str) else repr(value)


def _up(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=8192)
def _canonical(text: str) -> str:
    value, style = _parse(text)
    return render(value, style)


@lru_cache(maxsize=8192)
def _canonical_milli(text: str) -> str:
    value, style = _parse(text)
    milli = value * 1000
    if milli != milli.to_integral_value():
        value = milli.to_integral_value(ROUND_UP) / 1000
    return render(value, style)


@lru_cache(maxsize=8192)
def _parse(text: str) -> tuple[Decimal, str]:
    """Value and style of `text`."""
    match = _split(text) if len(text) <= _TEXT_LENGTH_MAX else None
    if not match or not (match[2] or match[3]):
        raise QuantityError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    sign, whole, fraction, suffix = match[1], match[2], match[3] or "", match[4] or ""
    digits = Decimal(f"{sign}{whole or '0'}.{fraction or '0'}")
    if suffix in _BINARY_SUFFIXES:
        value, style = _WIDE.multiply(digits, Decimal(1024 ** _BINARY_SUFFIXES[suffix])), "binary"
    elif suffix in _DECIMAL_SUFFIXES:
        value, style = digits.scaleb(_DECIMAL_SUFFIXES[suffix], _WIDE), "decimal"
    else:
        value, style = _scaled(digits, int(suffix[1:])), "exponent"
    return _bounded(value), style


def _scaled(digits: Decimal, exponent: int) -> Decimal:
    """`digits`·10^exponent, with exponents beyond any representable value cut down first."""
    return digits.scaleb(max(-300, min(300, exponent)), _WIDE)


def _bounded(value: Decimal) -> Decimal:
    if value > _MAX:
        return _MAX
    if value < -_MAX:
        return -_MAX
    return value if value == value.to_integral_value() else _WIDE.quantize(value, _NANO)


def _binary(value: int) -> str:
    power = 0
    while value % 1024 == 0 and power < 6:
        value //= 1024
        power += 1
    return f"{value}{_BINARY_NAMES.get(power, '')}"


def _decimal(value: Decimal, style: str) -> str:
    sign, digits, exponent = _WIDE.normalize(value).as_tuple()
    assert isinstance(exponent, int)
    exponent_of_3 = exponent - exponent % 3
    mantissa = "".join(map(str, digits)) + "0" * (exponent - exponent_of_3)
    suffix = _DECIMAL_NAMES[exponent_of_3] if style != "exponent" else f"e{exponent_of_3}"
    if style == "exponent" and not exponent_of_3:
        suffix = ""
    return f"{'-' if sign else ''}{mantissa}{suffix}"
