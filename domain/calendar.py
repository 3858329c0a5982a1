"""Days, weeks and quiet hours in a time zone, as instants.

Zones come from the `tzdata` package alone, never from the machine's own files: two servers, and a replay
years later, must agree on when a day began. Instants are microseconds since 1970.

Where the clock jumps over a wall time, the instant of the jump stands for it; where a wall time comes twice,
a period begins at the first and a quiet period ends at the second.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from functools import cache, lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from domain.config import QuietHours
from domain.instants import HOUR

zoneinfo.reset_tzpath(to=())

PERIODS: Final = ("hour", "day", "week", "month", "ever")

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICRO = dt.timedelta(microseconds=1)
_DAY = dt.timedelta(days=1)


@cache
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name, spelled exactly. Raises ValueError for any other text.

    The list of names is asked first: `zoneinfo` would take a name for a path below its data, and whether
    `europe/berlin` is a name would depend on the file system.
    """
    if name not in _names():
        raise ValueError("not an IANA time zone, such as Europe/Berlin")
    return ZoneInfo.no_cache(name)  # the shared cache may hold one that was made from the machine's files


def period_start(at: int, per: str, tz: ZoneInfo) -> int:
    """When the hour, day, week (from Monday) or month that contains `at` began in that zone; 0 for ever."""
    if per == "ever":
        return 0
    local = _local(at, tz)
    if per == "hour":
        hour = local.replace(minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
        return _instant(hour, tz, bool(local.fold))
    return _instant(_first_midnight(local, per), tz)


def next_period_start(at: int, per: str, tz: ZoneInfo) -> int | None:
    """When the period after the one that contains `at` begins, always later than `at`; None for ever."""
    if per == "ever":
        return None
    local = _local(at, tz)
    if per == "hour":
        start = period_start(at, per, tz)
        # An hour that comes twice is two hours; one lengthened by half an hour ends with its wall hour.
        following = period_start(start + HOUR, per, tz)
        if following > start:
            return following
        return _instant(_local(start, tz).replace(tzinfo=None) + dt.timedelta(hours=1), tz)
    first = _first_midnight(local, per)
    if per == "month":
        following_midnight = (first + 31 * _DAY).replace(day=1)
    else:
        following_midnight = first + (7 if per == "week" else 1) * _DAY
    start = _instant(following_midnight, tz)
    return start if start > at else _instant(following_midnight, tz, True)


def _first_midnight(local: dt.datetime, per: str) -> dt.datetime:
    midnight = dt.datetime.combine(local, dt.time())
    match per:
        case "day":
            return midnight
        case "week":
            return midnight - local.weekday() * _DAY
        case "month":
            return midnight.replace(day=1)
    raise ValueError(f"no such period: {per}")


# --- quiet hours ------------------------------------------------------------------------------------


def in_quiet_hours(at: int, quiet: QuietHours, tz: ZoneInfo) -> bool:
    return _night(at, quiet, tz) is not None


def quiet_started(at: int, quiet: QuietHours, tz: ZoneInfo) -> str:
    """The local date (2026-05-19) on which the quiet period that contains `at` began.

    Raises ValueError outside quiet hours.
    """
    night = _night(at, quiet, tz)
    if night is None:
        raise ValueError("not in quiet hours")
    return night[0].isoformat()


def quiet_end(at: int, quiet: QuietHours, tz: ZoneInfo) -> int:
    """The first instant after the quiet period that contains `at`. Raises ValueError outside quiet hours."""
    night = _night(at, quiet, tz)
    if night is None:
        raise ValueError("not in quiet hours")
    return night[1]


def _night(at: int, quiet: QuietHours, tz: ZoneInfo) -> tuple[dt.date, int] | None:
    """First local date and end of the quiet period that contains `at`."""
    today = _local(at, tz).date()
    for date in (today, today - _DAY):
        midnight = dt.datetime.combine(date, dt.time())
        begins = _instant(midnight + dt.timedelta(minutes=quiet.start), tz)
        last_day = midnight if quiet.start < quiet.end else midnight + _DAY
        ends = _instant(last_day + dt.timedelta(minutes=quiet.end), tz, True)
        if begins <= at < ends:
            return date, ends
    return None


# --- wall time and instants -------------------------------------------------------------------------


def _local(at: int, tz: ZoneInfo) -> dt.datetime:
    return (_EPOCH + dt.timedelta(microseconds=at)).astimezone(tz)


@lru_cache(maxsize=4096)
def _instant(wall: dt.datetime, tz: ZoneInfo, second: bool = False) -> int:
    """When clocks in the zone show `wall` (`second`: for the second time, where there is one)."""
    before = (wall.replace(tzinfo=tz, fold=0) - _EPOCH) // _MICRO
    after = (wall.replace(tzinfo=tz, fold=1) - _EPOCH) // _MICRO
    if before <= after:
        return after if second else before
    # The clock jumps over `wall`, somewhere between the two readings: look for the jump.
    low, high = after, before  # shows less than `wall`; shows at least `wall`
    while high - low > 1:
        middle = (low + high) // 2
        if _local(middle, tz).replace(tzinfo=None) < wall:
            low = middle
        else:
            high = middle
    return high
