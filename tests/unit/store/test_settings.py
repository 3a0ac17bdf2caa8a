"""Settings that would make the store unusable are refused with the key's name."""

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.store.settings import LogSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [("segment_bytes", 0), ("history_s", -1), ("history_bytes", "1"), ("snapshot_bytes", True)],
)
def test_value_outside_its_bounds_names_the_key(name: str, value: object) -> None:
    with pytest.raises(StartupError, match=rf"store_{name} is"):
        LogSettings(**{name: value})
