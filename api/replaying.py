"""A replay shared out among processes: each goes through the whole ledger and takes its share of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from api import workers
from api.commands.common import Refused
from domain.envelope import session_stream
from eventstore import reader
from eventstore.engine import Ledger, open_ledger
from projections import lookups, partition
from projections.replaying import replay
from projections.replaying.divergence import Report
from projections.replaying.replay import Scope

WORTH_SHARING = 50_000  # positions: fewer are gone through sooner than processes start


class Share(NamedTuple):
    """What one process does, in which database."""

    database_url: str
    scope: Scope


async def plan(
    ledger: Ledger,
    *,
    product: str | None,
    session_id: str | None,
    start: int,
    end: int | None,
    shares: int | None,
) -> list[Share]:
    """The shares of a replay of positions `start` to `end`, both included; `end` None: the head of now.
    `shares` None: one a core where the range is worth starting processes for.

    Raises Refused for a product or session that the ledger does not know, and for positions it lacks.
    """
    async with ledger.reader() as conn:
        head = await reader.head(conn)
        if start < 1:
            raise Refused("--from: positions begin with 1")
        if end is not None and start > end:
            raise Refused(f"--from {start} lies behind --to {end}")
        if start > max(head, 1):
            raise Refused(f"--from {start} lies behind the ledger's end, position {head}")
        end = head if end is None else min(end, head)
        if shares is None:
            shares = workers.processes() if end - start >= WORTH_SHARING else 1
        products = [each for each in await lookups.products(conn) if product in (None, each)]
        if product is not None and not products:
            raise Refused(f"no product {product!r}")
        if session_id is not None:
            keys = [(each, session_stream(session_id)) for each in products]
            known = await reader.versions(conn, keys)
            products = [each for each, stream in keys if known[each, stream]]
            if not products:
                raise Refused(f"no session {session_id!r}")
            shares = 1  # all of it is one component
        components = {}
        if shares > 1 or session_id is not None:
            for each in products:
                components[each] = await partition.components(conn, each, up_to=end)
    scope = Scope(start, end, product, session_id, 0, shares, components)
    return [Share(ledger.url, scope._replace(share=number)) for number in range(shares)]


def run(shares: list[Share], on_progress: Callable[[int], None]) -> Report:
    """The whole report. Blocks; not to be called from an event loop."""
    whole = Report()
    for report in workers.spread(work, shares, on_progress=on_progress):
        whole.add(report)
    return whole


def total(shares: list[Share]) -> int:
    """What `on_progress` reaches: positions, each counted once for each share."""
    scope = shares[0].scope
    return len(shares) * max((scope.end or 0) - scope.start + 1, 0)


def work(share: Share, line: workers.Line) -> Report:
    """One share, in a process of its own or in the caller's."""
    return asyncio.run(_work(share, line))


async def _work(share: Share, line: workers.Line) -> Report:
    ledger = open_ledger(share.database_url)
    report = Report()
    try:
        async with ledger.reader() as conn:
            async for position, so_far in replay.replay(conn, share.scope):
                report = so_far
                line.report(max(position - share.scope.start + 1, 0))
    finally:
        await ledger.close()
    return report
