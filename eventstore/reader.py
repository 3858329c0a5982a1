"""Reads events, inside a transaction or outside one: each function takes the connection."""

# ruff: noqa: S608 (built from constants: no value ever becomes part of a statement)

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain import errors
from domain.envelope import Recorded
from eventstore import statements
from eventstore.statements import COLUMNS, QUALIFIED

_NO_LIMIT = 2**62  # also "up to any version or position"
_SUSPECT = Recorded._fields.index("clock_suspect")
_BOOLEANS = {0: False, 1: True}


async def read_stream(
    conn: AsyncConnection,
    product: str,
    stream: str,
    *,
    after_version: int = 0,
    up_to: int | None = None,
    limit: int | None = None,
) -> list[Recorded]:
    """One stream in its order: versions above `after_version`, up to and with `up_to`."""
    rows = await statements.fetch(
        conn,
        f"SELECT {COLUMNS} FROM events WHERE product = $1 AND stream = $2 "
        "AND version > $3::bigint AND version <= $4::bigint ORDER BY version LIMIT $5::bigint",
        product,
        stream,
        after_version,
        _NO_LIMIT if up_to is None else up_to,
        _NO_LIMIT if limit is None else limit,
    )
    return _recorded(conn, rows)


class Slim(NamedTuple):
    """An event without what only audits of the ledger itself need: half as much to read."""

    position: int
    product: str
    stream: str
    version: int
    type: str
    schema_version: int
    origin: str
    event_id: str
    at: int
    recorded_at: int
    occurred_at: int
    clock_suspect: bool
    batch_id: str
    correlation_id: str | None
    causation_id: str | None
    source: str
    config_revision: str | None
    engine_version: str
    data: bytes
    sealed: bytes | None
    key_id: str | None


async def read_slim(conn: AsyncConnection, product: str, stream: str) -> list[Slim]:
    """One stream whole, in its order."""
    rows = await statements.fetch(
        conn,
        f"SELECT {', '.join(Slim._fields)} FROM events WHERE product = $1 AND stream = $2 ORDER BY version",
        product,
        stream,
    )
    return [tuple.__new__(Slim, row) for row in rows]  # SQLite's 0 and 1 do for a truth value


async def read_streams(
    conn: AsyncConnection, product_streams: Sequence[tuple[str, str]], *, before: int | None = None
) -> dict[tuple[str, str], list[Recorded]]:
    """Several streams whole, in one query; a stream without events has an empty list.

    `before`: only the events of earlier instants (`at`), which are the beginning of each stream.
    """
    found: dict[tuple[str, str], list[Recorded]] = {key: [] for key in product_streams}
    if not found:
        return found
    keys, end = list(found), _NO_LIMIT if before is None else before
    if conn.dialect.name == "postgresql":
        rows = await statements.fetch(
            conn,
            f"SELECT {QUALIFIED} FROM unnest($1::text[], $2::text[]) AS k (product, stream) "
            "CROSS JOIN LATERAL (SELECT * FROM events WHERE product = k.product AND stream = k.stream "
            # sorted inside, so that it stays one seek in the index a stream
            "AND at < $3::bigint ORDER BY version) e "
            "ORDER BY e.product, e.stream, e.version",
            [product for product, _ in keys],
            [stream for _, stream in keys],
            end,
        )
    else:
        rows = await statements.fetch_by_list(
            conn,
            f"SELECT {QUALIFIED} FROM json_each($1) k CROSS JOIN events e "
            "ON e.product = json_extract(k.value, '$[0]') AND e.stream = json_extract(k.value, '$[1]') "
            "AND e.at < $2 ORDER BY e.product, e.stream, e.version",
            "",
            [list(key) for key in keys],
            end,
        )
    for row in _recorded(conn, rows):
        found[row.product, row.stream].append(row)
    return found


async def read_all(
    conn: AsyncConnection, *, after: int = 0, limit: int = 1000, up_to: int | None = None
) -> list[Recorded]:
    """The whole ledger in commit order: positions above `after`, up to and with `up_to`."""
    rows = await statements.fetch(
        conn,
        f"SELECT {COLUMNS} FROM events WHERE position > $1::bigint AND position <= $2::bigint "
        "ORDER BY position LIMIT $3::bigint",
        after,
        _NO_LIMIT if up_to is None else up_to,
        limit,
    )
    return _recorded(conn, rows)


async def read_product(
    conn: AsyncConnection, product: str, *, after_seq: int = 0, limit: int = 1000
) -> list[Recorded]:
    """One product's events in the order of its sequence."""
    rows = await statements.fetch(
        conn,
        f"SELECT {COLUMNS} FROM events WHERE product = $1 AND product_seq > $2::bigint "
        "ORDER BY product_seq LIMIT $3::bigint",
        product,
        after_seq,
        limit,
    )
    return _recorded(conn, rows)


async def read_positions(conn: AsyncConnection, positions: Sequence[int]) -> list[Recorded]:
    """The events at these positions, in their order; positions without an event are left out."""
    if not positions:
        return []
    rows = await statements.fetch_by_list(
        conn,
        f"SELECT {COLUMNS} FROM events WHERE position IN (SELECT value FROM json_each($1)) ORDER BY position",
        f"SELECT {COLUMNS} FROM events WHERE position = ANY($1::bigint[]) ORDER BY position",
        list(positions),
    )
    return _recorded(conn, rows)


async def read_types(
    conn: AsyncConnection,
    product: str,
    stream: str,
    types: Sequence[str],
    *,
    after_version: int = 0,
    limit: int,
) -> list[Recorded]:
    """The newest events of these types in a stream, newest first."""
    select = f"SELECT {COLUMNS} FROM events WHERE product = $1 AND stream = $2 AND version > $3::bigint"
    rows = await statements.fetch_by_list(
        conn,
        f"{select} AND type IN (SELECT value FROM json_each($4)) ORDER BY version DESC LIMIT $5",
        f"{select} AND type = ANY($4::text[]) ORDER BY version DESC LIMIT $5::bigint",
        product,
        stream,
        after_version,
        list(types),
        limit,
    )
    return _recorded(conn, rows)


async def read_data(
    conn: AsyncConnection, product: str, origin: str, first: str, end: str, types: Sequence[str]
) -> list[bytes]:
    """The clear data of events of these types whose ids lie in [first, end)."""
    select = "SELECT data FROM events WHERE product = $1 AND origin = $2 AND event_id >= $3 AND event_id < $4"
    rows = await statements.fetch_by_list(
        conn,
        f"{select} AND type IN (SELECT value FROM json_each($5))",
        f"{select} AND type = ANY($5::text[])",
        product,
        origin,
        first,
        end,
        list(types),
    )
    return [bytes(row[0]) for row in rows]


async def head(conn: AsyncConnection) -> int:
    """The newest position; 0 for an empty ledger."""
    rows = await statements.fetch(conn, "SELECT coalesce(max(position), 0) FROM events")
    return int(rows[0][0])


async def versions(
    conn: AsyncConnection, product_streams: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """The newest version of each stream; 0 where it has none. One seek a stream, however long it is."""
    by_product: dict[str, set[str]] = {}
    for product, stream in product_streams:
        by_product.setdefault(product, set()).add(stream)
    found: dict[tuple[str, str], int] = {}
    for product, streams in by_product.items():
        newest = "(SELECT max(version) FROM events WHERE product = $1 AND stream = {})"
        rows = await statements.fetch_by_list(
            conn,
            f"SELECT value, {newest.format('value')} FROM json_each($2)",
            f"SELECT k, {newest.format('k')} FROM unnest($2::text[]) AS k",
            product,
            sorted(streams),
        )
        found.update(((product, stream), version or 0) for stream, version in rows)
    return found


async def find_ids(
    conn: AsyncConnection, product: str, origin: str, ids: Sequence[str]
) -> dict[str, Recorded]:
    """Those of the event ids that the ledger holds, with their events."""
    if not ids:
        return {}
    rows = await statements.fetch_by_list(
        conn,
        f"SELECT {COLUMNS} FROM events WHERE product = $1 AND origin = $2 "
        "AND event_id IN (SELECT value FROM json_each($3))",
        # One seek an id whatever the planner believes: = ANY once read the whole product instead.
        f"SELECT {QUALIFIED} FROM unnest($3::text[]) AS k CROSS JOIN LATERAL (SELECT * FROM events "
        "WHERE product = $1 AND origin = $2 AND event_id = k LIMIT 1) e",
        product,
        origin,
        list(ids),
    )
    return {row.event_id: row for row in _recorded(conn, rows)}


async def stream_names(
    conn: AsyncConnection, product: str, prefix: str = "", *, after: str = "", limit: int = 1000
) -> list[str]:
    """A product's streams whose names begin with `prefix`, in byte order, those later than `after`."""
    rows = await statements.fetch(
        conn,
        "SELECT DISTINCT stream FROM events WHERE product = $1 AND stream >= $2 AND stream < $3 "
        "AND stream > $4 ORDER BY stream LIMIT $5::bigint",
        product,
        prefix,
        prefix + "\U0010ffff",
        after,
        limit,
    )
    return [row[0] for row in rows]


async def check_readable(conn: AsyncConnection, known: set[tuple[str, int]]) -> None:
    """Raises Unreadable, naming type and version, where the ledger holds an event that `known` lacks."""
    rows = await statements.fetch(conn, "SELECT type, schema_version FROM event_types ORDER BY 1, 2")
    unknown = [f"{kind} version {version}" for kind, version in rows if (kind, version) not in known]
    if unknown:
        raise errors.Unreadable(
            f"the ledger holds events that this version of nudgeledger cannot read: {', '.join(unknown)}"
        )


def _recorded(conn: AsyncConnection, rows: statements.Rows) -> list[Recorded]:
    make = Recorded._make
    if conn.dialect.name == "postgresql":
        return [make(row) for row in rows]
    # SQLite has no booleans; what is neither 0 nor 1 stays as it is, for an audit to find.
    return [
        make((*row[:_SUSPECT], _BOOLEANS.get(row[_SUSPECT], row[_SUSPECT]), *row[_SUSPECT + 1 :]))
        for row in rows
    ]
