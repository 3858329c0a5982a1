"""Backtests: a config over recorded events, in virtual time, to the byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from api import events_file
from domain import config_parse, events
from domain.errors import InvalidInput
from domain.instants import SECOND
from domain.run import Live, Stored, Turn, World
from domain.triggers import Ruleset
from domain.user import UserState
from projections.backtesting import backtest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "api" / "examples"
START = 1_795_166_720  # s
Json = dict[str, Any]


def example(name: str) -> Json:
    parsed: Json = yaml.safe_load((EXAMPLES / name).read_text())
    return parsed


BULK = example("bulk-edit.yaml")
STUCK = example("onboarding-stuck.yaml")


def action(second: float, title: str = "Save changes", session: str | None = "s1", **more: Any) -> Json:
    """A click in the projects list, `second` s after the start."""
    data = {"type": "click", "title": title, "raw_url": "https://app.test/projects", **more.pop("data", {})}
    line = {"type": "action", "session_id": session, "user_id": "u1", "occurred_at": START + second}
    return {**line, "data": data, **more}


def event(second: float, type_: str, session: str | None = "s1", **data: Any) -> Json:
    line = {"type": type_, "session_id": session, "user_id": "u1", "occurred_at": START + second}
    return {**line, "data": data}


def saves(*at: float, session: str = "s1", **more: Any) -> list[Json]:
    return [action(second, session=session, **more) for second in at]


def config(**trigger: Any) -> Json:
    """One trigger, quick to time out: met by three clicks on Save within two minutes."""
    count = {"type": "count", "where": {"title_contains": "save"}, "at_least": 3, "within_s": 120}
    known = {"id": "t1", "name": "T1", "criteria": count, "cooldown_s": 30}
    return {
        "schema": 1,
        "product_id": "acme",
        "session": {"interaction_timeout_s": 10, "cooldown_period_s": 20},
        "triggers": [{**known, **trigger}],
    }


def encoded(lines: Iterable[Json]) -> list[bytes]:
    return [orjson.dumps(line) + b"\n" for line in lines]


def ruleset(raw: Json) -> Ruleset:
    return Ruleset(config_parse.parse(raw), None)


def run(raw: Json, lines: Iterable[Json], until: float = 0) -> list[Json]:
    """The rows, `at` in seconds after the start."""
    found = backtest.batches(events_file.read(encoded(lines)))
    rows = list(backtest.run(raw["product_id"], ruleset(raw), found, int(until * SECOND)))
    for row in rows:
        if "at" in row:
            row["at"] = row["at"] / SECOND - START
    return rows


def kinds(rows: Iterable[Json]) -> list[tuple[Any, ...]]:
    """(at, session, kind, what) of every row but the summary."""
    what = {"offered": "trigger_id", "withheld": "reason", "transition": "to"}
    return [
        (row["at"], row["session_id"], row["kind"], row[what[row["kind"]]])
        for row in rows
        if row["kind"] != "summary"
    ]


def offers(rows: Iterable[Json]) -> list[tuple[float, str]]:
    return [(row["at"], row["session_id"]) for row in rows if row["kind"] == "offered"]


# --- the shipped examples ----------------------------------------------------------------------------


def test_bulk_edit_is_offered_at_the_third_save_with_the_engine_s_own_explanation() -> None:
    lines = [{**line, "event_id": f"e{n}"} for n, line in enumerate(saves(0, 20, 40))]
    rows = run(BULK, lines)
    assert kinds(rows) == [
        (40, "s1", "offered", "bulk_edit_opportunity"),
        (40, "s1", "transition", "proactive_assistance"),
    ]
    offered, moved, summary = rows
    assert list(offered) == ["kind", "at", "session_id", "user_id", "trigger_id", "explanation"]
    assert offered["user_id"] == "u1"
    page, absent, count = offered["explanation"]["criteria"]["conditions"]
    assert (page["verdict"], absent["observed"], count["observed"]) == (True, 0, 3)
    assert count["evidence"] == ["e0", "e1", "e2"]
    assert all(gate["open"] for gate in offered["explanation"]["gates"])
    assert moved == {
        "kind": "transition",
        "at": 40,
        "session_id": "s1",
        "from": "thinking",
        "to": "proactive_assistance",
        "cause": "nudge_offered",
    }
    assert summary == {
        "kind": "summary",
        "events": 3,
        "sessions": 1,
        "users": 1,
        "offered": {"bulk_edit_opportunity": 1},
        "withheld": {},
        "orphaned": 0,
        "seconds": 0.0,
    }


@pytest.mark.parametrize("title", ["Bulk edit", "Apply to all"])
def test_bulk_edit_stays_silent_where_it_was_used_in_the_session(title: str) -> None:
    rows = run(BULK, [action(-3000, title), *saves(0, 20, 40, 60)])
    assert kinds(rows) == []
    assert rows[-1]["offered"] == {}


def test_bulk_edit_stays_silent_away_from_the_list_and_beyond_two_minutes() -> None:
    elsewhere = action(41, "Home", data={"type": "pageview", "raw_url": "https://app.test/home"})
    third = action(41, data={"raw_url": "https://app.test/home"})
    assert offers(run(BULK, [*saves(0, 20), elsewhere, third])) == []
    assert offers(run(BULK, saves(0, 60, 120.000001))) == []
    assert offers(run(BULK, saves(0, 60, 120))) == [(120, "s1")]


def test_bulk_edit_is_offered_once_a_session_and_again_in_another() -> None:
    more = saves(*range(1000, 1060, 10))
    other = saves(2000, 2010, 2020, session="s2")
    rows = run(BULK, [*saves(0, 20, 40), *more, *other])
    assert offers(rows) == [(40, "s1"), (2020, "s2")]
    assert rows[-1]["withheld"]["limit_reached"] == 1


def test_the_stuck_step_is_offered_at_the_third_open_once_a_session_and_not_after_completion() -> None:
    def opened(second: float, session: str = "s1", kind: str = "data_source_open") -> Json:
        return action(second, "Connect", session, data={"type": kind})

    rows = run(STUCK, [opened(second) for second in (0, 50, 100, 500, 510, 520)])
    assert offers(rows) == [(100, "s1")]
    done = [opened(0), opened(1), opened(2, kind="data_source_connected"), opened(3)]
    assert offers(run(STUCK, done)) == []


# --- virtual time ------------------------------------------------------------------------------------


def test_timeout_and_cooldown_take_effect_at_their_own_instants() -> None:
    """Offer at 2; timeout due at 12; cooldown over at 32, when three saves are still in the window."""
    rows = run(config(), saves(0, 1, 2), until=60)
    assert kinds(rows)[:6] == [
        (2, "s1", "offered", "t1"),
        (2, "s1", "transition", "proactive_assistance"),
        (12, "s1", "transition", "thinking"),
        (12, "s1", "withheld", "cooldown_active"),
        (32, "s1", "offered", "t1"),
        (32, "s1", "transition", "proactive_assistance"),
    ]
    assert [row["cause"] for row in rows if row["kind"] == "transition"][:2] == [
        "nudge_offered",
        "interaction_timed_out",
    ]
    assert "missed" not in rows[-1]["withheld"]


def test_until_reaches_what_is_due_at_its_very_end_and_no_microsecond_more() -> None:
    lines = saves(0, 1, 2)
    assert offers(run(config(), lines, until=30)) == [(2, "s1"), (32, "s1")]
    assert offers(run(config(), lines, until=29.999999)) == [(2, "s1")]
    assert [row["kind"] for row in run(config(), lines)] == ["offered", "transition", "summary"]


def test_dwell_fires_though_nothing_happens() -> None:
    raw = config(criteria={"type": "user_page_dwell", "dwell_threshold_seconds": 60})
    assert offers(run(raw, saves(0), until=59)) == []
    assert offers(run(raw, saves(0), until=60)) == [(60, "s1")]
    later = action(500, session="s2", user_id="u2")
    assert offers(run(raw, [*saves(0), later]))[0] == (60, "s1")


def test_at_one_instant_an_outside_event_comes_before_the_timeout() -> None:
    """A chat message at the due instant is an interaction: the timeout moves on."""
    chat = {"role": "user", "text": "hi"}
    lines = [*saves(0, 1, 2), event(12, "chat_message", **chat)]
    moved = [(row["at"], row["to"]) for row in run(config(), lines, 60) if row["kind"] == "transition"]
    assert moved[:2] == [(2, "proactive_assistance"), (22, "thinking")]
    late = [*saves(0, 1, 2), event(12.000001, "chat_message", **chat)]
    moved = [(row["at"], row["to"]) for row in run(config(), late, 60) if row["kind"] == "transition"]
    assert [to for _, to in moved[:3]] == ["proactive_assistance", "thinking", "reactive_assistance"]
    assert [at for at, _ in moved[:3]] == pytest.approx([2, 12, 12.000001], abs=1e-6)


def test_at_one_instant_sessions_come_by_their_ids_whatever_the_file_says() -> None:
    """Also a timer of an early session beside an outside event of a late one."""
    late_first = [
        *saves(0, 1, 2, session="b", user_id="u2"),
        *saves(0, 1, 2, session="a", user_id="u1"),
        *saves(10, 11, 12, session="c", user_id="u3"),
    ]
    rows = kinds(run(config(), late_first))
    assert [row[:3] for row in rows if row[0] == 2] == [
        (2, "a", "offered"),
        (2, "a", "transition"),
        (2, "b", "offered"),
        (2, "b", "transition"),
    ]
    assert [(s, kind, what) for at, s, kind, what in rows if at == 12 and kind != "withheld"] == [
        ("a", "transition", "thinking"),
        ("b", "transition", "thinking"),
        ("c", "offered", "t1"),
        ("c", "transition", "proactive_assistance"),
    ]


def test_of_a_user_s_two_sessions_met_at_one_instant_the_first_by_id_is_offered() -> None:
    lines = [*saves(0, 1, 2, session="b"), *saves(0, 1, 2, session="a")]
    rows = kinds(run(config(), lines))
    assert [row for row in rows if row[2] != "transition"] == [
        (2, "a", "offered", "t1"),
        (2, "b", "withheld", "user_busy"),
    ]


def test_lines_in_any_order_are_simulated_in_the_order_of_receipt() -> None:
    lines = [{**line, "event_id": f"e{n}"} for n, line in enumerate(saves(0, 20, 40))]
    assert run(BULK, lines[::-1]) == run(BULK, lines)


def test_a_batch_out_of_order_is_refused() -> None:
    found = backtest.batches(events_file.read(encoded(saves(0, 1))))
    with pytest.raises(ValueError, match="order"):
        list(backtest.run("acme", ruleset(config()), found[::-1]))


# --- batches -----------------------------------------------------------------------------------------


def test_a_batch_is_evaluated_once_after_its_last_event() -> None:
    """Three saves and a use of bulk edit in one request: nothing is offered between them."""
    together = [*saves(0, 1, 2), action(3, "Bulk edit")]
    assert offers(run(BULK, together)) == [(2, "s1")]
    received = [{**line, "received_at": START + 3} for line in together]
    assert offers(run(BULK, received)) == []
    named = [{**line, "batch_id": "b1"} for line in together]
    assert offers(run(BULK, named)) == []


def test_batch_ids_part_what_was_received_at_one_instant() -> None:
    lines = [*saves(0, 1, 2), action(3, "Bulk edit")]
    parted = [
        {**line, "received_at": START + 3, "batch_id": "first" if n < 3 else "second"}
        for n, line in enumerate(lines)
    ]
    assert offers(run(BULK, parted)) == [(3, "s1")]


def test_a_batch_id_is_one_session_s_own() -> None:
    lines = [{**line, "batch_id": "same"} for line in (*saves(0, 1), *saves(2, session="s2"))]
    found = backtest.batches(events_file.read(encoded(lines)))
    assert [(b.session_id, len(b.events), b.at) for b in found] == [
        ("s1", 2, (START + 1) * SECOND),
        ("s2", 1, (START + 2) * SECOND),
    ]


# --- duplicates, orphans, users ----------------------------------------------------------------------


def test_an_id_that_came_before_changes_nothing() -> None:
    lines = [{**action(second), "event_id": event_id} for second, event_id in ((0, "a"), (1, "b"), (2, "b"))]
    rows = run(config(), lines)
    assert kinds(rows) == []
    assert rows[-1]["events"] == 2
    assert offers(run(config(), [*lines, {**action(3), "event_id": "c"}])) == [(3, "s1")]


def test_recorded_answers_to_nudges_that_were_not_offered_here_are_ignored_and_counted() -> None:
    """The click would be an interaction and move the timeout, were it not an orphan."""
    orphans = [
        event(5, "nudge_shown", nudge_id="n-live"),
        event(6, "option_clicked", option_id="yes", nudge_id="n-live"),
        event(7, "nudge_dismissed", nudge_id="n-live", by="user"),
    ]
    rows = run(config(), [*saves(0, 1, 2), *orphans], until=30)
    assert [row[0] for row in kinds(rows) if row[3] == "thinking"] == [12]
    assert rows[-1]["orphaned"] == 3
    assert rows[-1]["events"] == 6


def test_answers_to_nudges_that_were_offered_here_count_and_so_does_a_click_that_names_none() -> None:
    lines = [{**line, "event_id": f"e{n}"} for n, line in enumerate(saves(0, 1, 2))]
    (offered,) = [s for s in simulated(config(), lines) if isinstance(s, Stored)]
    click = event(6, "option_clicked", option_id="yes", nudge_id=offered.event_id)
    rows = run(config(), [*lines, click], until=30)
    assert rows[-1]["orphaned"] == 0
    assert [row[0] for row in kinds(rows) if row[3] == "thinking"] == [16]
    rows = run(config(), [*lines, event(7, "option_clicked", option_id="yes")], until=30)
    assert rows[-1]["orphaned"] == 0
    assert [row[0] for row in kinds(rows) if row[3] == "thinking"] == [17]


def test_an_event_without_a_session_goes_to_its_user() -> None:
    """The anonymous user's offers count for the user that they turn out to be."""
    raw = config(limits={"per_user": {"times": 1, "per": "ever"}})
    before = saves(0, 1, 2, session="s1", user_id="anon")
    after = saves(100, 101, 102, session="s2", user_id="ada")
    known = {**event(50, "user_identified", None, previous_id="anon"), "user_id": "ada"}
    assert offers(run(raw, [*before, *after])) == [(2, "s1"), (102, "s2")]
    rows = run(raw, [*before, known, *after])
    assert offers(rows) == [(2, "s1")]
    assert (rows[-1]["events"], rows[-1]["sessions"], rows[-1]["users"]) == (7, 2, 2)
    assert (102, "s2", "withheld", "limit_reached") in kinds(rows)


# --- the file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "path", "detail"),
    [
        (b'{"type": "action"', "line 3", "malformed JSON at column"),
        (b"[]", "line 3", "must be an object"),
        (orjson.dumps({**action(0), "data": {"type": "click"}}), "line 3: data.title", "is required"),
        (orjson.dumps({**action(0), "occurred_at": "soon"}), "line 3: occurred_at", "RFC 3339"),
        (orjson.dumps({**action(0), "receivd_at": 1}), "line 3: receivd_at", "received_at"),
        (orjson.dumps({**action(0), "occurred_at": None}), "line 3", "received_at or occurred_at"),
        (orjson.dumps({**action(0, session=None), "user_id": None}), "line 3", "session_id or user_id"),
        (orjson.dumps({**action(0), "type": "nudge_offered"}), "line 3: type", "made by the engine"),
        (b'{"type": "action", "type": "action"}', "line 3: type", "twice"),
    ],
)
def test_a_bad_line_is_named_with_its_field(bad: bytes, path: str, detail: str) -> None:
    lines = [*encoded([action(0)]), b" \r\n", bad + b"\r\n", b"never read"]
    reader = events_file.read(lines)
    assert next(reader).event_id is not None
    with pytest.raises(InvalidInput) as caught:
        next(reader)
    fault = caught.value.faults[0]
    assert fault.path == path
    assert detail in fault.detail


def test_ids_of_lines_without_one_are_derived_differ_and_keep_the_file_s_order() -> None:
    lines = encoded([action(0), action(0), action(0, "Other")]) * 4
    ids = [line.event_id for line in events_file.read(lines)]
    assert ids == [line.event_id for line in events_file.read(lines)]
    assert len(set(ids)) == 12
    assert ids == sorted(str(event_id) for event_id in ids)


def test_receipt_defaults_to_occurrence_and_may_stand_alone() -> None:
    given = [action(5), {**action(5), "received_at": START + 9}, {**action(0), "occurred_at": None}]
    given[2]["received_at"] = f"{START + 7}"
    read = list(events_file.read(encoded(given)))
    assert [(e.received_at - START * SECOND, e.occurred_at - START * SECOND) for e in read] == [
        (5 * SECOND, 5 * SECOND),
        (9 * SECOND, 5 * SECOND),
        (7 * SECOND, 7 * SECOND),
    ]


# --- the output --------------------------------------------------------------------------------------


def test_a_row_is_one_line_with_its_keys_in_order_and_its_instant_with_six_decimals() -> None:
    row = {"kind": "transition", "at": START * SECOND + 40, "session_id": "ß", "from": "a"}
    assert backtest.line(row) == (
        b'{"kind":"transition","at":1795166720.000040,"session_id":"\xc3\x9f","from":"a"}\n'
    )
    assert row["at"] == START * SECOND + 40


def test_seconds_are_the_caller_s_clock_and_nothing_else_is() -> None:
    found = backtest.batches(events_file.read(encoded(saves(0, 1, 2))))
    ticks = iter([5.0, 7.25])
    timed = list(backtest.run("acme", ruleset(config()), found, clock=lambda: next(ticks)))
    plain = list(backtest.run("acme", ruleset(config()), found))
    assert timed[-1].pop("seconds") == 2.25
    assert plain[-1].pop("seconds") == 0.0
    assert timed == plain


def test_the_first_offer_is_out_before_the_last_batch_is_in() -> None:
    """Output is given as virtual time passes, never held until the end."""
    found = backtest.batches(events_file.read(encoded([*saves(0, 1, 2), *saves(500, 600)])))
    taken: list[int] = []

    def feed() -> Iterator[backtest.Batch]:
        for batch in found:
            taken.append(batch.at)
            yield batch

    row = next(backtest.run("acme", ruleset(config()), feed()))
    assert row["kind"] == "offered"
    assert len(taken) == 4


_PRINT = """
import sys, yaml
from pathlib import Path
from api import events_file
from domain import config_parse
from domain.triggers import Ruleset
from projections.backtesting import backtest
raw = yaml.safe_load(Path(sys.argv[1]).read_text())
with open(sys.argv[2], "rb") as lines:
    found = backtest.batches(events_file.read(lines))
rows = backtest.run(raw["product_id"], Ruleset(config_parse.parse(raw), None), found, 300_000_000)
sys.stdout.buffer.writelines(map(backtest.line, rows))
"""


def test_two_processes_with_different_hash_seeds_print_the_same_bytes(tmp_path: Path) -> None:
    raw = config(holdout=0.2)
    raw["triggers"] += [
        {"builtin": "canonical_url_ping_pong"},
        {"id": "t2", "name": "T2", "criteria": {"type": "user_page_dwell", "dwell_threshold_seconds": 9}},
    ]
    lines = [
        action(n * 1.5, ["Save changes", "Open"][n % 2], f"s{n % 7}", user_id=f"u{n % 4}",
               data={"raw_url": f"https://app.test/{'abc'[n % 3]}", "properties": {"a": n, "b": "x"}})
        for n in range(300)
    ]  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "events.jsonl").write_bytes(b"".join(encoded(lines)))
    printed = [
        subprocess.run(
            [sys.executable, "-c", _PRINT, str(tmp_path / "config.yaml"), str(tmp_path / "events.jsonl")],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    rows = [orjson.loads(line) for line in printed[0].splitlines()]
    assert {row["kind"] for row in rows} == {"offered", "withheld", "transition", "summary"}
    places = [(row["at"], row["session_id"]) for row in rows[:-1]]
    assert places == sorted(places)


# --- the same engine as live -------------------------------------------------------------------------


def simulated(raw: Json, lines: Iterable[Json], until: int = 0) -> list[Any]:
    """What the engine concluded: stored decisions and transitions."""
    found = backtest.batches(events_file.read(encoded(lines)))
    return list(backtest.Simulation(raw["product_id"], ruleset(raw)).over(found, until))


Request = tuple[int, str, list[Json]]  # instant in µs, session, events


def lived(raw: Json, requests: list[Request], end: int) -> tuple[list[Stored], list[Json]]:
    """Drive turns as a service does: every timer a little late, found by looking at every session.

    Gives all that was stored, and the exported outside events.
    """
    rules, product = ruleset(raw), raw["product_id"]
    sessions: dict[str, Live] = {}
    users: dict[str, UserState] = {}
    stored: list[Stored] = []
    exported: list[Json] = []

    def take(turn: Turn) -> None:
        sessions.update(turn.world.changed_sessions)
        users.update(turn.world.changed_users)
        stored.extend(turn.stored)

    def wake(before: int) -> None:
        while True:
            waiting = [(due, name) for name, live in sessions.items() if (due := live.due()) is not None]
            if not waiting or min(waiting)[0] >= before:
                return
            due, name = min(waiting)
            turn = Turn(product, rules, World(sessions, users, complete=True), due + 1)
            turn.timers(name, due + 1)
            take(turn)

    for number, (at, session_id, lines) in enumerate(requests):
        wake(at)
        named = [
            {**line, "event_id": f"r{number}-{n}", "received_at": at / SECOND, "batch_id": f"r{number}"}
            for n, line in enumerate(lines)
        ]
        turn = Turn(product, rules, World(sessions, users, complete=True), at)
        turn.record(session_id, list(events_file.read(encoded(named))), at)
        take(turn)
        exported += named
    wake(end)
    return stored, exported


@st.composite
def traffic(draw: st.DrawFn) -> list[Request]:
    """Requests of three sessions of two users, never two at one instant."""
    now, requests = START * SECOND, []
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([500_000, 3 * SECOND, 10 * SECOND, 20 * SECOND, 45 * SECOND]))
        session = draw(st.sampled_from(["a", "b", "c"]))
        second = now / SECOND - START
        line = draw(
            st.sampled_from(
                [
                    *[action(second, title, session) for title in ("Save changes", "Save", "Open")],
                    event(second, "chat_message", session, role="user", text="hi"),
                    event(second, "option_clicked", session, option_id="yes"),
                    event(second, "tour_started", session, tour_id="any"),
                ]
            )
        )
        lines = [{**line, "user_id": "u2" if session == "c" else "u1"}] * draw(st.integers(1, 2))
        requests.append((now, session, lines))
    return requests


@settings(max_examples=60, deadline=None)
@given(traffic())
def test_a_backtest_over_what_a_live_run_exported_makes_the_same_decisions(
    requests: list[Request],
) -> None:
    """Ids, triggers, instants and explanations: all but the instant of noticing."""
    raw = config(cooldown_s=7)
    raw["triggers"].append(
        {"id": "t2", "name": "T2", "criteria": {"type": "user_page_dwell", "dwell_threshold_seconds": 9}}
    )
    until = 90 * SECOND
    stored, exported = lived(raw, requests, requests[-1][0] + until + 1)
    assert decisions(stored) == decisions(simulated(raw, exported, until))


def decisions(concluded: Iterable[Any]) -> list[tuple[Any, ...]]:
    return sorted(
        (s.at, s.stream, s.event_id, s.event.trigger_id, orjson.dumps(s.event.explanation))
        for s in concluded
        if isinstance(s, Stored) and isinstance(s.event, (events.NudgeOffered, events.NudgeWithheld))
    )


def test_live_traffic_of_the_property_above_does_offer_and_withhold() -> None:
    """The comparison is not one of two empty lists."""
    requests = [((START + s) * SECOND, "a", [action(s, session="a")]) for s in (0, 1, 2, 5, 50)]
    stored, exported = lived(config(), requests, (START + 200) * SECOND)
    found = decisions(stored)
    assert {row[3] for row in found} == {"t1"}
    assert len({row[0] for row in found}) >= 2
    assert found == decisions(simulated(config(), exported, 149 * SECOND))
