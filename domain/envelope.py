"""What surrounds an event's data: ids, instants, provenance.

Instants are integer microseconds since 1970-01-01 UTC, durations integer microseconds.
`NewEvent` is what is handed to the store, `Recorded` what comes back: the same with its place in the
ledger and its hashes. Tuples, because a ledger is read by the million.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

OUTSIDE = "outside"
ENGINE = "engine"
PRODUCT_STREAM = "product"


class NewEvent(NamedTuple):
    """An event before it has a place in the ledger."""

    product: str
    stream: str  # session-<id>, user-<id>, nudge-<id> or product
    type: str
    schema_version: int
    origin: str  # outside | engine
    event_id: str
    at: int  # the instant on which machine, gates and windows run
    recorded_at: int  # when it was really written
    occurred_at: int  # when the source says it happened, corrected and clamped
    occurred_raw: str | None  # the source's own instant, verbatim
    sent_raw: str | None  # the source's own sending instant, verbatim
    clock_suspect: bool  # the source's clock could not be corrected
    batch_id: str  # one request and session: the boundary of an evaluation
    correlation_id: str | None
    causation_id: str | None  # the event_id of the direct parent
    source: str  # posthog, host, engine, …
    config_revision: str | None
    engine_version: str
    data: bytes  # UTF-8 JSON object, stored verbatim
    sealed: bytes | None  # personal fields, encrypted
    key_id: str | None  # the data key of `sealed`


class Recorded(NamedTuple):
    """An event at its place in the ledger."""

    position: int  # whole ledger, commit order
    product: str
    product_seq: int  # in the product, without gaps, from 1
    stream: str
    version: int  # in the stream, without gaps, from 1
    type: str
    schema_version: int
    origin: str
    event_id: str
    at: int
    recorded_at: int
    occurred_at: int
    occurred_raw: str | None
    sent_raw: str | None
    clock_suspect: bool
    batch_id: str
    correlation_id: str | None
    causation_id: str | None
    source: str
    config_revision: str | None
    engine_version: str
    data: bytes
    sealed: bytes | None
    key_id: str | None
    content_hash: bytes
    chain_hash: bytes


def session_stream(session_id: str) -> str:
    return f"session-{session_id}"


def user_stream(user_id: str) -> str:
    return f"user-{user_id}"


def nudge_stream(nudge_id: str) -> str:
    return f"nudge-{nudge_id}"


def name_in(stream: str) -> str:
    """The id that a stream is named after: `x` of `session-x`, `user-x`, `nudge-x`."""
    return stream.partition("-")[2]


def derived_id(at: int, *parts: str) -> str:
    """A name-based UUID that begins with its instant, so that an index stays local.

    RFC 9562 version 8: 48 bits of `at` in milliseconds, then bits of the SHA-256 over the
    length-prefixed parts. The same instant and parts always give the same id.
    """
    digest = hashlib.sha256(b"".join(b"%d:%s" % (len(raw), raw) for raw in (p.encode() for p in parts)))
    number = ((at // 1000) & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(digest.digest()[:10])
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
