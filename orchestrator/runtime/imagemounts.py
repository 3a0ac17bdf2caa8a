"""The files of an image as a volume: its layers laid over each other, read-only.

Blocking. Called by the runtimes, which know where layers lie and keep them there meanwhile.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from orchestrator.base import mounting
from orchestrator.runtime.interface import RuntimeFailure

OPTIONS_BYTES_MAX = 4095
"""The kernel takes one page."""


def key(target: str) -> str:
    """A name, for the engine, of what is kept for the mount at `target`."""
    return f"image-volume-{hashlib.sha256(target.encode()).hexdigest()[:24]}"


def mount(layers: Sequence[Path], target: Path) -> None:
    """Mount `layers`, the uppermost first, at `target` unless something is. Raises `RuntimeFailure`, `OSError`."""
    if mounting.is_mounted(target):
        return
    flags = mounting.MS_RDONLY
    if len(layers) > 1:
        options = "lowerdir=" + ":".join(str(layer).replace(":", "\\:") for layer in layers)
        if len(options) > OPTIONS_BYTES_MAX:
            raise RuntimeFailure(f"the image has too many layers ({len(layers)}) for a volume")
        mounting.mount("overlay", target, "overlay", options, flags)
        return
    if not layers:
        mounting.mount("tmpfs", target, "tmpfs", "size=4k", flags)
        return
    mounting.bind(layers[0], target)
    mounting.restrict(target, flags)
