"""Events that were set aside as poison, tried again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import Recorded, name_in
from domain.run import Live
from domain.session import SessionState
from domain.user import UserState
from eventstore import reader
from projections import facts, inline, poison, tables
from projections.inline import Written


class Poison(NamedTuple):
    """An event that a projection could not apply, at its place in the ledger."""

    projection: str
    position: int
    product: str
    stream: str
    type: str
    error: str  # exception type and place, never a value


async def retry(conn: AsyncConnection, names: Iterable[str]) -> tuple[list[Poison], list[Poison]]:
    """Of what was set aside for these projections (and for users): what still cannot be applied; what can."""
    wanted = {*names, "users"}
    poisoned: list[Poison] = []
    healed: list[Poison] = []
    for row in await poison.listed(conn):
        found = Poison(*(row[name] for name in Poison._fields))
        if found.projection in wanted:
            (healed if await _applies(conn, found) else poisoned).append(found)
    return poisoned, healed


async def take_off(conn: AsyncConnection, healed: Iterable[Poison]) -> None:
    """These are poison no more. Inside a transaction."""
    t = tables.poison
    for each in healed:
        await conn.execute(
            sa.delete(t).where(t.c.projection == each.projection, t.c.position == each.position)
        )


async def _applies(conn: AsyncConnection, found: Poison) -> bool:
    (row,) = await reader.read_positions(conn, [found.position])
    if found.projection in ("sessions", "users"):
        return await _folds(conn, found.projection, row)
    try:
        written = Written(row, facts.fact(row).event)
    except Exception:  # whatever it is: the event still cannot be read
        return False
    return all(each.projection != found.projection for each in inline.changes([written], ()).poisoned)


async def _folds(conn: AsyncConnection, projection: str, row: Recorded) -> bool:
    """Whether the event can be applied to what its stream said before it."""
    *before, last = await reader.read_stream(conn, row.product, row.stream, up_to=row.version)
    keys = await facts.keys_of(conn, [last])
    if projection == "users":
        who, _ = facts.folded_user(UserState(name_in(row.stream)), before)
        return not facts.folded_user(who, [last])[1]
    state, _ = facts.folded_session(SessionState(name_in(row.stream)), before)
    state, bad = facts.folded_session(state, [last], keys)
    return not bad and not inline.changes((), [(row.product, Live(state))]).poisoned
