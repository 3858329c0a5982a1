"""The ledger's tables, as SQLAlchemy Core. `migrations` creates them; a test compares the two.

Five tables hold what no rebuild can recreate: events, data keys, signing keys, products' secrets, and the
pairs of event type and version that the ledger holds. Checkpoints and everything in
`projections` are derived.

Every text compares by its UTF-8 bytes on both databases (SQLite's default, collation "C" on PostgreSQL):
orders are the same everywhere, and an index costs no locale. `position` is the row itself on SQLite
(INTEGER PRIMARY KEY), so the ledger is stored in its own order and only the three unique keys are indices.
`product_seq` and `version` grow, so two of them are written at their ends; the third is as local as the
event ids are.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER can be SQLite's row id

# The columns of domain.envelope.Recorded: same names, same order.
events = sa.Table(
    "events",
    metadata,
    sa.Column("position", BIGINT, primary_key=True, autoincrement=False),
    sa.Column("product", TEXT, nullable=False),
    sa.Column("product_seq", BIGINT, nullable=False),
    sa.Column("stream", TEXT, nullable=False),
    sa.Column("version", BIGINT, nullable=False),
    sa.Column("type", TEXT, nullable=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("origin", TEXT, nullable=False),
    sa.Column("event_id", TEXT, nullable=False),
    sa.Column("at", BIGINT, nullable=False),
    sa.Column("recorded_at", BIGINT, nullable=False),
    sa.Column("occurred_at", BIGINT, nullable=False),
    sa.Column("occurred_raw", TEXT),
    sa.Column("sent_raw", TEXT),
    sa.Column("clock_suspect", sa.Boolean, nullable=False),
    sa.Column("batch_id", TEXT, nullable=False),
    sa.Column("correlation_id", TEXT),
    sa.Column("causation_id", TEXT),
    sa.Column("source", TEXT, nullable=False),
    sa.Column("config_revision", TEXT),
    sa.Column("engine_version", TEXT, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("key_id", TEXT),
    sa.Column("content_hash", sa.LargeBinary, nullable=False),
    sa.Column("chain_hash", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("product", "product_seq", name="uq_events_product_seq"),
    sa.UniqueConstraint("product", "stream", "version", name="uq_events_stream_version"),
    sa.UniqueConstraint("product", "origin", "event_id", name="uq_events_event_id"),
)

# Every (type, schema_version) that the ledger holds, so that start-up need not scan it.
event_types = sa.Table(
    "event_types",
    metadata,
    sa.Column("type", TEXT, primary_key=True),
    sa.Column("schema_version", sa.Integer, primary_key=True, autoincrement=False),
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("position", BIGINT, nullable=False),
)

# Deleting a row makes everything sealed under it unreadable, for ever: that is how a person is erased.
data_keys = sa.Table(
    "data_keys",
    metadata,
    sa.Column("key_id", TEXT, primary_key=True),
    sa.Column("product", TEXT, nullable=False),
    sa.Column("person", TEXT, nullable=False),
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("created_at", BIGINT, nullable=False),
    sa.UniqueConstraint("product", "person", name="uq_data_keys_person"),
)

products = sa.Table(
    "products",
    metadata,
    sa.Column("product", TEXT, primary_key=True),
    sa.Column("server_key_hash", TEXT),
    sa.Column("webhook_secret_hash", TEXT),
    sa.Column("token_secret", TEXT),
)

# With which a product's head and single decisions are signed when they leave the ledger (Ed25519).
signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("product", TEXT, primary_key=True),
    sa.Column("private_key", sa.LargeBinary, nullable=False),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("created_at", BIGINT, nullable=False),
)
