"""Which streams of a product belong together: sessions, and the users that they ever named.

Decisions about one user never depend on another user's streams. So a replay or a backtest may be shared out
among processes by component, and each share comes to what the whole would.
"""

# ruff: noqa: S608 (built from constants: no value ever becomes part of a statement)

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import user_stream
from eventstore import statements

_TEXT = {
    "sqlite": "json_extract(CAST(data AS TEXT), '$.{}')",
    "postgresql": "convert_from(data, 'UTF8')::jsonb ->> '{}'",
}


class Components:
    """Disjoint sets of streams. Each is named after its first stream in byte order."""

    def __init__(self, links: Iterable[tuple[str, str]]) -> None:
        self._above: dict[str, str] = {}
        for one, other in links:
            a, b = self._top(one), self._top(other)
            if a != b:
                low, high = (a, b) if a.encode() < b.encode() else (b, a)
                self._above[high] = low

    def _top(self, stream: str) -> str:
        path = []
        while (above := self._above.get(stream)) is not None:
            path.append(stream)
            stream = above
        for passed in path:
            self._above[passed] = stream
        return stream

    def of(self, stream: str) -> str:
        """The component that the stream is in; a stream that was never linked is one of its own."""
        return self._top(stream)

    def mine(self, stream: str, share: int, shares: int) -> bool:
        """Whether the stream falls to share `share` of `shares`, the first being 0."""
        if shares == 1:
            return True
        digest = hashlib.sha256(self._top(stream).encode()).digest()
        return int.from_bytes(digest[:8]) % shares == share


async def components(conn: AsyncConnection, product: str, *, up_to: int | None = None) -> Components:
    """The product's components, by what was recorded up to and with position `up_to`.

    Linked are: a stream and every user id that its outside events name; an identified user and the
    `previous_id`; a user and the anonymous ids merged into it. One pass over the product's rows, inside the
    database.
    """
    text = _TEXT[conn.dialect.name]
    links: list[tuple[str, str]] = []
    for rows_of, name in (
        ("stream >= 'session-' AND stream < 'session.'", "user_id"),
        ("type = 'user_identified'", "previous_id"),
        ("type = 'user_linked'", "merged_from"),
        ("type = 'user_linked'", "merged_into"),
    ):
        rows = await statements.fetch(
            conn,
            f"SELECT DISTINCT stream, {text.format(name)} FROM events "
            f"WHERE product = $1 AND position <= $2::bigint AND {rows_of}",
            product,
            2**62 if up_to is None else up_to,
        )
        links += [(stream, user_stream(str(value))) for stream, value in rows if value]
    return Components(links)
