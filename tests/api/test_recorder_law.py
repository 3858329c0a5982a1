"""Laws of the recorder under concurrency, retries and a database that fails, before or after its commit."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from domain import errors
from eventstore.engine import Ledger
from projections import facts, lookups
from projections.replaying import replay
from tests.api.inside import post, serving, stored

CONFIG = {
    "schema": 1,
    "product_id": "p",
    "session": {"interaction_timeout_s": 0.05, "cooldown_period_s": 0.05},
    "limits": {"per_user": {"times": 4, "per": "day"}},
    "triggers": [
        {
            "id": f"t{number}",
            "cooldown_s": 0.01,
            "criteria": {"type": "count", "where": {"title_contains": f"a{number}"}, "at_least": number + 1},
        }
        for number in range(3)
    ],
}


def action(rng: random.Random, number: int) -> dict[str, Any]:
    return {
        "event_id": f"e-{number}",
        "type": "action",
        "session_id": f"s{number % 7}",
        "user_id": f"u{number % 3}",
        "data": {"type": "click", "title": f"a{number % 4}", "properties": {"n": number}},
    }


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_doubled_or_decided_otherwise(ledger: Ledger, run: Any, seed: int) -> None:
    """Forty clients post overlapping batches until each is answered 200; a third of the commits fail, half of
    those after the commit. Then every event is there once, the cache is the fold of the ledger, versions and
    hashes hold, no limit was overspent, and replay finds every decision again."""
    rng = random.Random(seed)
    real = Ledger.transaction
    failing = True

    @contextlib.asynccontextmanager
    async def transaction(self: Ledger) -> AsyncIterator[Any]:
        fate = rng.random() if failing else 1.0
        async with real(self) as conn:
            yield conn
            if fate < 0.15:
                raise errors.Unavailable("planted, before the commit")
        if fate < 0.3:
            raise errors.Unavailable("planted, after the commit")

    async def client(service: Any, numbers: list[int]) -> None:
        for start in range(0, len(numbers), 5):
            batch = [action(rng, number) for number in numbers[start : start + 5]]
            for _ in range(200):
                try:
                    receipt = await post(service, "p", *batch)
                except errors.Unavailable:
                    await asyncio.sleep(0)
                    continue
                assert receipt.accepted + receipt.duplicates == len(batch)
                assert receipt.conflicting == 0
                break
            else:
                pytest.fail("never answered")

    async def story() -> None:
        nonlocal failing
        async with serving(ledger) as service:
            failing = False
            await service.put_config("p", CONFIG)
            failing = True
            plan = [[rng.randrange(400) for _ in range(20)] for _ in range(40)]
            await asyncio.gather(*[client(service, numbers) for numbers in plan])
            failing = False
            await asyncio.sleep(0.3)  # timers that were put off by failures
            rows = await stored(ledger, "p")
            wanted = {f"e-{number}" for numbers in plan for number in numbers}
            outside = [row.event_id for row in rows if row.origin == "outside"]
            assert sorted(outside) == sorted(wanted)
            streams: dict[str, list[Any]] = {}
            for row in rows:
                streams.setdefault(row.stream, []).append(row)
            for stream, listed in streams.items():
                assert [row.version for row in listed] == list(range(1, len(listed) + 1)), stream
                assert all(a.at <= b.at for a, b in pairwise(listed)), stream
                assert all(a.recorded_at <= b.recorded_at for a, b in pairwise(listed))
            spent = [facts.fact(row) for row in rows if row.type == "budget_spent"]
            for user in range(3):
                assert sum(row.stream == f"user-u{user}" for row in rows if row.type == "budget_spent") <= 4
            assert spent, "the story must offer something"
            book = service.recorder.books["p"]
            for number in range(7):
                live = book.sessions.get(f"s{number}")
                assert live is not None
                folded = lookups.session_of(f"s{number}", streams[f"session-s{number}"])
                assert live.state.to_dict() == folded.to_dict()
                assert len(live.state.actions) == len(folded.actions)
            async with ledger.reader() as conn:
                reports = [report async for _, report in replay.replay(conn)]
            report = reports[-1]
            assert report.decisions > 0
            assert report.divergences == []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "transaction", transaction)
        run(story())
