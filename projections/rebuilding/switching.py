"""Rows derived anew put in the place of live ones, and back again. Inside the caller's transaction.

`rebuild_undo` remembers each row as it was found and as it was left, so that it can be put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from projections import tables
from projections.rebuilding.arming import Arming
from projections.rebuilding.differing import PROJECTIONS, Change, Projection, Row, change
from projections.rebuilding.refill import Key

CHUNK = 200  # rows read by one statement
Values = dict[str, Any]


class Undo:
    """Rows as they were found and as they were left."""

    def __init__(self, rows: list[Values]) -> None:
        self._rows = rows

    def add(self, projection: Projection, key: Key, before: Values | None, after: Values | None) -> None:
        row_key = orjson.dumps(key).decode()
        self._rows.append(
            {
                "projection": projection.name,
                "row_key": row_key,
                "before": _json(before),
                "after": _json(after),
            }
        )

    async def remember(self, conn: AsyncConnection) -> None:
        """In the place of what an earlier rebuild changed; one that changed nothing leaves that alone."""
        if self._rows:
            await forget_undo(conn)
            await conn.execute(sa.insert(tables.rebuild_undo), self._rows)


class RolledBack(NamedTuple):
    """What became of the rows of the last rebuild."""

    put_back: list[Change]
    kept: list[Change]  # somebody has changed them since: they stay as they are


async def switch(
    conn: AsyncConnection, projection: Projection, keys: Sequence[Key], arming: Arming, undo: Undo
) -> list[Change]:
    """Make the live rows under these keys what they are when derived anew; what that changed."""
    found: list[Change] = []
    for part in _chunks(keys):
        live = await _rows(conn, projection.live, projection, part)
        anew = await _rows(conn, projection.beside, projection, part)
        replaced: list[tuple[Values | None, Values | None]] = []
        for key in part:
            before, after = live.get(key), anew.get(key)
            old, new = _compared(projection, before), _compared(projection, after)
            if old == new:
                continue
            if after is not None and projection.name == "sessions":
                after["next_due"] = await arming.due(conn, key, before)
            found.append(change(projection, old, new))
            undo.add(projection, key, before, after)
            replaced.append((before, after))
        await _replace(conn, projection, replaced)
    return found


async def forget_undo(conn: AsyncConnection) -> None:
    await conn.execute(sa.delete(tables.rebuild_undo))


async def roll_back(conn: AsyncConnection) -> RolledBack:
    """Put back what the last rebuild changed, but for rows that are no longer as it left them."""
    put_back: list[Change] = []
    kept: list[Change] = []
    for projection in PROJECTIONS.values():
        t = tables.rebuild_undo
        query = sa.select(t.c.row_key, t.c.before, t.c.after).where(t.c.projection == projection.name)
        undo = {
            tuple(orjson.loads(row_key)): (_values(before), _values(after))
            for row_key, before, after in await conn.execute(query)
        }
        for part in _chunks(sorted(undo)):
            live = await _rows(conn, projection.live, projection, part)
            replaced: list[tuple[Values | None, Values | None]] = []
            for key in part:
                before, after = undo[key]
                now = live.get(key)
                old, new = _compared(projection, before), _compared(projection, after)
                if _compared(projection, now) != new:
                    kept.append(change(projection, new, old))
                    continue
                if before is not None and now is not None and projection.name == "sessions":
                    before["next_due"] = now["next_due"]  # a to-do of the service's, not the rebuild's
                replaced.append((now, before))
                put_back.append(change(projection, new, old))
            await _replace(conn, projection, replaced)
    await forget_undo(conn)
    return RolledBack(put_back, kept)


def _chunks(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    return (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))


async def _rows(
    conn: AsyncConnection, table: sa.Table, projection: Projection, keys: Sequence[Key]
) -> dict[Key, Values]:
    columns = [table.c[name] for name in projection.key]
    one = len(columns) == 1
    wanted = columns[0].in_([key[0] for key in keys]) if one else sa.tuple_(*columns).in_(keys)
    found = (await conn.execute(sa.select(table).where(wanted))).mappings()
    return {tuple(row[name] for name in projection.key): dict(row) for row in found}


def _compared(projection: Projection, row: Values | None) -> Row | None:
    return None if row is None else tuple(row[name] for name in projection.compared)


async def _replace(
    conn: AsyncConnection, projection: Projection, rows: Sequence[tuple[Values | None, Values | None]]
) -> None:
    """Each row in the place of the one before it; None: no row."""
    table = projection.live
    gone = [{f"old_{n}": old[n] for n in projection.key} for old, _ in rows if old is not None]
    if gone:
        same = [table.c[name] == sa.bindparam(f"old_{name}") for name in projection.key]
        await conn.execute(sa.delete(table).where(*same), gone)
    new = [row for _, row in rows if row is not None]
    if new:
        await conn.execute(sa.insert(table), new)


def _json(row: Values | None) -> str | None:
    # SQLAlchemy's names of columns are strings of a class of their own.
    return None if row is None else orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS).decode()


def _values(stored: str | None) -> Values | None:
    return None if stored is None else orjson.loads(stored)
