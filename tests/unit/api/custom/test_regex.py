import pytest

from orchestrator.api.custom.regex import LARGE_BYTES, SMALL_BYTES, PatternError, Patterns


def test_patterns_share_a_bounded_memory() -> None:
    patterns = Patterns(kept_bytes=4 * SMALL_BYTES)
    searches = [patterns.search_of(f"^a{i}$") for i in range(20)]
    assert patterns.kept_bytes == 4 * SMALL_BYTES
    assert all(search(f"a{i}") for i, search in enumerate(searches))  # one that is not kept still works
    assert patterns.search_of("^a19$") is searches[19]
    assert patterns.search_of("^a0$") is not searches[0]


def test_a_pattern_may_take_more_than_usual_but_not_anything() -> None:
    patterns = Patterns()
    assert patterns.search_of(r"^[\p{L}0-9]{1,63}$")("é")
    assert patterns.kept_bytes == LARGE_BYTES
    with pytest.raises(PatternError, match="error parsing regexp"):
        patterns.search_of(r"^(\pL{1,300}){1,300}$")
    with pytest.raises(PatternError, match="longer than"):
        patterns.search_of("a" * 20_000)
