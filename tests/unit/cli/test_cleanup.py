"""What cleanup would unmount, and when it refuses."""

from pathlib import Path

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.cli.cleanup import _files, check_stopped, mounts_below
from orchestrator.config import Config
from orchestrator.store.disk import Disk

MOUNTINFO = r"""
22 1 0:20 / /proc rw - proc proc rw
30 1 0:50 / /data/pods/a/volumes/tmp rw - tmpfs tmpfs rw
31 30 0:51 / /data/pods/a/volumes/tmp/with\040space rw - tmpfs tmpfs rw
32 1 0:52 / /data rw - ext4 /dev/sdb rw
33 1 0:53 / /database rw - ext4 /dev/sdc rw
""".strip()


def test_mounts_below_our_directories_come_innermost_first():
    """The directory itself may be somebody's disk and stays, as does one whose name only begins like ours."""
    found = mounts_below((Path("/data"), Path("/run/x")), MOUNTINFO)
    assert found == ["/data/pods/a/volumes/tmp/with space", "/data/pods/a/volumes/tmp"]


def test_a_running_server_is_not_cleaned_up(tmp_path):
    check_stopped(tmp_path)
    (tmp_path / "store").mkdir()
    held = Disk().lock(tmp_path / "store" / "LOCK")
    with pytest.raises(StartupError, match="is running"):
        check_stopped(tmp_path)
    Disk().close(held)
    check_stopped(tmp_path)


@pytest.mark.parametrize("purge", [False, True])
async def test_volumes_elsewhere_are_kept_and_named(tmp_path, purge):
    config = Config(
        data_dir=tmp_path / "data",
        run_dir=tmp_path / "run",
        write_kubeconfig=tmp_path / "kubeconfig",
        local_path_dir=str(tmp_path / "volumes"),
    )
    (config.data_dir / "agent").mkdir(parents=True)
    (tmp_path / "volumes" / "pvc-1").mkdir(parents=True)
    said = await _files(config, purge)
    assert (tmp_path / "volumes" / "pvc-1").exists()
    assert f"; {tmp_path / 'volumes'} is kept" in said
    assert config.data_dir.exists() != purge
