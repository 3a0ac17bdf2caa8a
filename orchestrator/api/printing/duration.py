"""Ages as kubectl writes them: two digits of precision at most."""

from datetime import datetime

UNKNOWN = "<unknown>"


def human_duration(duration_s: float) -> str:
    """`5s`, `3m20s`, `4h5m`, `2d3h`, `40d`, `3y12d`. A second of clock skew counts as zero."""
    seconds = int(duration_s)
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    minutes, hours = seconds // 60, seconds // 3600
    if minutes < 10:
        return f"{minutes}m" + _rest(seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h" + _rest(minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return f"{days}d" + _rest(hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return f"{days // 365}y" + _rest(days % 365, "d")
    return f"{days // 365}y"


def _rest(amount: int, unit: str) -> str:
    return f"{amount}{unit}" if amount else ""


def seconds_of(timestamp: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 text; None for an absent or broken one."""
    if not timestamp:
        return None
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return None


def age(timestamp: str | None, now_s: float) -> str:
    """How long ago `timestamp` was."""
    then_s = seconds_of(timestamp)
    return UNKNOWN if then_s is None else human_duration(now_s - then_s)
