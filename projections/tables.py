"""The tables of the projections. All derived: any of them may be emptied and filled again from events."""

from __future__ import annotations

import sqlalchemy as sa

from eventstore import schema
from eventstore.schema import BIGINT, TEXT

sessions = sa.Table(
    "sessions",
    schema.metadata,
    sa.Column("product", TEXT, primary_key=True),
    sa.Column("session_id", TEXT, primary_key=True),
    sa.Column("user_id", TEXT),  # the last non-empty id seen
    sa.Column("version", BIGINT, nullable=False),  # of the stream, as folded
    sa.Column("last_event_at", BIGINT, nullable=False),  # the newest outside event
    sa.Column("current_state", TEXT, nullable=False),
    sa.Column("tour_until", BIGINT),  # how long the running tour runs without another step
    sa.Column("open_until", BIGINT),  # when the open offer expires
    sa.Column("next_due", BIGINT),  # the next instant at which time alone may change something
    sa.Index("ix_sessions_user", "product", "user_id", "last_event_at"),
    sa.Index(
        "ix_sessions_due",
        "next_due",
        sqlite_where=sa.text("next_due IS NOT NULL"),
        postgresql_where=sa.text("next_due IS NOT NULL"),
    ),
)

decisions = sa.Table(
    "decisions",
    schema.metadata,
    sa.Column("position", BIGINT, primary_key=True, autoincrement=False),  # of the deciding event
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
    sa.UniqueConstraint("product", "decision_id", name="uq_decisions_decision_id"),
    sa.Index("ix_decisions_product", "product", "position"),
    sa.Index("ix_decisions_user", "product", "user_id", "position"),
    sa.Index("ix_decisions_session", "product", "session_id", "position"),
    sa.Index("ix_decisions_batch", "product", "batch_id"),
)

nudges = sa.Table(
    "nudges",
    schema.metadata,
    sa.Column("product", TEXT, primary_key=True),
    sa.Column("nudge_id", TEXT, primary_key=True),
    sa.Column("session_id", TEXT, nullable=False),
    sa.Column("user_id", TEXT),
    sa.Column("trigger_id", TEXT, nullable=False),
    sa.Column("position", BIGINT, nullable=False),  # of the offer
    sa.Column("at", BIGINT, nullable=False),
    sa.Column("expires_at", BIGINT, nullable=False),
    sa.Column("shown_tab", TEXT),
    sa.Column("shown_at", BIGINT),
    sa.Column("closed_at", BIGINT),
    sa.Column("closed_reason", TEXT),
    sa.Index("ix_nudges_user", "product", "user_id", "expires_at"),
)
