"""Schedules: which lines are taken, what is wrong with the others, and when they come true."""

from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import cron


def _next(line, after, zone="UTC"):
    at = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))
    found = cron.parse(line).next_after(at.timestamp(), ZoneInfo(zone))
    return None if found is None else datetime.fromtimestamp(found, ZoneInfo(zone)).isoformat()


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00+00:00"),
        ("* * * * *", "2026-01-01T00:00:59", "2026-01-01T00:01:00+00:00"),
        ("*/15 * * * *", "2026-01-01T00:46:00", "2026-01-01T01:00:00+00:00"),
        ("5/20 * * * *", "2026-01-01T00:06:00", "2026-01-01T00:25:00+00:00"),
        ("10-20/5,59 3 * * ?", "2026-01-01T03:20:00", "2026-01-01T03:59:00+00:00"),
        ("0 0 31 * *", "2026-02-01T00:00:00", "2026-03-31T00:00:00+00:00"),
        ("0 0 29 feb *", "2026-01-01T00:00:00", "2028-02-29T00:00:00+00:00"),
        ("0 0 30 2 *", "2026-01-01T00:00:00", None),
        ("0 12 * * MON-fri", "2026-01-02T13:00:00", "2026-01-05T12:00:00+00:00"),
        ("0 0 13 * 5", "2026-01-03T00:00:00", "2026-01-09T00:00:00+00:00"),
        ("0 0 13 * *", "2026-01-03T00:00:00", "2026-01-13T00:00:00+00:00"),
        ("0 0 */2 * 1", "2026-01-01T00:00:00", "2026-01-03T00:00:00+00:00"),
        ("@yearly", "2026-05-01T00:00:00", "2027-01-01T00:00:00+00:00"),
        ("@weekly", "2026-01-01T00:00:00", "2026-01-04T00:00:00+00:00"),
        ("@hourly", "2026-01-01T00:00:01", "2026-01-01T01:00:00+00:00"),
        ("@every 1h30m", "2026-01-01T00:00:10", "2026-01-01T01:30:10+00:00"),
        ("@every 10ms", "2026-01-01T00:00:10", "2026-01-01T00:00:11+00:00"),
        ("TZ=America/New_York 0 6 * * *", "2026-01-01T00:00:00", "2026-01-01T11:00:00+00:00"),
        ("CRON_TZ=UTC @daily", "2026-01-01T00:00:00", "2026-01-02T00:00:00+00:00"),
    ],
)
def test_the_next_time(line, after, expected):
    assert _next(line, after) == expected


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("30 2 * * *", "2026-03-29T00:00:00", "2026-03-30T02:30:00+02:00"),
        ("30 2 * * *", "2026-10-25T00:00:00", "2026-10-25T02:30:00+02:00"),
        ("0 * * * *", "2026-03-29T01:00:00", "2026-03-29T03:00:00+02:00"),
        ("0 9 * * *", "2026-03-28T10:00:00", "2026-03-29T09:00:00+02:00"),
    ],
)
def test_a_clock_that_jumps(line, after, expected):
    assert _next(line, after, "Europe/Berlin") == expected


def test_a_time_that_the_clock_repeats_happens_twice():
    zone, line = ZoneInfo("Europe/Berlin"), cron.parse("30 2 25 10 *")
    first = line.next_after(datetime(2026, 10, 1, tzinfo=UTC).timestamp(), zone)
    assert line.next_after(first, zone) == first + 3600


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("0 0 * * * *", "expected exactly 5 fields, found 6: [0 0 * * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("9-5 * * * *", "beginning of range (9) beyond end of range (5): 9-5"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("-1 * * * *", 'failed to parse int from : strconv.Atoi: parsing "": invalid syntax'),
        ("@reboot", "unrecognized descriptor: @reboot"),
        ("@every", "unrecognized descriptor: @every"),
        ("@every soon", 'failed to parse duration @every soon: time: invalid duration "soon"'),
        ("@every 5", 'failed to parse duration @every 5: time: missing unit in duration "5"'),
        ("@every 5d", 'failed to parse duration @every 5d: time: unknown unit "d" in duration "5d"'),
        ("TZ=Mars/Base * * * * *", "provided bad location Mars/Base: unknown time zone Mars/Base"),
    ],
)
def test_what_is_no_schedule(line, message):
    with pytest.raises(cron.CronError) as caught:
        cron.parse(line)
    assert str(caught.value) == message


_FIELDS = st.tuples(
    *(
        st.one_of(st.just("*"), st.integers(low, high).map(str), st.integers(1, high).map("*/{}".format))
        for low, high in ((0, 59), (0, 23), (1, 28), (1, 12), (0, 6))
    )
)


@given(
    _FIELDS, st.integers(0, 4_000_000_000), st.sampled_from(("UTC", "Europe/Berlin", "Australia/Lord_Howe"))
)
def test_the_next_time_suits_every_field_and_comes_later(fields, after_s, zone):
    line = cron.parse(" ".join(fields))
    found = line.next_after(after_s, ZoneInfo(zone))
    if found is None:
        return
    at = datetime.fromtimestamp(found, ZoneInfo(zone))
    assert found > after_s and at.second == 0
    assert at.minute in line.minute.values and at.hour in line.hour.values and at.month in line.month.values
    assert (
        line.day.star
        or line.weekday.star
        or at.day in line.day.values
        or at.isoweekday() % 7 in line.weekday.values
    )


@given(st.text(max_size=30))
def test_any_text_is_a_schedule_or_refused(text):
    with suppress(cron.CronError):
        cron.parse(text)
