"""Events that a projection cannot apply: named and set aside, while everything else goes on.

The table `poison` holds what is set aside. After a fix a rebuild tries each again and takes it off.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import errors
from projections import tables
from projections.readable import Readable


class Poisoned(NamedTuple):
    """An event that a projection could not apply."""

    projection: str  # sessions, users (folds); decisions, nudges, deliveries (rows)
    product: str
    stream: str
    version: int  # in the stream: names the event
    error: str  # exception type and place, never a value


# Position and type come from the ledger: who notices may know the stream alone.
INSERT = sa.text(
    "INSERT INTO poison (projection, position, product, stream, type, error, noticed_at)"
    " SELECT :projection, position, product, stream, type, :error, coalesce(:noticed_at, recorded_at)"
    " FROM events WHERE product = :product AND stream = :stream AND version = :version"
    " ON CONFLICT (projection, position) DO NOTHING"
).bindparams(
    sa.bindparam("projection", type_=sa.Text),
    sa.bindparam("error", type_=sa.Text),
    sa.bindparam("noticed_at", type_=sa.BigInteger),
)


def poisoned(projection: str, row: Readable, error: Exception) -> Poisoned:
    return Poisoned(projection, row.product, row.stream, row.version, errors.where(error))


def parameters(found: Poisoned, noticed_at: int | None = None) -> dict[str, Any]:
    """Of `INSERT`; `noticed_at` None: when the event was recorded."""
    return found._asdict() | {"noticed_at": noticed_at}


async def note(conn: AsyncConnection, found: Iterable[Poisoned], noticed_at: int | None = None) -> None:
    """Set these events aside; what stands there already stays as it is. Inside a transaction."""
    rows = [parameters(each, noticed_at) for each in found]
    if rows:
        await conn.execute(INSERT, rows)


async def of_stream(conn: AsyncConnection, product: str, stream: str) -> dict[int, str]:
    """The errors of what is set aside of a stream, by position."""
    t = tables.poison
    found = await conn.execute(
        sa.select(t.c.position, t.c.error)
        .where(t.c.product == product, t.c.stream == stream)
        .order_by(t.c.position, t.c.projection)
    )
    return {row.position: row.error for row in found}


async def listed(conn: AsyncConnection) -> list[sa.RowMapping]:
    """All that is set aside, in the ledger's order."""
    t = tables.poison
    return list((await conn.execute(sa.select(t).order_by(t.c.position, t.c.projection))).mappings())
