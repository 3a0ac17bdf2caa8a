"""Every promise of durability ends in one of these system calls. Crash tests replace them, so they are watched here."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.disk import Disk


class Calls:
    """What was asked of the kernel, in order, and then done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[Any, ...]] = []
        for name in ("pwritev", "fdatasync", "fsync", "posix_fallocate", "ftruncate"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Any) -> Any:
        def watched(fd: int, *arguments: Any) -> Any:
            kind = "directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"
            self.made.append((name, kind, *(a for a in arguments if isinstance(a, int))))
            return call(fd, *arguments)

        return watched


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    fd = Disk().create(tmp_path / "file")
    yield fd
    os.close(fd)


def test_a_durable_write_asks_the_kernel_to_sync_what_it_writes(calls: Calls, file: int) -> None:
    Disk().write_durably(file, b"abc", 5)
    assert calls.made == [("pwritev", "file", 5, os.RWF_DSYNC)]
    assert os.pread(file, 10, 5) == b"abc"


def test_each_part_of_a_durable_write_that_the_kernel_cuts_is_synced(
    calls: Calls, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwritev

    def one_byte(fd: int, buffers: list[memoryview], offset: int, flags: int) -> int:
        return whole(fd, [buffers[0][:1]], offset, flags)

    monkeypatch.setattr(os, "pwritev", one_byte)
    Disk().write_durably(file, b"abc", 0)
    assert calls.made == [("pwritev", "file", at, os.RWF_DSYNC) for at in range(3)]
    assert os.pread(file, 10, 0) == b"abc"


def test_a_write_that_makes_no_progress_is_an_error(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    with pytest.raises(OSError) as raised:
        Disk().write_durably(file, b"abc", 0)
    assert raised.value.errno == errno.EIO


def test_a_plain_write_does_not_pay_for_a_sync_and_sync_makes_up_for_it(calls: Calls, file: int) -> None:
    Disk().write(file, b"abc", 0)
    Disk().sync(file)
    assert calls.made == [("pwritev", "file", 0, 0), ("fdatasync", "file")]


def test_lengths_are_durable(calls: Calls, file: int) -> None:
    """fdatasync would do for data, but the length and the blocks must be there too."""
    Disk().allocate(file, 0, 8192)
    Disk().truncate(file, 4096)
    assert calls.made == [
        ("posix_fallocate", "file", 0, 8192),
        ("fsync", "file"),
        ("ftruncate", "file", 4096),
        ("fsync", "file"),
    ]


def test_names_are_made_durable_on_their_directory(calls: Calls, tmp_path: Path) -> None:
    Disk().sync_directory(tmp_path)
    assert calls.made == [("fsync", "directory")]


def test_no_error_is_hidden_or_tried_again(calls: Calls, tmp_path: Path) -> None:
    read_only = os.open(tmp_path, os.O_RDONLY)
    disk = Disk()
    try:
        attempts: list[Callable[[], None]] = [
            lambda: disk.write(read_only, b"a", 0),
            lambda: disk.write_durably(read_only, b"a", 0),
            lambda: disk.allocate(read_only, 0, 1),
            lambda: disk.truncate(read_only, 0),
        ]
        for call in attempts:
            with pytest.raises(OSError):
                call()
    finally:
        os.close(read_only)
    assert [name for name, *_ in calls.made] == ["pwritev", "pwritev", "posix_fallocate", "ftruncate"]


def test_what_the_store_writes_is_for_its_owner_only(tmp_path: Path) -> None:
    disk = Disk()
    disk.make_directory(tmp_path / "store")
    for fd in (disk.create(tmp_path / "store" / "a"), disk.lock(tmp_path / "store" / "LOCK")):
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        os.close(fd)
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
