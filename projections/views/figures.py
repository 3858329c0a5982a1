"""Figures of triggers over time: what was offered, what was held back by which gate, what came of it.

Counted by the databases from `decisions` and `nudges`. What came of an offer is counted in the bucket of the
offer, however much later it happened. Buckets are multiples of their own length since 1970, so they begin
at full minutes, hours and days of UTC, and the first may begin before the window does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.instants import DAY, HOUR, MINUTE, SECOND, text
from eventstore import statements

MOST = 60  # buckets, where nobody asked for a length
_LENGTHS = (
    *(n * SECOND for n in (1, 5, 10, 30)),
    *(n * MINUTE for n in (1, 5, 10, 30)),
    *(n * HOUR for n in (1, 2, 4, 6, 12)),
    *(n * DAY for n in (1, 2, 7, 14, 30, 90, 365)),
)
_DECISIONS = (
    "SELECT trigger_id, bucket, outcome, reason, count(*) FROM (SELECT trigger_id, outcome, reason,"
    " at / $1::bigint AS bucket FROM decisions WHERE product = $2 AND at >= $3::bigint AND at < $4::bigint)"
    " AS d GROUP BY trigger_id, bucket, outcome, reason"
)
_NUDGES = (
    "SELECT trigger_id, bucket, count(shown_at),"
    " count(CASE WHEN closed_reason = 'answered' THEN 1 END),"
    " count(CASE WHEN closed_reason = 'dismissed' THEN 1 END), count(goal_at)"
    " FROM (SELECT trigger_id, shown_at, closed_reason, goal_at, at / $1::bigint AS bucket FROM nudges"
    " WHERE product = $2 AND at >= $3::bigint AND at < $4::bigint) AS n GROUP BY trigger_id, bucket"
)
_COUNTED = ("offered", "withheld", "shown", "answered", "dismissed", "goal")


class Window(NamedTuple):
    """Which decisions are counted: those at `start` and later, before `end`; instants and length in µs."""

    start: int
    end: int
    bucket: int


@dataclass(slots=True)
class Tally:
    """One trigger's figures."""

    withheld: Counter[str] = field(default_factory=Counter)  # by reason
    buckets: dict[int, Counter[str]] = field(default_factory=dict)  # by the instant of their begin

    def add(self, bucket: int, what: str, count: int) -> None:
        self.buckets.setdefault(bucket, Counter())[what] += count

    def as_json(self, trigger_id: str, name: str, in_force: bool) -> dict[str, Any]:
        total = sum(self.buckets.values(), Counter[str]())
        return {
            "trigger_id": trigger_id,
            "name": name,
            "in_force": in_force,
            **{what: total[what] for what in _COUNTED},
            "withheld": dict(sorted(self.withheld.items())),
            "series": [
                {"at": text(bucket), **{what: counted[what] for what in _COUNTED}}
                for bucket, counted in sorted(self.buckets.items())
            ],
        }


def bucket_of(start: int, end: int) -> int:
    """A round length, in µs, that cuts the window into about MOST buckets or fewer."""
    wanted = -(-(end - start) // MOST)
    return next((length for length in _LENGTHS if length >= wanted), -(-wanted // DAY) * DAY)


async def read(conn: AsyncConnection, product: str, window: Window) -> dict[str, Tally]:
    """The figures of every trigger that had a decision in the window, by its id."""
    asked = (window.bucket, product, window.start, window.end)
    found: dict[str, Tally] = {}
    for trigger_id, number, outcome, reason, count in await statements.fetch(conn, _DECISIONS, *asked):
        tally = found.setdefault(trigger_id, Tally())
        tally.add(number * window.bucket, outcome, count)
        if outcome == "withheld":
            tally.withheld[reason] += count
    for trigger_id, number, *counts in await statements.fetch(conn, _NUDGES, *asked):
        tally = found.setdefault(trigger_id, Tally())
        for what, count in zip(_COUNTED[2:], counts, strict=True):
            tally.add(number * window.bucket, what, count)
    return found


def as_json(
    window: Window, tallies: Mapping[str, Tally], in_force: Sequence[str], names: Mapping[str, str]
) -> dict[str, Any]:
    """The triggers in force, in the config's order, whether or not they had anything; then others by id."""
    others: Iterable[str] = sorted(tallies.keys() - set(in_force))
    listed = [(trigger_id, True) for trigger_id in in_force] + [(other, False) for other in others]
    return {
        "from": text(window.start),
        "to": text(window.end),
        "bucket_s": window.bucket // SECOND,
        "triggers": [
            tallies.get(trigger_id, Tally()).as_json(trigger_id, names.get(trigger_id, trigger_id), now)
            for trigger_id, now in listed
        ],
    }
