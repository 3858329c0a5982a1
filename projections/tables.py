"""The tables of the projections. All derived: any of them may be emptied and filled again from events."""

from __future__ import annotations

import sqlalchemy as sa

from domain.instants import DAY
from eventstore import schema
from eventstore.schema import BIGINT, TEXT

ATTRIBUTION = DAY  # a goal reached within this after an offer counts for it

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
    sa.Column("conversation_id", TEXT),  # in a chat system, where one was linked
    sa.Index("ix_sessions_user", "product", "user_id", "last_event_at"),
    sa.Index(
        "ix_sessions_conversation",
        "product",
        "conversation_id",
        sqlite_where=sa.text("conversation_id IS NOT NULL"),
        postgresql_where=sa.text("conversation_id IS NOT NULL"),
    ),
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
    sa.Index("ix_decisions_at", "product", "at"),
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
    sa.Column("goal", TEXT),  # of the trigger
    sa.Column("goal_at", BIGINT),  # when the user first reached it afterwards, within ATTRIBUTION
    sa.Index("ix_nudges_user", "product", "user_id", "expires_at"),
    sa.Index("ix_nudges_at", "product", "at"),
)

# What is to be handed to channels that are called (streams are not): one row for each offer and channel.
deliveries = sa.Table(
    "deliveries",
    schema.metadata,
    sa.Column("product", TEXT, primary_key=True),
    sa.Column("nudge_id", TEXT, primary_key=True),
    sa.Column("channel", TEXT, primary_key=True),
    sa.Column("session_id", TEXT, nullable=False),
    sa.Column("user_id", TEXT),
    sa.Column("position", BIGINT, nullable=False),  # of the offer
    sa.Column("expires_at", BIGINT, nullable=False),
    sa.Column("status", TEXT, nullable=False),  # due, trying, delivered, failed, unknown, dropped
    sa.Column("attempt", BIGINT, nullable=False),  # made so far
    sa.Column("next_at", BIGINT),  # when to look at it next; NULL: it is closed
    sa.Index(
        "ix_deliveries_due",
        "next_at",
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    ),
)

# --- rebuilding: the same rows, derived anew beside the live ones -----------------------------------


def _beside(live: sa.Table, *index: str) -> sa.Table:
    """A table with the columns of a live one, for its rows as derived anew; `index`: what filling it asks."""
    columns = [sa.Column(c.name, c.type, nullable=c.nullable) for c in live.columns]
    key = sa.PrimaryKeyConstraint(*(c.name for c in live.primary_key.columns))
    name = f"rebuilt_{live.name}"
    indices = [sa.Index(f"ix_{name}_{index[-1]}", *index)] if index else []
    return sa.Table(name, schema.metadata, *columns, key, *indices)


rebuilt_sessions = _beside(sessions)
rebuilt_decisions = _beside(decisions, "product", "session_id")
rebuilt_nudges = _beside(nudges, "product", "user_id")
rebuilt_deliveries = _beside(deliveries)

# What a rebuild changed in the live tables, so that it can be taken back.
rebuild_undo = sa.Table(
    "rebuild_undo",
    schema.metadata,
    sa.Column("projection", TEXT, primary_key=True),
    sa.Column("row_key", TEXT, primary_key=True),  # JSON list of the primary key's values
    sa.Column("before", TEXT),  # JSON object of the row; NULL: there was none
    sa.Column("after", TEXT),  # JSON object of the row; NULL: there is none
)

# Events that a projection could not apply; everything else went on.
poison = sa.Table(
    "poison",
    schema.metadata,
    sa.Column("projection", TEXT, primary_key=True),
    sa.Column("position", BIGINT, primary_key=True, autoincrement=False),
    sa.Column("product", TEXT, nullable=False),
    sa.Column("stream", TEXT, nullable=False),
    sa.Column("type", TEXT, nullable=False),
    sa.Column("error", TEXT, nullable=False),  # exception type and place, never a value
    sa.Column("noticed_at", BIGINT, nullable=False),
)

# --- backtests: jobs over the ledger, reproducible from what `request` says --------------------------

backtests = sa.Table(
    "backtests",
    schema.metadata,
    sa.Column("product", TEXT, primary_key=True),
    sa.Column("backtest_id", TEXT, primary_key=True),
    sa.Column("status", TEXT, nullable=False),  # queued, running, done, failed, cancelled
    sa.Column("request", TEXT, nullable=False),  # JSON: all that the result is a function of
    sa.Column("done", BIGINT, nullable=False),  # positions gone through
    sa.Column("total", BIGINT, nullable=False),
    sa.Column("result", TEXT),  # JSON
    sa.Column("error", TEXT),
    sa.Column("created_at", BIGINT, nullable=False),
    sa.Column("touched_at", BIGINT, nullable=False),  # when the process that runs it last said so
    sa.Column("finished_at", BIGINT),
    sa.Index("ix_backtests_created", "product", "created_at"),
)

backtest_decisions = sa.Table(
    "backtest_decisions",
    schema.metadata,
    sa.Column("product", TEXT, primary_key=True),
    sa.Column("backtest_id", TEXT, primary_key=True),
    sa.Column("side", TEXT, primary_key=True),  # candidate | in_force
    sa.Column("n", BIGINT, primary_key=True, autoincrement=False),  # from 1, by (at, session)
    sa.Column("at", BIGINT, nullable=False),
    sa.Column("session_id", TEXT, nullable=False),
    sa.Column("user_id", TEXT),
    sa.Column("trigger_id", TEXT, nullable=False),
    sa.Column("outcome", TEXT, nullable=False),
    sa.Column("reason", TEXT, nullable=False),
    sa.Column("explanation", TEXT, nullable=False),  # JSON
)
