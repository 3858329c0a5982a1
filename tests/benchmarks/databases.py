"""Empty, migrated scratch databases, gone when the benchmark is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg

from eventstore.engine import open_ledger
from migrations import run as migrations
from tests.benchmarks.options import Options

POSTGRES = os.environ.get("NUDGELEDGER_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


class Kind(NamedTuple):
    """A place where scratch databases can be made."""

    name: str  # SQLite | PostgreSQL
    place: str  # a folder ("" the system's temporary one), or a server's URL
    durability: str  # what the database itself says of it


def kinds(options: Options) -> list[Kind]:
    """The databases to measure: both, or the one that the URL names."""
    url = options.database_url
    if url is None:
        return [_sqlite(""), *_postgresql(POSTGRES)]
    if url.startswith("sqlite"):
        return [_sqlite(str(Path(url.partition("///")[2] or ".").absolute().parent))]
    found = _postgresql(url.replace("postgresql+asyncpg", "postgresql"))
    if not found:
        raise SystemExit("no PostgreSQL server answers at the given URL")
    return found


def _sqlite(folder: str) -> Kind:
    return Kind("SQLite", folder, "SQLite WAL, synchronous FULL: an fsync a transaction, before the answer")


def _postgresql(url: str) -> list[Kind]:
    try:
        said = asyncio.run(_durability(url))
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        print(f"\n   (PostgreSQL is left out: {type(error).__name__} at {url.rpartition('@')[2]})")
        return []
    return [Kind("PostgreSQL", url, said)]


async def _durability(url: str) -> str:
    conn = await asyncpg.connect(url, timeout=5)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        values = {name: await conn.fetchval(f"SHOW {name}") for name in names}
    finally:
        await conn.close()
    version = values.pop("server_version")
    return f"PostgreSQL {version}: " + ", ".join(f"{name} {value}" for name, value in values.items())


@contextlib.contextmanager
def scratch(kind: Kind, *, migrated: bool = True) -> Iterator[str]:
    """The URL of an empty database."""
    if kind.name == "SQLite":
        with tempfile.TemporaryDirectory(prefix="nudgeledger-bench-", dir=kind.place or None) as folder:
            url = f"sqlite:///{folder}/ledger.db"
            if migrated:
                asyncio.run(_migrate(url))
            yield url
        return
    name = f"nudgeledger_bench_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(kind.place, f'CREATE DATABASE "{name}" TEMPLATE template0'))
    try:
        url = f"{kind.place.rpartition('/')[0]}/{name}"
        if migrated:
            asyncio.run(_migrate(url))
        yield url
    finally:
        asyncio.run(execute(kind.place, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def served(kind: Kind) -> contextlib.AbstractContextManager[str]:
    """One for `nudgeledger serve`, which brings SQLite's schema to the newest by itself."""
    return scratch(kind, migrated=kind.name != "SQLite")


def file_of(url: str) -> str:
    """The file of a SQLite URL."""
    return url.removeprefix("sqlite:///")


async def execute(url: str, statement: str) -> None:
    conn = await asyncpg.connect(url, timeout=5)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


async def _migrate(url: str) -> None:
    ledger = open_ledger(url)
    try:
        await migrations.upgrade(ledger)
    finally:
        await ledger.close()
