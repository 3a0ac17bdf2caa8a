from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store import sorted_keys
from orchestrator.store.sorted_keys import SortedKeys, end_of_prefix

TEXTS = st.text(alphabet="/ab\U0010ffff", max_size=5)
KEYS = TEXTS.filter(bool)


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=80), TEXTS, TEXTS)
def test_behaves_like_a_sorted_set(steps: list[tuple[bool, str]], prefix: str, start_after: str) -> None:
    original, sorted_keys.BLOCK_KEYS_MAX = sorted_keys.BLOCK_KEYS_MAX, 4
    try:
        keys, model = SortedKeys(), set()
        for add, key in steps:
            if add and key not in model:
                keys.add(key)
                model.add(key)
            elif not add and key in model:
                keys.remove(key)
                model.remove(key)
        expected = sorted(
            key for key in model if key.startswith(prefix) and (not start_after or key > start_after)
        )
        assert [key for part in keys.parts(prefix, start_after) for key in part] == expected
        assert keys.count(prefix, start_after) == len(expected)
    finally:
        sorted_keys.BLOCK_KEYS_MAX = original


@given(TEXTS, TEXTS)
def test_end_of_prefix_is_behind_all_with_the_prefix(prefix: str, rest: str) -> None:
    end = end_of_prefix(prefix)
    assert end is None or prefix + rest < end
    assert end is None or not end.startswith(prefix)
