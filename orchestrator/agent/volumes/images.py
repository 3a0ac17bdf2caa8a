"""Image volumes: the contents of an image, read-only, as a volume of a pod.

The image is here already: the worker has had it pulled by the policy of the volume. The engine knows where its layers
lie and keeps them for as long as the volume is mounted. Called by `podvolumes`.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent.volumes.errors import VolumeError
from orchestrator.api.item import Object
from orchestrator.base import mounting
from orchestrator.runtime.interface import Runtime

DIRECTORY = "image-volumes"


def image_volumes(pod: Object, container: Object) -> list[Object]:
    """The images that a container mounts, as what is pulled for a container: `image` and `imagePullPolicy`."""
    mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
    return [
        {
            "image": volume["image"].get("reference") or "",
            "imagePullPolicy": volume["image"].get("pullPolicy") or "",
        }
        for volume in pod["spec"].get("volumes") or ()
        if "image" in volume and volume["name"] in mounted
    ]


@dataclass(frozen=True, slots=True)
class ImageVolumes:
    """Image volumes of one engine."""

    runtime: Runtime

    async def mount(self, source: Object, target: Path) -> None:
        """Show the image at `target`, unless it is there. Raises `VolumeError`, `RuntimeFailure`, `OSError`."""
        if await asyncio.to_thread(mounting.is_mounted, target):
            return
        image = await self.runtime.image(source.get("reference") or "")
        if image is None:
            raise VolumeError.mount(target.name, f'image "{source.get("reference")}" is not present')
        await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True, mode=0o750)
        await self.runtime.mount_image(image.id, str(target))

    async def release(self, directory: Path) -> None:
        """Unmount every image below a pod's directory of them."""
        for target in await asyncio.to_thread(_entries, directory):
            await self.runtime.unmount_image(str(target))


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []
