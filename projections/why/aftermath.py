"""What became of an offer: its deliveries, and what the user and the host did with it."""

# ruff: noqa: S608 (built from constants: no value ever becomes part of a statement)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from domain.envelope import nudge_stream, session_stream, user_stream
from domain.instants import text
from eventstore import reader, statements
from projections import tables
from projections.readable import Told
from projections.why.asof import Asking, Moment

Row = dict[str, Any]

RESPONSES = frozenset({"nudge_shown", "nudge_dismissed", "option_clicked", "tour_started", "tour_ended"})
_OTHERS = 20  # other sessions of the user that are looked into: those with the newest events
_ELSEWHERE = ("nudge_shown", "nudge_dismissed", "option_clicked", "goal_reached")


class Aftermath(NamedTuple):
    """What the ledger says of an offer after it."""

    delivery: Sequence[Told]  # the nudge's own stream
    responses: Sequence[Told]  # what the user and the host did with it, in ledger order

    def of(self, *types: str) -> list[Told]:
        return [row for row in self.responses if row.type in types]

    @property
    def shown(self) -> list[Told]:
        return self.of("nudge_shown")


NOTHING = Aftermath((), ())


async def of_offer(asking: Asking, moment: Moment, offer: Told) -> Aftermath:
    """What followed an offer, in its session, in the user's other sessions and in the nudge's own stream."""
    nudge_id, goal = offer.event_id, orjson.loads(offer.data).get("goal")
    delivery = await reader.read_stream(asking.conn, asking.product, nudge_stream(nudge_id))
    found: list[Told] = []
    current = True  # until the session's next offer, what the user does may be about this one
    for row in moment.rows[offer.version :]:
        current = current and row.type != "nudge_offered"
        if row.type == "goal_reached" or row.type in RESPONSES or row.type == "chat_message":
            data = orjson.loads(row.data)
            if _answers(row, data, nudge_id, current) or _attains(row, data, offer, goal):
                found.append(row)
    for row in await _elsewhere(asking, moment, offer):
        data = orjson.loads(row.data)
        if data.get("nudge_id") == nudge_id or _attains(row, data, offer, goal):
            found.append(row)
    return Aftermath(delivery, sorted(found, key=lambda row: row.position))


def _answers(row: Told, data: Row, nudge_id: str, current: bool) -> bool:
    if row.type == "chat_message":
        return current and data.get("role") == "user"
    named = data.get("nudge_id")
    return row.type in RESPONSES and (named == nudge_id or (named is None and current))


def _attains(row: Told, data: Row, offer: Told, goal: str | None) -> bool:
    return (
        row.type == "goal_reached"
        and data.get("goal_id") == goal
        and offer.at <= row.at <= offer.at + tables.ATTRIBUTION
    )


async def _elsewhere(asking: Asking, moment: Moment, offer: Told) -> Sequence[Told]:
    """Later events of the user's own stream and of other sessions that may be about the offer."""
    who = moment.situation.user
    if who is None:
        return []
    names = [who.user_id, *who.merged_from]
    t = tables.sessions
    query = (
        sa.select(t.c.session_id)
        .where(t.c.product == asking.product, t.c.user_id.in_(names), t.c.last_event_at >= offer.at)
        .order_by(t.c.last_event_at.desc(), t.c.session_id)
        .limit(_OTHERS)
    )
    sessions = (await asking.conn.scalars(query)).all()
    streams = [user_stream(name) for name in names]
    streams += [session_stream(name) for name in sessions if name != moment.session_id]
    types = ", ".join(f"'{name}'" for name in _ELSEWHERE)
    rows = await statements.fetch_by_list(
        asking.conn,
        "SELECT e.position FROM json_each($1) k CROSS JOIN events e ON e.stream = k.value "
        f"WHERE e.product = $2 AND e.position > $3 AND e.at <= $4 AND e.type IN ({types})",
        "SELECT position FROM events WHERE stream = ANY($1::text[]) "
        f"AND product = $2 AND position > $3::bigint AND at <= $4::bigint AND type IN ({types})",
        streams,
        asking.product,
        offer.position,
        offer.at + tables.ATTRIBUTION,
    )
    return await reader.read_positions(asking.conn, sorted(row[0] for row in rows))


def step_json(row: Told) -> Row:
    """An event of an offer's aftermath, without what is long or said elsewhere."""
    data = orjson.loads(row.data)
    kept = {k: v for k, v in data.items() if k not in ("timings", "explanation", "message")}
    kept |= {k: text(kept[k]) for k in ("until", "retry_at") if isinstance(kept.get(k), int)}
    return {"type": row.type, "at": text(row.at), "event_id": row.event_id, "data": kept}
