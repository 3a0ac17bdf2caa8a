"""Scores are clamped to what the host allows."""

from pathlib import Path

from orchestrator.runtime.oom import OOM_SCORE_ADJ_MIN, OomScores, floor


def proc(directory: Path, capabilities: str, score: int) -> Path:
    for name in ("self", "77"):
        (directory / name).mkdir()
        (directory / name / "status").write_text(f"Name:\tx\nCapEff:\t{capabilities}\n")
        (directory / name / "oom_score_adj").write_text(f"{score}\n")
    return directory


def test_with_the_capability_everything_is_allowed(tmp_path: Path) -> None:
    assert floor(77, proc(tmp_path, "000001ffffffffff", -500)) == OOM_SCORE_ADJ_MIN


def test_without_it_the_engines_own_score_is_the_lowest(tmp_path: Path) -> None:
    assert floor(77, proc(tmp_path, "000001fffeffffff", -500)) == -500


def test_an_engine_that_is_not_visible_counts_as_ourselves(tmp_path: Path) -> None:
    assert floor(4242, proc(tmp_path, "000001fffeffffff", 3)) == 3


def test_only_what_is_too_low_is_raised() -> None:
    scores = OomScores(-500)
    assert [scores.clamp(wanted) for wanted in (-999, -500, 0, 1000)] == [-500, -500, 0, 1000]
