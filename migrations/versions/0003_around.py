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
    _conversations()
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


def _conversations() -> None:
    """Sessions that were linked before: to the newest `new` conversation, else to the first one."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    data = "CAST(e.data AS TEXT)" if sqlite else "convert_from(e.data, 'UTF8')::json"
    op.execute(f"""
        UPDATE sessions SET conversation_id = (
            SELECT {data} ->> 'conversation_id' FROM events e
            WHERE e.product = sessions.product AND e.stream = 'session-' || sessions.session_id
            AND e.type = 'conversation_linked'
            ORDER BY CASE WHEN {data} ->> 'link' = 'new' THEN -e.version ELSE e.version END LIMIT 1
        ) WHERE EXISTS (SELECT 1 FROM event_types WHERE type = 'conversation_linked')
    """)  # noqa: S608 (built from constants)


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
