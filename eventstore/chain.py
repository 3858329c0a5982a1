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


def verify(rows: Iterable[Recorded], *, seq: int = 0, previous: bytes = START) -> list[str]:
    """What is wrong with one product's events, given in the order of their sequence; empty: nothing.

    `seq` and `previous`: the place before the first row. Gaps in streams' versions show only where the
    rows start at the product's first.
    """
    faults: list[str] = []
    versions: dict[str, int] = {}
    whole = seq == 0
    for row in rows:
        where = f"product {row.product}, sequence {row.product_seq}"
        if row.product_seq != seq + 1:
            faults.append(f"{where}: follows {seq}")
        before = versions.get(row.stream, 0 if whole else row.version - 1)
        if row.version != before + 1:
            faults.append(f"{where}: version {row.version} of {row.stream} follows {before}")
        if content_hash(without_place(row)) != row.content_hash:
            faults.append(f"{where}: its content is not what was hashed")
        if (
            chain_hash(previous, row.product_seq, row.version, row.recorded_at, row.content_hash)
            != row.chain_hash
        ):
            faults.append(f"{where}: the chain is broken")
        seq, previous = row.product_seq, row.chain_hash
        versions[row.stream] = row.version
    return faults


def without_place(row: Recorded) -> NewEvent:
    """The event as it was handed to the ledger."""
    return NewEvent(row.product, row.stream, *row[5:24])
