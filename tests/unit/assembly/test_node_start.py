"""A start of the host's own node that fails leaves nothing open, so that the next one can take the same ports."""

import random
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.api.item import Object
from orchestrator.assembly.nodes import Nodes
from orchestrator.base.clock import VirtualClock
from orchestrator.config import Config


def _prepared(pod: Object) -> Object:
    return pod


async def test_a_failed_start_ends_what_it_began_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(replace(Config(), data_dir=tmp_path), "abc123", VirtualClock(), random.Random(1), _prepared)
    taken: set[str] = set()
    fails = [True, False]

    async def start(*_: object) -> None:
        assert "port 53" not in taken
        taken.add("port 53")
        nodes._stack.callback(taken.discard, "port 53")
        if fails.pop(0):
            raise TimeoutError("the engine went away again")

    monkeypatch.setattr(nodes, "_start_own", start)
    whole: AsyncExitStack = nodes._stack
    with pytest.raises(TimeoutError):
        await nodes.start_own(*[None] * 3)  # type: ignore[arg-type]
    assert (taken, nodes._stack) == (set(), whole)
    await nodes.start_own(*[None] * 3)  # type: ignore[arg-type]
    assert taken == {"port 53"}
    await nodes.stop()
    assert not taken
