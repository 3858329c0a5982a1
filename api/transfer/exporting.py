"""A product's events as lines, and the data keys that its sealed fields open under, apart from them.

An export that broke off is continued: the file's last whole line says where. What is half a line is cut off,
but only where it is the beginning of the very line that comes next: no other file is touched.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from api.transfer import cloudevents
from domain.envelope import Recorded
from domain.errors import Fault, InvalidInput
from eventstore import reader, statements

PAGE = 2_000
_BACKWARDS = 1 << 16  # bytes read at a time while looking for the last line


class DataKey(NamedTuple):
    """A line of a keys file."""

    product: str
    key_id: str
    person: str
    key: str  # hexadecimal
    created_at: int  # µs


async def rows(conn: AsyncConnection, product: str, after: int, head: int) -> AsyncIterator[list[Recorded]]:
    """A product's events behind sequence `after`, up to position `head`, page by page."""
    while True:
        page = await reader.read_product(conn, product, after_seq=after, limit=PAGE)
        page = [row for row in page if row.position <= head]
        if not page:
            return
        yield page
        after = page[-1].product_seq


async def write(
    conn: AsyncConnection,
    product: str,
    out: IO[bytes],
    *,
    after: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write every event behind sequence `after` that the ledger holds now; how many those were."""
    count = 0
    head = await reader.head(conn)
    async for page in rows(conn, product, after, head):
        out.write(b"".join(map(cloudevents.line, page)))
        count += len(page)
        on_progress(after + count)
    out.flush()
    return count


async def resume(conn: AsyncConnection, product: str, file: IO[bytes]) -> int:
    """The sequence at which a file left off, with the file cut and placed behind it; 0: it is empty.

    Raises InvalidInput, with the file as it was, where it is no export of this product and this history.
    """
    whole, last, rest = _tail(file)
    seq = 0
    if last:
        try:
            written = cloudevents.parse_line(last)
        except InvalidInput as error:
            raise InvalidInput(
                [Fault(f"last line: {f.path}".rstrip(": "), f.detail) for f in error.faults]
            ) from None
        if written.product != product:
            raise InvalidInput(
                [Fault("last line: source", f"is of product {written.product!r}, not {product!r}")]
            )
        seq = written.product_seq
        here = await reader.read_product(conn, product, after_seq=seq - 1, limit=1)
        if not here or here[0].product_seq != seq or here[0].chain_hash != written.chain_hash:
            raise InvalidInput(
                [Fault(f"line {seq}: chainhash", "is not in this ledger: it is of another history")]
            )
    if rest:
        following = await reader.read_product(conn, product, after_seq=seq, limit=1)
        if not following or not cloudevents.line(following[0]).startswith(rest):
            detail = "its last line has no end, and is not how the next event begins"
            raise InvalidInput([Fault(f"line {seq + 1}", detail)])
    file.truncate(whole)
    file.seek(whole)
    return seq


def _tail(file: IO[bytes]) -> tuple[int, bytes, bytes]:
    """(length of the whole lines, the last of them, what stands behind it without an end)."""
    end = file.seek(0, os.SEEK_END)
    start, tail = end, b""
    while start > 0 and tail.count(b"\n") < 2:
        step = min(_BACKWARDS, start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    lines = tail.split(b"\n")
    rest = lines.pop()
    return end - len(rest), lines[-1] if lines else b"", rest


async def write_keys(conn: AsyncConnection, product: str, path: Path) -> int:
    """Write the product's data keys into a file that only its owner may read; how many those are.

    Whole or not at all.
    """
    found = await statements.fetch(
        conn,
        "SELECT key_id, person, key, created_at FROM data_keys WHERE product = $1 ORDER BY key_id",
        product,
    )
    unfinished = path.with_name(path.name + ".part")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for key_id, person, key, created_at in found:
            file.write(orjson.dumps(DataKey(product, key_id, person, bytes(key).hex(), created_at)._asdict()))
            file.write(b"\n")
    unfinished.replace(path)
    return len(found)
