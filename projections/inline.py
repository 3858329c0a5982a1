"""The projections written in the transaction of their events: sessions, decisions, nudges, deliveries.

All derived. Their rows are what lists and look-ups by user read; what a session is, is folded from events.
"""

# ruff: noqa: S608 (built from constants: no value ever becomes part of a statement)

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import errors, events, nudge
from domain.envelope import Recorded, name_in, session_stream
from domain.instants import text
from domain.run import Live
from eventstore import statements
from eventstore.shortcut import Statement
from projections import poison
from projections.poison import Poisoned
from projections.tables import ATTRIBUTION, deliveries, rebuilt_deliveries


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
    "conversation_id": "text",
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


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """A statement, for the live tables and for those that a rebuild fills beside them."""

    live: sa.TextClause
    beside: sa.TextClause


def beside(text: str) -> str:
    """The statement against the tables that a rebuild fills."""
    return _TABLES.sub(r"rebuilt_\1", text)


_TABLES = re.compile(r"\b(sessions|decisions|nudges|deliveries)\b")


def _write(text: str, *nullable: str, integers: Iterable[str] = ()) -> Write:
    """`nullable`: text parameters that may be NULL, whose type PostgreSQL must be told; `integers`: so."""

    def typed(text: str) -> sa.TextClause:
        texts = [sa.bindparam(name, type_=sa.Text) for name in nullable]
        return sa.text(text).bindparams(
            *texts, *(sa.bindparam(name, type_=sa.BigInteger) for name in integers)
        )

    return Write(typed(text), typed(beside(text)))


_DECISIONS = _write(
    "INSERT INTO decisions (position, product, decision_id, outcome, trigger_id, session_id, user_id, at,"
    " reason, summary, batch_id) VALUES (:position, :product, :decision_id, :outcome, :trigger_id,"
    " :session_id, :user_id, :at, :reason, :summary, :batch_id)",
    "user_id",
)
_NUDGES = _write(
    "INSERT INTO nudges (product, nudge_id, session_id, user_id, trigger_id, position, at, expires_at, goal)"
    " VALUES (:product, :nudge_id, :session_id, :user_id, :trigger_id, :position, :at, :expires_at, :goal)",
    "user_id",
    "goal",
)
_SHOWN = _write(
    "UPDATE nudges SET shown_tab = :tab, shown_at = :at"
    " WHERE product = :product AND nudge_id = :nudge_id AND shown_at IS NULL",
    "tab",
)
_CLOSED = _write(
    "UPDATE nudges SET closed_at = :at, closed_reason = :reason"
    " WHERE product = :product AND nudge_id = :nudge_id AND closed_at IS NULL"
)
_DELIVERIES = _write(
    "INSERT INTO deliveries (product, nudge_id, channel, session_id, user_id, position, expires_at, status,"
    " attempt, next_at) VALUES (:product, :nudge_id, :channel, :session_id, :user_id, :position, :expires_at,"
    " 'due', 0, :next_at)",
    "user_id",
)
# One statement for every step, so that the steps of one delivery are carried out in their order.
_DELIVERY = _write(
    "UPDATE deliveries SET status = :status, next_at = :next_at,"
    " attempt = CASE WHEN attempt < :attempt THEN :attempt ELSE attempt END"
    " WHERE product = :product AND nudge_id = :nudge_id AND channel = coalesce(:channel, channel)"
    " AND (status = 'due' OR status = :also OR (:status = 'trying' AND status IN ('failed', 'dropped')))",
    "status",
    "channel",
    "also",
    integers=("attempt", "next_at"),
)
# A goal counts for the offers made before it, in the ledger's order and within ATTRIBUTION: for its user's,
# and where the user of either is unknown for those of its session.
_OF_GOAL = (
    "product = :product AND nudge_id IN ("
    "SELECT nudge_id FROM nudges WHERE product = :product AND user_id = :user_id"
    " UNION ALL SELECT decision_id FROM decisions WHERE product = :product AND session_id = :session_id"
    " AND outcome = 'offered')"
    " AND (user_id = :user_id OR user_id IS NULL OR :user_id IS NULL)"
    " AND goal = :goal AND at BETWEEN :since AND :at AND position < :position"
)
_REACHED = _write(
    f"UPDATE nudges SET goal_at = :at WHERE {_OF_GOAL} AND goal_at IS NULL", "user_id", "session_id"
)
_NUDGES_OF_GOAL = _write(f"SELECT nudge_id FROM nudges WHERE {_OF_GOAL}", "user_id", "session_id")
# rows first, then what changes them
ORDER = (_DECISIONS, _NUDGES, _DELIVERIES, _SHOWN, _CLOSED, _REACHED, _DELIVERY)


class Changes(NamedTuple):
    """What a group's events change in the tables."""

    sessions: list[tuple[Any, ...]]  # rows
    writes: list[tuple[Write, dict[str, Any]]]
    poisoned: list[Poisoned]  # events whose rows could not be made; all the others' are here


def changes(
    written: Iterable[Written], sessions: Iterable[tuple[str, Live]], poisoned: Iterable[Poisoned] = ()
) -> Changes:
    """What these events and sessions come to. An event whose row cannot be made costs that row alone.

    `poisoned`: events that are known already to be poison.
    """
    found = Changes([], [], list(poisoned))
    for product, live in sessions:
        try:
            found.sessions.append(session_row(product, live))
        except Exception as error:  # whatever it is: facts are stored, and the other rows written
            state = live.state
            stream = session_stream(state.session_id)
            found.poisoned.append(Poisoned("sessions", product, stream, state.version, errors.where(error)))
    for item in written:
        for projection, writes_of in WRITERS:
            try:
                found.writes.extend(writes_of(item))
            except Exception as error:  # as above
                found.poisoned.append(poison.poisoned(projection, item.row, error))
    return found


def statements_of(changes: Changes) -> list[Statement]:
    """What `apply` does, as statements for SQLite's own driver."""
    found: list[Statement] = []
    if changes.sessions:
        found.append((_SESSIONS_SQLITE.replace("$1", "?"), (orjson.dumps(changes.sessions).decode(),)))
    found += [(write.live.text, row) for write, row in changes.writes]
    found += [(poison.INSERT.text, poison.parameters(each)) for each in changes.poisoned]
    return found


async def apply(conn: AsyncConnection, changes: Changes) -> None:
    """Write what the group's events change. Inside their transaction."""
    await _apply(conn, changes, aside=False)


async def nudges_of_goal(conn: AsyncConnection, goal: Mapping[str, Any]) -> list[str]:
    """The nudges for which a goal counts, by the parameters of the write that says it was reached."""
    return list((await conn.scalars(_NUDGES_OF_GOAL.live, goal)).all())


async def channels_of(conn: AsyncConnection, product: str, nudge_id: str) -> set[str]:
    """The channels that a nudge has rows for, live or derived anew."""
    found: set[str] = set()
    for table in (deliveries, rebuilt_deliveries):
        query = sa.select(table.c.channel).where(table.c.product == product, table.c.nudge_id == nudge_id)
        found.update((await conn.scalars(query)).all())
    return found


async def apply_beside(conn: AsyncConnection, changes: Changes, now: int) -> None:
    """The same into the tables of a rebuild; poison is noticed `now`."""
    await _apply(conn, changes, aside=True, now=now)


async def _apply(conn: AsyncConnection, changes: Changes, *, aside: bool, now: int | None = None) -> None:
    if changes.sessions:
        upsert = _SESSIONS_SQLITE if conn.dialect.name == "sqlite" else _SESSIONS_POSTGRESQL
        rows = orjson.dumps(changes.sessions).decode()
        await statements.execute(conn, beside(upsert) if aside else upsert, rows)
    batches: dict[Write, list[dict[str, Any]]] = {}
    for write, row in changes.writes:
        batches.setdefault(write, []).append(row)
    for write in ORDER:
        if write in batches:
            await conn.execute(write.beside if aside else write.live, batches[write])
    await poison.note(conn, changes.poisoned, now)


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
        state.conversation_id,
    )


def _decisions(item: Written) -> list[tuple[Write, dict[str, Any]]]:
    if isinstance(item.event, (events.NudgeOffered, events.NudgeWithheld)):
        return [(_DECISIONS, decision_row(item))]
    return []


def _nudges(item: Written) -> list[tuple[Write, dict[str, Any]]]:
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
                "goal": offered.goal,
            }
            return [(_NUDGES, nudge)]
        case events.NudgeShown() as shown:
            return [(_SHOWN, _nudge_change(row, shown.nudge_id) | {"tab": shown.tab_id})]
        case events.NudgeClosed() as closed:
            nudge_id = name_in(row.stream)
            return [(_CLOSED, _nudge_change(row, nudge_id) | {"reason": closed.reason})]
        case events.GoalReached() as reached:
            return [(_REACHED, _goal_change(row, reached.goal_id))]
        case _:
            return []


def _deliveries(item: Written) -> list[tuple[Write, dict[str, Any]]]:
    row, event = item.row, item.event
    if isinstance(event, events.NudgeOffered):
        delivery = {
            "product": row.product,
            "nudge_id": row.event_id,
            "session_id": session_of(row),
            "user_id": event.user_id,
            "position": row.position,
            "expires_at": event.expires_at,
            "next_at": row.at,
        }
        return [(_DELIVERIES, delivery | {"channel": channel}) for channel in called(event)]
    if isinstance(event, events.NudgeClosed):
        return [(_DELIVERY, _delivery_change(row, None, nudge.Standing(nudge.DROPPED)))]
    stepped = nudge.step(event)
    return [] if stepped is None else [(_DELIVERY, _delivery_change(row, *stepped))]


def called(offered: events.NudgeOffered) -> list[str]:
    """The channels of an offer that are called; streams are not."""
    return [channel for channel in dict.fromkeys(offered.message.get("channels", ())) if channel != STREAMS]


def _delivery_change(row: Recorded, channel: str | None, standing: nudge.Standing) -> dict[str, Any]:
    """`channel` None: every one that is due. A closed nudge leaves the attempt under way alone."""
    return {
        "product": row.product,
        "nudge_id": name_in(row.stream),
        "channel": channel,
        "status": standing.status,
        "attempt": standing.attempt,
        "next_at": standing.next_at,
        "also": nudge.TRYING if channel is not None else nudge.DUE,
    }


STREAMS = "toast"  # the channel of the nudge streams
WRITERS = (("decisions", _decisions), ("nudges", _nudges), ("deliveries", _deliveries))
# Which projections' rows an event of a type makes or changes; every other type concerns neither.
TYPES: Mapping[str, tuple[str, ...]] = {
    events.NudgeOffered.TYPE: ("decisions", "nudges", "deliveries"),
    events.NudgeWithheld.TYPE: ("decisions",),
    events.NudgeShown.TYPE: ("nudges",),
    events.NudgeClosed.TYPE: ("nudges", "deliveries"),
    events.GoalReached.TYPE: ("nudges",),
    events.NudgeDelivered.TYPE: ("deliveries",),
    events.DeliveryAttempted.TYPE: ("deliveries",),
    events.DeliveryFailed.TYPE: ("deliveries",),
    events.DeliveryUnknown.TYPE: ("deliveries",),
}


def _nudge_change(row: Recorded, nudge_id: str) -> dict[str, Any]:
    return {"product": row.product, "nudge_id": nudge_id, "at": row.at}


def _goal_change(row: Recorded, goal_id: str) -> dict[str, Any]:
    kind, _, name = row.stream.partition("-")
    return {
        "product": row.product,
        "user_id": orjson.loads(row.data).get("user_id"),
        "session_id": name if kind == "session" else None,
        "goal": goal_id,
        "at": row.at,
        "since": row.at - ATTRIBUTION,
        "position": row.position,
    }


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
