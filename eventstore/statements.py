"""The SQL of the hot paths, which Core would only make slower.

Written once with PostgreSQL's `$n` and casts; for SQLite they become `?`, so each `$n` stands once and in
order. Lists go in as one parameter: an array on PostgreSQL, JSON on SQLite, which has a limit on parameters.
"""

# ruff: noqa: S608 (built from constants: no value ever becomes part of a statement)

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import Recorded
from eventstore import engine

_PLACE = re.compile(r"\$\d+(::\w+(\[\])?)?")
_ARRAYS = ("bigint", "text", "bigint", "text", "bigint", "text", "int", "text", "text", "bigint", "bigint",
           "bigint", "text", "text", "bool", "text", "text", "text", "text", "text", "text", "bytea", "bytea",
           "text", "bytea", "bytea")  # fmt: skip

COLUMNS = ", ".join(Recorded._fields)
QUALIFIED = ", ".join(f"e.{name}" for name in Recorded._fields)
CHUNK = 64  # rows a statement inserts on SQLite
_INSERT_POSTGRESQL = (
    f"WITH new AS (INSERT INTO events ({COLUMNS}) SELECT * FROM "
    f"unnest({', '.join(f'${n}::{kind}[]' for n, kind in enumerate(_ARRAYS, 1))})) "
    f"SELECT pg_notify(${len(_ARRAYS) + 1}, ${len(_ARRAYS) + 2})"
)

_COPY_FROM = 32  # rows from which COPY, with its second round trip, is faster than one INSERT

Rows = Sequence[Sequence[Any]]


@lru_cache(maxsize=256)
def _for_sqlite(text: str) -> str:
    return _PLACE.sub("?", text)


async def fetch(conn: AsyncConnection, text: str, *parameters: Any) -> Rows:
    """All rows, untyped: on SQLite a boolean comes as 0 or 1."""
    if conn.dialect.name == "postgresql":
        return (await conn.exec_driver_sql(text, parameters)).all()
    driver = await engine.sqlite_driver(conn)
    return list(await driver.execute_fetchall(_for_sqlite(text), parameters))


async def fetch_by_list(conn: AsyncConnection, sqlite: str, postgresql: str, *parameters: Any) -> Rows:
    """Like `fetch`, for a statement that takes lists and so reads differently on the two."""
    if conn.dialect.name == "postgresql":
        return await fetch(conn, postgresql, *parameters)
    return await fetch(conn, sqlite, *(json.dumps(p) if isinstance(p, list) else p for p in parameters))


async def execute(conn: AsyncConnection, text: str, *parameters: Any) -> None:
    """Runs a statement that returns no rows."""
    if conn.dialect.name == "postgresql":
        await conn.exec_driver_sql(text, parameters)
    else:
        await fetch(conn, text, *parameters)


@lru_cache(maxsize=CHUNK)
def insert_sqlite(count: int) -> str:
    """The statement that inserts `count` rows, its parameters one row after the other."""
    row = f"({', '.join('?' * len(Recorded._fields))})"
    return f"INSERT INTO events ({COLUMNS}) VALUES {', '.join([row] * count)}"


async def insert(conn: AsyncConnection, rows: Sequence[Recorded], channel: str) -> None:
    """All rows at once, and on PostgreSQL a notice on `channel` at the commit."""
    if conn.dialect.name == "sqlite":
        sqlite = await engine.sqlite_driver(conn)
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            await sqlite.execute(insert_sqlite(len(part)), list(chain.from_iterable(part)))
        return
    notice = (channel, str(rows[-1].position))
    if len(rows) < _COPY_FROM:
        columns = map(list, zip(*rows, strict=True))
        await conn.exec_driver_sql(_INSERT_POSTGRESQL, (*columns, *notice))
        return
    await conn.exec_driver_sql("SELECT pg_notify($1, $2)", notice)
    driver: Any = (await conn.get_raw_connection()).driver_connection
    await driver.copy_records_to_table("events", records=rows, columns=Recorded._fields)
