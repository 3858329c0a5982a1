"""What the systems around need: deliveries to do, and which session a conversation belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("sessions", sa.Column("conversation_id", TEXT))
    op.add_column("rebuilt_sessions", sa.Column("conversation_id", TEXT))
    op.create_index(
        "ix_sessions_conversation",
        "sessions",
        ["product", "conversation_id"],
        sqlite_where=sa.text("conversation_id IS NOT NULL"),
        postgresql_where=sa.text("conversation_id IS NOT NULL"),
    )
    _deliveries("deliveries")
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["next_at"],
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    _deliveries("rebuilt_deliveries")


def downgrade() -> None:
    raise NotImplementedError("a ledger's schema only goes forward")


def _deliveries(name: str) -> None:
    op.create_table(
        name,
        sa.Column("product", TEXT, nullable=False),
        sa.Column("nudge_id", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("session_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("position", BIGINT, nullable=False),
        sa.Column("expires_at", BIGINT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("attempt", BIGINT, nullable=False),
        sa.Column("next_at", BIGINT),
        sa.PrimaryKeyConstraint("product", "nudge_id", "channel", name=f"pk_{name}"),
    )
