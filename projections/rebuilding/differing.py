"""The rows of a live table beside those derived anew: digests of both, and which rows differ.

Both are read in the order of their keys, a page at a time, in one snapshot of the database.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Container, Mapping
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from eventstore import statements
from eventstore.engine import Ledger
from projections import tables
from projections.rebuilding.refill import Key

PAGE = 2_000
Row = tuple[Any, ...]


class Projection(NamedTuple):
    """A live table, and the one that is filled beside it."""

    live: sa.Table
    beside: sa.Table
    not_history: frozenset[str] = frozenset()  # columns that no event tells: they are not compared

    @property
    def name(self) -> str:
        return self.live.name

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.live.primary_key.columns)

    @property
    def compared(self) -> tuple[str, ...]:
        """The columns that are compared, the key's first."""
        rest = [c.name for c in self.live.columns if c.name not in self.key]
        return (*self.key, *(name for name in rest if name not in self.not_history))


PROJECTIONS: Mapping[str, Projection] = {
    "sessions": Projection(tables.sessions, tables.rebuilt_sessions, frozenset({"next_due"})),
    "decisions": Projection(tables.decisions, tables.rebuilt_decisions),
    "nudges": Projection(tables.nudges, tables.rebuilt_nudges),
    "deliveries": Projection(tables.deliveries, tables.rebuilt_deliveries),
}


class Change(NamedTuple):
    """A row that is otherwise when derived anew."""

    projection: str
    product: str
    session_id: str
    key: Key
    kind: str  # added | removed | changed
    columns: Mapping[str, tuple[Any, Any]]  # of a changed row: (live, anew) where they differ


class Digest(NamedTuple):
    """SHA-256 over the rows of a table in the order of their keys, as lines of JSON."""

    rows: int
    hexadecimal: str


class Comparison(NamedTuple):
    projection: str
    live: Digest
    anew: Digest
    changes: list[Change]  # in the order of the keys


@contextlib.asynccontextmanager
async def snapshot(ledger: Ledger) -> AsyncIterator[AsyncConnection]:
    """A connection whose statements all see the same state of the database."""
    begin = "BEGIN" if ledger.dialect == "sqlite" else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    async with ledger.reader() as conn:
        await statements.execute(conn, begin)
        try:
            yield conn
            await statements.execute(conn, "ROLLBACK")
        except BaseException:
            await conn.invalidate()  # it must not go back to the pool inside a transaction
            raise


async def compare(conn: AsyncConnection, projection: Projection, skip: Container[Key]) -> Comparison:
    """Every row but those with a key in `skip`, which are on the move."""
    live, anew = _Hash(), _Hash()
    changes: list[Change] = []
    async for key, before, after in _merged(conn, projection):
        if key in skip:
            continue
        live.add(before)
        anew.add(after)
        if before != after:
            changes.append(change(projection, before, after))
    return Comparison(projection.name, live.digest(), anew.digest(), changes)


def change(projection: Projection, before: Row | None, after: Row | None) -> Change:
    """How the two compared rows under one key differ; one of them at least is there."""
    names = projection.compared
    there = after if after is not None else before
    assert there is not None
    row = dict(zip(names, there, strict=True))
    kind, columns = "added" if before is None else "removed", {}
    if before is not None and after is not None:
        kind = "changed"
        both = zip(names, before, after, strict=True)
        columns = {name: (old, new) for name, old, new in both if old != new}
    key = there[: len(projection.key)]
    return Change(projection.name, row["product"], row["session_id"], key, kind, columns)


class _Hash:
    def __init__(self) -> None:
        self._rows, self._hash = 0, hashlib.sha256()

    def add(self, row: Row | None) -> None:
        if row is not None:
            self._rows += 1
            self._hash.update(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def digest(self) -> Digest:
        return Digest(self._rows, self._hash.hexdigest())


async def _merged(
    conn: AsyncConnection, projection: Projection
) -> AsyncIterator[tuple[Key, Row | None, Row | None]]:
    """The rows of both tables by key; None where a table has none."""
    size = len(projection.key)
    both = [_rows(conn, table, projection) for table in (projection.live, projection.beside)]
    before, after = await anext(both[0], None), await anext(both[1], None)
    while before is not None or after is not None:
        # Strings compare by code point here, and by their UTF-8 bytes there: the same order.
        key = min(row[:size] for row in (before, after) if row is not None)
        old = before if before is not None and before[:size] == key else None
        new = after if after is not None and after[:size] == key else None
        yield key, old, new
        if old is not None:
            before = await anext(both[0], None)
        if new is not None:
            after = await anext(both[1], None)


async def _rows(conn: AsyncConnection, table: sa.Table, projection: Projection) -> AsyncIterator[Row]:
    key = projection.key
    names, ordered = ", ".join(projection.compared), ", ".join(key)
    places = ", ".join(f"${n}" for n in range(1, len(key) + 1))
    last: Row = (0,) if len(key) == 1 else ("",) * len(key)  # before every key: positions count from 1
    page = f"SELECT {names} FROM {table.name} WHERE ({ordered}) > ({places}) ORDER BY {ordered} LIMIT {PAGE}"  # noqa: S608
    while True:
        rows = await statements.fetch(conn, page, *last[: len(key)])
        for row in rows:
            yield tuple(row)
        if len(rows) < PAGE:
            return
        last = tuple(rows[-1])
