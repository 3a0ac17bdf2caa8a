"""Which container a request means."""

from typing import Any

import pytest

from orchestrator.api.errors import BadRequest
from orchestrator.server.relay import container_of


def _pod(*names: str, init: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": n} for n in names], "initContainers": [{"name": n} for n in init]},
    }


def test_the_only_container_needs_no_name() -> None:
    assert container_of(_pod("a", init=("i",)), "") == "a"


def test_init_and_ephemeral_containers_can_be_named() -> None:
    pod = _pod("a", init=("i",))
    pod["spec"]["ephemeralContainers"] = [{"name": "debug"}]
    assert container_of(pod, "i") == "i"
    assert container_of(pod, "debug") == "debug"


@pytest.mark.parametrize(
    ("pod", "wanted", "message"),
    [
        (_pod("a", "b"), "", "a container name must be specified for pod p, choose one of: [a b]"),
        (
            _pod("a", "b", init=("i",)),
            "",
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
        ),
        (_pod("a"), "z", "container z is not valid for pod p"),
    ],
)
def test_unclear_and_unknown_containers_are_refused(pod: dict[str, Any], wanted: str, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        container_of(pod, wanted)
    assert refused.value.message == message
