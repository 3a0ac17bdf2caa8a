"""The table of mounts: read as the kernel writes it, and what lies below or holds a directory."""

from pathlib import Path

from orchestrator.base.mounting import MountPoint, below, holding, parse

TABLE = """\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:25 / /pods rw,relatime - tmpfs tmpfs rw
31 30 0:26 / /pods/a/vol\\040ume rw shared:7 master:3 propagate_from:2 - tmpfs tmpfs rw
32 30 0:27 / /podsother rw - tmpfs tmpfs rw
33 31 0:28 / /pods/a/vol\\040ume rw - nfs4 server:/x rw
"""


def test_the_table_is_read_with_its_odd_names_and_optional_fields() -> None:
    assert parse(TABLE)[2] == MountPoint("/pods/a/vol ume", "tmpfs", shared=True)
    assert [(point.kind, point.shared) for point in parse(TABLE)] == [
        ("ext4", True), ("tmpfs", False), ("tmpfs", True), ("tmpfs", False), ("nfs4", False),
    ]  # fmt: skip


def test_below_means_strictly_and_the_newest_first() -> None:
    found = below(Path("/pods"), parse(TABLE))
    assert [(point.path, point.kind) for point in found] == [
        ("/pods/a/vol ume", "nfs4"), ("/pods/a/vol ume", "tmpfs"),
    ]  # fmt: skip


def test_a_directory_lies_on_the_innermost_and_newest_mount() -> None:
    table = parse(TABLE)
    for path, kind in (
        ("/pods/a", "tmpfs"),
        ("/pods/a/vol ume/x", "nfs4"),
        ("/podsx", "ext4"),
        ("/", "ext4"),
    ):
        found = holding(Path(path), table)
        assert found is not None and found.kind == kind
