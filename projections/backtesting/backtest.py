"""Backtest of an events file: what a config would have done over its events, a JSON row for each decision.

The same input gives the same bytes; how time runs is said in `projections.backtesting.simulation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import orjson

from domain import events, instants
from domain.run import Incoming, Stored, Transition
from domain.triggers import Ruleset
from projections.backtesting.simulation import Batch, Simulation, session_of

Row = dict[str, Any]


class Line(Incoming, Protocol):
    """An outside event as an events file tells it."""

    @property
    def session_id(self) -> str | None: ...
    @property
    def received_at(self) -> int: ...
    @property
    def batch_id(self) -> str | None: ...


def batches(lines: Iterable[Line]) -> list[Batch]:
    """The batches of an events file, in the order of virtual time.

    Lines of one session (or, without a session, of one user) are a batch where they name the same
    `batch_id`, else where they were received at the same instant. A named batch was received whole when its
    last line was. At equal instants what is known of users comes first, then sessions by their ids; batches
    of one session keep the order of their first lines.
    """
    groups: dict[tuple[str | None, str | None, str | int], list[Line]] = {}
    for line in lines:
        user_id = line.user_id if line.session_id is None else None
        boundary = line.received_at if line.batch_id is None else line.batch_id
        groups.setdefault((line.session_id, user_id, boundary), []).append(line)
    found = [
        Batch(max(line.received_at for line in group), session_id, user_id, group)
        for (session_id, user_id, _), group in groups.items()
    ]
    found.sort(key=lambda batch: (batch.at, batch.session_id or "", batch.user_id or ""))
    return found


def run(
    product: str,
    rules: Ruleset,
    batches: Iterable[Batch],
    until: int = 0,
    clock: Callable[[], float] | None = None,
) -> Iterator[Row]:
    """The output rows, ordered by (`at`, session); the last is the summary.

    `until`: µs that virtual time runs past the last event; what comes due at that very instant still happens.
    `at` in a row is an instant in µs: `line` renders it. `clock` gives seconds, for the summary's `seconds`
    alone; without one they are 0. Raises ValueError where a batch lies before the one that precedes it.
    """
    started = clock() if clock is not None else 0.0
    simulation = Simulation(product, rules)
    offered: dict[str, int] = {}
    withheld: dict[str, int] = {}
    for happening in simulation.over(batches, until):
        row = _row(happening)
        if row["kind"] == "offered":
            offered[row["trigger_id"]] = offered.get(row["trigger_id"], 0) + 1
        elif row["kind"] == "withheld":
            withheld[row["reason"]] = withheld.get(row["reason"], 0) + 1
        yield row
    yield {
        "kind": "summary",
        "events": simulation.events,
        "sessions": len(simulation.sessions_seen),
        "users": len(simulation.users_seen),
        "offered": dict(sorted(offered.items())),
        "withheld": dict(sorted(withheld.items())),
        "orphaned": simulation.orphaned,
        **({"judge": {"assumed": simulation.assumed}} if rules.config.judge is not None else {}),
        "seconds": round(clock() - started, 6) if clock is not None else 0.0,
    }


def line(row: Row) -> bytes:
    """A row as a line of JSON: keys in their fixed order, `at` as a number with six decimals."""
    if "at" in row:
        row = {**row, "at": orjson.Fragment(instants.unix(row["at"]))}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _row(happening: Stored | Transition) -> Row:
    if isinstance(happening, Transition):
        return {
            "kind": "transition",
            "at": happening.at,
            "session_id": happening.session_id,
            "from": happening.source,
            "to": happening.target,
            "cause": happening.cause,
        }
    event = happening.event
    assert isinstance(event, (events.NudgeOffered, events.NudgeWithheld))
    row: Row = {
        "kind": "offered" if isinstance(event, events.NudgeOffered) else "withheld",
        "at": happening.at,
        "session_id": session_of(happening),
        "user_id": event.user_id,
        "trigger_id": event.trigger_id,
        "explanation": event.explanation,
    }
    if isinstance(event, events.NudgeWithheld):
        row["reason"] = event.reason
    return row
