"""What an operator may set about the embedded store. Filled by `config`; read by the engine."""

from dataclasses import dataclass, fields

from orchestrator.base.errors import StartupError

KIB = 1024
MIB = 1024 * KIB

_LEAST = {
    "segment_bytes": 16 * KIB,
    "history_s": 0.0,
    "history_bytes": 0,
    "history_memory_bytes": 0,
    "snapshot_bytes": 4 * KIB,
}
_MOST = {
    "segment_bytes": 1024 * MIB,
    "history_s": 7 * 24 * 3600.0,
    "history_bytes": 64 * 1024 * MIB,
    "history_memory_bytes": 16 * 1024 * MIB,
    "snapshot_bytes": 64 * 1024 * MIB,
}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Sizes in bytes, times in seconds. Raises `StartupError` for a value outside its bounds."""

    segment_bytes: int = 16 * MIB
    """Size of one preallocated file of the log; a batch that is larger gets a file of its own size."""
    history_s: float = 300.0
    """How long a past revision can be read and watched from, unless history takes more than its bytes."""
    history_bytes: int = 256 * MIB
    """Most that the log keeps on disk for the sake of past revisions."""
    history_memory_bytes: int = 16 * MIB
    """Most that values of past revisions take in memory, and as much again for where older ones are on disk."""
    snapshot_bytes: int = 64 * MIB
    """A snapshot is taken when this much, and as much as the live data, was logged since the last one."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least, most = _LEAST[field.name], _MOST[field.name]
            if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
                raise StartupError(
                    f"store_{field.name} is {value!r}.",
                    f"Give a number from {least} to {most} in the config.",
                )
