"""What this machine's databases can do at most: rows of the ledger's own shape, without the ledger.

The table, its unique keys and the row are copied from a ledger that the load has just filled, so sizes are
the same; only what must differ from row to row (position, sequence, stream, version, id) does.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from domain.envelope import Recorded
from tests.benchmarks import databases
from tests.benchmarks.load import ordered_ids

COLUMNS = ", ".join(Recorded._fields)
NEWEST = f"SELECT {COLUMNS} FROM events WHERE type = 'action' ORDER BY position DESC LIMIT 1"
PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "cache_size = -131072", "mmap_size = 268435456")
TOPIC = "tests.benchmarks.peer:Session.Acted"
LOCK = 0x6265_6E63_68


class Template:
    """An action's row as the ledger stored it, and rows like it."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self._row = Recorded._make(row)
        self._head = (self._row.type, self._row.schema_version, self._row.origin)
        self._tail = tuple(row[Recorded._fields.index("event_id") + 1 :])

    @property
    def size(self) -> int:
        """Bytes of its values, integers counted as eight."""
        return sum(len(v) if isinstance(v, (str, bytes)) else 8 for v in self._row if v is not None)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Without end, in the order of the ledger: ten a session in turn, ids that begin with the time."""
        product, head, tail = self._row.product, self._head, self._tail
        for block in itertools.count():
            stream, first = f"session-s{block % 1280}", block // 1280 * 10 + 1
            for i, event_id in enumerate(ordered_ids(block * 10, 10)):
                number = block * 10 + i + 1
                yield (number, product, number, stream, first + i, *head, event_id, *tail)


def sqlite_template(url: str) -> tuple[str, Template]:
    """(the table's own CREATE TABLE, a row) of a SQLite ledger that holds actions."""
    conn = sqlite3.connect(databases.file_of(url))
    try:
        (created,) = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'events'").fetchone()
        row = conn.execute(NEWEST).fetchone()
        return created, Template(row)
    finally:
        conn.close()


def sqlite(file: str, created: str, template: Template, size: int, seconds: float) -> float:
    """Rows a second of the standard library's driver, WAL and FULL, `size` rows a transaction."""
    conn = sqlite3.connect(file, isolation_level=None)
    for pragma in PRAGMAS:
        conn.execute(f"PRAGMA {pragma}")
    conn.execute(created)
    insert = f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join('?' * len(Recorded._fields))})"
    rows, done, started = template.rows(), 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(insert, list(itertools.islice(rows, size)))
        conn.execute("COMMIT")
        done += size
    conn.close()
    return done / elapsed


async def postgresql(url: str, size: int, seconds: float, *, copy: bool) -> float:
    """Rows a second into a copy of the ledger's table, under one advisory lock; by INSERT or by COPY."""
    conn = await asyncpg.connect(url)
    try:
        row = await conn.fetchrow(NEWEST)
        assert row is not None
        template = Template(tuple(row))
        await conn.execute("CREATE TABLE raw_events (LIKE events INCLUDING ALL)")
        kinds = await conn.fetch(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'raw_events'::regclass AND attnum > 0 ORDER BY attnum"
        )
        arrays = ", ".join(f"${n}::{kind[0]}[]" for n, kind in enumerate(kinds, 1))
        insert = f"INSERT INTO raw_events ({COLUMNS}) SELECT * FROM unnest({arrays})"
        rows, done, started = template.rows(), 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            part = list(itertools.islice(rows, size))
            async with conn.transaction():
                await conn.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
                if copy:
                    await conn.copy_records_to_table("raw_events", records=part, columns=Recorded._fields)
                else:
                    await conn.execute(insert, *map(list, zip(*part, strict=True)))
            done += size
        await conn.execute("DROP TABLE raw_events")
        return done / elapsed
    finally:
        await conn.close()


def eventsourcing_recorder(file: str, state: int, size: int, seconds: float) -> float:
    """Events a second of the eventsourcing library's own recorder: `size` a call, `state` bytes each.

    SQLite in WAL mode at its default, which is FULL.
    """
    recorder = SQLiteApplicationRecorder(SQLiteDatastore(file))
    recorder.create_table()
    streams: list[UUID] = [uuid4() for _ in range(1280)]
    content = b"x" * state
    done, started = 0, time.perf_counter()
    for block in itertools.count():
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            break
        stream, first = streams[block % 1280], block // 1280 * size + 1
        recorder.insert_events([StoredEvent(stream, first + i, TOPIC, content) for i in range(size)])
        done += size
    recorder.datastore.close()
    return done / elapsed
