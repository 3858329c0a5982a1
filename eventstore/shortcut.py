"""SQLite in one go: a whole transaction on a thread of its own, where it needs no answer in between.

Through an event loop every statement waits for its turn on the loop, and a busy loop gives one late. Most
groups of a service need nothing but "is the head still where I think": begin, ask that, insert, commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from domain.envelope import Recorded
from eventstore import statements

Statement = tuple[str, tuple[Any, ...] | Mapping[str, Any]]


class Shortcut:
    """One connection and one thread; used by one caller at a time."""

    def __init__(self, path: str, busy_timeout_s: float, pragmas: Sequence[str]) -> None:
        self._path, self._busy_timeout_s, self._pragmas = path, busy_timeout_s, pragmas
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._conn: sqlite3.Connection | None = None

    async def commit(self, position: int, rows: Sequence[Recorded], more: Sequence[Statement]) -> bool:
        """Insert rows and run statements in one durable transaction if the head is at `position`, else False.

        Raises the driver's errors; nothing is stored then.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._commit, position, rows, more)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _commit(self, position: int, rows: Sequence[Recorded], more: Sequence[Statement]) -> bool:
        conn = self._connected()
        conn.execute("BEGIN IMMEDIATE")
        try:
            (head,) = conn.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
            if head != position:
                conn.execute("ROLLBACK")
                return False
            # Many rows in one step: other threads run once a step, and this one waits to come back.
            for start in range(0, len(rows), statements.CHUNK):
                part = rows[start : start + statements.CHUNK]
                conn.execute(statements.insert_sqlite(len(part)), list(chain.from_iterable(part)))
            for text, parameters in more:
                conn.execute(text, parameters)
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
        return True

    def _connected(self) -> sqlite3.Connection:
        if self._conn is None:
            conn = sqlite3.connect(
                self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            for pragma in self._pragmas:
                conn.execute(f"PRAGMA {pragma}")
            self._conn = conn
        return self._conn

    def _close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None
