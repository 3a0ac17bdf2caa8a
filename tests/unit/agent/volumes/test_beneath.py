"""Paths below a directory: by the kernel and by the walk, also while somebody exchanges what lies on the way."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.agent.volumes import subpaths
from orchestrator.agent.volumes.beneath import closing, make_beneath, open_beneath, walk
from orchestrator.base import mounting

AT_FDCWD, EXCHANGE = -100, 2
libc = ctypes.CDLL(None)
Open = Callable[[int, str], int]
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """`outside/secret` beside the directory that is opened."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    inside = tmp_path / "inside"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "a" / "b" / "file").write_text("content")
    for name, target in {
        "down": "a/b", "a/up": "../a", "out": "../outside", "a/b/far": "../../../outside",
        "absolute": str(tmp_path / "outside"), "loop": "loop", "nowhere": "a/none",
    }.items():  # fmt: skip
        (inside / name).symlink_to(target)
    descriptor = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("open_", [open_beneath, walk])
@pytest.mark.parametrize(
    "path", ["a/b/file", "down/file", "a/up/b/../b/file", "./a//b/file", "a/up/up/b/file"]
)
def test_what_lies_inside_is_opened(root: int, open_: Open, path: str) -> None:
    with closing(open_(root, path)) as found:
        assert Path(f"/proc/self/fd/{found}").read_text() == "content"


@pytest.mark.parametrize("open_", [open_beneath, walk])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("..", errno.EXDEV),
        ("a/../..", errno.EXDEV),
        ("/etc", errno.EXDEV),
        ("out/secret", errno.EXDEV),
        ("a/b/far", errno.EXDEV),
        ("absolute", errno.EXDEV),
        ("loop", errno.ELOOP),
        ("nowhere", errno.ENOENT),
        ("a/b/file/x", errno.ENOTDIR),
    ],
)
def test_what_leads_out_or_nowhere_is_refused(root: int, open_: Open, path: str, code: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r".") as raised:
        open_(root, path)
    assert raised.value.errno == code
    assert len(os.listdir("/proc/self/fd")) == before


def test_directories_are_made_inside_only(root: int, tmp_path: Path) -> None:
    with closing(make_beneath(root, "down/new/deep", 0o2750)) as found:
        assert os.fstat(found).st_mode & 0o7777 == 0o2750
    assert (tmp_path / "inside/a/b/new/deep").is_dir()
    for path in ("out/new", "absolute/new", "nowhere/new", "../new"):
        with pytest.raises(OSError, match=r"."):
            make_beneath(root, path, 0o755)
    assert sorted(entry.name for entry in (tmp_path / "outside").iterdir()) == ["secret"]


@NEEDS_ROOT
@pytest.mark.parametrize("part", ["swap/here", "swap/made"])
def test_a_link_that_is_exchanged_meanwhile_never_shows_what_is_outside(tmp_path: Path, part: str) -> None:
    """A container swaps a directory of its volume for a link to the host's files while the part is mounted."""
    volume, outside, stop = tmp_path / "volume", tmp_path / "outside", threading.Event()
    (volume / "swap").mkdir(parents=True)
    (volume / "swap" / "here").mkdir()
    (outside / "here").mkdir(parents=True)
    (outside / "here" / "secret").touch()
    (volume / "link").symlink_to(outside)

    def exchange() -> None:
        while not stop.is_set():
            libc.renameat2(
                AT_FDCWD, os.fsencode(volume / "swap"), AT_FDCWD, os.fsencode(volume / "link"), EXCHANGE
            )

    attacker = threading.Thread(target=exchange)
    attacker.start()
    shown = refused = 0
    try:
        for number in range(300):
            target = tmp_path / "targets" / str(number % 5)
            try:
                subpaths.mount_part(volume, part, target)
            except OSError:
                refused += 1
                continue
            shown += 1
            assert not (target / "secret").exists()
            mounting.unmount(target)
    finally:
        stop.set()
        attacker.join()
        mounting.unmount_below(tmp_path)
    assert shown + refused == 300
    assert sorted(entry.name for entry in outside.iterdir()) == ["here"]
