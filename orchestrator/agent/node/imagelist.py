"""The images of a node as its status lists them: the largest first, for the scheduler's sake. Pure."""

from collections.abc import Iterable

from orchestrator.api.item import Object
from orchestrator.runtime.interface import Image

IMAGES_MAX = 50
NAMES_MAX = 5


def image_list(images: Iterable[Image]) -> list[Object]:
    """At most `IMAGES_MAX`, each with at most `NAMES_MAX` names; those without a name are left out."""
    named = [image for image in images if image.tags or image.digests]
    named.sort(key=lambda image: (-image.size_bytes, image.id))
    return [
        {"names": [*image.digests, *image.tags][:NAMES_MAX], "sizeBytes": image.size_bytes}
        for image in named[:IMAGES_MAX]
    ]
