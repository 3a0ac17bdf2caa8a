"""Layers of an image over each other: the uppermost wins, nothing is writable, however many there are."""

import os
from pathlib import Path

import pytest

from orchestrator.base import mounting
from orchestrator.runtime import imagemounts
from orchestrator.runtime.interface import RuntimeFailure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_layers_are_shown_read_only(tmp_path: Path, count: int) -> None:
    layers = [tmp_path / f"layer {number}:{number}" for number in range(count)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / "all").write_text(str(number))
        (layer / str(number)).touch()
    target = tmp_path / "target"
    target.mkdir()
    try:
        for _ in range(2):
            imagemounts.mount(layers, target)
        names = sorted(entry.name for entry in target.iterdir())
        assert names == [*map(str, range(count)), *(["all"] if count else [])]
        assert not count or (target / "all").read_text() == "0"
        with pytest.raises(OSError, match="Read-only file system"):
            (target / "new").touch()
    finally:
        mounting.unmount_below(tmp_path)


def test_more_layers_than_the_kernel_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"too many layers \(200\)"):
        imagemounts.mount([tmp_path / ("x" * 50)] * 200, tmp_path)
