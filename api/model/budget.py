"""What a product's model may cost in a day of UTC: calls and tokens.

What the ledger holds of the day is counted, so a restart forgets nothing that was recorded, and calls of
other servers count from the next look on, at most `LOOK` later. Beside it stand this process's own calls,
those under way and those that came to nothing included; the larger of both counts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.config_around import Model as Settings
from domain.envelope import ENGINE
from domain.instants import DAY, MINUTE
from eventstore import reader
from eventstore.engine import Ledger

LOOK = MINUTE  # how old a look at the ledger may be
_LAG = 2 * MINUTE  # what is younger than this is looked at again: it may have been committed later
_TYPES = ("reply_generated", "summary_generated", "judge_answered")
_NOT_ASKED = frozenset({"no_model", "no_key", "budget"})


class Spent(NamedTuple):
    calls: int
    tokens: int

    def plus(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.tokens + other.tokens)


NOTHING = Spent(0, 0)


@dataclass(slots=True, eq=False)
class Day:
    """One product's spending on one day."""

    start: int
    here: Spent = NOTHING  # by this process, and what was recorded when it last looked
    settled: Spent = NOTHING  # in the ledger, before `through`
    through: int = 0
    looked: int = 0
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Budgets:
    """Of all products."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._days: dict[str, Day] = {}

    async def reserve(self, product: str, settings: Settings, tokens: int, now: int) -> Day | None:
        """Take one call of about so many tokens; None where the day's budget does not hold it."""
        day = self._days.get(product)
        start = now - now % DAY
        if day is None or day.start < start:
            day = self._days[product] = Day(start, through=start)
        async with day.looking:
            if not day.looked or now - day.looked > LOOK:
                await self._look(product, day, now)
        after = day.here.plus(Spent(1, tokens))
        if after.calls > settings.calls_per_day or after.tokens > settings.tokens_per_day:
            return None
        day.here = after
        return day

    def settle(self, day: Day, reserved: int, used: int) -> None:
        """The call is over: it took `used` tokens, not the `reserved` ones."""
        day.here = Spent(day.here.calls, max(0, day.here.tokens - reserved + used))

    async def _look(self, product: str, day: Day, now: int) -> None:
        cut = max(day.through, now - _LAG)
        async with self._ledger.reader() as conn:
            old = await _recorded(conn, product, day.through, cut)
            new = await _recorded(conn, product, cut, now + DAY)
        day.settled, day.through = day.settled.plus(old), cut
        recorded = day.settled.plus(new)
        day.here = Spent(max(day.here.calls, recorded.calls), max(day.here.tokens, recorded.tokens))
        day.looked = now


async def _recorded(conn: AsyncConnection, product: str, start: int, end: int) -> Spent:
    """What events with an instant in [start, end), to the millisecond, say was asked."""
    spent = NOTHING
    for data in await reader.read_data(conn, product, ENGINE, _first_id(start), _first_id(end), _TYPES):
        said = orjson.loads(data)
        failure, tokens = said.get("failure"), said.get("tokens")
        if (said.get("model") is None and failure is None) or failure in _NOT_ASKED:
            continue
        calls = 2 if failure == "ungrounded" else 1
        spent = spent.plus(Spent(calls, tokens if isinstance(tokens, int) else 0))
    return spent


def _first_id(at: int) -> str:
    """Before every id that is derived at that instant or later: they begin with its milliseconds."""
    digits = f"{at // 1000:012x}"
    return f"{digits[:8]}-{digits[8:]}"
