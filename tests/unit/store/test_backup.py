"""The backup file: what is written comes back, and nothing that is not whole is taken for a backup."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.base.errors import StartupError
from orchestrator.store import backup
from orchestrator.store.backup import Backup, Contents, Kept

ENTRIES = [
    Kept(f"/registry/pods/default/p{n:03d}", bytes([n]) * 300, n + 1, n + 10, 2, n % 3) for n in range(40)
]
FILES = [("instance", b"abc123\n"), ("pki/ca.key", b"key"), ("config.toml", b"port = 1\n")]


def contents(entries: list[Kept] = ENTRIES) -> Contents:
    return Contents(
        "log", "0.1.0", "abc123", "2026-01-01T00:00:00+00:00", 77, 5, entries, [(1, 60), (2, 90)], FILES
    )


def written(path: Path, **change: object) -> Path:
    what = contents()
    for name, value in change.items():
        setattr(what, name, value)
    with path.open("wb") as stream:
        backup.write(stream, what)
    return path


def test_what_is_written_comes_back(tmp_path):
    found = Backup.open(written(tmp_path / "b"))
    assert (found.manifest.revision, found.manifest.entries, found.manifest.last_lease) == (77, 40, 5)
    assert list(found.entries()) == ENTRIES
    assert list(found.files()) == FILES
    assert found.leases() == [(1, 60), (2, 90)]


def test_entries_come_in_pieces_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(backup, "CHUNK_BYTES", 1000)
    found = Backup.open(written(tmp_path / "b"))
    assert len([name for name in found.manifest.members if name.startswith("store/0")]) > 10
    assert list(found.entries()) == ENTRIES


def test_an_empty_store_is_a_backup_too(tmp_path):
    found = Backup.open(written(tmp_path / "b", entries=[], leases=[], files=[]))
    assert (list(found.entries()), list(found.files()), found.leases()) == ([], [], [])


def test_nobody_else_may_read_what_is_unpacked(tmp_path):
    with tarfile.open(written(tmp_path / "b")) as tar:
        assert {member.mode for member in tar} == {0o600}


def test_a_truncated_backup_is_refused_wherever_it_ends(tmp_path):
    whole = written(tmp_path / "b").read_bytes()
    with tarfile.open(tmp_path / "b") as tar:
        last = tar.getmembers()[-1]
        end = last.offset_data + last.size
    cut = tmp_path / "cut"
    for size in [0, 1, 511, *range(512, end, 479), end - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(StartupError, match=r"damaged|ends too early"):
            Backup.open(cut)


@given(st.data())
@settings(max_examples=300)
def test_a_changed_byte_is_refused_or_harmless(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("b") / "b"
    whole = bytearray(written(path).read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    try:
        found = Backup.open(path)
    except StartupError:
        return
    assert list(found.entries()) == ENTRIES and list(found.files()) == FILES


def test_a_newer_format_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(backup, "FORMAT", 2)
    path = written(tmp_path / "b", version="9.9")
    monkeypatch.undo()
    with pytest.raises(StartupError, match=r"format 2, made by orchestrator 9\.9"):
        Backup.open(path)


def test_members_that_reach_out_of_the_directory_are_refused(tmp_path):
    path = tmp_path / "b"
    with tarfile.open(path, "w") as tar:
        for name in ("format.json", "files/../../etc/passwd"):
            info = tarfile.TarInfo(name)
            body = json.dumps({"format": 1, "version": "0"}).encode()
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    with pytest.raises(StartupError, match="does not belong"):
        Backup.open(path)


def test_something_else_is_no_backup(tmp_path):
    path = tmp_path / "b"
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(StartupError, match="damaged"):
        Backup.open(path)
    with pytest.raises(StartupError, match="can't be read"):
        Backup.open(tmp_path / "absent")
