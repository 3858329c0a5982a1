"""Puts what a replay finds into its report, as far as it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain import triggers
from domain.decide import explain
from eventstore import reader
from projections import rederive
from projections.rederive import CONCLUSIONS, DECISIONS, Inputs
from projections.replaying.compare import Difference
from projections.replaying.divergence import LOST, Divergence, Report
from projections.replaying.units import Row

TIMEOUT = "interaction_timed_out"

Wanted = Callable[[str, int], bool]  # (stream of a session or user, position): whether it is asked for


class Place(NamedTuple):
    """Where in the ledger something stands, or would stand after."""

    stream: str  # of the session, or user, whose turn it is
    position: int


class Telling:
    """One product's share of the report."""

    def __init__(self, conn: AsyncConnection, product: str, report: Report, wanted: Wanted) -> None:
        self._conn, self._product = conn, product
        self._report, self._wanted = report, wanted
        self._inputs = Inputs(conn, product)
        self._told: set[tuple[str, str]] = set()  # what is derived only comes again until a row changes it

    def counted(self, stream: str, rows: Iterable[Row]) -> None:
        """These rows of the stream's turns were looked at."""
        for row in rows:
            if row.type in (*DECISIONS, TIMEOUT) and self._wanted(stream, row.position):
                self._report.decisions += row.type in DECISIONS
                self._report.timeouts += row.type == TIMEOUT

    def moved(self, place: Place, transitions: int) -> None:
        self._report.transitions += transitions * self._wanted(*place)

    def silent(self, place: Place, *, known: bool) -> None:
        """An evaluation recorded nothing, and comes to nothing; or that cannot be known."""
        if known:
            self._report.silent += self._wanted(*place)
        else:
            self.unknown(place, 1)

    def unknown(self, place: Place, count: int) -> None:
        self._report.unknown += count * self._wanted(*place)

    def erased(self, stream: str, rows: Sequence[Row]) -> None:
        """The decisions among the rows stand on what can be read no more."""
        self._report.erased += sum(
            row.type in DECISIONS and self._wanted(stream, row.position) for row in rows
        )

    async def diverges(self, difference: Difference, place: Place) -> None:
        kind, row, made, recorded, derived = difference
        if not self._wanted(place.stream, place.position if row is None else row.position):
            return
        if row is None:
            if (difference.what, difference.event_id) in self._told:
                return
            self._told.add((difference.what, difference.event_id))
        elif kind == LOST and row.type in CONCLUSIONS:
            assert recorded is not None
            derived = await self._today(row, recorded["trigger_id"])
        event = row if row is not None else made
        assert event is not None
        self._report.divergences.append(
            Divergence(
                place.position if row is None else row.position,
                difference.event_id,
                self._product,
                event.stream,
                event.at,
                difference.what,
                kind,
                recorded,
                derived,
            )
        )

    async def stands_alone(self, row: Row) -> bool | None:
        """Whether a recorded decision comes out again from what it read; None: that cannot be known."""
        (whole,) = await reader.read_positions(self._conn, [row.position])
        return await rederive.reproduced(self._inputs, whole)

    async def _today(self, row: Row, trigger_id: str) -> dict[str, Any] | None:
        """What today's code says of a recorded decision's trigger, from what the decision read."""
        (whole,) = await reader.read_positions(self._conn, [row.position])
        derived = await rederive.derive(self._inputs, whole)
        if derived is None:
            return None
        situation, rules = derived.situation, derived.rules
        evaluation = triggers.evaluate(situation, rules, whole=True)
        verdict = next((v for v in evaluation.verdicts if v.trigger.id == trigger_id), None)
        if verdict is None:
            return None
        met = verdict.finding.verdict is True
        return {
            "outcome": "withheld" if met and verdict.blocked is not None else "offered" if met else "silent",
            "trigger_id": trigger_id,
            "explanation": explain(verdict, evaluation, situation, rules),
        }
