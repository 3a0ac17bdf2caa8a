"""All strategies as the daemon builds them, and a fence around every object that goes into one."""

import copy
import random
from typing import Any

import pytest

from orchestrator.api.errors import Cause
from orchestrator.base.clock import VirtualClock
from orchestrator.registry.strategies import built_in


class Checked:
    """One kind's strategy; every call proves that its arguments were not mutated."""

    def __init__(self, strategy: Any) -> None:
        self.strategy = strategy

    def _call(self, name: str, *args: Any) -> Any:
        before = copy.deepcopy(args)
        result = getattr(self.strategy, name)(*args)
        assert args == before, f"{name} mutated its arguments"
        return result

    def _named(self, obj: dict[str, Any]) -> dict[str, Any]:
        where = {"namespace": "default"} if self.strategy.resource.namespaced else {}
        return {**obj, "metadata": {"name": "x", **where, **obj.get("metadata", {})}}

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        return self._call("prepare_create", self._named(obj))

    def update(self, new: dict[str, Any], old: dict[str, Any], subresource: str = "") -> dict[str, Any]:
        return self._call("prepare_update", self._named(new), old, subresource)

    def causes(self, new: dict[str, Any], old: dict[str, Any] | None = None, sub: str = "") -> list[Cause]:
        return self._call("validate", new, old, sub)

    def problems(self, obj: dict[str, Any]) -> list[str]:
        """`field: message` of what is wrong with a new object, after defaults."""
        return texts(self.causes(self.create(obj)))

    def update_problems(self, new: dict[str, Any], old: dict[str, Any], subresource: str = "") -> list[str]:
        return texts(self.causes(self.update(new, old, subresource), old, subresource))


def texts(causes: list[Cause]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


@pytest.fixture
def kind():
    """`kind("apps", "deployments")` gives the checked strategy."""
    strategies = built_in("10.43.0.0/24", range(30000, 30010), VirtualClock(), random.Random(1))
    return lambda group, plural: Checked(strategies[group, plural])
