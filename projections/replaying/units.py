"""The ledger cut into units: what one turn of the service recorded.

A job is stored whole, its rows one after the other, all of one instant of recording: first what came due
before it (each instant an evaluation, with a batch id of its own), then its own batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import OUTSIDE
from eventstore import statements

HISTORY = "backfill-"  # how the batch ids of events begin that were recorded as history, never evaluated
CORRECTION = "action_relabelled"
ANSWER = "judge_answered"

# What a turn concludes. Other engine events are said by the service itself, each job by itself.
CONCLUDED = frozenset(
    {
        "nudge_offered",
        "nudge_withheld",
        "nudge_proposed",
        "interaction_timed_out",
        "budget_spent",
        "user_linked",
        "nudge_closed",
        "evaluation_failed",
        CORRECTION,
        ANSWER,
    }
)
LONGEST = 5_000  # more rows than any unit has


class Row(NamedTuple):
    """An event as far as replaying it needs; the fields are those of `domain.envelope.Recorded`."""

    position: int
    product: str
    stream: str
    version: int
    type: str
    schema_version: int
    origin: str
    event_id: str
    at: int
    recorded_at: int
    occurred_at: int
    batch_id: str
    causation_id: str | None
    config_revision: str | None
    data: bytes
    sealed: bytes | None
    key_id: str | None


_PAGE = (
    f"SELECT {', '.join(Row._fields)} FROM events "  # noqa: S608 (built from constants)
    "WHERE position > $1::bigint AND position <= $2::bigint ORDER BY position LIMIT $3::bigint"
)


async def page(conn: AsyncConnection, after: int, up_to: int, limit: int) -> list[Row]:
    """The rows at positions above `after`, up to and with `up_to`, the first `limit` of them."""
    return list(map(Row._make, await statements.fetch(conn, _PAGE, after, up_to, limit)))


class Unit(NamedTuple):
    """Rows of one turn, in their order; never empty."""

    rows: Sequence[Row]

    @property
    def product(self) -> str:
        return self.rows[0].product

    @property
    def stream(self) -> str:
        """The stream of the turn's session or, without one, of its user."""
        return self.rows[0].stream

    @property
    def position(self) -> int:
        return self.rows[0].position

    @property
    def now(self) -> int:
        """When the turn was taken, µs."""
        return self.rows[0].recorded_at

    @property
    def revision(self) -> str | None:
        return self.rows[0].config_revision

    @property
    def turned(self) -> bool:
        """Whether a turn made this; else the service only said something."""
        return self.rows[0].origin == OUTSIDE or self.rows[0].type in CONCLUDED

    @property
    def evaluates(self) -> bool:
        """Whether the turn evaluated its session; else it took in history or corrections only."""
        last = self.rows[-1]
        return not (last.batch_id.startswith(HISTORY) or last.type == CORRECTION)

    def parts(self) -> tuple[list[tuple[int, list[Row]]], Sequence[Row]]:
        """What came due before the batch, as (instant, rows) in order; and the batch itself.

        The batch is empty where the turn was a timer's.
        """
        rows = self.rows
        if rows[0].origin == OUTSIDE:
            return [], rows
        own = next((n for n, row in enumerate(rows) if row.origin == OUTSIDE), len(rows))
        instants: list[tuple[int, list[Row]]] = []
        for row in rows[:own]:
            if row.stream == self.stream and (not instants or row.at != instants[-1][0]):
                instants.append((row.at, []))
            if instants:
                instants[-1][1].append(row)
        return instants, rows[own:]


class Cutter:
    """Cuts rows that come in ledger order into units."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._batch: str | None = None  # of the unit's own batch, once its outside events have begun

    def feed(self, rows: Iterable[Row]) -> list[Unit]:
        """The units that these rows bring to an end."""
        found: list[Unit] = []
        for row in rows:
            if self._rows and not self._joins(row):
                found += self.finish()
            self._rows.append(row)
            if self._batch is None and row.origin == OUTSIDE:
                self._batch = row.batch_id
        return found

    def finish(self) -> list[Unit]:
        """The unit that was begun last; what is fed next begins another."""
        found = [Unit(self._rows)] if self._rows else []
        self._rows, self._batch = [], None
        return found

    def _joins(self, row: Row) -> bool:
        first = self._rows[0]
        if row.recorded_at != first.recorded_at or row.product != first.product:
            return False
        if row.stream.startswith("session-") and row.stream != first.stream:
            return False
        if self._batch is not None:
            return row.batch_id == self._batch
        if row.origin == OUTSIDE:
            return row.stream == first.stream and Unit(self._rows).turned
        return row.type in CONCLUDED and Unit(self._rows).turned


async def whole(conn: AsyncConnection, start: int, end: int) -> tuple[int, int]:
    """The positions from which and up to which must be read so that no unit is cut apart."""
    around = await page(conn, max(start - LONGEST, 0), start, LONGEST + 1)
    behind = await page(conn, end - 1, end + LONGEST, LONGEST + 1)
    return _first_alike(around[::-1], start), _first_alike(behind, end)


def _first_alike(rows: Sequence[Row], otherwise: int) -> int:
    """The last position of the run of rows, from the first on, that were recorded at one instant."""
    for _, alike in groupby(rows, key=lambda row: (row.product, row.recorded_at)):
        return list(alike)[-1].position
    return otherwise
