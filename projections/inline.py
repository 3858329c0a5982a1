"""The projections that are written in the transaction of their events: sessions, decisions, nudges.

All derived. Their rows are what lists and look-ups by user read; what a session is, is folded from events.
"""

# ruff: noqa: S608 (built from constants: no value ever becomes part of a statement)

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import events
from domain.envelope import Recorded, name_in
from domain.instants import text
from domain.run import Live
from eventstore import statements
from eventstore.shortcut import Statement


class Written(NamedTuple):
    """A stored event beside its value."""

    row: Recorded
    event: events.Event


# All rows of a group as one JSON parameter: one step of the database, however many rows.
_COLUMNS = {
    "product": "text",
    "session_id": "text",
    "user_id": "text",
    "version": "bigint",
    "last_event_at": "bigint",
    "current_state": "text",
    "tour_until": "bigint",
    "open_until": "bigint",
    "next_due": "bigint",
}
_NAMES = ", ".join(_COLUMNS)
_UPSERT = " ON CONFLICT (product, session_id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in list(_COLUMNS)[2:]
)
# A look at a session that recorded nothing may rest on less than another process has written since.
_UPSERT += " WHERE sessions.version <= excluded.version"
_SESSIONS_SQLITE = (
    f"INSERT INTO sessions ({_NAMES}) SELECT "
    + ", ".join(f"value ->> {index}" for index in range(len(_COLUMNS)))
    + f" FROM json_each($1) WHERE true{_UPSERT}"
)
_SESSIONS_POSTGRESQL = (
    f"INSERT INTO sessions ({_NAMES}) SELECT "
    + ", ".join(f"(value ->> {index})::{kind}" for index, kind in enumerate(_COLUMNS.values()))
    + f" FROM json_array_elements($1::json) WHERE true{_UPSERT}"
)
_DECISIONS = sa.text(
    "INSERT INTO decisions (position, product, decision_id, outcome, trigger_id, session_id, user_id, at,"
    " reason, summary, batch_id) VALUES (:position, :product, :decision_id, :outcome, :trigger_id,"
    " :session_id, :user_id, :at, :reason, :summary, :batch_id)"
).bindparams(sa.bindparam("user_id", type_=sa.Text))
_NUDGES = sa.text(
    "INSERT INTO nudges (product, nudge_id, session_id, user_id, trigger_id, position, at, expires_at)"
    " VALUES (:product, :nudge_id, :session_id, :user_id, :trigger_id, :position, :at, :expires_at)"
).bindparams(sa.bindparam("user_id", type_=sa.Text))
_SHOWN = sa.text(
    "UPDATE nudges SET shown_tab = :tab, shown_at = :at"
    " WHERE product = :product AND nudge_id = :nudge_id AND shown_at IS NULL"
).bindparams(sa.bindparam("tab", type_=sa.Text))
_CLOSED = sa.text(
    "UPDATE nudges SET closed_at = :at, closed_reason = :reason"
    " WHERE product = :product AND nudge_id = :nudge_id AND closed_at IS NULL"
)


def statements_of(written: Sequence[Written], sessions: Iterable[tuple[str, Live]]) -> list[Statement]:
    """What `apply` does, as statements for SQLite's own driver."""
    rows = [session_row(product, live) for product, live in sessions]
    found: list[Statement] = []
    if rows:
        found.append((_SESSIONS_SQLITE.replace("$1", "?"), (orjson.dumps(rows).decode(),)))
    found += [(statement.text, row) for item in written for statement, row in _changes(item)]
    return found


async def apply(
    conn: AsyncConnection, written: Sequence[Written], sessions: Iterable[tuple[str, Live]]
) -> None:
    """Write what the group's events change. Inside their transaction."""
    rows = [session_row(product, live) for product, live in sessions]
    if rows:
        upsert = _SESSIONS_SQLITE if conn.dialect.name == "sqlite" else _SESSIONS_POSTGRESQL
        await statements.execute(conn, upsert, orjson.dumps(rows).decode())
    batches: dict[sa.TextClause, list[dict[str, Any]]] = {}
    for item in written:
        for statement, row in _changes(item):
            batches.setdefault(statement, []).append(row)
    for statement in (_DECISIONS, _NUDGES, _SHOWN, _CLOSED):
        if statement in batches:
            await conn.execute(statement, batches[statement])


def session_row(product: str, live: Live) -> tuple[Any, ...]:
    """The columns of `sessions`, in order."""
    state = live.state
    offer = state.offer
    return (
        product,
        state.session_id,
        state.user_id,
        state.version,
        state.last_event_at,
        state.current_state,
        max(state.tour_until() or 0, state.timeout_due or 0) if state.active_tour_id is not None else None,
        offer.expires_at if offer is not None and offer.open else None,
        live.due(),
    )


def _changes(item: Written) -> list[tuple[sa.TextClause, dict[str, Any]]]:
    row = item.row
    match item.event:
        case events.NudgeOffered() as offered:
            nudge = {
                "product": row.product,
                "nudge_id": row.event_id,
                "session_id": session_of(row),
                "user_id": offered.user_id,
                "trigger_id": offered.trigger_id,
                "position": row.position,
                "at": row.at,
                "expires_at": offered.expires_at,
            }
            return [(_DECISIONS, decision_row(item)), (_NUDGES, nudge)]
        case events.NudgeWithheld():
            return [(_DECISIONS, decision_row(item))]
        case events.NudgeShown() as shown:
            return [(_SHOWN, _nudge_change(row, shown.nudge_id) | {"tab": shown.tab_id})]
        case events.NudgeClosed() as closed:
            nudge_id = name_in(row.stream)
            return [(_CLOSED, _nudge_change(row, nudge_id) | {"reason": closed.reason})]
        case _:
            return []


def _nudge_change(row: Recorded, nudge_id: str) -> dict[str, Any]:
    return {"product": row.product, "nudge_id": nudge_id, "at": row.at}


def session_of(row: Recorded) -> str:
    return name_in(row.stream)


def decision_row(item: Written) -> dict[str, Any]:
    """The row of a decision in the table `decisions`."""
    row, event = item.row, item.event
    assert isinstance(event, (events.NudgeOffered, events.NudgeWithheld))
    offered = isinstance(event, events.NudgeOffered)
    return {
        "position": row.position,
        "product": row.product,
        "decision_id": row.event_id,
        "outcome": "offered" if offered else "withheld",
        "trigger_id": event.trigger_id,
        "session_id": session_of(row),
        "user_id": event.user_id,
        "at": row.at,
        "reason": event.reason if isinstance(event, events.NudgeWithheld) else "ok",
        "summary": event.explanation["summary"],
        "batch_id": row.batch_id,
    }


def decision_json(row: Any) -> dict[str, Any]:
    """A decision as lists show it, from a mapping with the table's columns."""
    offered = row["outcome"] == "offered"
    return {
        "decision_id": row["decision_id"],
        "nudge_id": row["decision_id"] if offered else None,
        "outcome": row["outcome"],
        "trigger_id": row["trigger_id"],
        "session_id": row["session_id"],
        "user_id": row["user_id"],
        "at": text(row["at"]),
        "position": row["position"],
        "reason": row["reason"],
        "summary": row["summary"],
    }
