"""Which OCI runtime a handler means."""

import pytest

from orchestrator.runtime.containerd_handlers import Handler, available, handler
from orchestrator.runtime.interface import RuntimeFailure

ALL = {
    "runc": "/bin/runc",
    "crun": "/bin/crun",
    "containerd-shim-kata-v2": "/s",
    "containerd-shim-runsc-v1": "/s",
}
CRUN_ONLY = {"crun": "/bin/crun"}


@pytest.mark.parametrize(
    ("name", "host", "wanted"),
    [
        ("", ALL, Handler()),
        ("", CRUN_ONLY, Handler(program="/bin/crun")),
        ("crun", ALL, Handler(program="/bin/crun")),
        ("runc", ALL, Handler(program="/bin/runc")),
        ("kata", ALL, Handler("io.containerd.kata.v2")),
        ("io.containerd.kata.v2", ALL, Handler("io.containerd.kata.v2")),
        ("runsc", ALL, Handler("io.containerd.runsc.v1")),
    ],
)
def test_handlers(name: str, host: dict[str, str], wanted: Handler) -> None:
    assert handler(name, host.get) == wanted


@pytest.mark.parametrize("name", ["runc", "kata", "test-handler"])
def test_what_the_host_lacks_is_refused_by_name(name: str) -> None:
    with pytest.raises(RuntimeFailure, match=f'no runtime for "{name}" is configured'):
        handler(name, CRUN_ONLY.get)


def test_those_that_are_there_are_told() -> None:
    assert available(ALL.get) == ["", "runc", "crun"]
