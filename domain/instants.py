"""Instants and durations, in and out of text.

Inside: integer microseconds since 1970-01-01 UTC. Outside: RFC 3339 in UTC with six digits.
"""

from __future__ import annotations

import datetime as dt
import re

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MAX_SECONDS = 100_000_000_000  # above it a number is milliseconds by mistake: refused, not guessed

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?([Zz]|[+-]\d\d:?\d\d)$", re.ASCII
)
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.(\d{1,30}))?(?:[eE][+-]?\d{1,3})?$", re.ASCII)


def parse(value: object) -> int:
    """The instant of an RFC 3339 text with offset, a UNIX number of seconds, or that number as text.

    Digits past the microsecond are cut. Raises ValueError with a sentence that says what is wrong.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("an instant is RFC 3339 with an offset, or UNIX seconds")
    if isinstance(value, str):
        match = _RFC3339.match(value)
        if match is not None:
            return _from_rfc3339(match)
        number = _NUMBER.match(value)
        if number is None:
            raise ValueError("not RFC 3339 with an offset (2026-05-19T11:07:19.847Z) nor UNIX seconds")
        # Exact decimals: a float has too few bits for microseconds of far instants.
        whole, _, fraction = value.partition(".")
        if fraction.isascii() and fraction.isdigit() and whole.lstrip("+-").isdigit():
            micros = abs(int(whole)) * SECOND + int((fraction + "000000")[:6])
            return _bounded(-micros if whole.startswith("-") else micros)
        value = float(value) if "." in value or "e" in value.lower() else int(value)
    if isinstance(value, int):
        return _bounded(value * SECOND)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("an instant must be finite")
    return _bounded(round(max(-1.0, min(value, MAX_SECONDS + 1.0)) * SECOND))


def _bounded(micros: int) -> int:
    if micros > MAX_SECONDS * SECOND:
        raise ValueError("above 1e11: UNIX seconds are wanted, this looks like milliseconds")
    if micros < 0:
        raise ValueError("before 1970")
    return micros


def _from_rfc3339(match: re.Match[str]) -> int:
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    leap = second == 60  # RFC 3339 allows a leap second; POSIX time has none
    try:
        moment = dt.datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=dt.UTC)
    except ValueError as error:
        raise ValueError(f"no such date or time: {error}") from None
    micros = (moment - _EPOCH) // dt.timedelta(microseconds=1) + (SECOND if leap else 0)
    micros += int(((match[7] or "") + "000000")[:6])
    zone = match[8]
    if zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:
            raise ValueError("no such offset from UTC")
        offset = (hours * 60 + minutes) * MINUTE
        micros -= offset if zone[0] == "+" else -offset
    return _bounded(micros)


def text(at: int) -> str:
    """RFC 3339 UTC with six digits: `2026-05-19T11:07:19.847000Z`."""
    moment = _EPOCH + dt.timedelta(microseconds=at)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}Z"


def optional_text(at: int | None) -> str | None:
    return None if at is None else text(at)


def unix(at: int) -> str:
    """UNIX seconds with six decimals, as text: `1795166720.811000`."""
    return f"{at // SECOND}.{at % SECOND:06d}"


def seconds(micros: int) -> str:
    """A duration for people: `120 s`, `0.5 s`, never in exponent form."""
    whole, rest = divmod(micros, SECOND)
    return f"{whole} s" if not rest else f"{whole}.{rest:06d}".rstrip("0") + " s"
