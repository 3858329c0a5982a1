"""Questions to the ledger and its derived tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import Recorded
from domain.session import SessionState
from eventstore import reader, schema
from projections import facts, tables

Row = dict[str, Any]
PROPOSED = "nudge_proposed"


class DecisionQuery(NamedTuple):
    """Which decisions are wanted; None: any."""

    user_id: str | None = None
    session_id: str | None = None
    trigger_id: str | None = None
    outcome: str | None = None
    start: int | None = None  # at, included
    end: int | None = None  # at, excluded
    before: int | None = None  # position: the page after
    limit: int = 100


class Secrets(NamedTuple):
    server_key_hash: str | None
    webhook_secret_hash: str | None
    token_secret: str | None


def session_of(session_id: str, rows: Sequence[Recorded]) -> SessionState:
    """The session that these rows tell, without personal fields; events that cannot be applied skipped."""
    return facts.folded_session(SessionState(session_id), rows)[0]


async def armed(conn: AsyncConnection) -> list[tuple[str, str, int]]:
    """Every session that is to be looked at: product, session, due instant."""
    t = tables.sessions
    rows = await conn.execute(
        sa.select(t.c.product, t.c.session_id, t.c.next_due).where(t.c.next_due.is_not(None))
    )
    return [(product, session_id, due) for product, session_id, due in rows]


async def overdue(conn: AsyncConnection, before: int, most: int) -> list[tuple[str, str, int]]:
    """Sessions that nobody looked at although they came due."""
    t = tables.sessions
    rows = await conn.execute(
        sa.select(t.c.product, t.c.session_id, t.c.next_due)
        .where(t.c.next_due < before)
        .order_by(t.c.next_due)
        .limit(most)
    )
    return [(product, session_id, due) for product, session_id, due in rows]


async def deliveries_open(
    conn: AsyncConnection, before: int | None = None, most: int | None = None
) -> list[tuple[str, str, str, int]]:
    """Deliveries that wait: product, nudge, channel, instant. `before`: those due earlier than that."""
    t = tables.deliveries
    query = sa.select(t.c.product, t.c.nudge_id, t.c.channel, t.c.next_at).order_by(t.c.next_at).limit(most)
    wanted = t.c.next_at.is_not(None) if before is None else t.c.next_at < before
    return [(p, n, c, at) for p, n, c, at in await conn.execute(query.where(wanted))]


async def due_of(
    conn: AsyncConnection, product: str, session_ids: Sequence[str]
) -> dict[tuple[str, str], int]:
    """When each of these sessions is to be looked at next, by (product, session); without those that idle."""
    t = tables.sessions
    rows = await conn.execute(
        sa.select(t.c.session_id, t.c.next_due).where(
            t.c.product == product, t.c.session_id.in_(session_ids), t.c.next_due.is_not(None)
        )
    )
    return {(product, session_id): due for session_id, due in rows}


async def secrets(conn: AsyncConnection, product: str) -> Secrets | None:
    t = schema.products
    row = (
        await conn.execute(
            sa.select(t.c.server_key_hash, t.c.webhook_secret_hash, t.c.token_secret).where(
                t.c.product == product
            )
        )
    ).one_or_none()
    return Secrets(*row) if row is not None else None


async def products(conn: AsyncConnection) -> list[str]:
    """Every product that the ledger or the secrets know."""
    t = schema.events
    # From one product to the next by the index: DISTINCT would read an entry for each event.
    seen = sa.select(sa.func.min(t.c.product).label("product")).cte("seen", recursive=True)
    following = sa.select(sa.func.min(t.c.product)).where(t.c.product > seen.c.product).scalar_subquery()
    seen = seen.union_all(sa.select(following).where(seen.c.product.is_not(None)))
    recorded = sa.select(seen.c.product).where(seen.c.product.is_not(None))
    named = sa.union(sa.select(schema.products.c.product), recorded).subquery()
    return list((await conn.scalars(sa.select(named.c.product).order_by(named.c.product))).all())


async def active_since(conn: AsyncConnection, product: str, since: int) -> list[str]:
    t = tables.sessions
    query = sa.select(t.c.session_id).where(t.c.product == product, t.c.last_event_at >= since)
    return list((await conn.scalars(query.order_by(t.c.session_id))).all())


async def decisions(conn: AsyncConnection, product: str, query: DecisionQuery) -> list[Row]:
    t = tables.decisions
    wanted = [t.c.product == product]
    for column, value in (
        (t.c.user_id, query.user_id),
        (t.c.session_id, query.session_id),
        (t.c.trigger_id, query.trigger_id),
        (t.c.outcome, query.outcome),
    ):
        if value is not None:
            wanted.append(column == value)
    if query.start is not None:
        wanted.append(t.c.at >= query.start)
    if query.end is not None:
        wanted.append(t.c.at < query.end)
    if query.before is not None:
        wanted.append(t.c.position < query.before)
    found = await conn.execute(sa.select(t).where(*wanted).order_by(t.c.position.desc()).limit(query.limit))
    return [dict(row) for row in found.mappings()]


async def decisions_of_batches(conn: AsyncConnection, product: str, batches: Sequence[str]) -> list[Row]:
    t = tables.decisions
    query = sa.select(t).where(t.c.product == product, t.c.batch_id.in_(batches))
    return [dict(row) for row in (await conn.execute(query.order_by(t.c.position))).mappings()]


async def decisions_upon_proposals(conn: AsyncConnection, product: str, row: Recorded) -> list[Row]:
    """What became, by now, of a nudge that the evaluation of this event's batch put to the judge."""
    types = (PROPOSED, "nudge_offered", "nudge_withheld")
    after, limit = row.version, 1_000
    later = await reader.read_types(conn, product, row.stream, types, after_version=after, limit=limit)
    proposals = {each.event_id for each in later if each.type == PROPOSED and each.batch_id == row.batch_id}
    upon = [each.event_id for each in later if proposals and _proposal(each) in proposals]
    t = tables.decisions
    query = sa.select(t).where(t.c.product == product, t.c.decision_id.in_(upon))
    return [dict(found) for found in (await conn.execute(query)).mappings()] if upon else []


def _proposal(row: Recorded) -> str | None:
    """The proposal that a decision settled; None: none."""
    found: str | None = orjson.loads(row.data)["explanation"].get("judge", {}).get("proposal_id")
    return found


async def user_session(conn: AsyncConnection, product: str, user_id: str, now: int) -> str | None:
    """The session with a running tour or an open offer, else the one with the newest outside event."""
    t = tables.sessions
    engaged = sa.case(((t.c.tour_until >= now) | (t.c.open_until > now), 1), else_=0)
    query = (
        sa.select(t.c.session_id)
        .where(t.c.product == product, t.c.user_id == user_id)
        .order_by(engaged.desc(), t.c.last_event_at.desc(), t.c.session_id)
        .limit(1)
    )
    return (await conn.scalars(query)).one_or_none()


async def sessions_of_conversation(
    conn: AsyncConnection, product: str, conversation_id: str, most: int
) -> list[str]:
    """The sessions that are linked to a conversation in a chat system, the newest event first."""
    t = tables.sessions
    query = (
        sa.select(t.c.session_id)
        .where(t.c.product == product, t.c.conversation_id == conversation_id)
        .order_by(t.c.last_event_at.desc(), t.c.session_id)
        .limit(most)
    )
    return list((await conn.scalars(query)).all())


async def recent_sessions(
    conn: AsyncConnection, product: str, users: Sequence[str], since: int, now: int
) -> dict[str, str]:
    """Of each user, the session as `user_session` chooses it among those with an event later than `since`."""
    t = tables.sessions
    engaged = sa.case(((t.c.tour_until >= now) | (t.c.open_until > now), 1), else_=0)
    found: dict[str, str] = {}
    for start in range(0, len(users), 500):
        query = (
            sa.select(t.c.user_id, t.c.session_id)
            .where(
                t.c.product == product,
                t.c.user_id.in_(users[start : start + 500]),
                t.c.last_event_at > since,
            )
            .order_by(engaged.desc(), t.c.last_event_at.desc(), t.c.session_id)
        )
        for user_id, session_id in await conn.execute(query):
            found.setdefault(user_id, session_id)
    return found


async def nudge(conn: AsyncConnection, product: str, nudge_id: str) -> Row | None:
    t = tables.nudges
    query = sa.select(t).where(t.c.product == product, t.c.nudge_id == nudge_id)
    row = (await conn.execute(query)).mappings().one_or_none()
    return dict(row) if row is not None else None


async def open_nudges(conn: AsyncConnection, product: str, user_id: str, now: int) -> list[Recorded]:
    """The offers to the user that are open and that nobody has shown, oldest first."""
    t = tables.nudges
    positions = (
        await conn.scalars(
            sa.select(t.c.position)
            .where(
                t.c.product == product,
                t.c.user_id == user_id,
                t.c.expires_at > now,
                t.c.closed_at.is_(None),
                t.c.shown_at.is_(None),
            )
            .order_by(t.c.position)
        )
    ).all()
    return await reader.read_positions(conn, list(positions)) if positions else []


async def newest_nudge(
    conn: AsyncConnection, product: str, user_id: str, trigger_id: str | None, now: int
) -> Row | None:
    """The user's open nudge, else the one offered last; of one trigger, or of any."""
    t = tables.nudges
    is_open = sa.case(((t.c.expires_at > now) & t.c.closed_at.is_(None), 1), else_=0)
    query = sa.select(t).where(t.c.product == product, t.c.user_id == user_id)
    if trigger_id is not None:
        query = query.where(t.c.trigger_id == trigger_id)
    query = query.order_by(is_open.desc(), t.c.position.desc()).limit(1)
    row = (await conn.execute(query)).mappings().one_or_none()
    return dict(row) if row is not None else None


async def recent_of_type(conn: AsyncConnection, kind: str, most: int) -> list[Recorded]:
    """The events of one type among the newest `most` positions of the ledger."""
    t = schema.events
    newest = sa.select(sa.func.coalesce(sa.func.max(t.c.position), 0)).scalar_subquery()
    query = sa.select(t.c.position).where(t.c.position > newest - most, t.c.type == kind)
    positions = (await conn.scalars(query.order_by(t.c.position))).all()
    return await reader.read_positions(conn, list(positions))
