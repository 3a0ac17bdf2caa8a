"""Volumes on a real disk: contents, modes, atomic change, sub-paths, removal."""

import asyncio
import base64
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.containers.env import ConfigError, PodFacts
from orchestrator.agent.containers.podfiles import DnsSettings
from orchestrator.agent.podspec import timestamp
from orchestrator.agent.volumes.atomic import File, write
from orchestrator.agent.volumes.containermounts import Place, container_mounts
from orchestrator.agent.volumes.errors import SubPathError, VolumeError
from orchestrator.agent.volumes.images import ImageVolumes
from orchestrator.agent.volumes.podvolumes import Volumes
from orchestrator.agent.volumes.sources import Sources
from orchestrator.agent.volumes.tokens import Tokens
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.base import mounting
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.simulated import SimulatedRuntime
from tests.unit.agent.builders import Json, pod, spec_of

FACTS = PodFacts("10.42.0.2", "192.0.2.7", "n1", {"cpu": "4", "memory": "8Gi"})
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and other owners need root")


class Node:
    """Volumes over objects that a test may change."""

    def __init__(self, root: Path) -> None:
        self.clock = VirtualClock()
        self.objects: dict[tuple[str, str], Object] = {}
        self.requests: list[Object] = []
        self.refuses = False
        self.engine = SimulatedRuntime(self.clock, Supervisor("engine", self.clock))
        dns = DnsSettings("10.43.0.10", "cluster.local")
        sources = Sources(self._fetch, self, Tokens(self._token, self.clock), self.clock)
        self.volumes = Volumes(root / "pods", sources, dns, ImageVolumes(self.engine))

    async def get(self, pod_uid: str, resource: Resource, namespace: str, name: str) -> Object:
        return await self._fetch(resource, namespace, name)

    def forget(self, pod_uid: str) -> None:
        return None

    async def _fetch(self, resource: Resource, namespace: str, name: str) -> Object:
        if (resource.plural, name) not in self.objects:
            raise NotFound(f"{resource.plural} {name} not found")
        return self.objects[resource.plural, name]

    async def _token(self, pod: Object, source: Object) -> Object:
        if self.refuses:
            raise NotFound('serviceaccounts "default" not found')
        self.requests.append(source)
        ends = timestamp(self.clock.now_s() + source.get("expirationSeconds", 3600))
        return {"status": {"token": f"token-{len(self.requests)}", "expirationTimestamp": ends}}

    async def one(self, volume: Json, **spec: Any) -> Path:
        desired = pod(volumes=[{"name": "v", **volume}], **spec)
        return (await self.volumes.prepare(desired, FACTS))["v"].path


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    made.objects["configmaps", "settings"] = {"data": {"a": "1", "b": "2"}}
    made.objects["secrets", "keys"] = {"data": {"k": base64.b64encode(b"\x00\xff").decode()}}
    return made


def content(path: Path) -> dict[str, bytes]:
    """What a container sees: visible names only."""
    found: dict[str, bytes] = {}
    for where, directories, names in os.walk(path, followlinks=True):
        directories[:] = [name for name in directories if not name.startswith("..")]
        for name in names:
            if not name.startswith(".."):
                found[os.path.relpath(os.path.join(where, name), path)] = Path(where, name).read_bytes()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_config_map_volume_holds_its_keys(node: Node) -> None:
    path = await node.one({"configMap": {"name": "settings"}})
    assert content(path) == {"a": b"1", "b": b"2"}
    assert mode(path / "a") == 0o644


async def test_items_choose_and_place_keys(node: Node) -> None:
    items = [{"key": "a", "path": "deep/er/x", "mode": 0o600}, {"key": "b", "path": "y"}]
    path = await node.one({"configMap": {"name": "settings", "items": items, "defaultMode": 0o440}})
    assert {name: (data, mode(path / name)) for name, data in content(path).items()} == {
        "deep/er/x": (b"1", 0o600), "y": (b"2", 0o440),
    }  # fmt: skip


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("volume", "in_memory"),
    [
        ({"secret": {"secretName": "keys"}}, True),
        ({"projected": {"sources": [{"secret": {"name": "keys"}}]}}, True),
        ({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}, True),
        ({"projected": {"sources": [{"configMap": {"name": "settings"}}]}}, False),
        ({"configMap": {"name": "settings"}}, False),
    ],
)
async def test_secrets_never_reach_the_disk(node: Node, volume: Json, in_memory: bool) -> None:
    path = await node.one(volume)
    assert mounting.is_mounted(path, "tmpfs") is in_memory
    assert list(path.iterdir())


async def test_a_secret_volume_holds_bytes(node: Node) -> None:
    path = await node.one({"secret": {"secretName": "keys", "defaultMode": 0o400}})
    assert content(path) == {"k": b"\x00\xff"}
    assert mode(path / "k") == 0o400


async def test_downward_api_and_projection(node: Node) -> None:
    field = {"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}
    sources: list[Json] = [
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "keys"}},
        {"downwardAPI": {"items": [field]}},
        {"serviceAccountToken": {"path": "token"}},
    ]
    path = await node.one({"projected": {"sources": sources}})
    assert content(path) == {"a": b"1", "b": b"2", "k": b"\x00\xff", "ns": b"default", "token": b"token-1"}


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        (
            {"configMap": {"name": "settings", "items": [{"key": "z", "path": "z"}]}},
            "configmap references non-existent config",
        ),
        (
            {"configMap": {"name": "settings", "items": [{"key": "a", "path": "../x"}]}},
            r"must not contain '\.\.'",
        ),
        ({"configMap": {"name": "settings", "items": [{"key": "a", "path": "/x"}]}}, "must be relative"),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "../../x"}}]}},
            r"must not contain '\.\.'",
        ),
        ({"glusterfs": {"path": "/"}}, "no volume plugin matched: glusterfs"),
        (
            {"csi": {"driver": "d.example"}},
            "driver name d.example not found in the list of registered CSI drivers",
        ),
        ({"emptyDir": {"medium": "Tape"}}, 'unknown storage medium "Tape"'),
        ({"emptyDir": {"medium": "HugePages"}}, "pod does not have any hugepages requests"),
        (
            {"hostPath": {"path": "/proc/none", "type": "File"}},
            "hostPath type check failed: /proc/none is not a file",
        ),
        ({"hostPath": {"path": "/proc", "type": "Socket"}}, "/proc is not a socket file"),
        ({"hostPath": {"path": "/nowhere/at/all", "type": "FileOrCreate"}}, "/nowhere/at/all: No such file"),
        (
            {"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}},
            "ClusterTrustBundle projection",
        ),
    ],
)
async def test_what_is_wrong_is_named(node: Node, volume: Json, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await node.one(volume)


async def test_what_is_optional_may_be_missing(node: Node) -> None:
    assert content(await node.one({"configMap": {"name": "none", "optional": True}})) == {}


async def test_a_change_arrives_and_old_keys_go(node: Node) -> None:
    volume = {"configMap": {"name": "settings"}}
    path = await node.one(volume)
    node.objects["configmaps", "settings"] = {"data": {"b": "new", "c": "3"}}
    await node.volumes.refresh(pod(volumes=[{"name": "v", **volume}]), FACTS)
    assert content(path) == {"b": b"new", "c": b"3"}
    assert len([entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink()]) == 1


async def test_what_did_not_change_is_not_written(node: Node) -> None:
    path = await node.one({"configMap": {"name": "settings"}})
    before = os.readlink(path / "..data")
    assert await node.one({"configMap": {"name": "settings"}}) == path
    assert os.readlink(path / "..data") == before


def test_a_reader_sees_the_old_set_or_the_new_one(tmp_path: Path) -> None:
    """Through one resolution of `..data`, as careful clients read; never a mixture."""
    path, stop, mixtures = tmp_path / "v", threading.Event(), []
    write(path, {"a": File(b"0"), "b": File(b"0")}, None)

    def read() -> None:
        while not stop.is_set():
            try:
                directory = os.open(path / "..data", os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                pair = [_read_at(directory, name) for name in ("a", "b")]
            except FileNotFoundError:
                continue  # the whole old set is gone, which a reader notices
            finally:
                os.close(directory)
            if pair[0] != pair[1]:
                mixtures.append(pair)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 40):
        data = str(number).encode()
        write(path, {"a": File(data), "b": File(data)}, None)
    stop.set()
    reader.join()
    assert mixtures == []
    assert content(path) == {"a": b"39", "b": b"39"}


def _read_at(directory: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def test_what_a_crash_left_half_written_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "v"
    write(path, {"a": File(b"1")}, None)
    (path / "..halfwritten").mkdir()
    (path / "..data_tmp").symlink_to("..halfwritten")
    write(path, {"a": File(b"2")}, None)
    assert content(path) == {"a": b"2"}
    assert sorted(entry.name for entry in path.iterdir())[:-1] == sorted(
        ["..data", os.readlink(path / "..data")]
    )


async def test_tokens_are_kept_and_renewed_before_they_end(node: Node) -> None:
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1000}}]}}
    path = await node.one(volume)
    await node.clock.advance(799)
    await node.one(volume)
    assert content(path) == {"t": b"token-1"}
    await node.clock.advance(2)
    await node.one(volume)
    assert content(path) == {"t": b"token-2"}


async def test_a_token_that_can_not_be_renewed_is_used_while_it_lives(node: Node) -> None:
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1000}}]}}
    await node.one(volume)
    node.refuses = True
    await node.clock.advance(900)
    assert content(await node.one(volume)) == {"t": b"token-1"}
    asked = pod(volumes=[{"name": "v", **volume}])
    await node.clock.advance(200)
    with pytest.raises(
        VolumeError, match='SetUp failed for volume "v" : serviceaccounts "default" not found'
    ):
        await node.volumes.refresh(asked, FACTS)


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("context", "facts"),
    [
        ({}, (0, 0, 0o644)),
        ({"fsGroup": 4242}, (0, 4242, 0o640)),
        ({"runAsUser": 1000}, (1000, 0, 0o600)),
        ({"runAsUser": 1000, "fsGroup": 4242}, (1000, 4242, 0o640)),
    ],
)
async def test_a_token_is_readable_by_who_runs_the_pod(
    node: Node, context: Json, facts: tuple[int, int, int]
) -> None:
    token = {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    found = (await node.one(token, securityContext=context)) / "t"
    assert (found.stat().st_uid, found.stat().st_gid, mode(found)) == facts


async def test_what_was_there_once_does_not_keep_a_container_from_starting(node: Node) -> None:
    volume = {"configMap": {"name": "settings"}}
    path = await node.one(volume)
    del node.objects["configmaps", "settings"]
    assert content(await node.one(volume)) == {"a": b"1", "b": b"2"}
    with pytest.raises(VolumeError, match='failed for volume "v" : configmap "settings" not found'):
        await node.volumes.refresh(pod(volumes=[{"name": "v", **volume}]), FACTS)
    assert content(path) == {"a": b"1", "b": b"2"}


async def test_an_optional_config_map_comes_changes_and_goes(node: Node) -> None:
    volume = {"configMap": {"name": "late", "optional": True}}
    path, asked = await node.one(volume), pod(volumes=[{"name": "v", **volume}])
    for data in ({}, {"a": "1"}, {"a": "2", "b": "3"}, {}):
        node.objects["configmaps", "late"] = {"data": data}
        if not data:
            del node.objects["configmaps", "late"]
        await node.volumes.refresh(asked, FACTS)
        assert content(path) == {key: value.encode() for key, value in data.items()}


@NEEDS_ROOT
async def test_fs_group_owns_and_reads(node: Node) -> None:
    context = {"securityContext": {"fsGroup": 4242}}
    secret = await node.one({"secret": {"secretName": "keys", "defaultMode": 0o400}}, **context)
    assert ((secret / "k").stat().st_gid, mode(secret / "k")) == (4242, 0o440)
    await node.volumes.remove("u1")
    empty = await node.one({"emptyDir": {}}, **context)
    assert (empty.stat().st_gid, mode(empty)) == (4242, 0o2777)


@NEEDS_ROOT
async def test_a_memory_volume_is_a_tmpfs_of_its_size_and_goes_with_the_pod(node: Node) -> None:
    path = await node.one({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
    try:
        assert path.is_mount()
        assert os.statvfs(path).f_blocks * os.statvfs(path).f_frsize == 1 << 20
        (path / "x").write_text("kept")
        assert (
            await node.one({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}) / "x"
        ).read_text() == "kept"
    finally:
        await node.volumes.remove("u1")
    assert not path.exists()


@NEEDS_ROOT
async def test_after_a_restart_of_the_host_what_was_mounted_is_mounted_again(
    node: Node, tmp_path: Path
) -> None:
    volumes: list[Json] = [
        {"name": "mem", "emptyDir": {"medium": "Memory"}}, {"name": "disk", "emptyDir": {}},
    ]  # fmt: skip
    parts = [{"name": "disk", "mountPath": "/d", "subPath": "part"}]
    container, desired = spec_of("app", volumeMounts=parts), pod(volumes=volumes)
    first = await node.volumes.mounts(desired, container, FACTS, {}, 0)
    (node.volumes.pod_dir("u1") / "volumes" / "disk" / "part" / "kept").touch()
    mounting.unmount_below(tmp_path)
    again = await node.volumes.mounts(desired, container, FACTS, {}, 1)
    assert again[0] == first[0]
    assert [entry.name for entry in await asyncio.to_thread(_entries, again[0].host_path)] == ["kept"]
    assert mounting.is_mounted(node.volumes.pod_dir("u1") / "volumes" / "mem")
    await node.volumes.retain([])
    assert mounting.below(tmp_path, mounting.table()) == []


def _entries(path: str) -> list[Path]:
    return list(Path(path).iterdir())


async def test_an_empty_dir_is_everybodys_and_keeps_its_content(node: Node) -> None:
    path = await node.one({"emptyDir": {}})
    assert mode(path) == 0o777
    (path / "x").write_text("kept")
    assert (await node.one({"emptyDir": {}}) / "x").read_text() == "kept"


@pytest.mark.parametrize("kind", ["", "DirectoryOrCreate"])
async def test_a_host_path_is_made_where_the_type_says_so(node: Node, tmp_path: Path, kind: str) -> None:
    path = await node.one({"hostPath": {"path": str(tmp_path / "made"), "type": kind}})
    assert path.is_dir()
    await node.volumes.remove("u1")
    assert path.is_dir()


def mounted(path: Path, mount: Json, env: dict[str, str] | None = None, **place: Any) -> Any:
    """The one mount of a container, its volume at `path`; unmount with `mounting.unmount_below`."""
    container = spec_of("app", volumeMounts=[{"name": "v", "mountPath": "/m", **mount}])
    (only,) = container_mounts(container, {"v": Place(path, **place)}, env or {}, path.parent / "u1")
    return only


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "volume"
    path.mkdir()
    yield path
    mounting.unmount_below(tmp_path)


@NEEDS_ROOT
def test_sub_paths_lead_into_the_volume(volume: Path) -> None:
    volume.chmod(0o2770)
    found = mounted(volume, {"subPathExpr": "logs/$(POD)"}, env={"POD": "web"})
    (Path(found.host_path) / "x").write_text("seen")
    made = volume / "logs" / "web"
    assert (made / "x").read_text() == "seen"
    assert (mode(made), mode(made.parent)) == (0o2770, 0o2770)


@NEEDS_ROOT
def test_a_sub_path_may_be_a_file_and_follow_links_that_stay_inside(volume: Path) -> None:
    (volume / "real").mkdir()
    (volume / "real" / "file").write_text("content")
    (volume / "link").symlink_to("real/../real")
    found = mounted(volume, {"subPath": "link/file"})
    assert Path(found.host_path).read_text() == "content"


@NEEDS_ROOT
def test_the_next_incarnation_sees_what_took_the_place_of_a_file(volume: Path) -> None:
    (volume / "file").write_text("old")
    first = mounted(volume, {"subPath": "file"})
    assert mounted(volume, {"subPath": "file"}) == first
    (volume / "new").write_text("new")
    os.replace(volume / "new", volume / "file")
    assert Path(first.host_path).read_text() == "old"
    assert Path(mounted(volume, {"subPath": "file"}).host_path).read_text() == "new"
    (volume / "file").unlink()
    (volume / "file").mkdir()
    assert Path(mounted(volume, {"subPath": "file"}).host_path).is_dir()


@pytest.mark.parametrize(
    ("sub_path", "why"),
    [
        ("..", r"must not contain '\.\.'"),
        ("a/../../x", r"must not contain '\.\.'"),
        ("/etc", "must not be an absolute path"),
        ("link/x", 'failed to prepare subPath for volumeMount "v" of container "app"'),
        ("link", "failed to prepare subPath"),
        ("up/x", "failed to prepare subPath"),
        ("dangling/x", "failed to prepare subPath"),
    ],
)
def test_sub_paths_do_not_lead_out(volume: Path, sub_path: str, why: str) -> None:
    (volume / "link").symlink_to("/etc")
    (volume / "up").symlink_to("..")
    (volume / "dangling").symlink_to("../made-outside")
    with pytest.raises(SubPathError, match=why):
        mounted(volume, {"subPath": sub_path})
    assert sorted(entry.name for entry in volume.parent.iterdir()) == ["volume"]


@pytest.mark.parametrize("env", [{}, {"NONE": ""}])
def test_a_sub_path_with_an_unknown_variable_is_refused(volume: Path, env: dict[str, str]) -> None:
    with pytest.raises(SubPathError, match="missing value for NONE"):
        mounted(volume, {"subPathExpr": "$$(X)/$(NONE)"}, env=env)


@NEEDS_ROOT
async def test_a_sub_path_into_a_config_map_is_its_file(node: Node, tmp_path: Path) -> None:
    path = await node.one({"configMap": {"name": "settings"}})
    found = mounted(path, {"subPath": "a"}, read_only=True)
    assert content(path)["a"] == await asyncio.to_thread(Path(found.host_path).read_bytes)
    assert found.read_only
    mounting.unmount_below(tmp_path)


def test_what_is_mounted_must_be_a_volume_and_no_device(volume: Path) -> None:
    with pytest.raises(VolumeError, match='no volume with name "other"'):
        mounted(volume, {"name": "other"})
    with pytest.raises(VolumeError, match="volume v has volumeMode Block, but is specified in volumeMounts"):
        mounted(volume, {}, block=True)


@NEEDS_ROOT
def test_nothing_below_a_recursively_read_only_mount_is_writable(volume: Path) -> None:
    (volume / "inner").mkdir()
    mounting.mount("tmpfs", volume / "inner", "tmpfs")
    plain = mounted(volume, {"readOnly": True})
    assert plain.host_path == str(volume) and plain.read_only
    for recursive in ("Enabled", "IfPossible", "Enabled"):
        found = mounted(volume, {"readOnly": True, "recursiveReadOnly": recursive})
        with pytest.raises(OSError, match="Read-only file system"):
            (Path(found.host_path) / "inner" / "x").touch()
    (volume / "inner" / "x").touch()


@NEEDS_ROOT
async def test_mounts_pass_between_containers_that_ask_for_it(node: Node) -> None:
    mounts = [{"name": "v", "mountPath": "/m", "mountPropagation": "Bidirectional"}]
    asks = pod(spec_of("app", volumeMounts=mounts), volumes=[{"name": "v", "emptyDir": {}}])
    for _ in range(2):
        path = (await node.volumes.prepare(asks, FACTS))["v"].path
    assert [(p.path, p.shared) for p in mounting.table() if p.path == str(path)] == [(str(path), True)]
    await node.volumes.remove("u1")
    assert not path.exists()


async def test_only_the_wanted_pods_directories_stay(node: Node) -> None:
    for uid in ("one", "two"):
        (node.volumes.pod_dir(uid) / "volumes").mkdir(parents=True)
    await node.volumes.retain(["two"])
    assert [path.name for path in node.volumes.root.iterdir()] == ["two"]
    await asyncio.gather(node.volumes.remove("two"), node.volumes.remove("never"))
    assert list(node.volumes.root.iterdir()) == []
