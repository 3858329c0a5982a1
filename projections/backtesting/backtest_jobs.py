"""The tables of backtests: jobs, and the decisions that were simulated. Nothing else reads or writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.backtesting.tally import Decision
from projections.tables import backtest_decisions, backtests

WAITING = ("queued", "running")
MOST_KEPT = 100  # jobs of a product, before its oldest ended ones go
MOST_LISTED = 200

Row = dict[str, Any]
Key = tuple[str, str]  # product, backtest id


class DecisionQuery(NamedTuple):
    """Which simulated decisions are wanted; None: any."""

    side: str | None = None
    trigger_id: str | None = None
    outcome: str | None = None
    session_id: str | None = None
    after: tuple[str, int] | None = None  # side and number: the page after
    limit: int = 100


async def load(conn: AsyncConnection, key: Key) -> Row | None:
    row = (await conn.execute(sa.select(backtests).where(*_is(key)))).mappings().one_or_none()
    return dict(row) if row is not None else None


async def newest(conn: AsyncConnection, product: str) -> list[Row]:
    """The product's newest jobs, the newest first, without their results."""
    t = backtests
    columns = [column for column in t.c if column.name != "result"]
    query = sa.select(*columns).where(t.c.product == product)
    query = query.order_by(t.c.created_at.desc(), t.c.backtest_id).limit(MOST_LISTED)
    return [dict(row) for row in (await conn.execute(query)).mappings()]


async def queue(conn: AsyncConnection, key: Key, request: str, total: int, now: int) -> None:
    """A new job, or the same one again from the start. Inside a transaction."""
    await conn.execute(sa.delete(backtest_decisions).where(*_is(key, backtest_decisions)))
    await conn.execute(sa.delete(backtests).where(*_is(key)))
    await conn.execute(
        sa.insert(backtests).values(
            product=key[0],
            backtest_id=key[1],
            status="queued",
            request=request,
            done=0,
            total=total,
            created_at=now,
            touched_at=now,
        )
    )


async def begin(conn: AsyncConnection, key: Key, now: int) -> bool:
    """Let a job that waits run; False where it waits no more."""
    t = backtests
    change = sa.update(t).where(*_is(key), t.c.status == "queued")
    return bool((await conn.execute(change.values(status="running", touched_at=now))).rowcount)


async def touch(conn: AsyncConnection, key: Key, done: int, now: int) -> bool:
    """Note that the job is still somebody's, and how far it is; False where it has ended."""
    t = backtests
    change = sa.update(t).where(*_is(key), t.c.status.in_(WAITING))
    return bool((await conn.execute(change.values(done=done, touched_at=now))).rowcount)


async def finish(
    conn: AsyncConnection,
    key: Key,
    status: str,
    now: int,
    *,
    result: str | None = None,
    error: str | None = None,
) -> None:
    """How a job ended, unless it has ended already."""
    t = backtests
    changed: Row = {"status": status, "result": result, "error": error, "finished_at": now}
    if status == "done":
        changed["done"] = t.c.total
    await conn.execute(sa.update(t).where(*_is(key), t.c.status.in_(WAITING)).values(**changed))


async def lost(conn: AsyncConnection, before: int) -> bool:
    """Whether there are jobs that nobody touched since `before` (µs)."""
    t = backtests
    query = sa.select(t.c.backtest_id).where(t.c.status.in_(WAITING), t.c.touched_at < before).limit(1)
    return (await conn.execute(query)).first() is not None


async def interrupt(conn: AsyncConnection, before: int, now: int) -> None:
    """Jobs that nobody touched since `before` (µs) have lost their process."""
    t = backtests
    lost = sa.update(t).where(t.c.status.in_(WAITING), t.c.touched_at < before)
    await conn.execute(lost.values(status="failed", error="interrupted", finished_at=now))


async def outdated(conn: AsyncConnection, product: str) -> list[Key]:
    """The jobs that are one too many: the oldest that have ended."""
    t = backtests
    count = await conn.scalar(sa.select(sa.func.count()).where(t.c.product == product)) or 0
    if count <= MOST_KEPT:
        return []
    query = sa.select(t.c.backtest_id).where(t.c.product == product, t.c.status.not_in(WAITING))
    query = query.order_by(t.c.created_at, t.c.backtest_id).limit(count - MOST_KEPT)
    return [(product, backtest_id) for backtest_id in await conn.scalars(query)]


async def forget(conn: AsyncConnection, key: Key, upto: int) -> bool:
    """Delete the job's decisions up to this number; where there are none, the job. Whether it is gone."""
    t = backtest_decisions
    gone = await conn.execute(sa.delete(t).where(*_is(key, t), t.c.n <= upto))
    if gone.rowcount:
        return False
    await conn.execute(sa.delete(backtests).where(*_is(key), backtests.c.status.not_in(WAITING)))
    return True


async def keep(conn: AsyncConnection, key: Key, side: str, first: int, decisions: Sequence[Decision]) -> None:
    """Write down decisions of a side, numbered from `first`."""
    rows = [
        {"product": key[0], "backtest_id": key[1], "side": side, "n": n} | decision._asdict()
        for n, decision in enumerate(decisions, first)
    ]
    if rows:
        await conn.execute(sa.insert(backtest_decisions), rows)


async def decisions(conn: AsyncConnection, key: Key, query: DecisionQuery) -> list[Row]:
    """A page of simulated decisions, by side and number."""
    t = backtest_decisions
    wanted = [*_is(key, t)]
    for column, value in (
        (t.c.side, query.side),
        (t.c.trigger_id, query.trigger_id),
        (t.c.outcome, query.outcome),
        (t.c.session_id, query.session_id),
    ):
        if value is not None:
            wanted.append(column == value)
    if query.after is not None:
        side, number = query.after
        wanted.append(sa.or_(t.c.side > side, sa.and_(t.c.side == side, t.c.n > number)))
    found = await conn.execute(sa.select(t).where(*wanted).order_by(t.c.side, t.c.n).limit(query.limit))
    return [dict(row) for row in found.mappings()]


async def decision(conn: AsyncConnection, key: Key, side: str, number: int) -> Row | None:
    t = backtest_decisions
    query = sa.select(t).where(*_is(key, t), t.c.side == side, t.c.n == number)
    row = (await conn.execute(query)).mappings().one_or_none()
    return dict(row) if row is not None else None


def _is(key: Key, table: sa.Table = backtests) -> Iterable[sa.ColumnElement[bool]]:
    return (table.c.product == key[0], table.c.backtest_id == key[1])
