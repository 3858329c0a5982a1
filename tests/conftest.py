"""Ledgers for tests. SQLite is always there; PostgreSQL where it answers; with CI set it must."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from eventstore.engine import Ledger, open_ledger
from migrations import run as migrations

POSTGRES = os.environ.get("NUDGELEDGER_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a coroutine to its end; the test's own event loop, one for all its calls."""
    with asyncio.Runner() as runner:
        yield runner.run
        # A connection that was given up (a test made it fail) ends on its own thread, and answers the loop
        # when it has: wait for that, or it finds the loop closed.
        for _ in range(200):
            if not any("_connection_worker_thread" in thread.name for thread in threading.enumerate()):
                break
            runner.run(asyncio.sleep(0.01))


@pytest.fixture(scope="session")
def sqlite_template() -> Iterator[Path]:
    """A migrated, empty database file: copied for each test, which is quicker than migrating."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        asyncio.run(_migrate(f"sqlite:///{path}"))
        yield path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    shutil.copy(sqlite_template, tmp_path / "ledger.db")
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str]:
    """The name of a migrated, empty database."""
    try:
        with_database = _scratch("template0")
    except (OSError, asyncpg.PostgresError) as error:
        reason = f"PostgreSQL does not answer at {POSTGRES.rpartition('@')[2]}: {type(error).__name__}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; with CI set it must")
        pytest.skip(reason)
    asyncio.run(_migrate(_url(with_database)))
    yield with_database
    _drop(with_database)


@pytest.fixture
def postgres_url(postgres_template: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    name = _scratch(postgres_template)
    yield _url(name)
    _drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def ledger(ledger_url: str, run: Run) -> Iterator[Ledger]:
    """An empty migrated ledger, once on each database. Use it through `run`."""
    ledger = open_ledger(ledger_url)
    yield ledger
    run(ledger.close())


@pytest.fixture
def sqlite_ledger(sqlite_url: str, run: Run) -> Iterator[Ledger]:
    ledger = open_ledger(sqlite_url)
    yield ledger
    run(ledger.close())


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that was never migrated, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    request.getfixturevalue("postgres_template")  # says so where no server answers
    name = _scratch("template0")
    yield _url(name)
    _drop(name)


async def _migrate(url: str) -> None:
    ledger = open_ledger(url)
    await migrations.upgrade(ledger)
    await ledger.close()


def _url(database: str) -> str:
    return f"{POSTGRES.rpartition('/')[0]}/{database}"


def _scratch(template: str) -> str:
    name = f"nudgeledger_test_{uuid.uuid4().hex[:12]}"
    asyncio.run(_execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    return name


def _drop(name: str) -> None:
    asyncio.run(_execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


async def _execute(statement: str) -> None:
    conn = await asyncpg.connect(POSTGRES, timeout=5)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests last: their driver keeps an event loop running, beside which no test can run its own."""
    items.sort(key=lambda item: "browser" in item.path.parts)
