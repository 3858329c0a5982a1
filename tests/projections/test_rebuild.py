"""Rebuild: the tables derived anew, compared, switched, put back; killed, resumed, and under live traffic."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from api.service import Service
from domain import session
from domain.errors import InvalidInput
from domain.instants import DAY, SECOND
from eventstore.engine import Ledger
from projections import inline, tables
from projections.rebuilding import differing, rebuild, refill, switching
from projections.rebuilding.refill import Overtaken
from tests.api.inside import START, FakeClock, post, serving
from tests.api.serving import ROOT, Server, action, command, config, fact, saves, trigger, until
from tests.conftest import Run

PRODUCT = "acme"
NOW = START + 3600 * SECOND
CONFIG = config(
    PRODUCT,
    triggers=[
        trigger(goal="edited"),
        trigger("four", criteria={"type": "count", "where": {"title_contains": "save"}, "at_least": 4}),
    ],
)


async def traffic(service: Service, clock: FakeClock, sessions: int = 6) -> None:
    """Every kind of event that a table of a projection knows, in interleaved sessions of three users."""
    await service.put_config(PRODUCT, CONFIG)
    for number in range(sessions):
        clock.instant += 7 * SECOND
        mine, user = f"s{number}", f"u{number % 3}"
        offered = (await post(service, PRODUCT, *saves(mine, user))).decisions
        for decision in (d for d in offered if d["nudge_id"]):
            shown = fact("nudge_shown", mine, user, nudge_id=decision["nudge_id"], tab_id="tab")
            await post(service, PRODUCT, shown)
        answers = (
            fact("option_clicked", mine, user, option_id="yes"),
            fact("tour_started", mine, user, tour_id="flow_1"),
            fact("chat_message", mine, user, role="user", text="hello"),
            fact("goal_reached", mine, user, goal_id="edited"),
        )
        await post(service, PRODUCT, answers[number % 4])
        await post(service, PRODUCT, action(f"s{(number * 5) % sessions}", user=user))
        clock.instant += (number % 2) * 90 * SECOND
        await service.recorder.submit()


async def filled(ledger: Ledger, sessions: int = 6) -> None:
    clock = FakeClock()
    async with serving(ledger, clock) as service:
        await traffic(service, clock, sessions)


async def live(ledger: Ledger, *left_out: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the live tables, but for some columns."""
    async with ledger.reader() as conn:
        found = {}
        for name, projection in differing.PROJECTIONS.items():
            columns = [c for c in projection.live.columns if c.name not in left_out]
            key = list(projection.live.primary_key.columns)
            found[name] = [tuple(row) for row in await conn.execute(sa.select(*columns).order_by(*key))]
    return found


async def events(ledger: Ledger) -> int:
    async with ledger.reader() as conn:
        return int(await conn.scalar(sa.text("SELECT count(*) FROM events")) or 0)


async def spoil(ledger: Ledger) -> None:
    """Rows of every table wrong, missing and too many."""
    async with ledger.transaction() as conn:
        s, d, n = tables.sessions, tables.decisions, tables.nudges
        await conn.execute(
            sa.update(s).where(s.c.session_id == "s1").values(current_state="nowhere", version=1)
        )
        await conn.execute(sa.delete(s).where(s.c.session_id == "s2"))
        ghost = {"product": PRODUCT, "session_id": "ghost", "version": 1, "last_event_at": 1}
        await conn.execute(sa.insert(s).values(current_state="thinking", **ghost))
        await conn.execute(sa.delete(d).where(d.c.session_id == "s0"))
        await conn.execute(sa.update(n).where(n.c.session_id == "s1").values(shown_tab="another"))
        await conn.execute(sa.delete(n).where(n.c.session_id == "s3"))


SPOILED = {
    ("ghost", "sessions", "removed"),
    ("s0", "decisions", "added"),
    ("s1", "sessions", "changed"),
    ("s1", "nudges", "changed"),
    ("s2", "sessions", "added"),
    ("s3", "nudges", "added"),
}


def told(report: rebuild.Report) -> set[tuple[str, str, str]]:
    return {(c.session_id, c.projection, c.kind) for c in report.changes}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, pages and memory so small that every boundary is met."""
    monkeypatch.setattr(refill, "BATCH", 7)
    monkeypatch.setattr(refill, "STATES", 2)
    monkeypatch.setattr(differing, "PAGE", 3)
    monkeypatch.setattr(switching, "CHUNK", 2)


# --- what it repairs -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 4, 2_000])
def test_the_tables_derived_anew_are_the_live_ones_whatever_the_batch(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    run(filled(ledger))
    monkeypatch.setattr(refill, "BATCH", batch)
    monkeypatch.setattr(refill, "STATES", batch)
    monkeypatch.setattr(differing, "PAGE", batch)
    report = run(rebuild.rebuild(ledger, now=NOW))
    assert report.changes == [] and report.poisoned == []
    rows = {c.projection: c.live.rows for c in report.comparisons}
    assert rows["sessions"] == 6 and rows["decisions"] > rows["nudges"] > 3
    assert all(c.live == c.anew for c in report.comparisons)


def test_a_planted_bug_is_repaired_row_by_row_and_each_is_listed(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold forgets that an offer moves the machine, and a goal is counted for nobody."""
    with monkeypatch.context() as planted:
        planted.setattr(
            session, "_offered", lambda state, fact, event: session._counted(state, fact, event, False)
        )
        planted.setattr(inline, "_goal_change", lambda row, goal: real(row, "another"))
        real = inline._goal_change
        run(filled(ledger))
    wrong = run(live(ledger))
    assert not any(row[5] == "proactive_assistance" for row in wrong["sessions"])
    before = run(events(ledger))
    report = run(rebuild.rebuild(ledger, now=NOW))
    right = run(live(ledger))
    states = {row[1]: row[5] for row in right["sessions"]}
    assert "proactive_assistance" in states.values()
    differ = {
        (name, row[:2] if name != "decisions" else row[:1])
        for name in wrong
        for row in (set(wrong[name]) ^ set(right[name]))
    }
    assert {(c.projection, c.key) for c in report.changes} == differ
    assert {c.projection for c in report.changes} == {"sessions", "nudges"}
    assert all("goal_at" in c.columns for c in report.changes if c.projection == "nudges")
    assert run(events(ledger)) == before
    assert run(rebuild.rebuild(ledger, now=NOW, dry_run=True)).changes == []
    # and back again: what the bug made is what the last rebuild found
    done = run(rebuild.roll_back(ledger))
    assert len(done.put_back) == len(report.changes) and done.kept == []
    assert run(live(ledger, "next_due")) == {
        "sessions": [(*row[:8], *row[9:]) for row in wrong["sessions"]],
        "decisions": wrong["decisions"],
        "nudges": wrong["nudges"],
        "deliveries": wrong["deliveries"],
    }


def test_wrong_missing_and_surplus_rows_are_told_apart_and_a_dry_run_changes_none(
    ledger: Ledger, run: Run, small: None
) -> None:
    run(filled(ledger))
    right = run(live(ledger, "next_due"))
    run(spoil(ledger))
    wrong = run(live(ledger))
    dry = run(rebuild.rebuild(ledger, now=NOW, dry_run=True))
    assert told(dry) == SPOILED and not dry.switched
    assert run(live(ledger)) == wrong
    digests = {c.projection: c.live.hexadecimal == c.anew.hexadecimal for c in dry.comparisons}
    assert digests == {"sessions": False, "decisions": False, "nudges": False, "deliveries": True}
    done = run(rebuild.rebuild(ledger, now=NOW))
    assert told(done) == SPOILED and done.switched and done.changes == dry.changes
    assert [c.session_id for c in done.changes] == sorted(c.session_id for c in done.changes)
    assert run(live(ledger, "next_due")) == right


def test_only_the_named_projections_are_switched(ledger: Ledger, run: Run) -> None:
    run(filled(ledger))
    run(spoil(ledger))
    report = run(rebuild.rebuild(ledger, ["nudges"], now=NOW))
    assert told(report) == {change for change in SPOILED if change[1] == "nudges"}
    assert told(run(rebuild.rebuild(ledger, now=NOW))) == SPOILED - told(report)
    with pytest.raises(InvalidInput, match="no projection 'nugdes'"):
        run(rebuild.rebuild(ledger, ["nugdes"], now=NOW))


def test_a_rollback_leaves_rows_that_somebody_changed_since(ledger: Ledger, run: Run) -> None:
    run(filled(ledger))
    run(spoil(ledger))
    run(rebuild.rebuild(ledger, now=NOW))

    async def go_on() -> None:
        async with serving(ledger, FakeClock(NOW)) as service:
            await post(service, PRODUCT, action("s1", user="u1"))

    run(go_on())
    assert (
        run(rebuild.rebuild(ledger, now=NOW)).changes == []
    )  # changed nothing: the one before stays the last
    done = run(rebuild.roll_back(ledger))
    assert [(c.projection, c.session_id) for c in done.kept] == [("sessions", "s1")]
    assert {(c.session_id, c.projection) for c in done.put_back} == {c[:2] for c in SPOILED} - {
        ("s1", "sessions")
    }
    assert run(rebuild.roll_back(ledger)) == ([], [])


# --- to-dos --------------------------------------------------------------------------------------


def test_a_session_is_armed_for_the_future_only_and_an_overdue_one_stays(ledger: Ledger, run: Run) -> None:
    """s5 waits for a timeout. Its row lost, it is armed for it; lost when that has passed, for nothing; wrong
    when that has passed, the service still has to look and will."""
    s = tables.sessions

    async def due(now: int, change: sa.Delete | sa.Update) -> int | None:
        async with ledger.transaction() as conn:
            await conn.execute(change.where(s.c.session_id == "s5"))
        await rebuild.rebuild(ledger, now=now)
        async with ledger.reader() as conn:
            return await conn.scalar(sa.select(s.c.next_due).where(s.c.session_id == "s5"))

    async def story() -> None:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await traffic(service, clock)
            await post(service, PRODUCT, fact("chat_message", "s5", "u2", role="user", text="?"))
            timeout = (await service.recorder.session(PRODUCT, "s5")).state.timeout_due
        assert timeout is not None
        assert await due(clock.instant, sa.delete(s)) == timeout
        assert await due(timeout + 1, sa.update(s).values(current_state="nowhere")) == timeout
        assert await due(timeout + 1, sa.delete(s)) is None
        assert await due(timeout + 3 * DAY, sa.delete(s)) is None

    run(story())


def test_rules_that_wait_for_time_arm_a_session_as_the_service_did(ledger: Ledger, run: Run) -> None:
    rules = trigger(
        criteria={
            "operator": "AND",
            "conditions": [
                {"type": "count", "where": {"title_contains": "save"}, "at_least": 1},
                {"type": "absent", "where": {"title_contains": "done"}, "within_s": 600},
            ],
        }
    )

    async def story() -> None:
        clock = FakeClock()
        s = tables.sessions
        async with serving(ledger, clock) as service:
            await service.put_config(PRODUCT, config(PRODUCT, triggers=[rules]))
            await post(service, PRODUCT, action("s", "done"), action("s"))
        async with ledger.transaction() as conn:
            before = await conn.scalar(sa.select(s.c.next_due))
            await conn.execute(sa.delete(s))
        assert before is not None and before > clock.instant
        await rebuild.rebuild(ledger, now=clock.instant)
        async with ledger.reader() as conn:
            assert await conn.scalar(sa.select(s.c.next_due)) == before

    run(story())


# --- killed, resumed, overtaken ------------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
from eventstore.engine import open_ledger
from projections.rebuilding import rebuild, refill, switching
url, stage = sys.argv[1:]
refill.BATCH = 9

def progress(what, done, total):
    if what == stage and (done >= 27 or what != "events"):
        os.kill(os.getpid(), signal.SIGKILL)

async def remember(undo, conn):
    os.kill(os.getpid(), signal.SIGKILL)

if stage == "switch":
    switching.Undo.remember = remember
asyncio.run(rebuild.rebuild(open_ledger(url), now=int(1.9e15), on_progress=progress))
"""


@pytest.mark.parametrize("stage", ["events", "projections compared", "sessions armed", "switch"])
def test_killed_at_any_stage_it_has_changed_nothing_and_goes_on_where_it_stopped(
    ledger: Ledger, ledger_url: str, run: Run, stage: str
) -> None:
    run(filled(ledger))
    right = run(live(ledger, "next_due"))
    run(spoil(ledger))
    wrong = run(live(ledger))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, ledger_url, stage],
        cwd=ROOT,
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert run(live(ledger)) == wrong
    seen: list[int] = []

    def progress(what: str, done: int, total: int) -> None:
        if what == "events":
            seen.append(done)

    report = run(rebuild.rebuild(ledger, now=NOW, on_progress=progress))
    assert told(report) == SPOILED
    assert run(live(ledger, "next_due")) == right
    assert seen[-1] == run(events(ledger))


def test_a_cancelled_run_is_taken_up_and_one_by_other_code_is_not(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(filled(ledger))
    monkeypatch.setattr(refill, "BATCH", 9)

    class Cancel(Exception):
        pass

    def cancel(what: str, done: int, total: int) -> None:
        if done >= 18:
            raise Cancel

    def first(**how: Any) -> int:
        seen: list[int] = []
        with pytest.raises(Cancel):
            run(rebuild.rebuild(ledger, now=NOW, on_progress=cancel, **how))
        run(rebuild.rebuild(ledger, now=NOW, dry_run=True, on_progress=lambda w, d, t: seen.append(d)))
        with pytest.raises(Cancel):
            run(rebuild.rebuild(ledger, now=NOW, on_progress=cancel, restart=True))
        return seen[0]

    assert first() == 27
    assert first(restart=True) == 27
    monkeypatch.setattr(refill, "code_version", lambda: "other")
    seen: list[int] = []
    report = run(rebuild.rebuild(ledger, now=NOW, on_progress=lambda w, d, t: seen.append(d)))
    assert seen[0] == 9 and report.changes == []


def test_of_two_rebuilds_at_once_the_overtaken_one_ends_and_says_so(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(filled(ledger))
    run(spoil(ledger))
    monkeypatch.setattr(refill, "BATCH", 9)

    async def both() -> list[rebuild.Report | BaseException]:
        return await asyncio.gather(
            rebuild.rebuild(ledger, now=NOW), rebuild.rebuild(ledger, now=NOW), return_exceptions=True
        )

    done = run(both())
    assert [type(each) for each in done if isinstance(each, BaseException)] == [Overtaken]
    assert [told(each) for each in done if isinstance(each, rebuild.Report)] == [SPOILED]


# --- beside a running service --------------------------------------------------------------------


def test_under_live_traffic_it_repairs_what_was_wrong_and_loses_nothing(
    ledger: Ledger, run: Run, small: None
) -> None:
    async def story() -> None:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await traffic(service, clock)
            await spoil(ledger)
            stop = asyncio.Event()
            posted = 0

            async def client() -> None:
                nonlocal posted
                while not stop.is_set():
                    clock.instant += SECOND
                    posted += 1
                    mine, user = f"s{posted % 8}", f"u{posted % 3}"
                    other = fact("goal_reached", mine, user, goal_id="edited")
                    await post(service, PRODUCT, *saves(mine, user), *([other] if posted % 3 == 0 else []))
                    await asyncio.sleep(0.02)  # batches are so small here that they could not keep up

            working = asyncio.create_task(client())
            reports: list[rebuild.Report] = []
            while len(reports) < 2 or posted < 5:
                reports.append(await rebuild.rebuild(ledger, now=clock.instant))
            stop.set()
            await working
            assert told(reports[0]) & SPOILED >= {
                ("ghost", "sessions", "removed"),
                ("s0", "decisions", "added"),
            }
            assert not any(report.changes for report in reports[1:])
        assert (await rebuild.rebuild(ledger, now=clock.instant, dry_run=True)).changes == []

    run(story())


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_session_that_moves_while_tables_are_compared_is_judged_under_the_lock(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    """Its new rows stand beside not yet, so neither digests nor the list count it as differing."""
    real = differing.snapshot

    async def story() -> None:
        async with serving(ledger, FakeClock(NOW)) as service:

            @contextlib.asynccontextmanager
            async def snapshot(ledger: Ledger) -> AsyncIterator[Any]:
                await post(
                    service, PRODUCT, *saves("s1", "u1"), fact("goal_reached", "s1", "u1", goal_id="edited")
                )
                async with ledger.transaction() as conn:
                    s, n = tables.sessions, tables.nudges
                    await conn.execute(
                        sa.update(s).where(s.c.session_id == "s1").values(current_state="nowhere")
                    )
                    await conn.execute(sa.update(n).where(n.c.session_id == "s1").values(goal_at=1))
                async with real(ledger) as conn:
                    yield conn

            monkeypatch.setattr(differing, "snapshot", snapshot)
            report = await rebuild.rebuild(ledger, now=NOW, dry_run=dry_run)
        assert all(c.live == c.anew for c in report.comparisons if c.projection == "sessions")
        assert ("s1", "sessions", "changed") not in told(report) or not dry_run
        monkeypatch.undo()
        again = await rebuild.rebuild(ledger, now=NOW, dry_run=True)
        assert bool(again.changes) == dry_run
        if not dry_run:
            assert {("s1", "sessions", "changed"), ("s1", "nudges", "changed")} <= told(report)

    run(filled(ledger))
    run(story())


@pytest.fixture
def server(ledger_url: str, tmp_path: Path) -> Iterator[Server]:
    found = Server(ledger_url, tmp_path, keep_alive_s="0.3")
    yield found.start()
    found.close()


def test_beside_a_serving_process_nothing_is_delivered_again(
    server: Server, ledger: Ledger, ledger_url: str, run: Run
) -> None:
    """An offer that is open and whose row is wrong is repaired under the eyes of a listening tab."""
    server.put(config(PRODUCT, triggers=[trigger(cooldown_s=600)]))  # long: no timer looks at the session
    with server.native(PRODUCT, "u_1") as frames:
        server.post(PRODUCT, *saves("s1"))
        nudge = orjson.loads(frames.next().data)["nudge_id"]

        def deliveries() -> int:
            return run(_count(ledger, "nudge_delivered"))

        until(lambda: deliveries() == 1)
        n = tables.nudges

        async def lose() -> None:
            async with ledger.transaction() as conn:
                await conn.execute(sa.delete(n))
                await conn.execute(sa.delete(tables.sessions))

        run(lose())
        before = run(events(ledger))
        done = command("rebuild", "--database-url", ledger_url)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        assert lines[:3] == [f"{PRODUCT} session s1", "  added    sessions", f"  added    nudges {nudge}"]
        assert lines[-1].startswith("changed 2 rows of 1 sessions")
        frames.quiet()
        assert (run(events(ledger)), deliveries()) == (before, 1)
        server.post(PRODUCT, fact("nudge_shown", "s1", nudge_id=nudge, tab_id="tab-1"))
        assert server.session(PRODUCT, "s1")["open_nudge_id"] == nudge
    again = command("rebuild", "--dry-run", "--database-url", ledger_url)
    assert again.stdout.splitlines()[-1].startswith("would change 0 rows of 0 sessions")
    bad = command("rebuild", "nugdes", "--database-url", ledger_url)
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "nugdes" in bad.stderr


async def _count(ledger: Ledger, kind: str) -> int:
    async with ledger.reader() as conn:
        query = sa.text("SELECT count(*) FROM events WHERE type = :kind").bindparams(kind=kind)
        return int(await conn.scalar(query) or 0)
