"""Replay: every recorded decision and timeout derived again from its recorded inputs, and compared.

A decision recorded what it read (`read`: stream and version), when (`at`, `noticed_at`) and under which
config revision. Folding those streams to those versions and evaluating again must give the same bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import events
from domain.envelope import Recorded, session_stream
from domain.machine import THINKING
from eventstore import reader
from projections import facts, rederive
from projections.rederive import DECISIONS, Inputs


class Divergence(NamedTuple):
    """A recorded fact that the same inputs do not give again."""

    product: str
    stream: str
    position: int
    what: str
    recorded: Any
    derived: Any


@dataclass(slots=True)
class Report:
    """What a replay found."""

    decisions: int = 0
    timeouts: int = 0
    erased: int = 0
    unknown: int = 0  # cannot be derived: a predicate is missing or changed
    divergences: list[Divergence] = field(default_factory=list)


async def replay(
    conn: AsyncConnection,
    *,
    product: str | None = None,
    session_id: str | None = None,
    start: int = 1,
    end: int | None = None,
) -> AsyncIterator[tuple[int, Report]]:
    """Replay in ledger order; yields the position reached and the report so far, then the final one.

    `start` and `end` are positions, both included.
    """
    report = Report()
    inputs: dict[str, Inputs] = {}
    position = start - 1
    while True:
        rows = await reader.read_all(conn, after=position, limit=2_000, up_to=end)
        for row in rows:
            if product is not None and row.product != product:
                continue
            if session_id is not None and row.stream != session_stream(session_id):
                continue
            mine = inputs.setdefault(row.product, Inputs(conn, row.product))
            if row.type in DECISIONS:
                await _check_decision(mine, row, report)
            elif row.type == "interaction_timed_out":
                await _check_timeout(mine, row, report)
        if not rows:
            break
        position = rows[-1].position
        yield position, report
    yield position, report


async def _check_decision(inputs: Inputs, row: Recorded, report: Report) -> None:
    report.decisions += 1
    derived = await rederive.derive(inputs, row)
    same = rederive.confirmed(derived, row) if derived is not None else None
    if same is None or derived is None:
        report.unknown += 1
        return
    if same:
        return
    report.divergences.append(
        Divergence(
            row.product,
            row.stream,
            row.position,
            row.type,
            orjson.loads(row.data),
            orjson.loads(derived.events[row.event_id]) if row.event_id in derived.events else None,
        )
    )


async def _check_timeout(inputs: Inputs, row: Recorded, report: Report) -> None:
    report.timeouts += 1
    before = await inputs.session(row.stream, row.version - 1, False)
    recorded = facts.fact(row).event
    assert isinstance(recorded, events.InteractionTimedOut)
    derived = (before.timeout_due, before.current_state, before.timeout, before.cooldown)
    written = (row.at, recorded.previous_state, recorded.timeout, recorded.cooldown)
    if derived != written or before.current_state == THINKING:
        report.divergences.append(
            Divergence(row.product, row.stream, row.position, row.type, written, derived)
        )
