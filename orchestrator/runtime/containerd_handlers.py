"""Which OCI runtime runs a pod on containerd: the handler of its RuntimeClass, found on this host. Pure but for PATH.

A handler is a program that takes runc's commands (`runc`, `crun`, `youki`), or the name of a shim of its own
(`kata`, `runsc`, `io.containerd.kata.v2`). Called by `containerd_sandboxes` and `containerd`.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.runtime.interface import RuntimeFailure

RUNC_SHIM = "io.containerd.runc.v2"
PROGRAMS = ("runc", "crun", "youki")
VERSIONS = ("v2", "v1")
PREFIX = "io.containerd."

Which = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Handler:
    """The shim's name for containerd, and the program that it runs; an empty one is the shim's choice."""

    shim: str = RUNC_SHIM
    program: str = ""


def handler(name: str, which: Which = shutil.which) -> Handler:
    """For the handler `name`, empty for the default. Raises `RuntimeFailure` where the host has none."""
    if not name:
        return Handler(program="" if which("runc") else which("crun") or "")
    if name in PROGRAMS:
        if program := which(name):
            return Handler(program=program)
    elif shim := _shim(name, which):
        return Handler(shim)
    raise RuntimeFailure(f'no runtime for "{name}" is configured', "CreatePodSandboxError")


def _shim(name: str, which: Which) -> str:
    short, _, version = name.removeprefix(PREFIX).partition(".")
    for wanted in (version,) if version else VERSIONS:
        if which(f"containerd-shim-{short}-{wanted}"):
            return f"{PREFIX}{short}.{wanted}"
    return ""


def available(which: Which = shutil.which) -> list[str]:
    """Handlers by name that this host has, the default one (empty) first."""
    return ["", *(name for name in PROGRAMS if which(name))]
