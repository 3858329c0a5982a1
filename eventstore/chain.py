"""What makes a change of history show: a hash over each event, and one over each product's events in order.

`content_hash` is the SHA-256 of the event's own fields, one after the other, in this order:

    product, stream, type, schema_version, origin, event_id, at, occurred_at, occurred_raw, sent_raw,
    clock_suspect, batch_id, correlation_id, causation_id, source, config_revision, engine_version,
    data, sealed, key_id

Each is written `<length>:<bytes>`: its bytes (text as UTF-8, integers in decimal, false and true as 0 and 1,
data and sealed as they are) after their number in decimal. None is a single `-`, so it differs from "".

`chain_hash` is the SHA-256 of previous, product_seq, version, recorded_at, content_hash, written the same
way; previous is the chain_hash of the product's event before, 32 zero bytes for its first. Position is in
neither: an event keeps its hashes when its product is moved to another ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from domain.envelope import NewEvent, Recorded

START = bytes(32)


def content_hash(event: NewEvent) -> bytes:
    (
        product, stream, kind, schema_version, origin, event_id, at_number, _recorded_at, occurred_number,
        raw, sent, suspect, batch_id, correlation, causation, source, revision, engine, data, sealed, key_id,
    ) = event  # fmt: skip
    at, occurred_at = str(at_number), str(occurred_number)
    # One text for all but data, sealed and key_id: where it is ASCII its lengths are those of its bytes.
    text = (
        f"{_beginning(product, stream, kind, schema_version, origin)}{len(event_id)}:{event_id}"
        f"{len(at)}:{at}{len(occurred_at)}:{occurred_at}"
        f"{'-' if raw is None else f'{len(raw)}:{raw}'}"
        f"{'-' if sent is None else f'{len(sent)}:{sent}'}"
        f"{_ending(suspect, batch_id, correlation, causation, source, revision, engine)}{len(data)}:"
    )
    if not text.isascii():
        return _content_hash_any(event)
    if sealed is None and key_id is None:
        return sha256(b"%b%b--" % (text.encode(), data)).digest()
    return sha256(b"%b%b%b%b" % (text.encode(), data, _field(sealed), _field(key_id))).digest()


# The events of a batch share these two parts, so they are put together once a batch.


@lru_cache(maxsize=1024)
def _beginning(product: str, stream: str, kind: str, version: int, origin: str) -> str:
    schema_version = str(version)
    return (
        f"{len(product)}:{product}{len(stream)}:{stream}{len(kind)}:{kind}"
        f"{len(schema_version)}:{schema_version}{len(origin)}:{origin}"
    )


@lru_cache(maxsize=1024)
def _ending(
    suspect: bool,
    batch_id: str,
    correlation: str | None,
    causation: str | None,
    source: str,
    revision: str | None,
    engine: str,
) -> str:
    return (
        f"{'1:1' if suspect else '1:0'}{len(batch_id)}:{batch_id}"
        f"{'-' if correlation is None else f'{len(correlation)}:{correlation}'}"
        f"{'-' if causation is None else f'{len(causation)}:{causation}'}"
        f"{len(source)}:{source}"
        f"{'-' if revision is None else f'{len(revision)}:{revision}'}"
        f"{len(engine)}:{engine}"
    )


def _content_hash_any(event: NewEvent) -> bytes:
    """The plain form of the same, for text beyond ASCII."""
    fields: tuple[str | bytes | int | None, ...] = (
        event.product, event.stream, event.type, event.schema_version, event.origin, event.event_id,
        event.at, event.occurred_at, event.occurred_raw, event.sent_raw, int(event.clock_suspect),
        event.batch_id, event.correlation_id, event.causation_id, event.source, event.config_revision,
        event.engine_version, event.data, event.sealed, event.key_id,
    )  # fmt: skip
    return sha256(b"".join(map(_field, fields))).digest()


def _field(value: str | bytes | int | None) -> bytes:
    if value is None:
        return b"-"
    raw = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%b" % (len(raw), raw)


def chain_hash(previous: bytes, product_seq: int, version: int, recorded_at: int, content: bytes) -> bytes:
    seq, index, at = b"%d" % product_seq, b"%d" % version, b"%d" % recorded_at
    return sha256(
        b"32:%b%d:%b%d:%b%d:%b32:%b" % (previous, len(seq), seq, len(index), index, len(at), at, content)
    ).digest()


# What SQLite's columns hold is of the kind they were declared with only as long as nobody tampers.
_OPTIONAL = ("occurred_raw", "sent_raw", "correlation_id", "causation_id", "config_revision", "key_id")
_INTEGERS = ("position", "product_seq", "version", "schema_version", "at", "recorded_at", "occurred_at")
_KINDS: dict[str, tuple[type, ...]] = dict.fromkeys(Recorded._fields, (str,))
_KINDS |= dict.fromkeys(_OPTIONAL, (str, type(None))) | dict.fromkeys(_INTEGERS, (int,))
_KINDS |= dict.fromkeys(("data", "content_hash", "chain_hash"), (bytes,))
_KINDS |= {"sealed": (bytes, type(None)), "clock_suspect": (bool,)}


@lru_cache(maxsize=1024)
def _whole(kinds: tuple[type, ...]) -> bool:
    return all(kind in known for kind, known in zip(kinds, _KINDS.values(), strict=True))


def is_whole(row: Recorded) -> bool:
    """Whether every column holds the kind of value that is written there."""
    return _whole(tuple(map(type, row)))


class Newest(NamedTuple):
    """What a stream's next event must follow."""

    version: int
    at: int
    recorded_at: int


class Walk:
    """One product's events, looked at one after the other in the order of their sequence."""

    __slots__ = ("_whole", "position", "previous", "seq", "streams")

    def __init__(self, seq: int = 0, previous: bytes = START) -> None:
        """`seq` and `previous`: the place before the first event."""
        self.seq, self.previous, self.position = seq, previous, 0
        self.streams: dict[str, Newest] = {}  # in the order in which they were last written
        self._whole = seq == 0  # else the first event seen of a stream is taken as it is

    def fault(self, row: Recorded) -> str | None:
        """What is wrong with the next event; None: nothing. The walk goes on behind a whole one."""
        if not is_whole(row):
            return "a column holds another kind of value"
        stream, version, previous = row.stream, row.version, self.previous
        before = self.streams.pop(stream, None)
        if before is None:
            before = Newest(0 if self._whole else version - 1, row.at, row.recorded_at)
        seq, position = self.seq, self.position
        self.seq, self.previous, self.position = row.product_seq, row.chain_hash, row.position
        self.streams[stream] = Newest(version, row.at, row.recorded_at)
        if row.product_seq != seq + 1:
            return f"follows sequence {seq}"
        if version != before.version + 1:
            return f"follows version {before.version} of its stream"
        if row.position and row.position <= position:
            return f"stands at position {row.position}, after position {position}"
        if content_hash(without_place(row)) != row.content_hash:
            return "its content is not what was hashed"
        link = chain_hash(previous, row.product_seq, version, row.recorded_at, row.content_hash)
        if link != row.chain_hash:
            return "the chain is broken: it does not continue from the event before"
        if row.at < before.at:
            return "its instant lies before the stream's last"
        if row.recorded_at < before.recorded_at:
            return "it was recorded before the stream's last"
        return None


def verify(rows: Iterable[Recorded], *, seq: int = 0, previous: bytes = START) -> list[str]:
    """What is wrong with one product's events, given in the order of their sequence; empty: nothing.

    `seq` and `previous`: the place before the first row. Gaps in streams' versions show only where the
    rows start at the product's first.
    """
    walk = Walk(seq, previous)
    found = ((row, walk.fault(row)) for row in rows)
    return [f"product {row.product}, sequence {row.product_seq}: {what}" for row, what in found if what]


def without_place(row: Recorded) -> NewEvent:
    """The event as it was handed to the ledger."""
    return NewEvent(row.product, row.stream, *row[5:24])
