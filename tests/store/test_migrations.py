"""Migrations: head is what the code declares, running them again changes nothing, events survive."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import projections.tables  # noqa: F401
from domain.envelope import NewEvent
from eventstore import reader, schema
from eventstore.appender import append_events
from eventstore.engine import Ledger, open_ledger
from migrations import run as migrations
from tests.conftest import Run
from tests.store.given import event


def test_the_declared_tables_equal_the_migrated_head(ledger: Ledger, run: Run) -> None:
    def compare(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata))

    async def scenario() -> list[Any]:
        async with ledger.reader() as conn:
            return await conn.run_sync(compare)

    assert run(scenario()) == []


def test_names_and_collations_are_those_declared(ledger: Ledger, run: Run) -> None:
    """What the comparison above does not look at."""

    def inspect(connection: sa.Connection) -> dict[str, Any]:
        inspector = sa.inspect(connection)
        return {
            name: (
                inspector.get_pk_constraint(name)["name"],
                sorted(str(u["name"]) for u in inspector.get_unique_constraints(name)),
                {
                    c["name"]
                    for c in inspector.get_columns(name)
                    if getattr(c["type"], "collation", None) == "C"
                },
            )
            for name in inspector.get_table_names()
            if name != "alembic_version"
        }

    async def scenario() -> dict[str, Any]:
        async with ledger.reader() as conn:
            return await conn.run_sync(inspect)

    def declared(table: sa.Table) -> tuple[str, list[str], set[str]]:
        unique = [str(c.name) for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
        texts = {c.name for c in table.columns if isinstance(c.type, sa.Text)}
        return str(table.primary_key.name), sorted(unique), texts if ledger.dialect == "postgresql" else set()

    assert run(scenario()) == {table.name: declared(table) for table in schema.metadata.sorted_tables}


def test_position_is_the_row_itself_on_sqlite(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> str:
        async with sqlite_ledger.reader() as conn:
            return str(
                (
                    await conn.exec_driver_sql("EXPLAIN QUERY PLAN SELECT 1 FROM events WHERE position > 5")
                ).all()
            )

    assert "INTEGER PRIMARY KEY" in run(scenario())


def test_upgrading_again_changes_nothing(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        rows = await append_events(ledger, "acme", [event()])
        await migrations.upgrade(ledger)
        assert await migrations.current(ledger) == migrations.head() == "0003"
        async with ledger.reader() as conn:
            assert await reader.read_all(conn) == rows

    run(scenario())


@pytest.mark.parametrize("released", ["0001", "0002"])
def test_a_ledger_of_every_released_schema_upgrades_with_its_events_and_rows(
    released: str, empty_url: str, run: Run
) -> None:
    async def scenario() -> None:
        ledger = open_ledger(empty_url)
        try:
            async with ledger.transaction() as conn:
                await conn.run_sync(_upgrade_to, released)
            assert await migrations.current(ledger) == released
            rows = await append_events(ledger, "acme", [event(), event()])
            async with ledger.transaction() as conn:
                await conn.execute(
                    sa.text(
                        "INSERT INTO nudges (product, nudge_id, session_id, trigger_id, position, at,"
                        " expires_at) VALUES ('acme', 'n1', 's1', 't1', 1, 2, 3)"
                    )
                )
            await migrations.upgrade(ledger)
            assert await migrations.current(ledger) == migrations.head()
            async with ledger.reader() as conn:
                assert await reader.read_all(conn) == rows
                kept = (await conn.execute(sa.text("SELECT nudge_id, goal, goal_at FROM nudges"))).all()
            assert kept == [("n1", None, None)]
            with pytest.raises(Exception, match="events are never changed"):
                async with ledger.transaction() as conn:
                    await conn.execute(sa.text("DELETE FROM events"))
        finally:
            await ledger.close()

    run(scenario())


def test_sessions_that_were_linked_before_know_their_conversation(empty_url: str, run: Run) -> None:
    def linked(stream: str, conversation: str, link: str) -> NewEvent:
        data = json.dumps({"conversation_id": conversation, "link": link}).encode()
        return event(stream=stream, kind="conversation_linked", data=data)

    async def scenario() -> dict[str, str | None]:
        ledger = open_ledger(empty_url)
        try:
            async with ledger.transaction() as conn:
                await conn.run_sync(_upgrade_to, "0002")
                for name in ("a", "b", "c"):
                    await conn.execute(
                        sa.text(
                            "INSERT INTO sessions (product, session_id, version, last_event_at,"
                            " current_state) VALUES ('acme', :name, 1, 1, 'thinking')"
                        ),
                        {"name": name},
                    )
            for each in (("a", "c1", "reply_existing"), ("a", "c2", "reply_existing"), ("b", "c3", "new"),
                         ("b", "c4", "new"), ("b", "c5", "reply_existing")):  # fmt: skip
                await append_events(ledger, "acme", [linked(f"session-{each[0]}", *each[1:])])
            await migrations.upgrade(ledger)
            async with ledger.reader() as conn:
                rows = await conn.execute(sa.text("SELECT session_id, conversation_id FROM sessions"))
                return dict(rows.all())
        finally:
            await ledger.close()

    assert run(scenario()) == {"a": "c1", "b": "c4", "c": None}


def _upgrade_to(connection: sa.Connection, revision: str) -> None:
    config = migrations._config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def test_a_new_database_has_no_revision_and_two_processes_may_upgrade_it_at_once(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any working directory."""
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        one, two = (open_ledger("sqlite:///new.db") for _ in range(2))
        assert await migrations.current(one) is None
        await asyncio.gather(migrations.upgrade(one), migrations.upgrade(two))
        assert await migrations.current(two) == migrations.head()
        await one.close()
        await two.close()

    run(scenario())
