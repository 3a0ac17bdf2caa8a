"""For all tests: hypothesis without deadlines (the machines are noisy) and, by default, without chance.

`HYPOTHESIS_PROFILE=random` draws anew on each run, for long campaigns. Where pytest runs several tests at once, those
that change the host, or look whether it is as it was, stay together and run one after the other.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ON_THE_HOST = (
    "e2e/",
    "contract/test_dataplane.py",
    "contract/test_runtime.py",
    "unit/agent/volumes/test_podvolumes.py",
    "unit/cli/test_cleanup.py",
    "unit/store/test_full_disk.py",
)
"""Namespaces, links, rules, mounts, engines."""

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # Before xdist reads the marks.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and str(item.path.relative_to(HERE)).startswith(ON_THE_HOST):
            item.add_marker(pytest.mark.xdist_group("host"))


settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
