"""Volumes on a real disk: contents, modes, atomic change, sub-paths, removal."""

import asyncio
import base64
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.containers.env import ConfigError, PodFacts
from orchestrator.agent.containers.podfiles import DnsSettings
from orchestrator.agent.podspec import timestamp
from orchestrator.agent.volumes.podvolumes import VolumeError, Volumes, volume_mounts, write_atomically
from orchestrator.agent.volumes.sources import Sources
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.base.clock import VirtualClock
from tests.unit.agent.builders import Json, pod, spec_of

FACTS = PodFacts("10.42.0.2", "192.0.2.7", "n1", {"cpu": "4", "memory": "8Gi"})
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and other owners need root")


class Node:
    """Volumes over objects that a test may change."""

    def __init__(self, root: Path) -> None:
        self.clock = VirtualClock()
        self.objects: dict[tuple[str, str], Object] = {}
        self.requests: list[Object] = []
        dns = DnsSettings("10.43.0.10", "cluster.local")
        self.volumes = Volumes(root / "pods", Sources(self._fetch, self._token, self.clock), dns)

    async def _fetch(self, resource: Resource, namespace: str, name: str) -> Object:
        if (resource.plural, name) not in self.objects:
            raise NotFound(f"{resource.plural} {name} not found")
        return self.objects[resource.plural, name]

    async def _token(self, pod: Object, source: Object) -> Object:
        self.requests.append(source)
        ends = timestamp(self.clock.now_s() + source.get("expirationSeconds", 3600))
        return {"status": {"token": f"token-{len(self.requests)}", "expirationTimestamp": ends}}

    async def prepare(self, *volumes: Json, **spec: Any) -> dict[str, Path]:
        return await self.volumes.prepare(pod(volumes=list(volumes), **spec), FACTS)

    async def one(self, volume: Json, **spec: Any) -> Path:
        return (await self.prepare({"name": "v", **volume}, **spec))["v"]


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
        ({"configMap": {"name": "settings", "items": [{"key": "z", "path": "z"}]}}, "non-existent key: z"),
        (
            {"configMap": {"name": "settings", "items": [{"key": "a", "path": "../x"}]}},
            r"must not contain '\.\.'",
        ),
        ({"configMap": {"name": "settings", "items": [{"key": "a", "path": "/x"}]}}, "must be relative"),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "../../x"}}]}},
            r"must not contain '\.\.'",
        ),
        ({"nfs": {"server": "x", "path": "/"}}, "does not support volumes of type nfs"),
        ({"hostPath": {"path": "/proc/none", "type": "File"}}, "/proc/none is not a File"),
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
    write_atomically(path, {"a": (b"0", 0o644), "b": (b"0", 0o644)}, None)

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
    for number in range(1, 200):
        data = str(number).encode()
        write_atomically(path, {"a": (data, 0o644), "b": (data, 0o644)}, None)
    stop.set()
    reader.join()
    assert mixtures == []
    assert content(path) == {"a": b"199", "b": b"199"}


def _read_at(directory: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def test_what_a_crash_left_half_written_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "v"
    write_atomically(path, {"a": (b"1", 0o644)}, None)
    (path / "..halfwritten").mkdir()
    (path / "..data_tmp").symlink_to("..halfwritten")
    write_atomically(path, {"a": (b"2", 0o644)}, None)
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


@NEEDS_ROOT
async def test_fs_group_owns_and_reads(node: Node) -> None:
    context = {"securityContext": {"fsGroup": 4242}}
    secret = await node.one({"secret": {"secretName": "keys", "defaultMode": 0o400}}, **context)
    assert ((secret / "k").stat().st_gid, mode(secret / "k")) == (4242, 0o440)
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


def mounted(
    volumes: dict[str, Path], mount: Json, volume: Json | None = None, env: dict[str, str] | None = None
) -> Any:
    container = spec_of("app", volumeMounts=[{"name": "v", "mountPath": "/m", **mount}])
    desired = pod(container, volumes=[{"name": "v", **(volume or {"emptyDir": {}})}])
    (only,) = volume_mounts(desired, container, volumes, env or {})
    return only


def test_sub_paths_lead_into_the_volume(tmp_path: Path) -> None:
    found = mounted({"v": tmp_path}, {"subPathExpr": "logs/$(POD)"}, env={"POD": "web"})
    assert found.host_path == str(tmp_path.resolve() / "logs" / "web")
    assert Path(found.host_path).is_dir()


@pytest.mark.parametrize("sub_path", ["..", "a/../../x", "/etc", "link/x", "link"])
def test_sub_paths_do_not_lead_out(tmp_path: Path, sub_path: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "link").symlink_to("/etc")
    with pytest.raises(VolumeError, match="outside of the volume"):
        mounted({"v": volume}, {"subPath": sub_path})
    assert not (tmp_path / "x").exists()


def test_a_sub_path_with_an_unknown_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="names a variable"):
        mounted({"v": tmp_path}, {"subPathExpr": "$(NONE)"})


async def test_a_sub_path_into_a_config_map_is_its_file(node: Node) -> None:
    path = await node.one({"configMap": {"name": "settings"}})
    found = mounted({"v": path}, {"subPath": "a"}, {"configMap": {"name": "settings"}})
    assert found.host_path == str((path / "a").resolve()) and found.read_only


def test_an_unknown_volume_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match='unknown volume "v"'):
        mounted({}, {})


async def test_only_the_wanted_pods_directories_stay(node: Node) -> None:
    for uid in ("one", "two"):
        (node.volumes.pod_dir(uid) / "volumes").mkdir(parents=True)
    await node.volumes.retain(["two"])
    assert [path.name for path in node.volumes.root.iterdir()] == ["two"]
    await asyncio.gather(node.volumes.remove("two"), node.volumes.remove("never"))
    assert list(node.volumes.root.iterdir()) == []
