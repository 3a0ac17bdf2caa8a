"""The demo's image is made of a program that runs without libraries."""

import sys
from pathlib import Path

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.cli.demo_image import is_static, static_busybox
from orchestrator.runtime.pause import program


def test_programs_with_an_interpreter_are_not_static():
    assert not is_static(Path("/bin/ls").read_bytes())
    assert not is_static(b"#!/bin/sh\n")
    assert not is_static(b"")


@pytest.mark.skipif(
    not Path("/usr/share/doc/busybox-static").is_dir(), reason="busybox-static is not installed"
)
def test_busybox_is_static():
    assert is_static(static_busybox(Path("/bin/busybox")))


def test_programs_without_one_are():
    assert is_static(program("amd64"))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(StartupError) as missing:
        static_busybox(tmp_path / "busybox")
    assert "busybox-static" in missing.value.fix
    with pytest.raises(StartupError, match="not a statically linked"):
        static_busybox(Path(sys.executable).resolve())
