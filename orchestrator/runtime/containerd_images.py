"""Images of a containerd namespace: find, load, pull, unpack, remove.

An image is a name on a manifest; its id, as elsewhere, is the digest of its configuration. What a listing needs
stands in labels on the name, so that one call is enough; a name that somebody else made (`ctr images import`) gets
them when it is first seen. The configuration's label holds the unpacked layers. Owner: `ContainerdRuntime`.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.runtime.containerd_api import WORK_DEADLINE_S, ContainerdApi, ContainerdError
from orchestrator.runtime.containerd_content import Content, Descriptor, descriptor, pieces
from orchestrator.runtime.containerd_specs import ImageConfig
from orchestrator.runtime.imagearchive import Archived, unpack_archive
from orchestrator.runtime.imagetar import host_architecture
from orchestrator.runtime.interface import Image, ImageNotFound, RegistryAuth, RuntimeFailure
from orchestrator.runtime.references import Reference, is_image_id, parse
from orchestrator.runtime.registries import RegistryFile

ID = "orchestrator.internal/image-id"
CHAIN = "orchestrator.internal/chain"
SIZE = "orchestrator.internal/size"
USER = "orchestrator.internal/user"
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
GC = "containerd.io/gc.ref"
DESCRIPTION_MAX = 64
DEPTH_MAX = 4
MANIFEST_BYTES_MAX = 4 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a container needs of its image: where its layers end, and its configuration."""

    id: str
    chain: str
    config: ImageConfig


class ContainerdImages:
    """The image part of `ContainerdRuntime`, its only user."""

    def __init__(self, api: ContainerdApi, snapshotter: str, registries: RegistryFile | None = None) -> None:
        self._registries = registries or RegistryFile()
        self._api = api
        self._snapshotter = snapshotter
        self._content = Content(api)
        self._numbers = itertools.count(1)
        self._unpacked: dict[str, Unpacked] = {}

    async def find(self, reference: str) -> Image | None:
        """By name or id; a name is normalised first."""
        if not is_image_id(reference):
            found = await self._api.maybe("get_image", {"name": canonical(parse(reference))})
            if found is None:
                return None
            record = await self._described(found["image"])
            reference = record["labels"][ID] if record else ""
        wanted = reference if reference.startswith("sha256:") else f"sha256:{reference}"
        return next((image for image in await self.all() if image.id == wanted), None)

    async def all(self) -> list[Image]:
        """One image per id, with all its names."""
        records = await self._records()
        by_id: dict[str, list[Mapping[str, Any]]] = {}
        for record in records:
            by_id.setdefault(record["labels"][ID], []).append(record)
        return [_image(image_id, named) for image_id, named in by_id.items()]

    async def _records(self) -> Sequence[dict[str, Any]]:
        answer = await self._api.call("list_images", {})
        described = [await self._described(record) for record in answer.get("images", ())]
        return [record for record in described if record is not None]

    async def _described(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """The record with our labels; None for one that can't run here. Unpacks what nobody has unpacked."""
        if ID in record.get("labels", {}):
            return record
        async with Leased(self._api) as lease:
            try:
                labels = await self._unpack(descriptor(record.get("target", {})), lease)
            except (ImageNotFound, ContainerdError):
                return None
            changed = {**record, "labels": {**record.get("labels", {}), **labels}}
            paths = [f"labels.{key}" for key in labels]
            await self._api.call("update_image", {"image": changed, "update_mask": {"paths": paths}})
        return changed

    async def unpacked(self, reference: str) -> Unpacked:
        """What is needed to run an image. Raises `ImageNotFound`."""
        image = await self.find(reference)
        if image is None:
            raise ImageNotFound(f'image "{reference}" is not on this host', "ErrImageNeverPull")
        known = self._unpacked.get(image.id)
        if known is None:
            blob = await self._content.read(image.id)
            if blob is None:
                raise ImageNotFound(f'the configuration of image "{reference}" is gone', "ErrImageNeverPull")
            known = _unpacked(image.id, msgspec.json.decode(blob))
            if len(self._unpacked) >= DESCRIPTION_MAX:
                self._unpacked.clear()
            self._unpacked[image.id] = known
        return known

    async def remove(self, image_id: str) -> None:
        """With all its names; blobs and layers that nobody else uses go with the last of them."""
        wanted = image_id if is_image_id(image_id) else ""
        wanted = wanted if not wanted or wanted.startswith("sha256:") else f"sha256:{wanted}"
        names = [record["name"] for record in await self._records() if record["labels"][ID] == wanted]
        if not wanted:
            names = [canonical(parse(image_id))]
        for name in names:
            await self._api.maybe(
                "delete_image", {"name": name, "sync": name == names[-1]}, deadline_s=WORK_DEADLINE_S
            )

    async def load(self, archive: bytes) -> None:
        """Take in an archive in `docker save` format or an OCI layout."""
        for archived in await asyncio.to_thread(unpack_archive, archive):
            async with Leased(self._api) as lease:
                await self._take(archived, lease)

    async def _take(self, archived: Archived, lease: str) -> None:
        for blob in archived.blobs:
            digest = f"sha256:{await asyncio.to_thread(_sha256, blob)}"
            await self._content.write(Descriptor("", digest, len(blob)), pieces(blob), lease, _kept(blob))
        target = await self._store_manifest(archived.manifest, archived.media_type, lease)
        for tag in archived.tags:
            await self.name(canonical(parse(tag)), target, lease)

    async def _store_manifest(self, manifest: bytes, media_type: str, lease: str) -> Descriptor:
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        target = Descriptor(media_type, digest, len(manifest))
        await self._content.write(target, pieces(manifest), lease, references(msgspec.json.decode(manifest)))
        return target

    async def name(
        self, name: str, target: Descriptor, lease: str, labels: Mapping[str, str] | None = None
    ) -> None:
        """Unpack what `target` names and give it a name, taking that from an older image."""
        unpacked = await self._unpack(target, lease)
        image = {"name": name, "target": target.message(), "labels": {**unpacked, **(labels or {})}}
        try:
            await self._api.call("create_image", {"image": image}, lease=lease)
        except ContainerdError as error:
            if error.code != "ALREADY_EXISTS":
                raise
            await self._api.call("update_image", {"image": image}, lease=lease)

    async def pull(self, text: str, auth: RegistryAuth | None) -> Image:
        """Fetch from the registry that the reference names, or a mirror of it."""
        from orchestrator.runtime.containerd_pull import Pull

        reference = parse(text)
        async with Leased(self._api) as lease:
            target = await Pull(self._content, reference, auth, lease, self._registries).run()
            names = [canonical(reference)]
            if not reference.digest:
                names.append(f"{reference.registry}/{reference.repository}@{target.digest}")
            for name in names:
                await self.name(name, target, lease)
        image = await self.find(text)
        if image is None:
            raise ImageNotFound(f'image "{reference.familiar}" is gone right after it was pulled')
        return image

    # Layers

    async def _unpack(self, target: Descriptor, lease: str) -> dict[str, str]:
        """Make snapshots of the layers; returns the labels of the image's name. Raises `ImageNotFound`."""
        manifest = await self._manifest(target)
        config_digest = descriptor(manifest.get("config", {})).digest
        config = await self._json(config_digest)
        layers = [descriptor(layer) for layer in manifest.get("layers", ())]
        diffs = config.get("rootfs", {}).get("diff_ids", [])
        if len(diffs) != len(layers):
            raise RuntimeFailure("the image's layers don't match its configuration", "ErrImagePull")
        parent = ""
        for chain, layer, diff in zip(chains(diffs), layers, diffs, strict=True):
            await self._unpack_layer(chain, parent, layer, diff, lease)
            parent = chain
        await self._content.label(config_digest, {f"{GC}.snapshot.{self._snapshotter}": parent})
        user = (config.get("config") or {}).get("User") or ""
        size = sum(layer.size for layer in layers) + target.size
        return {ID: config_digest, CHAIN: parent, SIZE: str(size), USER: user}

    async def _manifest(self, target: Descriptor, depth: int = 0) -> dict[str, Any]:
        document = await self._json(target.digest)
        if "manifests" not in document:
            return document
        chosen = choose(document["manifests"], host_architecture())
        if chosen is None or depth > DEPTH_MAX:
            raise ImageNotFound(f"no image for linux/{host_architecture()} in {target.digest}")
        return await self._manifest(descriptor(chosen), depth + 1)

    async def _json(self, digest: str) -> dict[str, Any]:
        blob = await self._content.read(digest)
        if blob is None:
            raise ImageNotFound(f"blob {digest} is not here")
        document: dict[str, Any] = msgspec.json.decode(blob)
        return document

    async def _unpack_layer(self, chain: str, parent: str, layer: Descriptor, diff: str, lease: str) -> None:
        where = {"snapshotter": self._snapshotter, "key": chain}
        if await self._api.maybe("stat_snapshot", where) is not None:
            return
        key = f"extract-{next(self._numbers)}-{chain}"
        place = {"snapshotter": self._snapshotter, "key": key}
        await self._api.maybe("remove_snapshot", place)
        try:
            prepared = await self._api.call("prepare_snapshot", {**place, "parent": parent}, lease=lease)
            work = {"diff": layer.message(), "mounts": prepared["mounts"]}
            applied = await self._api.call("apply", work, lease=lease, deadline_s=WORK_DEADLINE_S)
            if applied["applied"]["digest"] != diff:
                raise RuntimeFailure(
                    f"layer {layer.digest} unpacks to something else than {diff}", "ErrImagePull"
                )
            await self._api.once("commit_snapshot", {**place, "name": chain}, lease=lease)
        finally:
            await self._api.maybe("remove_snapshot", place)


class Leased:
    """What is made inside is kept until the end, whether somebody refers to it already or not."""

    _numbers = itertools.count(1)

    def __init__(self, api: ContainerdApi) -> None:
        self._api = api
        self._id = f"{api.namespace}-{next(self._numbers)}"

    async def __aenter__(self) -> str:
        await self._api.once("create_lease", {"id": self._id})
        return self._id

    async def __aexit__(self, *_: object) -> None:
        await self._api.maybe("delete_lease", {"id": self._id})


def canonical(reference: Reference) -> str:
    """The name under which containerd keeps an image."""
    tail = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
    return f"{reference.registry}/{reference.repository}{tail}"


def chains(diffs: Sequence[str]) -> list[str]:
    """The name of each layer's snapshot: a digest over it and all below."""
    found: list[str] = []
    for diff in diffs:
        above = f"{found[-1]} {diff}" if found else ""
        found.append(f"sha256:{_sha256(above.encode())}" if above else diff)
    return found


def references(document: Mapping[str, Any]) -> dict[str, str]:
    """The labels that keep alive what a manifest or an index names."""
    if "manifests" in document:
        return {f"{GC}.content.m.{i}": part["digest"] for i, part in enumerate(document["manifests"])}
    labels = {f"{GC}.content.l.{i}": part["digest"] for i, part in enumerate(document.get("layers", ()))}
    return {f"{GC}.content.config": document["config"]["digest"], **labels}


def _kept(blob: bytes) -> dict[str, str]:
    """As `references`, for a blob of an archive that may be an index's manifest."""
    if len(blob) > MANIFEST_BYTES_MAX or not blob.startswith(b"{"):
        return {}
    document = msgspec.json.decode(blob)
    return references(document) if "layers" in document and "config" in document else {}


def choose(manifests: Sequence[Mapping[str, Any]], architecture: str) -> Mapping[str, Any] | None:
    """The manifest of an index that runs here; the first one where it does not say for what it is."""
    for part in manifests:
        platform = part.get("platform") or {"os": "linux", "architecture": architecture}
        if platform.get("os") == "linux" and platform.get("architecture") == architecture:
            return part
    return None


def _unpacked(image_id: str, document: Mapping[str, Any]) -> Unpacked:
    config = document.get("config") or {}
    diffs = document.get("rootfs", {}).get("diff_ids", [])
    return Unpacked(
        image_id,
        chains(diffs)[-1] if diffs else "",
        ImageConfig(
            user=config.get("User") or "",
            env=config.get("Env") or (),
            entrypoint=config.get("Entrypoint") or (),
            cmd=config.get("Cmd") or (),
            working_dir=config.get("WorkingDir") or "",
            stop_signal=config.get("StopSignal") or "",
        ),
    )


def _image(image_id: str, named: Sequence[Mapping[str, Any]]) -> Image:
    tags, digests = [], []
    for record in named:
        reference = parse(record["name"])
        if reference.digest:
            digests.append(f"{reference.familiar_name}@{reference.digest}")
        else:
            tags.append(reference.familiar)
    labels = named[0]["labels"]
    return Image(image_id, tuple(tags), tuple(digests), int(labels.get(SIZE, "0")), labels.get(USER, ""))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
