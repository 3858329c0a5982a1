"""Alembic's entry: runs the steps on the connection that `run` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

import projections.tables  # noqa: F401  (declares its tables on the same metadata)
from eventstore import schema

# Both databases roll a schema change back, so all steps stand or fall together with the caller's transaction.
context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
with context.begin_transaction():
    context.run_migrations()
