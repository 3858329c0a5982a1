"""Full disks, locked and lost databases, odd clocks, crowds, and rules that fail: facts stay whole."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from api import jobs
from domain import errors
from domain import run as domain_run
from domain.history import ActionFact
from domain.instants import SECOND
from eventstore.engine import Ledger, open_ledger
from tests.api.conftest import Launch
from tests.api.inside import START, FakeClock, post, serving, stored
from tests.api.serving import action, config, fact, saves, trigger
from tests.conftest import POSTGRES, Run


def test_on_a_full_disk_nothing_is_half_done_and_the_service_recovers(sqlite_url: str, run: Run) -> None:
    async def scenario() -> None:
        ledger = open_ledger(sqlite_url)
        async with serving(ledger) as service:
            await service.put_config("acme", config("acme"))
            await post(service, "acme", *saves("s", count=2))
            async with ledger.transaction() as conn:
                pages = (await conn.exec_driver_sql("PRAGMA page_count")).scalar_one()
                await conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            before = await stored(ledger, "acme")
            big = [action("s", data={"type": "x", "title": "save", "properties": {"x": "y" * 9000}})] * 1
            with pytest.raises(errors.Unavailable, match="full"):
                for n in range(200):
                    await post(service, "acme", big[0] | {"event_id": f"big-{n}"})
            kept = await stored(ledger, "acme")
            assert kept[: len(before)] == before
            lost = next(n for n in range(200) if f"big-{n}" not in {r.event_id for r in kept})
            await service.session("acme", "s")  # reading goes on
            async with ledger._writer.connect() as conn:
                await conn.exec_driver_sql("PRAGMA max_page_count = 1000000")
            receipt = await post(service, "acme", big[0] | {"event_id": f"big-{lost}"})
            assert receipt.accepted == 1
            rows = await stored(ledger, "acme")
            state = await service.session("acme", "s")
            assert state["version"] == max(r.version for r in rows if r.stream == "session-s")
            assert sum(r.type == "nudge_offered" for r in rows) == 1
        await ledger.close()

    run(scenario())


def test_a_database_locked_by_another_process_is_503_and_passes(
    sqlite_url: str, launch: Launch, tmp_path: Path
) -> None:
    server = launch(sqlite_url)
    server.put(config("acme"))
    batch = saves("s")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    answer = server.http.post("/v1/products/acme/events", json={"events": batch})
    waited = time.monotonic() - started
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert 4 < waited < 12
    assert server.get("/readyz") == {"status": "ok"}  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    receipt = server.post("acme", *batch)
    assert (receipt["accepted"], receipt["duplicates"]) == (3, 0)
    assert len(receipt["decisions"]) == 1


def test_what_was_answered_while_postgresql_dropped_its_connections_is_there_exactly_once(
    postgres_url: str, launch: Launch, run: Run
) -> None:
    server = launch(postgres_url)
    server.put(config("acme"))
    answered: list[str] = []
    statuses: Counter[int] = Counter()
    done = threading.Event()

    def load(worker: int) -> None:
        with httpx.Client(base_url=server.http.base_url, timeout=30) as client:
            n = 0
            while not done.is_set():
                n += 1
                batch = [action(f"s{worker}-{n % 5}", "Open", f"u{worker}") for _ in range(3)]
                for _ in range(60):  # a client that repeats until it is told
                    answer = client.post("/v1/products/acme/events", json={"events": batch})
                    statuses[answer.status_code] += 1
                    if answer.status_code == 200:
                        answered.extend(e["event_id"] for e in batch)
                        break
                    assert answer.status_code == 503, answer.text
                    time.sleep(0.02)

    workers = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(6):
        time.sleep(0.3)
        run(_terminate(postgres_url))
    time.sleep(0.3)
    done.set()
    for worker in workers:
        worker.join()
    assert len(answered) > 100
    rows = run(_stored(postgres_url, "acme"))
    outside = Counter(r.event_id for r in rows if r.origin == "outside")
    assert set(answered) <= outside.keys()
    assert set(outside.values()) == {1}
    print(f"answers by status: {dict(statuses)}")
    assert server.post("acme", *saves("after"))["accepted"] == 3


async def _terminate(url: str) -> None:
    """What a restart of the server means for its clients, for this database alone."""
    conn = await asyncpg.connect(POSTGRES)
    try:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
            url.rpartition("/")[2],
        )
    finally:
        await conn.close()


async def _stored(url: str, product: str) -> Any:
    ledger = open_ledger(url)
    try:
        return await stored(ledger, product)
    finally:
        await ledger.close()


def test_instants_in_a_stream_never_decrease_when_the_clock_steps_back(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await service.put_config("acme", config("acme"))
            for step in (0, 5, -3600, 1, -86_400, 2):
                clock.instant += step * SECOND
                await post(service, "acme", action("s"))
        rows = await stored(ledger, "acme")
        # A new process, whose machine's clock is a day behind what the ledger holds.
        async with serving(ledger, FakeClock(START - 86_400 * SECOND)) as service:
            await post(service, "acme", action("s"), fact("chat_message", "s", role="user", text="hi"))
        rows = await stored(ledger, "acme")
        streams: dict[str, list[tuple[int, int]]] = {}
        for row in rows:
            streams.setdefault(row.stream, []).append((row.at, row.recorded_at))
        for stream, times in streams.items():
            assert [a for a, _ in times] == sorted(a for a, _ in times), stream
            assert [r for _, r in times] == sorted(r for _, r in times), stream
        assert all(row.at <= row.recorded_at for row in rows)
        assert len(streams["session-s"]) >= 8

    run(scenario())


def test_ten_thousand_sessions_that_time_out_in_one_second_all_do_at_their_own_instants(
    sqlite_ledger: Ledger, run: Run
) -> None:
    count = 10_000

    async def scenario() -> None:
        clock = FakeClock()
        rules = config("acme", session={"interaction_timeout_s": 30, "cooldown_period_s": 30}, triggers=[])
        due: dict[str, int] = {}
        async with serving(sqlite_ledger, clock) as service:
            await service.put_config("acme", rules)
            for start in range(0, count, 1000):
                clock.instant += SECOND // 10
                sessions = [f"s{n}" for n in range(start, start + 1000)]
                chats = [fact("chat_message", s, f"u-{s}", role="user", text="hi") for s in sessions]
                await post(service, "acme", *chats)
            assert len(service.recorder.due) == count
            clock.instant += 60 * SECOND
            started = time.perf_counter()
            service.timers.start()
            while service.recorder.due:
                await asyncio.sleep(0.02)
                assert time.perf_counter() - started < 60
            took = time.perf_counter() - started
            print(f"{count} timeouts in {took:.2f} s")
        for row in await stored(sqlite_ledger, "acme"):
            if row.type == "chat_message":
                due[row.stream] = row.at + 30 * SECOND
            elif row.type == "interaction_timed_out":
                assert row.at == due.pop(row.stream)
                assert row.recorded_at > row.at
        assert due == {}

    run(scenario())


def _raises(_window: Sequence[ActionFact], _at: int) -> bool:
    raise RuntimeError("predicate secret")


def _stalls(_window: Sequence[ActionFact], _at: int) -> bool:
    time.sleep(1)
    return True


def _answers(_window: Sequence[ActionFact], _at: int) -> bool:
    return True


@pytest.mark.parametrize(("predicate", "word"), [(_raises, "raised"), (_stalls, "budget")])
def test_a_predicate_that_raises_or_stalls_reads_unknown_and_the_facts_stay(
    sqlite_ledger: Ledger, run: Run, predicate: Any, word: str
) -> None:
    async def scenario() -> None:
        rules = config(
            "acme",
            triggers=[
                trigger("bad", criteria={"type": "predicate", "predicate": "bad"}),
                trigger("good", criteria={"type": "action_count", "at_least": 1}),
            ],
        )
        async with serving(sqlite_ledger, predicates={"bad": predicate}, predicate_budget_ms=50) as service:
            await service.put_config("acme", rules)
            started = time.perf_counter()
            receipt = await post(service, "acme", action("s"))
            assert time.perf_counter() - started < 0.9
            assert receipt.accepted == 1
            assert [d["trigger_id"] for d in receipt.decisions] == ["good"]
            told = await service.decision("acme", receipt.decisions[0]["decision_id"])
            assert [t["verdict"] for t in told["other_triggers"] if t["trigger_id"] == "bad"] == [None]

    run(scenario())


def test_an_evaluator_that_raises_costs_no_fact_and_says_so_in_the_ledger(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("no luck")

    async def scenario() -> None:
        async with serving(ledger) as service:
            await service.put_config("acme", config("acme"))
            with monkeypatch.context() as patched:
                patched.setattr(domain_run, "evaluate", broken)
                receipt = await post(service, "acme", *saves("s"))
            assert (receipt.accepted, receipt.decisions) == (3, [])
            types = [r.type for r in await stored(ledger, "acme") if r.stream == "session-s"]
            assert types == ["action", "action", "action", "evaluation_failed"]
            # mended, the next event finds the facts
            assert [d["outcome"] for d in (await post(service, "acme", action("s"))).decisions] == ["offered"]

    run(scenario())


def test_one_job_that_breaks_does_not_cost_the_others_of_its_group(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = jobs.BatchJob.run

    def broken(self: Any, *rest: Any) -> None:
        if self.session_id == "cursed":
            raise KeyError("a fault of the code")
        real(self, *rest)

    async def scenario() -> None:
        async with serving(sqlite_ledger) as service:
            await service.put_config("acme", config("acme"))
            monkeypatch.setattr(jobs.BatchJob, "run", broken)
            answers = await asyncio.gather(
                *(post(service, "acme", action(s)) for s in ("a", "cursed", "b")), return_exceptions=True
            )
            assert isinstance(answers[1], KeyError)
            assert [getattr(answers[n], "accepted", answers[n]) for n in (0, 2)] == [1, 1]

    run(scenario())


def test_a_timer_that_fails_does_not_stop_the_others(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        rules = config("acme", session={"interaction_timeout_s": 0.1, "cooldown_period_s": 0.1}, triggers=[])
        async with serving(sqlite_ledger) as service:
            await service.put_config("acme", rules)
            real = service.recorder.submit
            calls = 0

            async def failing(*jobs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == 2:
                    raise RuntimeError("a fault of the code")
                return await real(*jobs)

            monkeypatch.setattr(service.recorder, "submit", failing)
            await post(service, "acme", fact("chat_message", "s", role="user", text="hi"))
            for _ in range(300):
                await asyncio.sleep(0.01)
                if calls >= 3 and not service.recorder.due:
                    break
            rows = await stored(sqlite_ledger, "acme")
            assert [r.type for r in rows if r.stream == "session-s"] == [
                "chat_message",
                "interaction_timed_out",
            ]

    run(scenario())


def test_a_busy_session_leaves_no_pile_of_timers(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with serving(sqlite_ledger) as service:
            for due in range(100_000):
                service.recorder.due["acme", "s"] = START * 2 + due
                service.timers.arm("acme", "s", START * 2 + due)
            assert len(service.timers._heap) < 20_000

    run(scenario())


def test_reading_a_session_while_it_is_written_leaves_no_older_state_behind(ledger: Ledger, run: Run) -> None:
    """A read that began before a commit must not put what it saw over what the commit left."""

    async def scenario() -> None:
        async with serving(ledger) as service:
            await service.put_config("acme", config("acme", triggers=[]))

            async def both(n: int) -> None:
                session = f"s{n}"
                await asyncio.gather(
                    *(post(service, "acme", action(session)) for _ in range(3)),
                    *(asyncio.wait_for(_quietly(service, session), 10) for _ in range(3)),
                )
                await asyncio.wait_for(post(service, "acme", action(session)), 10)
                assert (await service.session("acme", session))["version"] == 4

            await asyncio.gather(*(both(n) for n in range(60)))

    run(scenario())


async def _quietly(service: Any, session: str) -> None:
    await asyncio.sleep(0)
    with contextlib.suppress(errors.NotFound):
        await service.session("acme", session)
