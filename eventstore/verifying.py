"""Checks the ledger itself: that nothing in it was changed, removed, swapped or cut since it was written.

Rows are read in pages and kept no longer. Of the streams only the newest are remembered; where an older one
goes on, its last event is looked up.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import Recorded
from eventstore import chain, reader, statements
from eventstore.chain import Newest, Walk
from eventstore.signing import Head

PAGE = 2_000  # rows read at a time
REMEMBERED = 100_000  # streams
_BEFORE_ALL = -(2**62)  # also before what was given a sequence below 1


class Broken(NamedTuple):
    """The first place at which a product's history is not what was written."""

    product: str
    what: str
    product_seq: int | None = None
    position: int | None = None
    stream: str | None = None
    version: int | None = None


class Sound(NamedTuple):
    """A product with which nothing is wrong."""

    product: str
    events: int
    chain_hash: bytes  # of its newest event


class Scope(NamedTuple):
    """What is checked against: read once, before the first product."""

    head: int  # position; what is written later is not looked at
    types: frozenset[tuple[str, int]]


async def begin(conn: AsyncConnection) -> Scope:
    rows = await statements.fetch(conn, "SELECT type, schema_version FROM event_types")
    return Scope(await reader.head(conn), frozenset((kind, version) for kind, version in rows))


async def verify_product(
    conn: AsyncConnection, product: str, scope: Scope, on_progress: Callable[[int], None] = lambda done: None
) -> Sound | Broken:
    """Every event of a product up to the ledger's head. `on_progress` gets how many were looked at."""
    walk = Walk()
    after = _BEFORE_ALL
    while True:
        try:
            rows = await _page(conn, product, after)
        except sqlite3.OperationalError:
            unreadable = "it cannot be read: some text in it is not UTF-8"
            return Broken(product, unreadable, walk.seq + 1, await _position_after(conn, product, walk.seq))
        rows = [row for row in rows if row.position <= scope.head]
        if not rows:
            return Sound(product, walk.seq, walk.previous)
        await _recall(conn, product, walk, list(takewhile(chain.is_whole, rows)))
        for row in rows:
            what = walk.fault(row)
            if what is None and (row.type, row.schema_version) not in scope.types:
                what = f"its type {row.type} version {row.schema_version} is not in event_types"
            if what is not None:
                return Broken(product, what, row.product_seq, row.position, row.stream, row.version)
        for stream in list(walk.streams)[: max(0, len(walk.streams) - REMEMBERED)]:
            del walk.streams[stream]
        after = walk.seq
        on_progress(walk.seq)


async def _page(conn: AsyncConnection, product: str, after: int) -> list[Recorded]:
    """The next events, those before one that SQLite's driver cannot decode; raises its error at that one."""
    try:
        return await reader.read_product(conn, product, after_seq=after, limit=PAGE)
    except sqlite3.OperationalError:
        rows: list[Recorded] = []
        with contextlib.suppress(sqlite3.OperationalError):
            while one := await reader.read_product(conn, product, after_seq=after, limit=1):
                rows += one
                after = one[-1].product_seq
        if not rows:
            raise
        return rows


async def _position_after(conn: AsyncConnection, product: str, seq: int) -> int | None:
    rows = await statements.fetch(
        conn,
        "SELECT position FROM events WHERE product = $1 AND product_seq > $2::bigint "
        "ORDER BY product_seq LIMIT 1",
        product,
        seq,
    )
    return rows[0][0] if rows else None


async def _recall(conn: AsyncConnection, product: str, walk: Walk, rows: Sequence[Recorded]) -> None:
    """Look up the last event of streams that these rows continue and that are no longer remembered."""
    first: dict[str, Recorded] = {}
    for row in rows:
        first.setdefault(row.stream, row)
    asked = [
        [r.stream, r.version - 1] for r in first.values() if r.version > 1 and r.stream not in walk.streams
    ]
    if not asked:
        return
    columns = "e.stream, e.version, e.at, e.recorded_at, e.product_seq"
    if conn.dialect.name == "postgresql":
        found = await statements.fetch(
            conn,
            f"SELECT {columns} FROM unnest($1::text[], $2::bigint[]) AS k (stream, version) "  # noqa: S608
            "JOIN events e ON e.product = $3 AND e.stream = k.stream AND e.version = k.version",
            [stream for stream, _ in asked],
            [version for _, version in asked],
            product,
        )
    else:
        found = await statements.fetch_by_list(
            conn,
            f"SELECT {columns} FROM json_each($1) k CROSS JOIN events e ON e.product = $2 "  # noqa: S608
            "AND e.stream = json_extract(k.value, '$[0]') AND e.version = json_extract(k.value, '$[1]')",
            "",
            asked,
            product,
        )
    for stream, version, at, recorded_at, seq in found:
        if type(seq) is int and seq < first[stream].product_seq:
            walk.streams[stream] = Newest(version, at, recorded_at)


async def verify_head(conn: AsyncConnection, signed: Head) -> Broken | None:
    """Whether the ledger still holds, unchanged, all that it held when this head was signed."""
    rows = await reader.read_product(conn, signed.product, after_seq=signed.product_seq - 1, limit=1)
    if signed.product_seq == 0 or (rows and rows[0].product_seq == signed.product_seq):
        if signed.product_seq == 0 or rows[0].chain_hash == signed.chain_hash:
            return None
        what, row = "is not the event that the head was signed for", rows[0]
        return Broken(signed.product, what, row.product_seq, row.position, row.stream, row.version)
    tail = await newest(conn, signed.product)
    what = f"the signed head is at sequence {signed.product_seq}, the ledger ends at {tail.product_seq}"
    return Broken(signed.product, f"the tail was cut: {what}", tail.product_seq + 1)


async def newest(conn: AsyncConnection, product: str) -> Head:
    """The place of a product's newest event."""
    rows = await statements.fetch(
        conn,
        "SELECT product_seq, chain_hash, recorded_at FROM events WHERE product = $1 "
        "ORDER BY product_seq DESC LIMIT 1",
        product,
    )
    if not rows:
        return Head(product, 0, chain.START, 0)
    return Head(product, rows[0][0], bytes(rows[0][1]), rows[0][2])


async def first_gap(conn: AsyncConnection, head: int, events: int) -> int | None:
    """The first position up to the head that holds no event. `events`: how many the products hold."""
    if events == head:
        return None
    rows = await statements.fetch(
        conn,
        "SELECT min(p) FROM (SELECT 1 AS p UNION ALL SELECT position + 1 FROM events) AS following "
        "WHERE NOT EXISTS (SELECT 1 FROM events WHERE position = p)",
    )
    found = rows[0][0]
    return int(found) if found is not None and found <= head else None


async def checkpoints_beyond(conn: AsyncConnection, head: int) -> list[tuple[str, int]]:
    """Checkpoints that claim work on positions that the ledger does not have: name and position."""
    rows = await statements.fetch(
        conn, "SELECT name, position FROM checkpoints WHERE position > $1::bigint ORDER BY name", head
    )
    return [(name, position) for name, position in rows]
