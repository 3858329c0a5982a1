"""Follows the ledger in commit order, from a checkpoint that is saved with the work done.

Positions are handed out under the writer's lock, so what is read after position p is never joined later by
something at or before p: a follower needs no gap detection and misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from domain import errors
from domain.envelope import Recorded
from eventstore import reader, statements
from eventstore.appender import NOTIFY_CHANNEL
from eventstore.engine import Ledger, translate_errors

_RECONNECT_S = 1.0


async def follow(
    ledger: Ledger,
    after: int,
    *,
    limit: int = 1000,
    wake: asyncio.Event | None = None,
    idle_s: float = 1.0,
) -> AsyncIterator[list[Recorded]]:
    """Batches of at most `limit` events in position order, without end; never an empty one.

    At the head it waits for `wake`, which must be this follower's own, but no longer than `idle_s`: another
    process may have written. Raises Unavailable where the database is.
    """
    while True:
        if wake is not None:
            wake.clear()  # before the read: what is set from here on was perhaps not seen
        async with ledger.reader() as conn:
            batch = await reader.read_all(conn, after=after, limit=limit)
        if batch:
            after = batch[-1].position
            yield batch
        elif wake is None:
            await asyncio.sleep(idle_s)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(idle_s):
                    await wake.wait()


async def load_checkpoint(conn: AsyncConnection, name: str) -> int:
    """The position up to which `name` has done its work; 0 where it never began."""
    rows = await statements.fetch(conn, "SELECT position FROM checkpoints WHERE name = $1", name)
    return int(rows[0][0]) if rows else 0


async def checkpoints(conn: AsyncConnection, prefix: str) -> dict[str, int]:
    """Every checkpoint whose name begins with `prefix`."""
    rows = await statements.fetch(
        conn,
        "SELECT name, position FROM checkpoints WHERE name >= $1 AND name < $2",
        prefix,
        prefix + "\U0010ffff",
    )
    return {str(name): int(position) for name, position in rows}


async def save_checkpoint(conn: AsyncConnection, name: str, position: int) -> None:
    """In the transaction of the work itself."""
    await statements.execute(
        conn,
        "INSERT INTO checkpoints (name, position) VALUES ($1, $2::bigint) "
        "ON CONFLICT (name) DO UPDATE SET position = excluded.position",
        name,
        position,
    )


async def drop_checkpoint(conn: AsyncConnection, name: str) -> None:
    """`name` has nothing more to do. In a transaction."""
    await statements.execute(conn, "DELETE FROM checkpoints WHERE name = $1", name)


async def listen(ledger: Ledger, callback: Callable[[int], None]) -> None:
    """Calls back with the new head after each commit of any process on PostgreSQL, until cancelled.

    Also, with 0, after each (re)connect, since a notice may have been lost before. On SQLite it returns at
    once.
    """
    if ledger.dialect != "postgresql":
        return
    while True:
        with contextlib.suppress(errors.Unavailable):
            await _listen_once(ledger, callback)
        await asyncio.sleep(_RECONNECT_S)


async def _listen_once(ledger: Ledger, callback: Callable[[int], None]) -> None:
    lost = asyncio.Event()

    def notified(_driver: Any, _pid: int, _channel: str, position: str) -> None:
        callback(int(position))

    def terminated(*_: Any) -> None:
        lost.set()

    async with ledger.reader() as conn:
        driver = (await conn.get_raw_connection()).driver_connection
        assert driver is not None
        driver.add_termination_listener(terminated)
        try:
            with translate_errors():
                await driver.add_listener(NOTIFY_CHANNEL, notified)
            callback(0)
            await lost.wait()
        finally:
            # The session listens until it ends: it must not go back to the pool.
            await conn.invalidate()
