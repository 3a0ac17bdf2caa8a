"""Which resources a store holds how much of: for `orchestrator store stats`, on a running server and on files."""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.api import resources

_PREFIXES = {
    resource.key_prefix(): f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    for resource in resources.BUILT_IN
    if resource.stored_as is None and not resource.virtual
}


@dataclass(frozen=True, slots=True)
class Row:
    """`resource` is `plural.group` as kubectl takes it; bytes are those of the values."""

    resource: str
    count: int
    bytes: int


class Census:
    """Counts keys and bytes by resource."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}

    def count(self, key: str, size_bytes: int) -> None:
        """Take in one entry."""
        pair = self._counts.setdefault(resource_of(key), [0, 0])
        pair[0] += 1
        pair[1] += size_bytes

    def rows(self) -> list[Row]:
        """Most bytes first."""
        rows: Iterable[Row] = (Row(name, *pair) for name, pair in self._counts.items())
        return sorted(rows, key=lambda row: (-row.bytes, row.resource))


def resource_of(key: str) -> str:
    """The resource of a store key; for one that is not built in, what its path says."""
    parts = key.split("/", 4)
    for count in (4, 3):
        if name := _PREFIXES.get("/".join(parts[:count]) + "/"):
            return name
    if len(parts) > 4 and parts[1] == "registry" and "." in parts[2]:
        return f"{parts[3]}.{parts[2]}"
    return "/".join(parts[:3])
