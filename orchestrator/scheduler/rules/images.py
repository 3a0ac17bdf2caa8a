"""ImageLocality: nodes that have the pod's images already, by size, unless few nodes have them."""

from typing import Any

import numpy as np

from orchestrator.scheduler.rules.columns import Columns, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import SCORE_MAX, Rule, Scope

MIB = 1024 * 1024
LEAST_BYTES, MOST_BYTES = 23 * MIB, 1000 * MIB
"""Less than the first is not worth it; the second, per container, is the most that counts."""


class ImageLocality(Rule):
    name = "ImageLocality"
    scope = Scope.DOMAIN  # The share of nodes that have an image counts.

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(columns.images)

    def prepare(self, columns: Columns, pod: PodInfo) -> "_Cached":
        return _Cached([normalised(image) for image in pod.template.images])

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: "_Cached") -> Vector:
        return state.scores(columns)[rows]

    def normalise(self, columns: Columns, raw: Vector, rows: Rows, state: Any) -> Vector:
        return raw


class _Cached:
    """The scores of all rows, until an image or a node comes or goes."""

    def __init__(self, images: list[str]) -> None:
        self._images = images
        self._of: tuple[int, int, int] = (-1, -1, -1)
        self._scores: Vector = np.zeros(0, np.int64)

    def scores(self, columns: Columns) -> Vector:
        of = (columns.image_version, columns.node_count, columns.capacity)
        if of != self._of:
            self._scores, self._of = self._scored(columns), of
        return self._scores

    def _scored(self, columns: Columns) -> Vector:
        total = np.zeros(columns.capacity, np.int64)
        for image in self._images:
            holders = columns.images.get(image, {})
            for row, size in holders.items():
                total[row] += int(size * (len(holders) / columns.node_count))
        most = MOST_BYTES * len(self._images)
        total = np.clip(total, LEAST_BYTES, most)
        scores: Vector = SCORE_MAX * (total - LEAST_BYTES) // (most - LEAST_BYTES)
        return scores


def normalised(image: str) -> str:
    """With the tag that an engine would take."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"
