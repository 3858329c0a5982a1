"""The ledger and the first projections.

The tables are written out, not taken from the code's metadata: what a released step creates must not
change when the code does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _ledger()
    _projections()
    if op.get_bind().dialect.name == "postgresql":
        _refuse_changes_postgresql()
    else:
        _refuse_changes_sqlite()


def downgrade() -> None:
    raise NotImplementedError("a ledger's schema only goes forward")


def _ledger() -> None:
    op.create_table(
        "events",
        sa.Column("position", BIGINT, nullable=False, autoincrement=False),
        sa.Column("product", TEXT, nullable=False),
        sa.Column("product_seq", BIGINT, nullable=False),
        sa.Column("stream", TEXT, nullable=False),
        sa.Column("version", BIGINT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("origin", TEXT, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("recorded_at", BIGINT, nullable=False),
        sa.Column("occurred_at", BIGINT, nullable=False),
        sa.Column("occurred_raw", TEXT),
        sa.Column("sent_raw", TEXT),
        sa.Column("clock_suspect", sa.Boolean(), nullable=False),
        sa.Column("batch_id", TEXT, nullable=False),
        sa.Column("correlation_id", TEXT),
        sa.Column("causation_id", TEXT),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("config_revision", TEXT),
        sa.Column("engine_version", TEXT, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("key_id", TEXT),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("chain_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_events"),
        sa.UniqueConstraint("product", "product_seq", name="uq_events_product_seq"),
        sa.UniqueConstraint("product", "stream", "version", name="uq_events_stream_version"),
        sa.UniqueConstraint("product", "origin", "event_id", name="uq_events_event_id"),
    )
    op.create_table(
        "event_types",
        sa.Column("type", TEXT, nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("type", "schema_version", name="pk_event_types"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("position", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_checkpoints"),
    )
    op.create_table(
        "data_keys",
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("product", TEXT, nullable=False),
        sa.Column("person", TEXT, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_data_keys"),
        sa.UniqueConstraint("product", "person", name="uq_data_keys_person"),
    )
    op.create_table(
        "products",
        sa.Column("product", TEXT, nullable=False),
        sa.Column("server_key_hash", TEXT),
        sa.Column("webhook_secret_hash", TEXT),
        sa.Column("token_secret", TEXT),
        sa.PrimaryKeyConstraint("product", name="pk_products"),
    )


def _projections() -> None:
    op.create_table(
        "sessions",
        sa.Column("product", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("version", BIGINT, nullable=False),
        sa.Column("last_event_at", BIGINT, nullable=False),
        sa.Column("current_state", TEXT, nullable=False),
        sa.Column("tour_until", BIGINT),
        sa.Column("open_until", BIGINT),
        sa.Column("next_due", BIGINT),
        sa.PrimaryKeyConstraint("product", "session_id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_user", "sessions", ["product", "user_id", "last_event_at"])
    some = sa.text("next_due IS NOT NULL")
    op.create_index("ix_sessions_due", "sessions", ["next_due"], sqlite_where=some, postgresql_where=some)

    op.create_table(
        "decisions",
        sa.Column("position", BIGINT, nullable=False, autoincrement=False),
        sa.Column("product", TEXT, nullable=False),
        sa.Column("decision_id", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("trigger_id", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("summary", TEXT, nullable=False),
        sa.Column("batch_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_decisions"),
        sa.UniqueConstraint("product", "decision_id", name="uq_decisions_decision_id"),
    )
    op.create_index("ix_decisions_product", "decisions", ["product", "position"])
    op.create_index("ix_decisions_user", "decisions", ["product", "user_id", "position"])
    op.create_index("ix_decisions_session", "decisions", ["product", "session_id", "position"])
    op.create_index("ix_decisions_batch", "decisions", ["product", "batch_id"])

    op.create_table(
        "nudges",
        sa.Column("product", TEXT, nullable=False),
        sa.Column("nudge_id", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("trigger_id", TEXT, nullable=False),
        sa.Column("position", BIGINT, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("expires_at", BIGINT, nullable=False),
        sa.Column("shown_tab", TEXT),
        sa.Column("shown_at", BIGINT),
        sa.Column("closed_at", BIGINT),
        sa.Column("closed_reason", TEXT),
        sa.PrimaryKeyConstraint("product", "nudge_id", name="pk_nudges"),
    )
    op.create_index("ix_nudges_user", "nudges", ["product", "user_id", "expires_at"])


def _refuse_changes_sqlite() -> None:
    # INSERT OR REPLACE deletes too; its deletion comes here only with `recursive_triggers`, which
    # every connection of ours turns on.
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER events_refuse_{verb.lower()} BEFORE {verb} ON events "
            f"BEGIN SELECT RAISE(ABORT, 'events are never changed: {verb} refused'); END"
        )


def _refuse_changes_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION 'events are never changed: % refused', TG_OP; END $$"
    )
    op.execute(
        "CREATE TRIGGER events_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
        "FOR EACH STATEMENT EXECUTE FUNCTION events_refuse()"
    )
