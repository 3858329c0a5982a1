"""Which of several processes on one database does a piece of work: the one that holds its lock.

On PostgreSQL a lock belongs to a session of the database and goes with it, so that of a process that dies is
free at once. SQLite is one process's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Any

import sqlalchemy as sa

from domain.errors import NudgeledgerError
from eventstore.engine import Ledger


class Leading:
    """The locks of one process, all on one connection, which is open while there are any."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: set[str] = set()
        self._driver: Any = None
        self._stack = contextlib.AsyncExitStack()
        self._one = asyncio.Lock()  # the connection takes one statement at a time

    async def take(self, name: str) -> bool:
        """Whether this process holds the lock now. Raises Unavailable."""
        if self._ledger.dialect != "postgresql":
            return True
        async with self._one:
            if name in self._held and self._alive():
                return True
            if not self._alive():
                await self._connect()
            try:
                got = await self._driver.fetchval("SELECT pg_try_advisory_lock($1)", _number(name))
            except Exception as error:
                self._held.clear()
                self._driver = None
                raise NudgeledgerError(f"the database was lost: {type(error).__name__}") from None
            if got:
                self._held.add(name)
            return bool(got)

    def holds(self, name: str) -> bool:
        """Whether the lock is still held, as far as this process knows."""
        return self._ledger.dialect != "postgresql" or (name in self._held and self._alive())

    async def free(self, name: str) -> None:
        if name not in self._held:
            return
        async with self._one:
            self._held.discard(name)
            with contextlib.suppress(Exception):  # it goes with the connection
                await self._driver.fetchval("SELECT pg_advisory_unlock($1)", _number(name))

    async def close(self) -> None:
        self._held.clear()
        with contextlib.suppress(NudgeledgerError, sa.exc.SQLAlchemyError):
            await self._stack.aclose()

    def _alive(self) -> bool:
        return self._driver is not None and not self._driver.is_closed()

    async def _connect(self) -> None:
        self._held.clear()
        with contextlib.suppress(NudgeledgerError, sa.exc.SQLAlchemyError):
            await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()
        conn = await self._stack.enter_async_context(self._ledger.reader())
        self._stack.push_async_callback(conn.invalidate)  # its locks must not go back to the pool with it
        self._driver = (await conn.get_raw_connection()).driver_connection


def _number(name: str) -> int:
    """A lock's number: 63 bits, so that it is positive, and far from the writer's."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
