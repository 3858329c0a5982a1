"""What audits need: signing keys, rebuilds beside the live tables, poison events, backtests as jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("product", TEXT, nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("product", name="pk_signing_keys"),
    )
    op.create_index("ix_decisions_at", "decisions", ["product", "at"])
    op.add_column("nudges", sa.Column("goal", TEXT))
    op.add_column("nudges", sa.Column("goal_at", BIGINT))
    op.create_index("ix_nudges_at", "nudges", ["product", "at"])
    _rebuilds()
    _backtests()


def downgrade() -> None:
    raise NotImplementedError("a ledger's schema only goes forward")


def _rebuilds() -> None:
    op.create_table(
        "rebuilt_sessions",
        sa.Column("product", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("version", BIGINT, nullable=False),
        sa.Column("last_event_at", BIGINT, nullable=False),
        sa.Column("current_state", TEXT, nullable=False),
        sa.Column("tour_until", BIGINT),
        sa.Column("open_until", BIGINT),
        sa.Column("next_due", BIGINT),
        sa.PrimaryKeyConstraint("product", "session_id", name="pk_rebuilt_sessions"),
    )
    op.create_table(
        "rebuilt_decisions",
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
        sa.PrimaryKeyConstraint("position", name="pk_rebuilt_decisions"),
    )
    op.create_index("ix_rebuilt_decisions_session_id", "rebuilt_decisions", ["product", "session_id"])
    op.create_table(
        "rebuilt_nudges",
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
        sa.Column("goal", TEXT),
        sa.Column("goal_at", BIGINT),
        sa.PrimaryKeyConstraint("product", "nudge_id", name="pk_rebuilt_nudges"),
    )
    op.create_index("ix_rebuilt_nudges_user_id", "rebuilt_nudges", ["product", "user_id"])
    op.create_table(
        "rebuild_undo",
        sa.Column("projection", TEXT, nullable=False),
        sa.Column("row_key", TEXT, nullable=False),
        sa.Column("before", TEXT),
        sa.Column("after", TEXT),
        sa.PrimaryKeyConstraint("projection", "row_key", name="pk_rebuild_undo"),
    )
    op.create_table(
        "poison",
        sa.Column("projection", TEXT, nullable=False),
        sa.Column("position", BIGINT, nullable=False, autoincrement=False),
        sa.Column("product", TEXT, nullable=False),
        sa.Column("stream", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("noticed_at", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("projection", "position", name="pk_poison"),
    )


def _backtests() -> None:
    op.create_table(
        "backtests",
        sa.Column("product", TEXT, nullable=False),
        sa.Column("backtest_id", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("request", TEXT, nullable=False),
        sa.Column("done", BIGINT, nullable=False),
        sa.Column("total", BIGINT, nullable=False),
        sa.Column("result", TEXT),
        sa.Column("error", TEXT),
        sa.Column("created_at", BIGINT, nullable=False),
        sa.Column("touched_at", BIGINT, nullable=False),
        sa.Column("finished_at", BIGINT),
        sa.PrimaryKeyConstraint("product", "backtest_id", name="pk_backtests"),
    )
    op.create_index("ix_backtests_created", "backtests", ["product", "created_at"])
    op.create_table(
        "backtest_decisions",
        sa.Column("product", TEXT, nullable=False),
        sa.Column("backtest_id", TEXT, nullable=False),
        sa.Column("side", TEXT, nullable=False),
        sa.Column("n", BIGINT, nullable=False, autoincrement=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("trigger_id", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("explanation", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("product", "backtest_id", "side", "n", name="pk_backtest_decisions"),
    )
