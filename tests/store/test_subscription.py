"""A follower that reads "after position p" misses nothing, and sees each stream in order."""

from __future__ import annotations

import asyncio
import contextlib
import random

from domain.envelope import Recorded
from eventstore import reader, subscription
from eventstore.appender import ANY, Appender, Unit, append_events
from eventstore.engine import Ledger, open_ledger
from tests.conftest import Run
from tests.store.given import event

WRITERS = 16
ROUNDS = 30


class RolledBackError(Exception):
    pass


async def write(ledger: Ledger, number: int, committed: set[str]) -> None:
    dice = random.Random(number)
    appender = Appender(ledger)
    for round_ in range(ROUNDS):
        ids = [f"{number}-{round_}-{n}" for n in range(dice.randint(1, 5))]
        new = [event(f"session-{dice.randrange(6)}", event_id=each) for each in ids]
        with contextlib.suppress(RolledBackError):
            async with ledger.transaction() as conn:
                await appender.append(conn, [Unit("acme", {e.stream: ANY for e in new}, new)])
                if number == 0 and round_ == 3:
                    await asyncio.sleep(1.2)  # stalled: it has its positions and has not committed
                if dice.random() < 0.25:
                    raise RolledBackError
            committed.update(ids)


async def follow_until(ledger: Ledger, stop: asyncio.Event) -> list[Recorded]:
    """As another process would: own connections, tiny batches, no wake."""
    seen: list[Recorded] = []
    async for batch in subscription.follow(ledger, 0, limit=7, wake=stop, idle_s=0.001):
        seen += batch
        if seen[-1].event_id == "last":
            break
    return seen


def test_a_follower_misses_nothing_while_sixteen_writers_race(ledger_url: str, run: Run) -> None:
    async def scenario() -> None:
        # Two processes' worth of writers: what orders them is the database, not this program's queue.
        one, two, follower = (open_ledger(ledger_url, busy_timeout_s=20) for _ in range(3))
        committed: set[str] = set()
        following = asyncio.create_task(follow_until(follower, asyncio.Event()))
        await asyncio.gather(*(write((one, two)[n % 2], n, committed) for n in range(WRITERS)))
        assert not following.done()
        await append_events(one, "acme", [event("session-0", event_id="last")])
        seen = await asyncio.wait_for(following, 10)
        for each in (one, two, follower):
            await each.close()

        assert {row.event_id for row in seen} == committed | {"last"}
        assert [row.position for row in seen] == list(range(1, len(seen) + 1))
        assert [row.product_seq for row in seen] == list(range(1, len(seen) + 1))
        versions: dict[str, int] = {}
        for row in seen:
            assert row.version == versions.get(row.stream, 0) + 1
            versions[row.stream] = row.version

    run(scenario())


def test_a_follower_waits_at_the_head_and_is_woken(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        await append_events(ledger, "acme", [event(), event(), event()])
        wake = asyncio.Event()
        batches = subscription.follow(ledger, 1, limit=1, wake=wake, idle_s=60)
        assert [row.position for row in await anext(batches)] == [2]
        assert [row.position for row in await anext(batches)] == [3]
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await append_events(ledger, "acme", [event()])
        wake.set()
        assert [row.position for row in await asyncio.wait_for(waiting, 5)] == [4]
        await batches.aclose()  # type: ignore[attr-defined]

    run(scenario())


def test_a_checkpoint_stands_or_falls_with_the_work(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with ledger.transaction() as conn:
            assert await subscription.load_checkpoint(conn, "decisions") == 0
            await subscription.save_checkpoint(conn, "decisions", 5)
        with contextlib.suppress(RolledBackError):
            async with ledger.transaction() as conn:
                await subscription.save_checkpoint(conn, "decisions", 9)
                raise RolledBackError
        async with ledger.reader() as conn:
            assert await subscription.load_checkpoint(conn, "decisions") == 5
            assert await subscription.load_checkpoint(conn, "sessions") == 0

    run(scenario())


def test_another_process_is_told_of_each_commit(postgres_url: str, run: Run) -> None:
    """Through LISTEN, after the commit, and again after its connection was lost."""

    async def scenario() -> None:
        ours, theirs = open_ledger(postgres_url), open_ledger(postgres_url)
        told = asyncio.Event()
        heads: list[int] = []
        listening = asyncio.create_task(subscription.listen(ours, lambda _: told.set()))
        for lost in (False, True):
            if lost:
                async with theirs.transaction() as conn:
                    await conn.exec_driver_sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
                    )
            await asyncio.wait_for(told.wait(), 5)  # connected
            told.clear()
            await append_events(theirs, "acme", [event()])
            await asyncio.wait_for(told.wait(), 5)
            told.clear()
            async with ours.reader() as conn:
                heads.append(await reader.head(conn))
        assert heads == [1, 2]
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await ours.close()
        await theirs.close()

    run(scenario())
