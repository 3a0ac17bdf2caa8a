"""Crash back-off as numbers."""

from dataclasses import replace

import pytest

from orchestrator.agent.pods.restarts import RestartBackoff, duration
from tests.unit.agent.builders import NOW_S, container, spec_of

APP = spec_of("app")


def ended(ran_s: float = 1.0):  # type: ignore[no-untyped-def]
    return container("app", "exited", code=1, ran_s=ran_s)


def after(crashes: int) -> RestartBackoff:
    backoff = RestartBackoff()
    for _ in range(crashes):
        backoff.count(APP, ended())
    return backoff


@pytest.mark.parametrize(
    ("crashes", "delay_s"), [(0, 0), (1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (60, 300)]
)
def test_the_delay_doubles_from_10_to_300_s(crashes: int, delay_s: float) -> None:
    assert after(crashes).due_s(APP, ended()) == ended().finished_s + delay_s


def test_the_first_start_counts_for_nothing() -> None:
    backoff = RestartBackoff()
    backoff.count(APP, None)
    assert backoff.delay_s(APP, ended()) == 0


def test_ten_minutes_of_running_forgive_everything() -> None:
    backoff = after(6)
    assert backoff.delay_s(APP, ended(ran_s=600)) == 0
    backoff.count(APP, ended(ran_s=600))
    assert backoff.delay_s(APP, ended()) == 10


def test_a_container_that_never_started_has_not_run_long() -> None:
    unstarted = replace(ended(), started_s=0.0, finished_s=NOW_S)
    assert after(2).delay_s(APP, unstarted) == 20


def test_another_image_is_another_container() -> None:
    assert after(6).delay_s({**APP, "image": "demo:2"}, ended()) == 0


def test_what_runs_is_not_due() -> None:
    assert after(6).due_s(APP, container("app")) == 0


@pytest.mark.parametrize(("seconds", "text"), [(10, "10s"), (60, "1m0s"), (160, "2m40s"), (300, "5m0s")])
def test_durations_read_as_in_kubernetes(seconds: float, text: str) -> None:
    assert duration(seconds) == text
