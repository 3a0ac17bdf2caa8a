"""Schedules of CronJobs: a line of five cron fields, `@hourly` and its like, or `@every 90m`. Pure.

    field          values   names
    minute         0-59
    hour           0-23
    day of month   1-31
    month          1-12     jan-dec
    day of week    0-6      sun-sat

A field is a list of `*`, `?`, values and ranges, each with an optional `/step`; `5/10` means from 5 on. A day
must suit both day fields when one of them is `*`, else one of them. A time that a clock skips does not happen, one
that it repeats happens twice. The grammar and the messages are those of robfig/cron v3, which Kubernetes uses.

Called by validation, and by whoever starts Jobs in time.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.base.errors import OrchestratorError

_HORIZON_YEARS = 5
"""A line that never comes true, such as for 30 February, is given up after this long."""
_ZONE_PREFIXES = ("TZ=", "CRON_TZ=")


class CronError(OrchestratorError):
    """The text is no schedule. The message is Kubernetes'."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one field may hold."""

    low: int
    high: int
    names: tuple[str, ...] = ()
    """Names of the values from `low` on."""


_MINUTE, _HOUR, _DAY = Bounds(0, 59), Bounds(0, 23), Bounds(1, 31)
_MONTH = Bounds(1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
_WEEKDAY = Bounds(0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class Field:
    """The values of one field; `star` when it is `*`, so that it leaves the choice to the other day field."""

    values: frozenset[int]
    star: bool


@dataclass(frozen=True, slots=True)
class Every:
    """At equal distances, counted from the time it is asked for."""

    period_s: int

    def next_after(self, time_s: float, zone: tzinfo) -> float | None:
        """The next time in seconds since the epoch; the zone plays no part."""
        return float(int(time_s) + self.period_s)


@dataclass(frozen=True, slots=True)
class Line:
    """The five fields, and the zone of a line that names one itself."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field
    zone: tzinfo | None = None

    def next_after(self, time_s: float, zone: tzinfo) -> float | None:
        """The first time after `time_s` (seconds since the epoch) that suits the clock of `zone`, or of the
        line's own zone; None when there is none within five years."""
        zone = self.zone or zone
        at_s = (int(time_s) // 60 + 1) * 60
        last_year = datetime.fromtimestamp(at_s, zone).year + _HORIZON_YEARS
        while True:
            now = datetime.fromtimestamp(at_s, zone)
            if now.year > last_year:
                return None
            if now.month not in self.month.values:
                at_s = _later(at_s, datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=zone))
            elif not self._suits_day(now):
                midnight = datetime(now.year, now.month, now.day) + timedelta(days=1)
                at_s = _later(at_s, midnight.replace(tzinfo=zone))
            elif now.hour not in self.hour.values:
                at_s += (60 - now.minute) * 60 - now.second
            elif now.minute not in self.minute.values:
                at_s += 60 - now.second
            else:
                return float(at_s)

    def _suits_day(self, now: datetime) -> bool:
        day = now.day in self.day.values
        weekday = now.isoweekday() % 7 in self.weekday.values
        return day and weekday if self.day.star or self.weekday.star else day or weekday


def _later(at_s: int, wanted: datetime) -> int:
    """The time of `wanted`, and never one that does not get further."""
    return max(int(wanted.timestamp()), at_s + 60)


@lru_cache(maxsize=1024)
def parse(text: str) -> Line | Every:
    """Raises `CronError`."""
    if not text:
        raise CronError("empty spec string")
    zone: tzinfo | None = None
    if text.startswith(_ZONE_PREFIXES):
        name, _, text = text.partition("=")[2].partition(" ")
        zone, text = _zone(name), text.strip()
    if text.startswith("@"):
        return _descriptor(text, zone)
    return _line(text, zone)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        raise CronError(f"provided bad location {name}: unknown time zone {name}") from None


def _descriptor(text: str, zone: tzinfo | None) -> Line | Every:
    if text in _DESCRIPTORS:
        return _line(_DESCRIPTORS[text], zone)
    if not text.startswith("@every "):
        raise CronError(f"unrecognized descriptor: {text}")
    try:
        return Every(max(1, int(_duration_s(text.removeprefix("@every ")))))
    except CronError as error:
        raise CronError(f"failed to parse duration {text}: {error}") from None


def _line(text: str, zone: tzinfo | None) -> Line:
    parts = text.split()
    if len(parts) != len(_FIELDS):
        shown = " ".join(parts)
        raise CronError(f"expected exactly {len(_FIELDS)} fields, found {len(parts)}: [{shown}]")
    minute, hour, day, month, weekday = map(_field, parts, _FIELDS)
    return Line(minute, hour, day, month, weekday, zone)


# ── Fields ───────────────────────────────────────────────────────────────────────────────────────────────


def _field(text: str, bounds: Bounds) -> Field:
    values: set[int] = set()
    star = False
    for part in text.split(","):
        if part:
            numbers, is_star = _range(part, bounds)
            values.update(numbers)
            star = star or is_star
    return Field(frozenset(values), star)


def _range(text: str, bounds: Bounds) -> tuple[range, bool]:
    """`number | number-number | *`, each with an optional `/step`."""
    span, *steps = text.split("/")
    ends = span.split("-")
    star = ends[0] in ("*", "?")
    if star:
        low, high = bounds.low, bounds.high
    else:
        if len(ends) > 2:
            raise CronError(f"too many hyphens: {text}")
        low = _value(ends[0], bounds)
        high = _value(ends[-1], bounds)
    if len(steps) > 1:
        raise CronError(f"too many slashes: {text}")
    step = _number(steps[0]) if steps else 1
    if steps and len(ends) == 1:
        high = bounds.high
    _check_range(low, high, step, bounds, text)
    return range(low, high + 1, step), star and step == 1


def _check_range(low: int, high: int, step: int, bounds: Bounds, text: str) -> None:
    if low < bounds.low:
        raise CronError(f"beginning of range ({low}) below minimum ({bounds.low}): {text}")
    if high > bounds.high:
        raise CronError(f"end of range ({high}) above maximum ({bounds.high}): {text}")
    if low > high:
        raise CronError(f"beginning of range ({low}) beyond end of range ({high}): {text}")
    if not step:
        raise CronError(f"step of range should be a positive number: {text}")


def _value(text: str, bounds: Bounds) -> int:
    name = text.lower()
    return bounds.low + bounds.names.index(name) if name in bounds.names else _number(text)


def _number(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
        raise CronError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if number < 0:
        raise CronError(f"negative number ({number}) not allowed: {text}")
    return number


# ── Durations ────────────────────────────────────────────────────────────────────────────────────────────

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_MAX_S = 9.2e9
_amounts = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)", re.ASCII)


def _duration_s(text: str) -> float:
    """A duration as Go writes it, such as `1h30m`."""
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    total_s, at = 0.0, 0
    while match := _amounts.match(rest, at):
        amount, unit = match.groups()
        if not unit:
            raise CronError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS_S:
            raise CronError(f'time: unknown unit "{unit}" in duration "{text}"')
        total_s, at = total_s + float(amount) * _UNITS_S[unit], match.end()
    if not rest or at < len(rest) or total_s > _DURATION_MAX_S:
        raise CronError(f'time: invalid duration "{text}"')
    return sign * total_s
