"""Brings a ledger's schema to head, from any working directory and from an installed package."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from eventstore.engine import Ledger


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(connection: sa.Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The newest revision that this code knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


async def upgrade(ledger: Ledger) -> None:
    """Everything or nothing, and nothing where it is at head. Processes that start together take turns."""
    async with ledger.transaction() as conn:
        await conn.run_sync(_upgrade)


async def current(ledger: Ledger) -> str | None:
    """The ledger's revision; None for a database that was never migrated."""
    async with ledger.reader() as conn:
        return await conn.run_sync(_current)
