"""Image references as docker reads them."""

import pytest

from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.runtime.references import parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "familiar"),
    [
        ("busybox", "docker.io", "library/busybox", "busybox:latest"),
        ("busybox:1.36", "docker.io", "library/busybox", "busybox:1.36"),
        ("docker.io/busybox", "docker.io", "library/busybox", "busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io", "library/busybox", "busybox:latest"),
        ("someone/app:v2", "docker.io", "someone/app", "someone/app:v2"),
        ("localhost/app", "localhost", "app", "localhost/app:latest"),
        ("localhost:5000/a/b:c", "localhost:5000", "a/b", "localhost:5000/a/b:c"),
        ("registry.example/x", "registry.example", "x", "registry.example/x:latest"),
        (f"registry.example/x@{DIGEST}", "registry.example", "x", f"registry.example/x@{DIGEST}"),
        (f"x:tag@{DIGEST}", "docker.io", "library/x", f"x@{DIGEST}"),
        ("orchestrator.internal/pause:1", "orchestrator.internal", "pause", "orchestrator.internal/pause:1"),
    ],
)
def test_references_are_normalised(text: str, registry: str, repository: str, familiar: str) -> None:
    reference = parse(text)
    assert (reference.registry, reference.repository, reference.familiar) == (registry, repository, familiar)


@pytest.mark.parametrize("text", ["", "Busybox", "a b", "x@sha256:12", "/x", "x/", "a//b", ":tag", "-x"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(RuntimeFailure) as failure:
        parse(text)
    assert failure.value.reason == "InvalidImageName"
