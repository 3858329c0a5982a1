"""Replay: one pass over the ledger that executes every recorded turn again and compares.

Model answers, ids, instants and findings of predicates are served from the record; everything else the turn
works out anew, on states folded from the record. What is found does not depend on how the ledger is shared
out among processes, nor on the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import PRODUCT_STREAM, session_stream
from eventstore import reader
from projections import configs
from projections.partition import Components
from projections.replaying import units
from projections.replaying.divergence import Report
from projections.replaying.recheck import Checker
from projections.replaying.rulebook import Rulebook
from projections.replaying.units import Cutter, Unit

PAGE = 2_000


class Scope(NamedTuple):
    """What of the ledger is replayed, and which share of it falls to this process."""

    start: int = 1  # positions, both included
    end: int | None = None  # None: the head
    product: str | None = None
    session_id: str | None = None  # only what concerns this session is reported
    share: int = 0
    shares: int = 1
    components: Mapping[str, Components] = {}  # by product; needed for a session, or for several shares


WHOLE = Scope()


async def replay(conn: AsyncConnection, scope: Scope = WHOLE) -> AsyncIterator[tuple[int, Report]]:
    """Replay in ledger order; yields the position reached and the report so far, at last the whole report."""
    end = await reader.head(conn) if scope.end is None else scope.end
    report = Report()
    if scope.start > end:
        yield end, report
        return
    begin, last = await units.whole(conn, scope.start, end)
    through = _Pass(conn, scope._replace(end=end), begin, report)
    cutter, position = Cutter(), begin - 1
    while rows := await units.page(conn, position, last, PAGE):
        position = rows[-1].position
        for unit in cutter.feed(rows):
            await through.take(unit)
        yield min(position, end), report
    for unit in cutter.finish():
        await through.take(unit)
    yield end, report


class _Pass:
    def __init__(self, conn: AsyncConnection, scope: Scope, begin: int, report: Report) -> None:
        self._conn, self._scope, self._begin, self._report = conn, scope, begin, report
        self._checkers: dict[str, Checker] = {}

    async def take(self, unit: Unit) -> None:
        product = unit.product
        if self._scope.product is not None and product != self._scope.product:
            return
        if unit.stream == PRODUCT_STREAM or self._mine(unit):
            await (await self._checker(product)).check(unit)

    def _mine(self, unit: Unit) -> bool:
        scope = self._scope
        known = scope.components.get(unit.product)
        if known is None:
            return scope.shares == 1
        if scope.session_id is not None:
            return known.of(unit.stream) == known.of(session_stream(scope.session_id))
        return known.mine(unit.stream, scope.share, scope.shares)

    async def _checker(self, product: str) -> Checker:
        found = self._checkers.get(product)
        if found is None:
            rows = await reader.read_stream(self._conn, product, PRODUCT_STREAM)
            rulebook = Rulebook(product, configs.fold(rows))
            found = Checker(self._conn, product, rulebook, self._begin, self._report, self._wanted)
            self._checkers[product] = found
        return found

    def _wanted(self, stream: str, position: int) -> bool:
        scope = self._scope
        if scope.session_id is not None and stream != session_stream(scope.session_id):
            return False
        return scope.start <= position and (scope.end is None or position <= scope.end)
