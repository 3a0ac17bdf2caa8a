"""Prometheus' text format (0.0.4), written directly: a page of ten thousand samples in some ten milliseconds.

A block of labels is rendered once and used for every family in which its owner appears. Called by the pages beside.
"""

import math
from collections.abc import Iterable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[str, float]
"""Rendered labels (`{a="b"}` or empty) and the value."""


def labels(**values: str) -> str:
    """`{name="value",…}` in alphabetical order; without any, nothing. A trailing `_` of a name is cut."""
    pairs = [f'{name.rstrip("_")}="{_escaped(values[name])}"' for name in sorted(values)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    """As Prometheus writes numbers; whole ones without a fraction."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e17 else repr(float(value))


class Page:
    """One answer. Families without samples are left out."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(
        self, name: str, kind: str, text: str, samples: Iterable[Sample], time_s: float | None = None
    ) -> None:
        """A `counter` or `gauge`; `time_s` stamps its samples."""
        end = f" {int(time_s * 1000)}" if time_s is not None else ""
        rows = [f"{name}{block} {number(value)}{end}" for block, value in samples]
        if rows:
            self._head(name, kind, text)
            self._lines += rows

    def histogram(self, name: str, text: str, series: Iterable[tuple[dict[str, str], "Histogram"]]) -> None:
        """Distributions by label set."""
        rows: list[str] = []
        for names, found in series:
            total = 0
            for bound, count in zip((*found.bounds, math.inf), found.counts, strict=True):
                total += count
                rows.append(f"{name}_bucket{labels(**names, le=number(bound))} {total}")
            block = labels(**names)
            rows += [f"{name}_sum{block} {number(found.total)}", f"{name}_count{block} {total}"]
        if rows:
            self._head(name, "histogram", text)
            self._lines += rows

    def _head(self, name: str, kind: str, text: str) -> None:
        self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]

    def render(self) -> bytes:
        return ("\n".join(self._lines) + "\n").encode() if self._lines else b""


class Histogram:
    """Counts by upper bound, the last one without."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        place = 0
        while place < len(self.bounds) and value > self.bounds[place]:
            place += 1
        self.counts[place] += 1
        self.total += value
