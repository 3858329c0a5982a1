"""What users did lately, and what is known beside it: who they are, which conversation a session has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import Recorded, session_stream, user_stream
from eventstore import reader, schema, statements
from projections import tables

_SESSIONS = 5  # newest sessions of a user that are looked into
_USERS = 200  # a statement


class Standing(NamedTuple):
    """What the table of sessions says of one."""

    user_id: str | None
    conversation_id: str | None


async def standings(conn: AsyncConnection, product: str, session_ids: Sequence[str]) -> dict[str, Standing]:
    """Users and conversations of sessions, as they are now."""
    t = tables.sessions
    found: dict[str, Standing] = {}
    for start in range(0, len(session_ids), 1000):
        some = session_ids[start : start + 1000]
        query = sa.select(t.c.session_id, t.c.user_id, t.c.conversation_id).where(
            t.c.product == product, t.c.session_id.in_(some)
        )
        found |= {
            name: Standing(user, conversation) for name, user, conversation in await conn.execute(query)
        }
    return found


async def actions_before(conn: AsyncConnection, product: str, versions: Mapping[str, int]) -> dict[str, int]:
    """How many actions each of these streams holds below the version given with it."""
    if not versions:
        return {}
    count = (
        "(SELECT count(*) FROM events e WHERE e.product = $1 AND e.stream = {} AND e.version < {} "
        "AND e.type = 'action')"
    )
    if conn.dialect.name == "postgresql":
        rows = await statements.fetch(
            conn,
            f"SELECT k.s, {count.format('k.s', 'k.v')} "  # noqa: S608 (constants)
            "FROM unnest($2::text[], $3::bigint[]) AS k (s, v)",
            product,
            list(versions),
            list(versions.values()),
        )
    else:
        name, version = "json_extract(value, '$[0]')", "json_extract(value, '$[1]')"
        rows = await statements.fetch_by_list(
            conn,
            f"SELECT {name}, {count.format(name, version)} FROM json_each($2)",  # noqa: S608 (constants)
            "",
            product,
            [list(item) for item in versions.items()],
        )
    return {stream: int(number) for stream, number in rows}


async def identifications(
    conn: AsyncConnection, product: str, users: Collection[str]
) -> dict[str, list[Recorded]]:
    """`user_identified` of each user, newest first: of their own stream, of the session that first said who
    they are, and of their newest sessions."""
    found: dict[str, list[Recorded]] = {user: [] for user in users}
    listed = sorted(users)
    for start in range(0, len(listed), _USERS):
        some = listed[start : start + _USERS]
        streams = await _streams(conn, product, some)
        e = schema.events
        query = (
            sa.select(*e.c)
            .where(e.c.product == product, e.c.stream.in_(sorted(streams)), e.c.type == "user_identified")
            .order_by(e.c.position.desc())
        )
        for row in await conn.execute(query):
            recorded = Recorded._make(row)
            user = streams[recorded.stream]
            found[user].append(recorded)
    return found


async def _streams(conn: AsyncConnection, product: str, users: Sequence[str]) -> dict[str, str]:
    """Streams that may say who these users are, and of which user each is."""
    e, t = schema.events, tables.sessions
    streams = {user_stream(user): user for user in users}
    linked = sa.select(e.c.stream, e.c.data).where(
        e.c.product == product, e.c.stream.in_(list(streams)), e.c.type == "user_linked"
    )
    newest = (
        sa.func.row_number().over(partition_by=t.c.user_id, order_by=t.c.last_event_at.desc()).label("newest")
    )
    ranked = (
        sa.select(t.c.user_id, t.c.session_id, newest)
        .where(t.c.product == product, t.c.user_id.in_(users))
        .subquery()
    )
    recent = sa.select(ranked.c.user_id, ranked.c.session_id).where(ranked.c.newest <= _SESSIONS)
    found = {session_stream(name): user for user, name in await conn.execute(recent)}
    for stream, data in await conn.execute(linked):
        session_id = _json(data).get("session_id")
        if session_id is not None:
            found.setdefault(session_stream(session_id), streams[stream])
    return found | streams


def _json(data: bytes) -> dict[str, str | None]:
    found: dict[str, str | None] = orjson.loads(data)
    return found


async def of_user(conn: AsyncConnection, product: str, user_id: str, limit: int) -> list[Recorded]:
    """The newest actions of a user's newest sessions and of their own stream, with later corrections of
    labels, in the order of the ledger; at most `limit` of each stream."""
    t = tables.sessions
    newest = (
        sa.select(t.c.session_id)
        .where(t.c.product == product, t.c.user_id == user_id)
        .order_by(t.c.last_event_at.desc(), t.c.session_id)
        .limit(_SESSIONS)
    )
    streams = [session_stream(name) for name in (await conn.scalars(newest)).all()]
    rows: list[Recorded] = []
    for stream in (*streams, user_stream(user_id)):
        rows += await reader.read_types(conn, product, stream, ("action", "action_relabelled"), limit=limit)
    return sorted(rows, key=lambda row: row.position)


async def newest_seq(
    conn: AsyncConnection, product: str, *, position: int | None = None, before: int | None = None
) -> int:
    """The product's newest sequence: of all, at or before a position of the ledger, or recorded before an
    instant; 0: there is none."""
    e = schema.events
    query = sa.select(e.c.product_seq).where(e.c.product == product)
    if position is not None:
        query = query.where(e.c.position <= position)
    if before is not None:
        query = query.where(e.c.recorded_at < before)
    return (await conn.scalar(query.order_by(e.c.product_seq.desc()).limit(1))) or 0
