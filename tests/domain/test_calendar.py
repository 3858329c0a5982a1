"""Periods and quiet hours, across changes of the clock."""

from __future__ import annotations

import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import calendar, instants
from domain.config import QuietHours
from domain.instants import DAY, HOUR, MINUTE

BERLIN = calendar.zone("Europe/Berlin")
KATHMANDU = calendar.zone("Asia/Kathmandu")
NIGHT = QuietHours(22 * 60, 7 * 60)


def at(text: str) -> int:
    """The instant of `2026-05-19 11:07 +05:45`."""
    date, clock, offset = text.split()
    return instants.parse(f"{date}T{clock}:00{offset}")


@pytest.mark.parametrize(
    ("zone", "per", "row"),  # row: an instant in the period | when that begins | when the next begins
    [
        # spring: 2026-03-29 has 23 hours in Berlin, 02:00 to 03:00 does not exist
        (
            "Europe/Berlin",
            "day",
            "2026-03-29 12:00 +02:00 | 2026-03-29 00:00 +01:00 | 2026-03-30 00:00 +02:00",
        ),
        (
            "Europe/Berlin",
            "hour",
            "2026-03-29 01:59 +01:00 | 2026-03-29 01:00 +01:00 | 2026-03-29 03:00 +02:00",
        ),
        (
            "Europe/Berlin",
            "hour",
            "2026-03-29 03:30 +02:00 | 2026-03-29 03:00 +02:00 | 2026-03-29 04:00 +02:00",
        ),
        (
            "Europe/Berlin",
            "week",
            "2026-03-29 23:00 +02:00 | 2026-03-23 00:00 +01:00 | 2026-03-30 00:00 +02:00",
        ),
        (
            "Europe/Berlin",
            "month",
            "2026-03-31 23:00 +02:00 | 2026-03-01 00:00 +01:00 | 2026-04-01 00:00 +02:00",
        ),
        # autumn: 2026-10-25 has 25 hours, 02:00 to 03:00 comes twice and is two hours
        (
            "Europe/Berlin",
            "day",
            "2026-10-25 12:00 +01:00 | 2026-10-25 00:00 +02:00 | 2026-10-26 00:00 +01:00",
        ),
        (
            "Europe/Berlin",
            "hour",
            "2026-10-25 02:30 +02:00 | 2026-10-25 02:00 +02:00 | 2026-10-25 02:00 +01:00",
        ),
        (
            "Europe/Berlin",
            "hour",
            "2026-10-25 02:30 +01:00 | 2026-10-25 02:00 +01:00 | 2026-10-25 03:00 +01:00",
        ),
        (
            "Europe/Berlin",
            "week",
            "2026-10-25 23:59 +01:00 | 2026-10-19 00:00 +02:00 | 2026-10-26 00:00 +01:00",
        ),
        (
            "Europe/Berlin",
            "month",
            "2026-12-31 23:59 +01:00 | 2026-12-01 00:00 +01:00 | 2027-01-01 00:00 +01:00",
        ),
        # a quarter of an hour beside everybody else
        (
            "Asia/Kathmandu",
            "day",
            "2026-05-19 00:10 +05:45 | 2026-05-19 00:00 +05:45 | 2026-05-20 00:00 +05:45",
        ),
        (
            "Asia/Kathmandu",
            "hour",
            "2026-05-19 11:07 +05:45 | 2026-05-19 11:00 +05:45 | 2026-05-19 12:00 +05:45",
        ),
        # half an hour of daylight saving
        (
            "Australia/Lord_Howe",
            "hour",
            "2026-04-05 01:45 +10:30 | 2026-04-05 01:00 +11:00 | 2026-04-05 02:00 +10:30",
        ),
        # midnight does not exist
        (
            "Africa/Cairo",
            "day",
            "2026-04-24 12:00 +03:00 | 2026-04-24 01:00 +03:00 | 2026-04-25 00:00 +03:00",
        ),
    ],
)
def test_a_period_begins_when_clocks_on_the_wall_say_so(zone: str, per: str, row: str) -> None:
    instant, begins, next_begins = (at(text) for text in row.split(" | "))
    tz = calendar.zone(zone)
    assert instants.text(calendar.period_start(instant, per, tz)) == instants.text(begins)
    following = calendar.next_period_start(instant, per, tz)
    assert instants.optional_text(following) == instants.text(next_begins)


def test_the_zones_disagree_about_the_day() -> None:
    """19:00 UTC is past midnight in Kathmandu and evening in Berlin."""
    evening = at("2026-05-19 19:00 +00:00")
    assert calendar.period_start(evening, "day", KATHMANDU) == at("2026-05-20 00:00 +05:45")
    assert calendar.period_start(evening, "day", BERLIN) == at("2026-05-19 00:00 +02:00")


def test_ever_has_one_period() -> None:
    assert calendar.period_start(at("2026-05-19 19:00 +00:00"), "ever", BERLIN) == 0
    assert calendar.next_period_start(at("2026-05-19 19:00 +00:00"), "ever", BERLIN) is None


def test_an_unknown_period_is_refused() -> None:
    with pytest.raises(ValueError, match="fortnight"):
        calendar.period_start(0, "fortnight", BERLIN)


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo",
     "Pacific/Apia", "America/Sao_Paulo", "America/Nuuk", "Asia/Beirut"]
)  # fmt: skip
INSTANTS = st.integers(at("2005-01-01 00:00 +00:00"), at("2040-01-01 00:00 +00:00"))
CHANGES = st.sampled_from(
    [at("2026-03-29 01:00 +00:00"), at("2026-10-25 01:00 +00:00"), at("2026-04-04 15:00 +00:00"),
     at("2026-10-03 15:30 +00:00"), at("2011-12-30 10:00 +00:00"), at("2026-04-23 22:00 +00:00")]
)  # fmt: skip
NEAR_CHANGES = st.builds(int.__add__, CHANGES, st.integers(-3 * HOUR, 3 * HOUR))


@given(st.one_of(INSTANTS, NEAR_CHANGES), st.sampled_from(["hour", "day", "week", "month"]), ZONES)
def test_periods_follow_each_other_without_gap_or_overlap(instant: int, per: str, zone: str) -> None:
    tz = calendar.zone(zone)
    start, following = calendar.period_start(instant, per, tz), calendar.next_period_start(instant, per, tz)
    assert following is not None
    assert start <= instant < following
    assert calendar.period_start(start, per, tz) == start
    assert calendar.period_start(following - 1, per, tz) == start
    assert calendar.period_start(following, per, tz) == following


# --- quiet hours ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instant", "night", "ends"),
    [
        ("2026-05-19 21:59 +02:00", None, None),
        ("2026-05-19 22:00 +02:00", "2026-05-19", "2026-05-20 07:00 +02:00"),
        ("2026-05-20 06:59 +02:00", "2026-05-19", "2026-05-20 07:00 +02:00"),
        ("2026-05-20 07:00 +02:00", None, None),
        # the night of the change, in spring and in autumn
        ("2026-03-28 23:00 +01:00", "2026-03-28", "2026-03-29 07:00 +02:00"),
        ("2026-03-29 06:59 +02:00", "2026-03-28", "2026-03-29 07:00 +02:00"),
        ("2026-10-24 23:00 +02:00", "2026-10-24", "2026-10-25 07:00 +01:00"),
        ("2026-10-25 06:59 +01:00", "2026-10-24", "2026-10-25 07:00 +01:00"),
    ],
)
def test_a_night_is_one_quiet_period(instant: str, night: str | None, ends: str | None) -> None:
    assert calendar.in_quiet_hours(at(instant), NIGHT, BERLIN) is (night is not None)
    if night is not None and ends is not None:
        assert calendar.quiet_started(at(instant), NIGHT, BERLIN) == night
        assert calendar.quiet_end(at(instant), NIGHT, BERLIN) == at(ends)


def test_quiet_hours_within_one_day_do_not_reach_into_the_next() -> None:
    noon = QuietHours(12 * 60, 13 * 60)
    assert calendar.in_quiet_hours(at("2026-05-19 12:30 +05:45"), noon, KATHMANDU)
    assert calendar.quiet_end(at("2026-05-19 12:30 +05:45"), noon, KATHMANDU) == at("2026-05-19 13:00 +05:45")
    assert not calendar.in_quiet_hours(at("2026-05-19 13:00 +05:45"), noon, KATHMANDU)
    assert not calendar.in_quiet_hours(at("2026-05-19 00:30 +05:45"), noon, KATHMANDU)


def test_an_end_that_the_clock_jumps_over_is_the_jump() -> None:
    quiet = QuietHours(22 * 60, 2 * 60 + 30)
    assert calendar.quiet_end(at("2026-03-29 01:30 +01:00"), quiet, BERLIN) == at("2026-03-29 03:00 +02:00")


def test_an_end_that_comes_twice_is_the_second() -> None:
    """Else the same night would be quiet, loud and quiet again."""
    quiet = QuietHours(22 * 60, 2 * 60 + 30)
    assert calendar.in_quiet_hours(at("2026-10-25 02:45 +02:00"), quiet, BERLIN)
    assert calendar.quiet_end(at("2026-10-25 02:15 +02:00"), quiet, BERLIN) == at("2026-10-25 02:30 +01:00")


def test_outside_quiet_hours_there_is_no_night() -> None:
    with pytest.raises(ValueError, match="not in quiet hours"):
        calendar.quiet_end(at("2026-05-19 12:00 +02:00"), NIGHT, BERLIN)
    with pytest.raises(ValueError, match="not in quiet hours"):
        calendar.quiet_started(at("2026-05-19 12:00 +02:00"), NIGHT, BERLIN)


MINUTES = st.integers(0, DAY // MINUTE - 1)


@given(st.one_of(INSTANTS, NEAR_CHANGES), MINUTES, MINUTES, ZONES)
def test_the_end_of_quiet_hours_is_where_they_end(instant: int, start: int, end: int, zone: str) -> None:
    quiet, tz = QuietHours(start, end), calendar.zone(zone)
    # Less than three hours of noise a day may vanish where the clock changes, and two nights then meet.
    if (
        start == end
        or (start - end) % (DAY // MINUTE) < 180
        or not calendar.in_quiet_hours(instant, quiet, tz)
    ):
        return
    ends = calendar.quiet_end(instant, quiet, tz)
    assert instant < ends <= instant + 2 * DAY
    assert calendar.in_quiet_hours(ends - 1, quiet, tz)
    assert not calendar.in_quiet_hours(ends, quiet, tz)
    assert calendar.quiet_started(ends - 1, quiet, tz) == calendar.quiet_started(instant, quiet, tz)


# --- zones ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "Berlin", "europe/berlin", "Europe", "Europe/", "../etc/passwd", "/etc/localtime", "tzdata.zi",
     "Europe/../Europe/Berlin", "a\x00b", "\ud800", "x" * 5000, "C:\\x"],
)  # fmt: skip
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        calendar.zone(name)


def test_the_machines_own_zone_files_are_not_used() -> None:
    assert zoneinfo.TZPATH == ()
