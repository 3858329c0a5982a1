"""Backtests over a window of the ledger: what the service did, what another config would have done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
import pytest

from api import events_file, simulating
from api.jobs import EngineJob
from api.service import Service
from api.simulating import Plan
from domain import events
from domain.envelope import Recorded
from domain.instants import DAY, SECOND, text
from domain.run import Stored, Turn, World
from eventstore.engine import Ledger, open_ledger
from projections import configs
from projections.backtesting import backtest, comparison, results, shelf, tally, window
from projections.backtesting.recorded import Recorded as Real
from projections.backtesting.results import Outcome
from projections.backtesting.simulation import Batch, Correction
from projections.configs import Revision
from tests.api import inside, serving
from tests.api.inside import FakeClock
from tests.conftest import Run
from tests.domain.builders import ruleset
from tests.projections import playing

Json = dict[str, Any]
START = inside.START


async def plan(service: Service, raw: Json, start: int, end: int, until: int = 0) -> Plan:
    """A backtest as the service would begin it."""
    state = (await service.product(raw["product_id"])).state
    async with service.ledger.reader() as conn:
        found = await window.locate(conn, raw["product_id"], start, end)
    candidate = Revision(f"r{len(state.revisions) + 1}-{configs.digest(raw)}", 0, 0, raw)
    if state.current is not None and state.current.revision.endswith(configs.digest(raw)):
        candidate = state.current
    return Plan(service.ledger.url, found, until, candidate, state.current, "/backtest", 1.0)


async def backtested(
    service: Service, raw: Json, start: int, end: int, *, processes: int = 1, until: int = 0
) -> Outcome:
    made = await plan(service, raw, start, end, until)
    return await asyncio.to_thread(simulating.carry_out, made, processes=processes)


def told(outcome: Outcome, side: str = "candidate") -> list[tuple[Any, ...]]:
    return [(d.at, d.session_id, d.outcome, d.trigger_id, d.reason) for d in outcome.decisions[side]]


def seconds(outcome: Outcome) -> list[tuple[Any, ...]]:
    """The candidate's decisions with their instants in whole seconds after the start."""
    return [((at - START) // SECOND, *rest) for at, *rest in told(outcome)]


async def recorded(ledger: Ledger, product: str = "acme") -> list[tuple[Any, ...]]:
    """The decisions of the real service, by (`at`, session)."""
    found = []
    for row in await inside.stored(ledger, product):
        if row.type in ("nudge_offered", "nudge_withheld"):
            data = orjson.loads(row.data)
            outcome = row.type.removeprefix("nudge_")
            found.append((row.at, row.stream[8:], outcome, data["trigger_id"], data.get("reason", "ok")))
    return sorted(found, key=lambda each: each[:2])


def bytes_of(outcome: Outcome) -> bytes:
    return orjson.dumps([outcome.result, outcome.decisions], default=list)


# --- the law -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_the_config_in_force_gives_the_recorded_decisions_and_those_of_an_events_file(
    ledger: Ledger, run: Run, seed: int
) -> None:
    """From the product's beginning: same triggers, instants, sessions and reasons; explanations too, but for
    the versions that they read; alone or shared out."""
    raw = playing.config()

    async def scenario() -> None:
        clock = FakeClock()
        async with inside.serving(ledger, clock) as service:
            await service.put_config("acme", raw)
            posted = await playing.play(service, clock, 160, seed)
            await playing.until(service, clock, clock.instant + 40 * SECOND)
            end = service.clock.now()
            alone = await backtested(service, raw, START - DAY, end)
            real = await recorded(ledger)
            assert told(alone) == real
            assert told(alone, "in_force") == real
            assert len({each[4] for each in real}) >= 6, "the traffic should meet most gates"
            result = alone.result
            assert result["orphaned"] == 0
            assert result["events"] == len(posted)
            assert (result["sessions"], result["displaced"]) == ([], [])
            assert sum(t["recorded"]["offered"] for t in result["triggers"]) == result["candidate"]["offered"]
            assert any(t["recorded"]["shown"] for t in result["triggers"])
            rows = filed(raw, await exported(ledger, posted), end)
            assert [(r["at"], r["session_id"], r["kind"], r["trigger_id"]) for r in rows] == [
                each[:4] for each in told(alone)
            ]
            explained = [orjson.loads(d.explanation) for d in alone.decisions["candidate"]]
            assert explained == [orjson.loads(orjson.dumps(r["explanation"])) for r in rows]

    run(scenario())


async def exported(ledger: Ledger, posted: Iterable[Json]) -> list[Json]:
    """What was posted, with the instants and batches under which it was recorded."""
    rows = {row.event_id: row for row in await inside.stored(ledger, "acme")}
    found = []
    for event in posted:
        row = rows[event["event_id"]]
        times = {"occurred_at": text(row.occurred_at), "received_at": text(row.at)}
        found.append(event | times | {"batch_id": row.batch_id})
    return found


def filed(raw: Json, posted: Iterable[Json], end: int) -> list[Json]:
    """The decisions of an events-file backtest over the same events."""
    lines = [orjson.dumps(event) for event in posted]
    batches = backtest.batches(events_file.read(lines))
    rules = configs.ruleset("acme", Revision(f"r1-{configs.digest(raw)}", 0, 0, raw))
    until = end - max(batch.at for batch in batches)
    return [
        row for row in backtest.run("acme", rules, batches, until) if row["kind"] in ("offered", "withheld")
    ]


def test_the_result_is_the_same_under_any_process_count_and_database(
    run: Run, sqlite_url: str, postgres_url: str
) -> None:
    candidate = playing.config()
    candidate["triggers"][1]["criteria"]["conditions"][0]["at_least"] = 2
    candidate["triggers"].pop(2)

    async def scenario(url: str) -> list[bytes]:
        ledger, clock = open_ledger(url), FakeClock()
        try:
            async with inside.serving(ledger, clock) as service:
                await service.put_config("acme", playing.config())
                await playing.play(service, clock, 100, 3)
                middle = clock.instant
                await playing.play(service, clock, 60, 4)
                found = [
                    await backtested(
                        service, candidate, middle, service.clock.now(), processes=n, until=SECOND
                    )
                    for n in (1, 2, 3)
                ]
                assert told(found[0])
                return [bytes_of(each) for each in found]
        finally:
            await ledger.close()

    answers = [each for url in (sqlite_url, postgres_url) for each in run(scenario(url))]
    assert len(set(answers)) == 1


# --- one side beside the other -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def playing_acme(ledger: Ledger, raw: Json) -> AsyncIterator[tuple[Service, FakeClock]]:
    clock = FakeClock()
    async with inside.serving(ledger, clock) as service:
        await service.put_config("acme", raw)
        yield service, clock


def simple(at_least: int = 3, **changes: Any) -> Json:
    """One trigger: so many saves in two minutes."""
    return serving.config(
        "acme", triggers=[counting("saves", at_least, goal="bulk", expires_s=60, **changes)]
    )


def counting(name: str, at_least: int, **changes: Any) -> Json:
    count = {"type": "count", "where": {"title_contains": "save"}, "at_least": at_least, "within_s": 120}
    return {"id": name, "name": name.title(), "criteria": count, "cooldown_s": 1} | changes


def row_of(outcome: Outcome, trigger_id: str = "saves") -> Json:
    found: Json = next(row for row in outcome.result["triggers"] if row["trigger_id"] == trigger_id)
    return found


async def save(service: Service, clock: FakeClock, session: str, second: float, **more: Any) -> list[Json]:
    clock.instant = START + int(second * SECOND)
    return (await inside.post(service, "acme", serving.action(session, **more))).decisions


async def tell(
    service: Service, clock: FakeClock, kind: str, session: str, second: float, **data: Any
) -> None:
    clock.instant = START + int(second * SECOND)
    await inside.post(service, "acme", serving.fact(kind, session, **data))


def test_it_says_what_the_candidate_would_offer_displace_and_reach(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with playing_acme(sqlite_ledger, simple(3)) as (service, clock):
            await save(service, clock, "s1", 10)
            await save(service, clock, "s1", 20)
            (offered,) = await save(service, clock, "s1", 30)
            await tell(service, clock, "nudge_shown", "s1", 31, nudge_id=offered["nudge_id"])
            await save(service, clock, "s2", 100, user="u_2")
            await save(service, clock, "s2", 110, user="u_2")
            await tell(service, clock, "goal_reached", "s2", 5_000, user="u_2", goal_id="bulk")
            before, late = simple(2), simple(4)
            late["triggers"].append(counting("never", 99))
            sooner = await backtested(service, before, START, START + 200 * SECOND)
            later = await backtested(service, late, START, START + 200 * SECOND)
        row = row_of(sooner)
        assert row["name"] == "Saves"
        assert row["recorded"] == {"offered": 1, "shown": 1}
        assert row["displaced"] == 0
        withheld = {"cooldown_active": 1, "state_proactive_assistance": 1}
        assert row["in_force"] == {"offered": 1, "users": 1, "sessions": 1, "withheld": withheld, "goals": 0}
        side = row["candidate"]
        assert (side["offered"], side["users"], side["sessions"], side["goals"]) == (2, 2, 2, 1)
        assert side == sooner.result["candidate"]
        assert [s["session_id"] for s in sooner.result["sessions"]] == ["s1", "s2"]
        first = sooner.result["sessions"][0]
        assert first["link"] == "/backtest/decisions?session_id=s1"
        assert first["in_force"] == [{"n": 1, "trigger_id": "saves", "at": offered["at"]}]
        assert first["candidate"][0]["at"] < offered["at"]
        number = first["candidate"][0]["n"]
        assert sooner.decisions["candidate"][number - 1].session_id == "s1"
        # The answer to a nudge with another id than the simulated one says nothing here.
        assert sooner.result["orphaned"] == 1
        gone = row_of(later)
        assert (gone["candidate"]["offered"], gone["displaced"]) == (0, 1)
        assert [(d["nudge_id"], d["session_id"], d["user_id"]) for d in later.result["displaced"]] == [
            (offered["nudge_id"], "s1", "u_1")
        ]
        assert row_of(later, "never")["in_force"] is None

    run(scenario())


def test_a_goal_counts_once_for_an_offer_and_only_in_the_day_after_it() -> None:
    def reached(*at: int) -> int:
        counted = tally.Tally()
        counted._count(*offer_made(0))
        for instant in at:
            counted.reached("bulk", instant, "s1", None)
        return counted.total().goals

    assert reached() == 0
    assert reached(0) == 0, "at the very instant is not afterwards"
    assert reached(0, 1) == 1
    assert reached(5, 6) == 1
    assert reached(DAY) == 1
    assert reached(DAY + 1) == 0


def offer_made(at: int) -> Any:
    timings = events.Timings(1, 1)
    event = events.NudgeOffered("saves", "u1", at, at + 60, timings, {}, {"summary": ""}, "bulk")
    return Stored("session-s1", "n1", event, at, None, None, None), event


def test_it_begins_with_the_real_states_and_real_offers_before_the_window(
    sqlite_ledger: Ledger, run: Run
) -> None:
    """A limit spent before counts; an answer to a nudge of before is no orphan; what happened before
    belongs to the criteria's windows."""

    async def scenario() -> None:
        once = simple(3, limits={"per_user": {"times": 1, "per": "week"}})
        async with playing_acme(sqlite_ledger, once) as (service, clock):
            for second in (10, 20, 30):
                decided = await save(service, clock, "s1", second)
            for second in (40, 50):
                await save(service, clock, "s9", second, user="u_9")
            middle = START + 60 * SECOND
            await tell(service, clock, "nudge_shown", "s1", 61, nudge_id=decided[0]["nudge_id"])
            await tell(service, clock, "option_clicked", "s1", 62, nudge_id="unheard-of", option_id="yes")
            await save(service, clock, "s9", 70, user="u_9")
            for second in (1_000, 1_010, 1_020):
                await save(service, clock, "s2", second)
            found = await backtested(service, once, middle, service.clock.now())
            assert told(found) == told(found, "in_force")
            assert [each[:3] for each in seconds(found) if each[2] == "offered"] == [(70, "s9", "offered")]
            assert (1_020, "s2", "withheld", "saves", "limit_reached") in seconds(found)
            assert found.result["orphaned"] == 1
            assert (found.result["events"], found.result["sessions_seen"], found.result["users"]) == (6, 3, 2)
            assert row_of(found)["recorded"] == {"offered": 1, "shown": 0}

    run(scenario())


def test_sessions_active_in_the_day_before_are_looked_at_anew_as_after_a_put(
    sqlite_ledger: Ledger, run: Run
) -> None:
    dwell = {"type": "user_page_dwell", "dwell_threshold_seconds": 50}
    candidate = serving.config(
        "acme", context={"lookback_s": 3600}, triggers=[{"id": "d", "criteria": dwell}]
    )

    async def scenario() -> None:
        async with playing_acme(sqlite_ledger, simple()) as (service, clock):
            await save(service, clock, "s1", 0)
            clock.instant = START + 500 * SECOND
            found = await backtested(service, candidate, START + 30 * SECOND, service.clock.now())
            assert seconds(found)[:2] == [
                (50, "s1", "offered", "d", "ok"),
                (80, "s1", "withheld", "d", "state_proactive_assistance"),
            ]
            assert found.result["events"] == 0
            # Time ends with the window, or as much later as was asked.
            end = START + 40 * SECOND
            assert told(await backtested(service, candidate, START + 30 * SECOND, end)) == []
            longer = await backtested(service, candidate, START + 30 * SECOND, end, until=11 * SECOND)
            assert len(told(longer)) == 1

    run(scenario())


def test_what_comes_due_at_the_first_instant_belongs_to_the_window(sqlite_ledger: Ledger, run: Run) -> None:
    dwell = {"type": "user_page_dwell", "dwell_threshold_seconds": 50}
    raw = serving.config("acme", context={"lookback_s": 3600}, triggers=[{"id": "d", "criteria": dwell}])

    async def scenario() -> None:
        async with playing_acme(sqlite_ledger, raw) as (service, clock):
            await save(service, clock, "s1", 0)
            await playing.until(service, clock, START + 100 * SECOND)
            real = await recorded(sqlite_ledger)
            assert [(each[2], each[4]) for each in real[:2]] == [
                ("offered", "ok"),
                ("withheld", "state_proactive_assistance"),
            ]
            for first in (0, 1):
                found = await backtested(service, raw, real[first][0], clock.instant)
                assert told(found) == told(found, "in_force") == real[first:]

    run(scenario())


def test_a_corrected_label_counts_from_its_own_instant_on(sqlite_ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with playing_acme(sqlite_ledger, simple(3)) as (service, clock):
            await save(service, clock, "s1", 10)
            wrong = serving.action("s1", title="div.btn-7")
            clock.instant = START + 20 * SECOND
            await inside.post(service, "acme", wrong)
            clock.instant = START + 30 * SECOND
            correction = events.ActionRelabelled(wrong["event_id"], "2", title="Save changes")
            fact = ("session-s1", correction, "x")
            await service.recorder.submit(EngineJob("acme", service.clock.new_id(), facts=(fact,)))
            (await service.product("acme")).drop("session-s1")  # it was folded without it
            await save(service, clock, "s1", 40)
            found = await backtested(service, simple(3), START, service.clock.now())
            assert told(found) == await recorded(sqlite_ledger)
            assert [each[0] for each in seconds(found)] == [40]

    run(scenario())


# --- size --------------------------------------------------------------------------------------------


def test_pages_shelves_and_cut_lists_change_no_figure(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the page and however few the states in memory; what is cut says so."""
    raw, candidate = playing.config(), playing.config()
    candidate["triggers"][1]["criteria"]["conditions"][0]["at_least"] = 2

    async def scenario() -> None:
        async with playing_acme(sqlite_ledger, raw) as (service, clock):
            await playing.play(service, clock, 20, 7)
            start = clock.instant
            await playing.play(service, clock, 140, 8)
            whole = await backtested(service, candidate, start, service.clock.now())
            assert not whole.result["truncated"]
            monkeypatch.setattr(window, "PAGE", 3)
            sessions, users = shelf.sessions, shelf.users
            monkeypatch.setattr(shelf, "sessions", lambda load: sessions(load, 1))
            monkeypatch.setattr(shelf, "users", lambda load: users(load, 1))
            assert bytes_of(await backtested(service, candidate, start, service.clock.now())) == bytes_of(
                whole
            )
            for module in (comparison, results):
                monkeypatch.setattr(module, "MOST_LISTED", 2)
            monkeypatch.setattr(results, "MOST_DECISIONS", 5)
            cut = await backtested(service, candidate, start, service.clock.now())
            assert cut.result["triggers"] == whole.result["triggers"]
            assert cut.decisions["candidate"] == whole.decisions["candidate"][:5]
            assert cut.result["truncated"]
            assert len(cut.result["sessions"]) == 2 < cut.result["sessions_differing"]
            assert None in [o["n"] for s in cut.result["sessions"] for o in s["candidate"]] or all(
                o["n"] <= 5 for s in cut.result["sessions"] for o in s["candidate"]
            )

    run(scenario())


def test_rules_over_properties_see_them_sealed_as_they_are(sqlite_ledger: Ledger, run: Run) -> None:
    where = {"properties": {"plan": "pro"}}
    count = {"type": "count", "where": where, "at_least": 2, "within_s": 120}
    candidate = serving.config("acme", triggers=[{"id": "p", "criteria": count}])

    async def scenario() -> None:
        async with playing_acme(sqlite_ledger, simple(9)) as (service, clock):
            for second, plan_ in ((10, "pro"), (20, "free"), (30, "pro"), (40, "free")):
                event = serving.action("s1")
                event["data"] |= {"properties": {"plan": plan_}}
                clock.instant = START + second * SECOND
                await inside.post(service, "acme", event)
            for start in (0, 25):
                found = await backtested(service, candidate, START + start * SECOND, service.clock.now())
                assert seconds(found)[0] == (30, "s1", "offered", "p", "ok")

    run(scenario())


def test_a_window_without_events_comes_to_nothing(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with playing_acme(ledger, simple()) as (service, clock):
            await save(service, clock, "s1", 10)
            for start, end in ((-500, -400), (20, 30)):
                found = await backtested(service, simple(1), START + start * SECOND, START + end * SECOND)
                assert (found.result["events"], told(found), found.result["displaced"]) == (0, [], [])

    run(scenario())


# --- what a window is made of ------------------------------------------------------------------------


def read_window(start: int, end: int) -> window.Window:
    return window.Window("acme", start, end, 0, 0, 10, 10, 1, 10, 10)


def row(seq: int, kind: str, at: int, batch: str, stream: str = "session-s1", **data: Any) -> Recorded:
    origin = "engine" if kind == "action_relabelled" else "outside"
    made = (seq, "acme", seq, stream, seq, kind, 1, origin, f"e{seq}", at, at, at, None, None, False, batch)
    stored = orjson.dumps(data)
    return Recorded(*made, None, None, "host", "r1", "1", stored, None, None, b"", b"")


def test_batches_are_those_recorded_across_pages_and_time_does_not_go_back() -> None:
    clicked = {"type": "click", "title": "Save"}
    rows = [
        row(1, "action", 5, "b0", **clicked),  # before the window
        row(2, "action", 30, "b1", **clicked),
        row(3, "action", 30, "b1", **clicked),
        row(4, "action_relabelled", 29, "b2", action_id="e2", labeller="2", title="Open"),
        row(5, "action", 28, "b1", stream="session-s2", **clicked),  # a server whose clock was behind
        row(6, "reaction", 40, "b3", stream="user-u1", value="up"),
        row(7, "action", 51, "b4", **clicked),  # after it
    ]
    batcher = window.Batcher(read_window(10, 50), lambda stream: True)
    steps = [step for each in rows for step in batcher.take([each], None)] + batcher.rest()
    assert [(step.at, step.session_id) for step in steps] == [(30, "s1"), (30, "s1"), (30, "s2"), (40, None)]
    first, correction, _, of_user = steps
    assert isinstance(first, Batch)
    assert [told.event_id for told in first.events] == ["e2", "e3"]
    assert isinstance(correction, Correction)
    assert isinstance(of_user, Batch)
    assert of_user.user_id == "u1"


def test_what_the_service_added_to_a_recorded_step_is_resolved_anew() -> None:
    """The tour may be registered under another id, or not at all, in the config that is tried."""
    told = window.told(row(1, "tour_step", 5, "b", tour_id="flow_1", step=1, registry_id="old"), None)
    for tours, registry_id in ([], None), ([{"id": "new", "user_tour_id": "flow_1"}], "new"):
        turn = Turn("acme", ruleset([], tours=tours), World({}, {}, complete=True), 5)
        turn.record("s", [told], 5)
        assert turn.stored[0].event == events.TourStep("flow_1", 1, registry_id)


def test_only_what_was_really_shown_is_displaced_and_only_far_from_a_simulated_offer() -> None:
    timings = {"session_timeout": 1, "session_cooldown": 1}
    said = {"user_id": "u1", "noticed_at": 100, "expires_at": 160, "timings": timings}
    said |= {"trigger_id": "t", "message": {}, "explanation": {}}
    real = Real()
    for seq in (1, 2):
        real.offered(row(seq, "nudge_offered", 100, "b", **said))
    real.shown("e1")
    real.shown("unheard-of")
    assert real.by_trigger() == {"t": (2, 1)}

    def displaced(*offers: tally.Offer) -> list[str]:
        return [nudge.nudge_id for nudge in real.displaced({"s1": offers})]

    assert displaced() == ["e1"]
    assert displaced(tally.Offer("t", 40, None)) == displaced(tally.Offer("t", 160, None)) == []
    assert displaced(tally.Offer("t", 39, None)) == displaced(tally.Offer("t", 161, None)) == ["e1"]
    assert displaced(tally.Offer("other", 100, None)) == ["e1"]
