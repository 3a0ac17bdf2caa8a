import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import job_indexes

INDEXES = st.sets(st.integers(0, 40))


@given(INDEXES, INDEXES)
def test_lists_say_what_sets_say(some, others):
    left, right = job_indexes.of(some), job_indexes.of(others)
    both = job_indexes.merged(left, right)
    assert both == job_indexes.of(some | others)
    assert (job_indexes.count(both), job_indexes.shared(left, right)) == (
        len(some | others),
        len(some & others),
    )
    assert [index for index in range(45) if job_indexes.contains(left, index)] == sorted(some)
    assert job_indexes.parse(job_indexes.text_of(left), 41) == job_indexes.parse(
        job_indexes.text_of(left), 50
    )
    assert job_indexes.known(job_indexes.text_of(left), 41) == left


@given(INDEXES, st.integers(0, 10), st.integers(0, 45))
def test_what_is_missing_comes_in_order(taken, number, completions):
    free = [index for index in range(completions) if index not in taken]
    assert job_indexes.missing(job_indexes.of(taken), number, completions) == free[:number]


@pytest.mark.parametrize(
    ("text", "completions", "known"),
    [
        ("", 5, []),
        ("0,2-4", 10, [(0, 0), (2, 4)]),
        ("0,1,3-4", 10, [(0, 1), (3, 4)]),
        ("0,2-9", 5, [(0, 0), (2, 4)]),
        ("0,7", 5, [(0, 0)]),
        ("x,2", 5, [(2, 2)]),
    ],
)
def test_a_list_is_read_as_far_as_the_job_goes(text, completions, known):
    assert job_indexes.known(text, completions) == known


@pytest.mark.parametrize(
    ("indexes", "text"), [((), ""), ((3,), "3"), ((3, 4), "3,4"), ((0, 2, 3, 4, 9), "0,2-4,9")]
)
def test_how_a_list_is_written(indexes, text):
    assert job_indexes.text_of(job_indexes.of(indexes)) == text
