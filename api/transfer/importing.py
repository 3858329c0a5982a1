"""A product's exported events into another ledger: verbatim, chain intact; nothing evaluated or delivered.

Twice through the file. The first time everything is checked and nothing is written. The second time events
are appended in transactions of some thousand; the appender computes version, sequence and hashes anew, and
what it comes to must be what the file says. An import that broke off goes on where it stopped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from api.feed import marks
from api.transfer import cloudevents, lines
from api.transfer.exporting import DataKey
from domain import codec, config_parse
from domain.envelope import ENGINE, OUTSIDE, PRODUCT_STREAM, Recorded
from domain.errors import Fault, InvalidInput, NudgeledgerError
from eventstore import chain, reader, statements, subscription, verifying
from eventstore.appender import Appender, Unit
from eventstore.engine import Ledger

PAGE = 2_000  # events a transaction
_STREAMS = ("session-", "user-", "nudge-")


class Refused(NudgeledgerError):
    """The ledger holds something else than the file; the message says what."""


def check(
    rows: Iterable[bytes], product: str | None = None, on_progress: Callable[[int], None] = lambda done: None
) -> str:
    """Look at a whole file; the product whose history it is, from its first event.

    Raises InvalidInput at the first line that is wrong.
    """
    walk = chain.Walk()
    ids = _Ids()
    try:
        for number, text in lines.numbered(rows):
            with lines.at_line(number):
                row = cloudevents.parse_line(text)
                product = product or _named(row)
                _check(row, product, walk)
                ids.add(row)
            on_progress(number)
    finally:
        ids.close()
    if product is None or walk.seq == 0:
        raise InvalidInput([Fault("", "holds no events")])
    return product


def _named(row: Recorded) -> str:
    try:
        config_parse.parse({"schema": 1, "product_id": row.product})
    except InvalidInput as error:
        raise InvalidInput([Fault("source", error.faults[0].detail)]) from None
    return row.product


def _check(row: Recorded, product: str, walk: chain.Walk) -> None:
    if row.product != product:
        raise InvalidInput([Fault("source", f"is of product {row.product!r}, not {product!r}")])
    if (row.type, row.schema_version) not in codec.KNOWN:
        detail = f"{row.type} version {row.schema_version} cannot be read by this version of nudgeledger"
        raise InvalidInput([Fault("type", detail)])
    if row.stream != PRODUCT_STREAM and not row.stream.startswith(_STREAMS):
        raise InvalidInput([Fault("subject", "names no stream")])
    if row.origin not in (OUTSIDE, ENGINE):
        raise InvalidInput([Fault("origin", f"must be {OUTSIDE} or {ENGINE}")])
    what = walk.fault(row)
    if what is not None:
        raise InvalidInput([Fault("chainhash", f"sequence {row.product_seq}: {what}")])
    if type(_json(row.data)) is not dict:
        raise InvalidInput([Fault("data", "must be a JSON object")])


def _json(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


class _Ids:
    """Which event ids a file named; on disk, since a file may hold any number."""

    def __init__(self) -> None:
        self._conn = sqlite3.connect("")  # a temporary file that goes with the connection
        self._conn.execute("CREATE TABLE ids (origin, id, PRIMARY KEY (origin, id)) WITHOUT ROWID")

    def add(self, row: Recorded) -> None:
        done = self._conn.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", (row.origin, row.event_id))
        if done.rowcount != 1:
            raise InvalidInput([Fault("id", "stands in the file twice")])

    def close(self) -> None:
        self._conn.close()


async def place(conn: AsyncConnection, product: str, rows: Iterable[bytes]) -> int:
    """How many of the file's events, from its first, the ledger holds already.

    Raises Refused where the ledger holds other events of this product.
    """
    tail = await verifying.newest(conn, product)
    if tail.product_seq == 0:
        return 0
    last: Recorded | None = None
    for _, text in lines.numbered(rows):
        last = cloudevents.parse_line(text)
        if last.product_seq == tail.product_seq:
            break
    assert last is not None  # it was checked
    (here,) = await reader.read_product(conn, product, after_seq=last.product_seq - 1, limit=1)
    if here.chain_hash != last.chain_hash:
        raise Refused(
            f"product {product!r} holds {tail.product_seq} events that are not those of the file: "
            "an import needs an empty product"
        )
    return last.product_seq


async def write(
    ledger: Ledger,
    product: str,
    rows: Iterable[bytes],
    after: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Append every event behind sequence `after`; how many those were. Raises Refused, with the rest
    unwritten, where the product does not come out as the file says."""
    appender = Appender(ledger)
    count = 0
    try:
        pending = (row for row in _parsed(rows) if row.product_seq > after)
        while page := list(islice(pending, PAGE)):
            async with ledger.transaction() as conn:
                await _append(appender, conn, product, page)
                head = await reader.head(conn)
                await subscription.save_checkpoint(conn, marks.pushed(product), head)  # nothing is delivered
            count += len(page)
            on_progress(after + count)
    finally:
        await appender.close()
    return count


def _parsed(rows: Iterable[bytes]) -> Iterator[Recorded]:
    return (cloudevents.parse_line(text) for _, text in lines.numbered(rows))


async def _append(appender: Appender, conn: AsyncConnection, product: str, page: Sequence[Recorded]) -> None:
    events = [chain.without_place(row) for row in page]
    (answer,) = await appender.append(conn, [Unit(product, {}, events)])
    written = answer.recorded or ()
    if [row[2:] for row in written] != [row[2:] for row in page]:  # all behind position and product
        raise Refused(
            f"product {product!r} changed, or the file did, at sequence {page[0].product_seq}: "
            "stop what writes to them and import again"
        )


def read_keys(rows: Iterable[bytes], product: str) -> list[DataKey]:
    """A keys file. Raises InvalidInput at the first line that is wrong."""
    found: list[DataKey] = []
    for number, text in lines.numbered(rows):
        try:
            key = DataKey(**orjson.loads(text))
            whole = len(bytes.fromhex(key.key)) == 32 and type(key.created_at) is int
        except (TypeError, ValueError):
            whole = False
        if not whole or not all(type(name) is str and name for name in (key.key_id, key.person)):
            lines.refuse(number, "", "is no data key as an export writes them")
        if key.product != product:
            lines.refuse(number, "product", f"is {key.product!r}, not {product!r}")
        found.append(key)
    return found


async def write_keys(ledger: Ledger, product: str, wanted: Sequence[DataKey]) -> int:
    """Add the keys that are not there; how many those were. All or, with Refused, none."""
    async with ledger.transaction() as conn:
        rows = await statements.fetch(
            conn, "SELECT key_id, person, key FROM data_keys WHERE product = $1", product
        )
        by_id = {key_id: (person, bytes(key).hex()) for key_id, person, key in rows}
        persons = {person for person, _ in by_id.values()}
        new = [key for key in wanted if by_id.get(key.key_id) != (key.person, key.key)]
        for key in new:
            if key.key_id in by_id or key.person in persons:
                raise Refused(f"data key {key.key_id}: its person has another key in this ledger")
            await statements.execute(
                conn,
                "INSERT INTO data_keys (key_id, product, person, key, created_at) "
                "VALUES ($1, $2, $3, $4, $5::bigint)",
                key.key_id,
                product,
                key.person,
                bytes.fromhex(key.key),
                key.created_at,
            )
    return len(new)
