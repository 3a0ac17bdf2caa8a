"""Quantities: exact values and canonical texts."""

import re
from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api import quantity

_FACTORS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
    "e3": Fraction(1000),
    "E-2": Fraction(1, 100),
    "e0": Fraction(1),
}


def _oracle(number: str, suffix: str) -> Fraction:
    """The value by plain fractions: at most 2^63-1, whole nano units away from zero."""
    exact = Fraction(Decimal(number)) * _FACTORS[suffix]
    size = min(Fraction(ceil(abs(exact) * 10**9), 10**9), Fraction(2**63 - 1))
    return size if exact >= 0 else -size


numbers = st.from_regex(r"[+-]?([0-9]{1,12}(\.[0-9]{0,6})?|\.[0-9]{1,6})", fullmatch=True)


@settings(max_examples=50)
@given(numbers, st.sampled_from(sorted(_FACTORS)))
def test_value_equals_plain_fractions(number, suffix):
    assert Fraction(quantity.parse(number + suffix)) == _oracle(number, suffix)


@settings(max_examples=50)
@given(numbers, st.sampled_from(sorted(_FACTORS)))
def test_canonical_text_keeps_the_value_and_is_stable(number, suffix):
    text = quantity.canonical(number + suffix)
    assert quantity.parse(text) == quantity.parse(number + suffix)
    assert quantity.canonical(text) == text
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)([numkMGTPE]|[KMGTPE]i|e-?[0-9]+)?", text)


@settings(max_examples=50)
@given(numbers, st.sampled_from(sorted(_FACTORS)))
def test_whole_and_milli_units_round_up(number, suffix):
    value = _oracle(number, suffix)
    assert quantity.as_int(number + suffix) == ceil(value)
    assert quantity.as_milli(number + suffix) == ceil(value * 1000)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.5", "500m"),
        ("1000m", "1"),
        (1, "1"),
        (0.25, "250m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000Ki", "1000Ki"),
        ("0.1Ki", "102400m"),
        ("512Ki", "512Ki"),
        ("1E3", "1e3"),
        ("1000000", "1M"),
        ("123e-1", "12300e-3"),
        ("0Mi", "0"),
        ("-0", "0"),
        ("0.0000000001", "1n"),
        ("5E", "5E"),
    ],
)
def test_canonical_form(text, canonical):
    assert quantity.canonical(text) == canonical


def test_resource_lists_round_up_to_milli():
    assert quantity.canonical_milli("100u") == "1m"
    assert quantity.canonical_milli("1500m") == "1500m"


@pytest.mark.parametrize(
    "text", ["", ".", "m", "1KI", "1 Gi", "1e", "--1", "1e3Mi", "0x1", "١", "9" * 200, "1\n\n2"]
)
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(quantity.QuantityError, match="quantities must match"):
        quantity.parse(text)
    assert not quantity.is_quantity(text)


def test_an_absurd_exponent_costs_nothing():
    assert quantity.parse("1e999999999") == 2**63 - 1
    assert quantity.canonical("1e-999999999") == quantity.canonical("1n").replace("1n", "1e-9")
