"""A product's sessions, newest first, a page at a time; and the decisions after a position.

The table of sessions says what each session's stream last said. What time alone has changed since (a timeout
that nobody has noticed yet) is the reader's to work out: rows that came due are marked by `next_due`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.machine import THINKING
from projections import tables


class Place(NamedTuple):
    """Where a session stands in the list; the page after it begins behind it."""

    last_event_at: int
    session_id: str


class Query(NamedTuple):
    user_id: str | None = None  # None: of any user
    state: str | None = None  # None: in any state
    after: Place | None = None
    limit: int = 50


async def sessions(conn: AsyncConnection, product: str, query: Query, now: int) -> list[Place]:
    """The next page: every session that may be in the state at `now`, and some that came due and are not."""
    t = tables.sessions
    wanted = [t.c.product == product]
    if query.user_id is not None:
        wanted.append(t.c.user_id == query.user_id)
    if query.state == THINKING:
        wanted.append((t.c.current_state == THINKING) | (t.c.next_due <= now))
    elif query.state is not None:
        wanted.append(t.c.current_state == query.state)
    if query.after is not None:
        last, session_id = query.after
        earlier = t.c.last_event_at < last
        wanted.append(earlier | ((t.c.last_event_at == last) & (t.c.session_id > session_id)))
    rows = await conn.execute(
        sa.select(t.c.last_event_at, t.c.session_id)
        .where(*wanted)
        .order_by(t.c.last_event_at.desc(), t.c.session_id)
        .limit(query.limit)
    )
    return [Place(*row) for row in rows]


async def closed(conn: AsyncConnection, product: str, nudge_ids: Collection[str], now: int) -> set[str]:
    """Those of the nudges that were closed by `now`, in whichever stream that is recorded."""
    t = tables.nudges
    query = sa.select(t.c.nudge_id).where(
        t.c.product == product, t.c.nudge_id.in_(sorted(nudge_ids)), t.c.closed_at <= now
    )
    return set((await conn.scalars(query)).all()) if nudge_ids else set()


async def decisions(conn: AsyncConnection, product: str, after: int, limit: int) -> list[dict[str, Any]]:
    """Decisions behind a position, oldest first."""
    t = tables.decisions
    query = sa.select(t).where(t.c.product == product, t.c.position > after)
    rows = await conn.execute(query.order_by(t.c.position).limit(limit))
    return [dict(row) for row in rows.mappings()]
