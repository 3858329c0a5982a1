"""A database that is locked, full or gone: Unavailable, nothing half-written, and it works again after."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa

from domain.errors import Unavailable
from eventstore import chain, reader
from eventstore.appender import Appender, Unit, append_events
from eventstore.engine import Ledger, open_ledger
from tests.conftest import Run
from tests.store.given import event

HOLD_THE_LOCK = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""


async def rows_of(ledger: Ledger) -> int:
    async with ledger.reader() as conn:
        rows = await reader.read_product(conn, "acme", limit=1_000_000)
    assert chain.verify(rows) == []
    return len(rows)


def test_a_database_locked_by_another_process(sqlite_url: str, run: Run) -> None:
    """Unavailable after the busy timeout, not at once; readers go on; then it works again."""
    path = sqlite_url.removeprefix("sqlite:///")
    ledger = open_ledger(sqlite_url, busy_timeout_s=0.3)
    run(append_events(ledger, "acme", [event()]))
    command = [sys.executable, "-c", HOLD_THE_LOCK, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "locked\n"

        async def locked() -> float:
            loop = asyncio.get_running_loop()
            start = loop.time()
            with pytest.raises(Unavailable, match="locked"):
                await append_events(ledger, "acme", [event()])
            return loop.time() - start

        waited = run(locked())
        assert 0.25 <= waited < 3
        assert run(rows_of(ledger)) == 1
        other.stdin.write("\n")
    run(append_events(ledger, "acme", [event()]))
    assert run(rows_of(ledger)) == 2
    run(ledger.close())


def test_a_writer_waits_for_another_that_commits_in_time(ledger_url: str, run: Run) -> None:
    """A plain BEGIN would fail at its first write."""

    async def scenario() -> None:
        one, two = open_ledger(ledger_url), open_ledger(ledger_url)
        async with one.transaction() as conn:
            await Appender(one).append(conn, [Unit("acme", {}, [event()])])
            waiting = asyncio.create_task(append_events(two, "acme", [event()]))
            await asyncio.sleep(0.3)
            assert not waiting.done()
        (row,) = await waiting
        assert row.position == 2
        await one.close()
        await two.close()

    run(scenario())


def test_the_writers_lock_is_not_waited_for_without_end(ledger_url: str, run: Run) -> None:
    async def scenario() -> None:
        one, two = open_ledger(ledger_url), open_ledger(ledger_url, busy_timeout_s=0.2)
        async with one.transaction():
            with pytest.raises(Unavailable, match="lock"):
                await append_events(two, "acme", [event()])
        await append_events(two, "acme", [event()])
        await one.close()
        await two.close()

    run(scenario())


def test_a_full_disk(sqlite_ledger: Ledger, run: Run) -> None:
    """Unavailable, none of the request stored, what was there readable; with space again it goes on."""
    big = b'{"title": "%s"}' % (b"x" * 20_000)

    async def pages(limit: str) -> int:
        async with sqlite_ledger.transaction() as conn:
            count = (await conn.exec_driver_sql("PRAGMA page_count")).scalar_one()
            await conn.exec_driver_sql(f"PRAGMA max_page_count = {limit.format(count=count)}")
            return int(count)

    async def scenario() -> None:
        await append_events(sqlite_ledger, "acme", [event()])
        await pages("{count}")
        with pytest.raises(Unavailable, match="full"):
            await append_events(sqlite_ledger, "acme", [event("user-u"), event(data=big), event("user-v")])
        assert await rows_of(sqlite_ledger) == 1
        await pages("1000000")
        rows = await append_events(sqlite_ledger, "acme", [event("user-u"), event(data=big)])
        assert [row.position for row in rows] == [2, 3]
        assert await rows_of(sqlite_ledger) == 3

    run(scenario())


# A connection killed while it is being opened is left to the garbage collector by the libraries below us.
@pytest.mark.filterwarnings("ignore:unclosed connection:ResourceWarning")
def test_connections_killed_under_load(postgres_url: str, run: Run) -> None:
    """As a restart does: some callers get Unavailable, nothing acknowledged is lost, then it works again."""
    ledger = open_ledger(postgres_url)
    acknowledged: set[str] = set()
    failed: set[str] = set()

    async def load(number: int) -> None:
        for n in range(60):
            name = f"{number}-{n}"
            try:
                between = [event() for _ in range(0 if n % 2 else 60)]  # few are inserted, many copied
                ends = event(event_id=name), event(event_id=name + "b")
                await append_events(ledger, "acme", [ends[0], *between, ends[1]])
                acknowledged.add(name)
            except Unavailable:
                failed.add(name)
            async with asyncio.timeout(10):
                while True:
                    try:
                        async with ledger.reader() as conn:
                            await reader.head(conn)
                        break
                    except Unavailable:
                        await asyncio.sleep(0.01)

    async def kill() -> None:
        other = await asyncpg.connect(postgres_url)
        for _ in range(15):
            await asyncio.sleep(0.03)
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await other.close()

    async def scenario() -> None:
        await asyncio.gather(*(load(n) for n in range(8)), kill())
        assert failed
        assert acknowledged
        await append_events(ledger, "acme", [event(event_id="after")])
        async with ledger.reader() as conn:
            rows = await reader.read_product(conn, "acme", limit=100_000)
        assert chain.verify(rows) == []
        stored = {row.event_id for row in rows}
        assert {"after"} | acknowledged <= stored
        assert all((name in stored) == (name + "b" in stored) for name in acknowledged | failed)
        await ledger.close()

    run(scenario())
    gc.collect()  # here, so that the warning is not laid at another test's door


def test_an_idle_connection_that_died_costs_no_caller_anything(postgres_url: str, run: Run) -> None:
    async def scenario() -> None:
        ledger = open_ledger(postgres_url)
        await append_events(ledger, "acme", [event()])
        assert await rows_of(ledger) == 1
        other = await asyncpg.connect(postgres_url)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await other.close()
        await append_events(ledger, "acme", [event()])
        assert await rows_of(ledger) == 2
        await ledger.close()

    run(scenario())


def test_a_server_that_is_not_there(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        ledger = open_ledger(f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/none")
        with pytest.raises(Unavailable):
            run(append_events(ledger, "acme", [event()]))
        with pytest.raises(Unavailable):
            run(rows_of(ledger))
        run(ledger.close())


def test_a_file_that_cannot_be_opened(tmp_path: Path, run: Run) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/missing/ledger.db")
    with pytest.raises(Unavailable, match="unable to open"):
        run(append_events(ledger, "acme", [event()]))
    run(ledger.close())


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "ledger.db", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        open_ledger(url)


def test_errors_of_the_statement_itself_pass_unchanged(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with ledger.transaction() as conn:
            await conn.exec_driver_sql("SELECT nothing FROM nowhere")

    with pytest.raises(sa.exc.DBAPIError, match="nowhere"):
        run(scenario())


def test_sqlite_is_as_durable_as_it_says(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> list[object]:
        async with sqlite_ledger.transaction() as conn:
            names = ("journal_mode", "synchronous", "foreign_keys", "recursive_triggers")
            return [(await conn.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in names]

    assert run(scenario()) == ["wal", 2, 1, 1]
