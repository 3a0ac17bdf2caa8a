"""When thresholds act and pressures show, as a table of looks."""

import pytest

from orchestrator.agent.eviction.plan import State, advance, still_low
from orchestrator.agent.eviction.thresholds import Observation, Threshold, parse

HARD, SOFT, DISK = (
    parse(
        ["memory.available<100", "nodefs.available<10%"],
        ["memory.available<200"],
        ["memory.available=1m30s"],
        ["memory.available=50"],
    )[:3][0],
    parse([], ["memory.available<200"], ["memory.available=1m30s"])[0],
    parse(["nodefs.available<10%"])[0],
)
ALL = (HARD, SOFT, DISK)


def looked(state: State, now_s: float, memory: int = 1000, disk: int = 1000) -> State:
    seen = {"memory.available": Observation(memory, 1000), "nodefs.available": Observation(disk, 1000)}
    return advance(state, ALL, seen, now_s, 300.0)


def test_a_hard_threshold_acts_at_once_and_until_its_reclaim_is_free() -> None:
    first = looked(State(), 0, memory=99)
    assert first.acting == (HARD,) and first.pressures == {"MemoryPressure"}
    assert looked(first, 10, memory=140).acting == (HARD,), "50 more are to be free"
    assert looked(first, 10, memory=151).acting == ()


@pytest.mark.parametrize(
    ("looks", "acts"),
    [
        ([(0, 150), (80, 150)], False),
        ([(0, 150), (80, 150), (90, 150)], True),
        ([(0, 150), (80, 250), (90, 150), (170, 150)], False),
    ],
)
def test_a_soft_threshold_acts_after_its_grace_without_a_break(
    looks: list[tuple[float, int]], acts: bool
) -> None:
    state = State()
    for now_s, memory in looks:
        state = looked(state, now_s, memory=memory)
    assert (SOFT in state.acting) is acts
    assert state.pressures == {"MemoryPressure"}, "the pressure shows before it acts"


def test_a_pressure_shows_for_the_transition_period_after_it_was_last_seen() -> None:
    state = looked(State(), 0, disk=99)
    for now_s, shown in ((10, True), (299, True), (300, False)):
        state = looked(state, now_s)
        assert ("DiskPressure" in state.pressures) is shown
    assert state == State()


def test_memory_goes_first_and_hard_before_soft() -> None:
    state = looked(State(first_s={SOFT: -100.0}), 0, memory=50, disk=50)
    assert state.acting == (HARD, SOFT, DISK)
    assert state.pressures == {"MemoryPressure", "DiskPressure"}


def test_what_was_not_measured_acts_on_nothing() -> None:
    assert advance(State(), ALL, {}, 0, 300) == State()


@pytest.mark.parametrize(("available", "low"), [(149, True), (150, False)])
def test_a_reclaim_was_enough_when_its_amount_is_free(available: int, low: bool) -> None:
    threshold = Threshold(HARD.signal, HARD.value, reclaim=HARD.reclaim)
    assert still_low([threshold], {HARD.signal: Observation(available, 1000)}) is low
