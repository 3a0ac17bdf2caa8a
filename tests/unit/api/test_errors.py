"""Errors as `Status` objects."""

from orchestrator.api.errors import CAUSES_MAX, Cause, invalid


def test_an_object_with_very_many_faults_gets_a_short_answer() -> None:
    causes = tuple(
        Cause("FieldValueInvalid", "Invalid value", f"metadata.labels[{n}]") for n in range(10_000)
    )
    error = invalid("", "Pod", "p", causes)
    assert len(error.status()["details"]["causes"]) == CAUSES_MAX
    assert len(error.message) < 100 * CAUSES_MAX
    assert "metadata.labels[0]" in error.message
