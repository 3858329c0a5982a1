"""One database: its readers, its one writer, and the errors that mean "try again".

Positions are handed out in commit order because there is one writing transaction at a time: BEGIN IMMEDIATE
on SQLite, an advisory lock held to the transaction's end on PostgreSQL. A plain BEGIN on SQLite would find
out only at its first write that somebody else came first, and fail at once instead of waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiosqlite
import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain import errors

_WAL_TRIES = 100  # of 20 ms
_LOCK = 0x6E75646765  # the advisory lock's number, spells "nudge"
_BUSY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    }
)
_DRIVER_ERRORS = (
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a COPY meets on a connection that died
    ConnectionError,
)
# Connection lost, rolled back by a conflict, out of resources, closed for a while, locked, shutting down,
# system error.
_RETRY_STATES = ("08", "40", "53", "55000", "55P03", "57", "58")


@dataclass(slots=True, eq=False)
class Ledger:
    """One database. Open it with `open_ledger`, close it in the event loop that used it."""

    url: str
    engine: AsyncEngine  # the readers' pool; its connections cannot write
    dialect: str  # sqlite | postgresql
    rollbacks: int = (
        0  # transactions of ours that did not commit; a cache of the head is good only within one
    )
    _writer: AsyncEngine = field(kw_only=True, repr=False)
    # For who opens a writing connection of their own, on SQLite:
    path: str | None = field(default=None, kw_only=True)
    pragmas: Sequence[str] = field(default=(), kw_only=True)
    busy_timeout_s: float = field(default=5.0, kw_only=True)

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading; each statement sees one state of the ledger, the newest committed."""
        conn = await _connect(self.engine)
        async with contextlib.aclosing(conn):
            with translate_errors():
                yield conn

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """The writer: one at a time over all processes. Commits at exit, rolls back on any exception.

        Raises Unavailable where the database is locked for longer than the busy timeout, full or gone.
        """
        conn = await self._begin()
        async with contextlib.aclosing(conn):
            try:
                with translate_errors():
                    yield conn
                    await conn.commit()
            except BaseException:
                self.rollbacks += 1  # before the lock is let go
                await _roll_back(conn)
                raise

    async def close(self) -> None:
        await self._writer.dispose()
        await self.engine.dispose()

    async def _begin(self) -> AsyncConnection:
        try:
            return await self._try_begin()
        except errors.Unavailable as error:
            # A connection that died in the pool is noticed here, where nothing has happened yet: once more.
            if isinstance(error.__cause__, sa.exc.DBAPIError) and error.__cause__.connection_invalidated:
                return await self._try_begin()
            raise

    async def _try_begin(self) -> AsyncConnection:
        conn = await _connect(self._writer)
        try:
            with translate_errors():
                await conn.begin()
                if self.dialect == "postgresql":
                    await conn.exec_driver_sql("SELECT pg_advisory_xact_lock($1)", (_LOCK,))
                else:
                    await (await sqlite_driver(conn)).execute_fetchall("BEGIN IMMEDIATE")
        except BaseException:
            await _roll_back(conn)
            await conn.close()
            raise
        return conn


def open_ledger(url: str, *, busy_timeout_s: float = 5.0) -> Ledger:
    """The ledger at a database URL; connects when first used.

    `sqlite:///file.db`, `postgresql://user@host/name`, or the same with `+aiosqlite`, `+asyncpg`.
    `busy_timeout_s`: how long to wait for the writer's lock. Raises ValueError for any other URL.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ValueError(
            "a database URL looks like sqlite:///file.db or postgresql://user@host/name"
        ) from None
    match parsed.drivername:
        case "sqlite" | "sqlite+aiosqlite":
            return _open_sqlite(url, parsed, busy_timeout_s)
        case "postgresql" | "postgres" | "postgresql+asyncpg":
            return _open_postgresql(url, parsed, busy_timeout_s)
        case other:
            raise ValueError(f"{other}: the ledger is kept in sqlite or postgresql")


def _open_sqlite(url: str, parsed: sa.URL, busy_timeout_s: float) -> Ledger:
    if parsed.database in (None, "", ":memory:"):
        raise ValueError("a ledger in memory would not outlive its connection: name a file")
    parsed = parsed.set(drivername="sqlite+aiosqlite")
    # isolation_level None: the driver begins no transactions of its own, so that ours is the only BEGIN.
    connect_args = {"isolation_level": None, "timeout": busy_timeout_s}
    writer = create_async_engine(
        parsed, pool_size=1, max_overflow=0, connect_args=connect_args, hide_parameters=True
    )
    readers = create_async_engine(
        parsed,
        hide_parameters=True,  # they are people's data, and errors are logged
        pool_size=4,
        max_overflow=4,
        connect_args=connect_args,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
    )
    common = ("foreign_keys = ON", "recursive_triggers = ON", "mmap_size = 268435456", "temp_store = MEMORY")
    # Small checkpoints: with 16 MiB between two the slowest commits take half as long again.
    writing = (
        "journal_mode = WAL",
        "synchronous = FULL",
        "cache_size = -131072",
        "wal_autocheckpoint = 1000",
    )
    _at_connect(writer, *writing, *common)
    _at_connect(readers, "query_only = ON", "cache_size = -16384", *common)
    return Ledger(
        url,
        readers,
        "sqlite",
        _writer=writer,
        path=parsed.database,
        pragmas=(*writing, *common),
        busy_timeout_s=busy_timeout_s,
    )


def _at_connect(engine: AsyncEngine, *pragmas: str) -> None:
    def run(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            _set(connection, cursor, f"PRAGMA {pragma}")
        cursor.close()

    sa.event.listen(engine.sync_engine, "connect", run)


def _open_postgresql(url: str, parsed: sa.URL, busy_timeout_s: float) -> Ledger:
    query = dict(parsed.query)
    if "sslmode" in query:  # libpq's name for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    parsed = parsed.set(drivername="postgresql+asyncpg", query=query)
    settings = {
        "application_name": "nudgeledger",
        "jit": "off",
        # Every statement here has an index. A plan made while a table was small must not scan it later.
        "enable_seqscan": "off",
        "lock_timeout": str(round(busy_timeout_s * 1000)),
    }
    writer = create_async_engine(
        parsed,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"server_settings": settings, "timeout": 5},
    )
    readers = create_async_engine(
        parsed,
        hide_parameters=True,  # they are people's data, and errors are logged
        pool_size=4,
        max_overflow=8,
        pool_pre_ping=True,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        connect_args={"server_settings": settings | {"default_transaction_read_only": "on"}, "timeout": 5},
    )
    return Ledger(url, readers, "postgresql", _writer=writer)


async def sqlite_driver(conn: AsyncConnection) -> aiosqlite.Connection:
    """The driver's own connection: one change of thread a statement where SQLAlchemy's cursor takes four."""
    driver = (await conn.get_raw_connection()).driver_connection
    assert isinstance(driver, aiosqlite.Connection)
    return driver


async def _connect(engine: AsyncEngine) -> AsyncConnection:
    try:
        with translate_errors():
            return await engine.connect()
    except OSError as error:  # refused, unknown host, timed out
        raise errors.Unavailable(f"the database cannot be reached: {error}") from error


async def _roll_back(conn: AsyncConnection) -> None:
    try:
        await conn.rollback()
    except Exception:  # the connection is unusable; the database rolls back when it goes
        await conn.invalidate()


def _set(connection: Any, cursor: Any, pragma: str) -> None:
    """Two processes that make a new file into a ledger at once both switch it to WAL. One of them is told
    "locked" at once, whatever the busy timeout, and has only to ask again."""
    for _ in range(_WAL_TRIES):
        try:
            cursor.execute(pragma)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            connection.run_async(lambda _: asyncio.sleep(0.02))
        else:
            return
    cursor.execute(pragma)


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Raises Unavailable for what a later try may cure: locked, full, connection lost. All else passes."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, *_DRIVER_ERRORS) as error:
        if _may_pass(error):
            raise errors.Unavailable(f"the database cannot take this now: {_reason(error)}") from error
        raise


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, sa.exc.TimeoutError):  # no connection came free in time
        return True
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    return any(_says_retry(each) for each in _causes(error))


def _says_retry(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        code: int = getattr(error, "sqlite_errorcode", 0)
        return code & 0xFF in _BUSY  # the upper bits only say which kind
    if isinstance(error, (ConnectionError, asyncpg.InternalClientError)):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        return "connection" in str(error) and "closed" in str(error)
    state: str = getattr(error, "sqlstate", None) or ""
    return state.startswith(_RETRY_STATES)


def _causes(error: BaseException) -> Sequence[BaseException]:
    found: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None and each not in found:
            found.append(each)
            pending += [each.__cause__, getattr(each, "orig", None)]
    return found


def _reason(error: BaseException) -> str:
    """The driver's own words: SQLAlchemy's would quote the statement and its parameters."""
    return str(getattr(error, "orig", error))
