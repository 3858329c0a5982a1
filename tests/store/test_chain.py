"""The hashes: every field counts, their form is the documented one, and any change shows."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.envelope import NewEvent, Recorded
from eventstore import chain, reader
from eventstore.appender import append_events
from eventstore.engine import Ledger
from tests.conftest import Run
from tests.store.given import event

NOT_HASHED = {"recorded_at"}  # the chain holds it
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
events = st.builds(
    NewEvent,
    text, text, text, st.integers(0, 99), text, text, st.integers(0), st.integers(0), st.integers(0),
    st.none() | text, st.none() | text, st.booleans(), text, st.none() | text, st.none() | text, text,
    st.none() | text, text, st.binary(max_size=12), st.none() | st.binary(max_size=12), st.none() | text,
)  # fmt: skip


FIELDS = """product stream type schema_version origin event_id at occurred_at occurred_raw sent_raw
clock_suspect batch_id correlation_id causation_id source config_revision engine_version data sealed key_id"""


def as_documented(new: NewEvent) -> bytes:
    parts = []
    for name in FIELDS.split():
        value = getattr(new, name)
        if isinstance(value, bool):
            value = int(value)
        if value is None:
            parts.append(b"-")
        else:
            raw = value if isinstance(value, bytes) else str(value).encode()
            parts.append(str(len(raw)).encode() + b":" + raw)
    return hashlib.sha256(b"".join(parts)).digest()


@given(events)
def test_the_content_hash_is_the_documented_one(new: NewEvent) -> None:
    assert chain.content_hash(new) == as_documented(new)


def test_a_content_hash_never_changes() -> None:
    """A stored ledger depends on it: this value was written down once."""
    new = event(event_id="e-1", data=b'{"type":"click"}')
    assert chain.content_hash(new).hex() == FROZEN_CONTENT
    assert chain.chain_hash(chain.START, 1, 1, 1_000, chain.content_hash(new)).hex() == FROZEN_CHAIN


FROZEN_CONTENT = "0008701ae3f613689c1e03cca588c293e8b76efd066c0cb0b579a0853d3ddc6e"
FROZEN_CHAIN = "25024fba0fefc12bba0ce54f7748660914565eb5edf9fa74db9b40e3ba854d2d"


@pytest.mark.parametrize("name", sorted(set(NewEvent._fields) - NOT_HASHED))
def test_every_field_counts_and_none_differs_from_empty(name: str) -> None:
    base = event(event_id="e-1")
    value = getattr(base, name)
    other: dict[type, Any] = {
        bool: not value,
        int: 7,
        bytes: b"x",
        str: "x",
        type(None): b"" if name == "sealed" else "",
    }
    assert chain.content_hash(base._replace(**{name: other[type(value)]})) != chain.content_hash(base)


@given(events, st.sampled_from(NewEvent._fields), events)
def test_two_events_have_one_content_hash_only_where_they_are_equal(
    a: NewEvent, name: str, b: NewEvent
) -> None:
    mixed = a._replace(**{name: getattr(b, name)})
    same = mixed._replace(recorded_at=0) == a._replace(recorded_at=0)
    assert (chain.content_hash(mixed) == chain.content_hash(a)) == same


def flipped(row: Recorded, name: str) -> Recorded:
    value: Any = getattr(row, name)
    changed: Any = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else value * 2
    return row._replace(**{name: changed})


def test_the_chain_verifies_and_one_flipped_byte_anywhere_is_found(ledger: Ledger, run: Run) -> None:
    async def scenario() -> list[Recorded]:
        await append_events(ledger, "acme", [event(f"session-{n % 3}") for n in range(9)])
        async with ledger.reader() as conn:
            return await reader.read_product(conn, "acme")

    rows = run(scenario())
    assert chain.verify(rows) == []
    assert chain.verify(rows[4:], seq=4, previous=rows[3].chain_hash) == []
    for name in (
        "data",
        "content_hash",
        "chain_hash",
        "recorded_at",
        "at",
        "version",
        "product_seq",
        "event_id",
    ):
        assert chain.verify([*rows[:4], flipped(rows[4], name), *rows[5:]]), name
    assert chain.verify([*rows[:4], *rows[5:]])
    assert chain.verify([*rows[:4], rows[5], rows[4], *rows[6:]])
