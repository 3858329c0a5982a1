"""Replay: no divergence after ordinary use; after a bug, exactly what the bug did."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain import criteria, events, triggers
from domain.envelope import NewEvent
from domain.finding import Finding
from domain.session import SessionState
from domain.triggers import Gate
from eventstore import schema
from eventstore.appender import ANY, Appender, Unit
from eventstore.engine import Ledger, open_ledger
from projections.replaying.divergence import LOST, NEW, OTHER
from tests.api.inside import START, FakeClock, serving, stored
from tests.conftest import Run
from tests.projections.telling_story import DWELL, EDITS, SAVES, Story, config, ordinary, replayed, told

ROOT = Path(__file__).parent.parent
FROZEN = sorted((ROOT / "histories" / "ledgers").glob("*.jsonl"))


async def live(ledger: Ledger, tell: Any, rules: dict[str, Any] | None = None, **more: Any) -> None:
    clock = FakeClock(START)
    async with serving(ledger, clock, **more) as service:
        await service.put_config("p", rules or config())
        await tell(Story(service, clock))


def command(url: str, *options: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "replay", *options, "--database-url", url],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )


def only(trigger: dict[str, Any], **more: Any) -> dict[str, Any]:
    return config(gap=0, triggers=[{"id": "t", "cooldown_s": 1, **trigger}], **more)


# --- ordinary use ------------------------------------------------------------------------------------


def test_ordinary_use_replays_without_divergence(ledger: Ledger, run: Run) -> None:
    run(live(ledger, ordinary))
    report = run(replayed(ledger))
    assert told(report) == []
    assert report.decisions > 10
    assert report.timeouts > 3
    assert report.transitions > report.timeouts
    assert report.silent > 5
    rows = run(stored(ledger, "p"))
    assert report.decisions == sum(row.type in ("nudge_offered", "nudge_withheld") for row in rows)
    assert report.timeouts == sum(row.type == "interaction_timed_out" for row in rows)


TITLES = st.sampled_from(["save", "edit", "look"])
TOURS = st.sampled_from(["tour_started", "tour_step", "tour_ended"])
PREVIOUS = st.sampled_from([None, "anon"])
SESSIONS, USERS = st.sampled_from(["s1", "s2", "s3"]), st.sampled_from([None, "u", "v", "anon"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("click"), SESSIONS, USERS, TITLES, st.integers(0, 40)),
        st.tuples(st.just("chat"), SESSIONS, USERS),
        st.tuples(st.just("tour"), SESSIONS, USERS, TOURS),
        st.tuples(st.just("identify"), SESSIONS, st.sampled_from(["u", "v"]), PREVIOUS),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 4.0, 11.0, 16.0, 70.0]), st.booleans()),
        st.just(("restart",)),
        st.tuples(st.just("config"), st.integers(0, 4)),
    ),
    min_size=5,
    max_size=40,
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(steps=STEPS)
def test_no_history_of_the_service_diverges(sqlite_template: Path, steps: list[Any]) -> None:
    async def play(ledger: Ledger) -> None:
        clock = FakeClock(START)
        numbers = iter(range(1_000_000))

        async def some(service: Any, rest: list[Any]) -> list[Any]:
            story = Story(service, clock)
            story._events = next(numbers) * 1_000
            while rest:
                step, rest = rest[0], rest[1:]
                match step:
                    case ("click", session, user, title, ago):
                        await story.click(title, session, user, ago)
                    case ("chat", session, user):
                        await story.act(session, user, ("chat_message", {"role": "user", "text": "?"}))
                    case ("tour", session, user, kind):
                        await story.act(session, user, (kind, {"tour_id": "flow"}))
                    case ("identify", session, user, previous):
                        data = {"previous_id": previous} if previous else {}
                        await story.act(session, user, ("user_identified", data))
                    case ("wait", seconds, on_time):
                        await story.wait(seconds, timers=on_time)
                    case ("config", gap):
                        await service.put_config("p", config(gap=gap))
                    case _:
                        return rest
            return rest

        rest = list(steps)
        async with serving(ledger, clock) as service:
            await service.put_config("p", config())
            rest = await some(service, rest)
        while rest:
            async with serving(ledger, clock) as service:
                await service.product("p")
                rest = await some(service, rest)
        report = await replayed(ledger)
        assert told(report) == []

    async def with_ledger() -> None:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(sqlite_template, f"{folder}/l.db")
            ledger = open_ledger(f"sqlite:///{folder}/l.db")
            try:
                await play(ledger)
            finally:
                await ledger.close()

    asyncio.run(with_ledger())


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: path.stem)
def test_a_frozen_ledger_replays_without_divergence(path: Path, sqlite_ledger: Ledger, run: Run) -> None:
    """Ledgers that earlier code wrote. Where one diverges, the engine's version must rise."""
    run(load(sqlite_ledger, path))
    report = run(replayed(sqlite_ledger))
    assert told(report) == []
    assert report.decisions > 10


async def load(ledger: Ledger, path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    events = [
        NewEvent(**row | {"data": row["data"].encode(), "sealed": None, "key_id": None}) for row in rows
    ]
    async with ledger.transaction() as conn:
        for event in events:
            (done,) = await Appender(ledger).append(conn, [Unit(event.product, {event.stream: ANY}, [event])])
            assert done.recorded is not None


# --- bugs --------------------------------------------------------------------------------------------


def test_decisions_of_a_bug_are_listed_in_both_directions(ledger: Ledger, run: Run) -> None:
    """The trigger's cooldown was ignored: what was offered should have been withheld."""

    async def tell(story: Story) -> None:
        for _ in range(3):
            await story.click("save")
            await story.wait(40)

    rules = only({"criteria": {**SAVES, "at_least": 1, "within_s": 5}, "cooldown_s": 100})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triggers, "_trigger_cooldown", lambda *_: Gate("trigger_cooldown", True))
        run(live(ledger, tell, rules))
    report = run(replayed(ledger))
    assert sorted(told(report)) == sorted([(LOST, "nudge_offered", "t"), (NEW, "nudge_withheld", "t")] * 2)
    lost = next(d for d in report.divergences if d.kind == LOST)
    assert lost.derived is not None
    assert lost.derived["explanation"]["blocked_by"] == "trigger_cooldown"


def test_what_a_bug_kept_back_is_listed(ledger: Ledger, run: Run) -> None:
    """A count of nothing was made of every count: nothing was recorded where today is offered."""
    rules = only({"criteria": {**SAVES, "at_least": 1}})
    never = Finding("count", False, 0, ">= 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(criteria, "_count", lambda *_: lambda view, used: never)

        async def tell(story: Story) -> None:
            await story.click("look")
            await story.wait(5)
            await story.click("save")

        run(live(ledger, tell, rules))
    report = run(replayed(ledger))
    assert told(report) == [(NEW, "nudge_offered", "t")]
    assert report.divergences[0].recorded is None


def test_a_timer_that_nobody_set_is_listed_at_its_own_instant_and_once(ledger: Ledger, run: Run) -> None:
    """The instant at which a dwell is reached was not worked out; the user moved on later."""
    real = triggers.evaluate

    def forgetful(*given: Any, **more: Any) -> Any:
        return real(*given, **more)._replace(next_at=None)

    async def tell(story: Story) -> None:
        await story.click("look")
        await story.wait(20)
        await story.act(
            "s", "u", ("action", {"type": "pageleave", "title": "x", "raw_url": "https://a.test/projects"})
        )
        await story.wait(20)
        await story.click("look")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("domain.run.evaluate", forgetful)
        run(live(ledger, tell, only({"criteria": DWELL})))
    report = run(replayed(ledger))
    assert told(report) == [(NEW, "nudge_offered", "t")]
    assert report.divergences[0].at == START + 15_000_000 + (report.divergences[0].at % 1_000_000)


def test_where_others_moved_before_the_session_went_on_nobody_knows_what_a_silent_look_saw(
    ledger: Ledger, run: Run
) -> None:
    """A look that came late, as another server's may, stands on what was recorded meanwhile."""
    real = triggers.evaluate

    def forgetful(*given: Any, **more: Any) -> Any:
        return real(*given, **more)._replace(next_at=None)

    async def tell(story: Story) -> None:
        await story.click("look")
        await story.wait(20)
        await story.click("edit", session="s2")
        await story.click("look")

    both = [{"id": "t", "criteria": DWELL}, {"id": "e", "criteria": EDITS}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("domain.run.evaluate", forgetful)
        run(live(ledger, tell, config(gap=0, triggers=both)))
    report = run(replayed(ledger))
    assert (told(report), report.unknown) == ([], 1)


def test_a_timeout_with_another_cooldown_differs(ledger: Ledger, run: Run) -> None:
    async def tell(story: Story) -> None:
        await story.act("s", "u", ("chat_message", {"role": "user", "text": "?"}))
        await story.wait(30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionState, "cooldown", property(lambda self: 7_000_000))
        run(live(ledger, tell))
    report = run(replayed(ledger))
    assert told(report) == [(OTHER, "interaction_timed_out", None)]
    (found,) = report.divergences
    assert found.recorded is not None
    assert found.derived is not None
    assert (found.recorded["cooldown"], found.derived["cooldown"]) == (7_000_000, 15_000_000)


def test_a_timeout_at_another_instant_differs_and_what_follows_is_judged_alone(
    ledger: Ledger, run: Run
) -> None:
    real = SessionState.timeout.fget  # type: ignore[attr-defined]

    async def tell(story: Story) -> None:
        await story.act("s", "u", ("chat_message", {"role": "user", "text": "?"}))
        await story.wait(6)
        await story.click("save")
        await story.wait(30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionState, "timeout", property(lambda self: real(self) - 2_000_000))
        run(live(ledger, tell, only({"criteria": {**SAVES, "at_least": 1}})))
    report = run(replayed(ledger))
    # Explanations in proactive and reactive assistance name the due instant; those of thinking do not.
    assert told(report) == [(OTHER, "nudge_withheld", "t"), (OTHER, "interaction_timed_out", None)] * 2
    assert report.decisions == 5


def test_a_timeout_that_never_happened_is_listed_once(ledger: Ledger, run: Run) -> None:
    async def tell(story: Story) -> None:
        await story.act("s", "u", ("chat_message", {"role": "user", "text": "?"}))
        await story.wait(30)
        await story.click("look")
        await story.click("look")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionState, "timeout_due", property(lambda self: None))
        run(live(ledger, tell))
    assert told(run(replayed(ledger))) == [(NEW, "interaction_timed_out", None)]


def test_timings_that_a_bug_stored_with_a_chat_message_differ(ledger: Ledger, run: Run) -> None:
    async def tell(story: Story) -> None:
        await story.act("s", "u", ("chat_message", {"role": "user", "text": "?"}))

    real = events.Timings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("domain.run.Timings", lambda *given: real(1_000_000, *given[1:]))
        run(live(ledger, tell))
    assert told(run(replayed(ledger))) == [(OTHER, "chat_message", None)]


# --- what cannot be known ----------------------------------------------------------------------------


def test_findings_of_predicates_are_served_from_the_record(ledger: Ledger, run: Run) -> None:
    rules = only({"criteria": {"type": "predicate", "predicate": "odd"}})
    calls: list[int] = []

    def odd(window: Any, at: int) -> Finding:
        calls.append(at)
        return Finding("predicate", len(window) % 2 == 1, len(window), "an odd number")

    async def tell(story: Story) -> None:
        await story.click("save")
        await story.wait(50)
        await story.click("save")

    run(live(ledger, tell, rules, predicates={"odd": odd}))
    asked = len(calls)
    report = run(replayed(ledger))
    assert len(calls) == asked
    assert told(report) == []
    assert report.decisions >= 1
    assert report.unknown >= 1, "what the predicate found in silence is nowhere"


def test_decisions_on_erased_fields_are_counted_as_erased(ledger: Ledger, run: Run) -> None:
    where = {"properties": {"plan": "pro"}}
    rules = only({"criteria": {"type": "count", "where": where, "at_least": 1}})

    async def tell(story: Story) -> None:
        await story.act("s", "u", ("action", {"type": "x", "title": "y", "properties": {"plan": "pro"}}))

    run(live(ledger, tell, rules))
    before = run(replayed(ledger))
    assert (before.decisions, before.erased, told(before)) == (1, 0, [])

    async def erase() -> None:
        async with ledger.transaction() as conn:
            await conn.execute(sa.delete(schema.data_keys))

    run(erase())
    after = run(replayed(ledger))
    assert (after.decisions, after.erased, told(after)) == (1, 1, [])


# --- parts, shares, output ---------------------------------------------------------------------------


def test_ranges_sum_up_to_the_whole(ledger: Ledger, run: Run) -> None:
    run(live(ledger, ordinary))
    whole = run(replayed(ledger))
    head = len(run(stored(ledger, "p")))
    for cut in range(3, head - 1, 7):
        parts = [run(replayed(ledger, start=1, end=cut)), run(replayed(ledger, start=cut + 1, end=head))]
        assert [told(part) for part in parts] == [[], []]
        assert sum(part.decisions for part in parts) == whole.decisions
        assert sum(part.timeouts for part in parts) == whole.timeouts


def test_the_command_gives_the_same_bytes_on_any_database_in_any_number_of_processes(
    sqlite_url: str, postgres_url: str, run: Run
) -> None:
    said = set()
    for url in (sqlite_url, postgres_url):
        ledger = open_ledger(url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(triggers, "_trigger_cooldown", lambda *_: Gate("trigger_cooldown", True))
            run(live(ledger, ordinary))
        run(ledger.close())
    for url, processes, seed in (
        (sqlite_url, "1", "0"),
        (sqlite_url, "2", "1"),
        (postgres_url, "2", "7"),
        (postgres_url, "1", "3"),
    ):
        done = command(url, "--processes", processes, seed=seed)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("replay: ")
        said.add(done.stdout)
    (text,) = said
    assert text.count("DIVERGES") >= 2
    rows = [json.loads(line) for line in command(sqlite_url, "--json").stdout.splitlines()]
    assert [row["kind"] for row in rows] == ["divergence"] * (len(rows) - 1) + ["summary"]
    assert rows[-1]["divergences"] == len(rows) - 1 == text.count("DIVERGES")
    positions = [row["position"] for row in rows[:-1]]
    assert positions == sorted(positions)
    session = rows[0]["stream"].removeprefix("session-")
    mine = [
        json.loads(line) for line in command(sqlite_url, "--json", "--session", session).stdout.splitlines()
    ]
    assert mine[:-1] == [row for row in rows[:-1] if row["stream"] == rows[0]["stream"]]


@pytest.mark.parametrize(
    "options",
    [("--session", "nobody"), ("--product", "none"), ("--from", "5", "--to", "4"), ("--from", "0"),
     ("--from", "9999"), ("--processes", "0")],
)  # fmt: skip
def test_bad_input_is_one_line(sqlite_url: str, options: tuple[str, ...]) -> None:
    done = command(sqlite_url, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nudgeledger: ")
    assert done.stderr.count("\n") == 1
