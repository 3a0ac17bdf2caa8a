"""The words of events about images."""

import pytest

from orchestrator.agent.images import texts
from orchestrator.agent.images.pulling import Ready
from orchestrator.runtime.interface import Image

IMAGE = Image("sha256:1", ("a:1",), size_bytes=1234)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.33, "330ms"),
        (1.2, "1.2s"),
        (2.3456, "2.345s"),
        (60, "1m0s"),
        (62.5, "1m2.5s"),
        (3600, "1h0m0s"),
    ],
)
def test_durations_read_as_kubernetes_prints_them(seconds: float, text: str) -> None:
    assert texts.duration(seconds) == text


def test_an_image_is_told_with_time_and_size() -> None:
    assert texts.pulled("a:1", Ready(IMAGE)).startswith('Container image "a:1" already present on machine')
    assert (
        texts.pulled("a:1", Ready(IMAGE, 1.2, 0.1))
        == 'Successfully pulled image "a:1" in 1.2s (1.3s including waiting). Image size: 1234 bytes.'
    )
