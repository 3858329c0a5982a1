"""Gates, limits, episodes and offers: what an evaluation concludes, and what it must not."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import codec, events
from domain import user as users
from domain.decide import decide
from domain.finding import Finding
from domain.instants import HOUR, SECOND
from domain.run import Missing, Turn, World
from domain.session import SessionState, fold
from domain.triggers import Gate, Situation, evaluate
from tests.domain.builders import Sent, at, click, ruleset, trigger
from tests.domain.given import Given

MICRO = 0.000_001
TIMES: dict[str, Any] = {"session": {"interaction_timeout_s": 20, "cooldown_period_s": 60}}
CHAT = events.ChatMessage("user", "hello")
OFFERED = "offered"


def last(case: Given) -> Any:
    """The newest decision's event."""
    decided = (events.NudgeOffered, events.NudgeWithheld)
    return [s.event for s in case.stored if isinstance(s.event, decided)][-1]


def of(trigger_id: str, case: Given) -> list[tuple[float, str]]:
    return [(seconds, reason) for seconds, named, reason in case.decided() if named == trigger_id]


def hours(n: float) -> float:
    return n * HOUR / SECOND


# --- an offer -----------------------------------------------------------------------------------------


def test_an_offer_says_all_that_a_channel_and_a_replay_need() -> None:
    case = Given(
        trigger(
            body="Need a hand?", interaction_timeout_s=10, expires_s=300, goal="g", how_to="1.", target="#x"
        ),
        **TIMES,
    ).when(0, click("t"))
    offered, spent = case.then()
    assert offered[:2] == ("session-s", "nudge_offered")
    assert spent[:2] == ("user-u", "budget_spent")
    data = offered[2]
    assert data["message"] == {
        "body": "Need a hand?",
        "tours": [],
        "options": [],
        "channels": ["toast"],
        "target": "#x",
        "how_to": "1.",
    }
    assert (data["expires_at"], data["goal"], data["user_id"], data["noticed_at"]) == (
        at(300),
        "g",
        "u",
        at(0),
    )
    assert data["timings"] == {
        "session_timeout": 20 * SECOND,
        "session_cooldown": 60 * SECOND,
        "offer_timeout": 10 * SECOND,
    }
    assert spent[2]["nudge_id"] == case.stored[1].event_id
    assert case.stored[1].cause == "e1"  # the event that caused the evaluation
    assert [(t.source, t.target) for t in case.turns[-1].transitions] == [
        ("thinking", "proactive_assistance")
    ]


def test_an_explanation_has_the_contracts_shape() -> None:
    case = Given(trigger("a"), trigger("b", "a"), trigger("c")).when(0, click("a"))
    assert last(case).explanation["other_triggers"] == [
        {"trigger_id": "a", "verdict": True, "outranked": False},
        {"trigger_id": "c", "verdict": False, "outranked": False},
    ]
    offered = next(s.event for s in case.stored if isinstance(s.event, events.NudgeOffered))
    why = offered.explanation
    assert {"state", "read", "criteria", "gates", "blocked_by", "other_triggers", "tours", "summary"} == set(
        why
    )
    assert why["blocked_by"] is None
    assert why["state"]["current_state"] == "thinking"
    assert why["state"]["cooldown_active"] is False
    assert why["read"] == {"session-s": 1, "user-u": 0}
    assert why["criteria"] == {
        "type": "count",
        "verdict": True,
        "observed": 1,
        "required": ">= 1",
        "evidence": ["e1"],
    }
    assert [gate["gate"] for gate in why["gates"]] == [
        *("state", "session_cooldown", "tour_running", "user_busy", "min_gap", "limit", "quiet_hours"),
        *("trigger_cooldown", "limit", "holdout"),
    ]
    assert all(gate == {"gate": gate["gate"], "open": True, "reason": "ok"} for gate in why["gates"])
    assert why["summary"] == "Offered “a”: 1 action titled “a” in the last 120 s."
    json.dumps(why)  # stored as it is


def test_one_offer_and_the_others_are_outranked() -> None:
    case = Given(trigger("a"), trigger("b", "a")).when(0, click("a"))
    assert case.decided() == [(0, "a", OFFERED), (0, "b", "outranked")]
    assert "outranked" in last(case).reason


def test_an_unknown_verdict_never_fires() -> None:
    def serve(name: str, window: Any, at: int) -> Finding:
        return Finding("predicate", None, required=name)

    leaf = {"type": "predicate", "predicate": "p"}
    for node in (
        leaf,
        {"operator": "NOT", "conditions": [leaf]},
        {"operator": "OR", "conditions": [leaf, leaf]},
    ):
        case = Given({"id": "t", "criteria": node}, predicates=serve).when(0, click())
        assert case.decided() == []


# --- gates, in their order ----------------------------------------------------------------------------


def test_state_then_cooldown_each_once_and_open_again_on_the_microsecond() -> None:
    case = Given(trigger(limits={"per_session": 9}), **TIMES).when(0, CHAT)
    case.when(5, click("t")).when(6, click("t")).when(7, click("t"))
    assert case.decided() == [(5, "t", "state_reactive_assistance")]
    case.on_time(79)
    assert case.decided()[1:] == [(20, "t", "cooldown_active")]
    case.timers(80)
    assert len(case.decided()) == 2
    case.timers(80 + MICRO)
    assert case.decided()[2:] == [(80, "t", OFFERED)]


def test_the_trigger_cooldown_runs_from_the_offer_and_yields_to_the_next_trigger() -> None:
    first = trigger("a", cooldown_s=100, interaction_timeout_s=5)
    case = Given(first, trigger("b"), session={"interaction_timeout_s": 5, "cooldown_period_s": 5})
    case.when(0, click("a")).on_time(11)
    case.when(20, click("a"), click("b"))
    # At 10 the session's cooldown is over and the trigger's own closes; then b takes the slot.
    assert case.decided()[-2:] == [(10, "a", "trigger_cooldown"), (20, "b", OFFERED)]
    case.on_time(100)
    assert (100, "a", OFFERED) not in case.decided()
    case.on_time(100 + MICRO)
    assert case.decided()[-1] == (100, "a", OFFERED)


def test_a_limit_a_session_has_no_end() -> None:
    case = Given(trigger(limits={"per_session": 1}, cooldown_s=1), **TIMES).when(0, click("t"))
    case.on_time(81).when(90, click("t"))
    assert [d for d in case.decided() if d[2] in (OFFERED, "limit_reached")] == [
        (0, "t", OFFERED),
        (80, "t", "limit_reached"),
    ]
    assert case.on_time(hours(48)).decided()[-1] == (80, "t", "limit_reached")
    again = case.when(hours(48), click("t"), session="other")
    assert again.decided()[-1] == (hours(48), "t", OFFERED)  # another session is another count


@pytest.mark.parametrize(
    ("zone", "midnight"), [(None, 12), ("Europe/Berlin", 10), ("America/New_York", 16), ("no/where", 12)]
)
def test_a_day_is_a_calendar_day_where_the_user_is(zone: str | None, midnight: float) -> None:
    """12:00 UTC; the user's zone, else the product's (here UTC); a zone nobody knows counts as none."""
    case = Given(
        trigger(limits={"per_user": {"times": 1, "per": "day"}}, cooldown_s=1), context={"lookback_s": 1}
    )
    case.when(0, events.UserIdentified(timezone=zone)).when(1, click("t"), session="s1")
    case.when(hours(midnight) - 1, click("t"), session="s2")
    assert case.decided() == [(1, "t", OFFERED), (hours(midnight) - 1, "t", "limit_reached")]
    case.timers(hours(midnight), session="s2")
    assert len(case.decided()) == 2
    case.timers(hours(midnight) + MICRO, session="s2")
    assert case.decided()[2:] == [(hours(midnight), "t", OFFERED)]


def test_the_products_zone_where_the_user_gives_none() -> None:
    limits = {"per_user": {"times": 1, "per": "day"}}
    case = Given(trigger("a"), trigger("b"), limits=limits, timezone="Europe/Berlin")
    case.when(0, click("a")).when(hours(9), click("b"), session="s2").when(
        hours(10), click("b"), session="s3"
    )
    assert case.decided() == [(0, "a", OFFERED), (hours(9), "b", "limit_reached"), (hours(10), "b", OFFERED)]


def test_the_limit_of_the_product_stops_every_trigger() -> None:
    case = Given(trigger("a", cooldown_s=1), trigger("b"), limits={"per_user": {"times": 1, "per": "hour"}})
    case.when(0, click("a")).when(200, click("b"), session="s2").when(201, click("b"), session="s2")
    assert case.decided() == [(0, "a", OFFERED), (200, "b", "limit_reached")]


def test_the_gap_between_any_two_offers_to_a_user() -> None:
    case = Given(trigger("a"), trigger("b"), limits={"min_gap_s": 300}).when(0, click("a"))
    case.when(250, click("b"), session="s2").on_time(300)
    assert of("b", case) == [(250, "min_gap")]
    case.on_time(300 + MICRO)
    assert of("b", case) == [(250, "min_gap"), (300, OFFERED)]


def test_no_gap_is_no_gate_even_where_another_offer_lies_later() -> None:
    """A session looked at late sees what was offered elsewhere meanwhile."""
    case = Given(trigger("b"), DWELL).when(0, click(), session="s1").when(31, click("b"), session="s2")
    case.when(32, CHAT, session="s2").timers(33, session="s1")
    assert of("d", case) == [(30, "user_busy")]
    case = Given(trigger("b"), DWELL).when(0, click(), session="s1").when(31, click("b"), session="s2")
    with mock.patch("domain.triggers._user_busy", return_value=Gate("user_busy", True)):
        case.timers(33, session="s1")
    assert of("d", case) == [(30, OFFERED)]


def test_a_user_is_busy_in_another_session_until_its_timeout() -> None:
    case = Given(trigger("a"), trigger("b"), **TIMES).when(0, click("a"), session="s1")
    case.when(5, click("b"), session="s2").when(6, click("b"), session="s2")
    assert case.decided() == [(0, "a", OFFERED), (5, "b", "user_busy")]
    assert last(case).explanation["read"] == {"session-s2": 1, "user-u": 1, "session-s1": 2}
    case.timers(20 + 2 * MICRO, session="s2")  # s1's timeout itself need not be noticed first
    assert case.decided()[2:] == [(20 + MICRO, "b", OFFERED)]


def test_another_users_session_makes_nobody_busy() -> None:
    case = Given(trigger("a"), **TIMES).when(0, click("a"), session="s1", user="u")
    case.when(1, click("a"), session="s2", user="v")
    assert case.decided() == [(0, "a", OFFERED), (1, "a", OFFERED)]
    # u's session is somebody else's from here on
    case.when(2, click("x"), session="s1", user="w").when(200, click("a"), session="s3", user="u")
    assert case.decided()[-1] == (200, "a", OFFERED)


def test_a_session_handed_to_somebody_else_keeps_nobody_busy() -> None:
    case = Given(trigger("a", cooldown_s=1), **TIMES).when(0, click("a"), session="s1", user="u")
    case.when(2, click("x"), session="s1", user="w").when(5, click("a"), session="s3", user="u")
    assert (5, OFFERED) in of("a", case)


def test_a_nudge_offered_to_nobody_yet_makes_its_user_busy_once_known() -> None:
    case = Given(trigger("a"), trigger("b"), **TIMES).when(0, click("a"), session="s1", user=None)
    case.when(1, click("x"), session="s1", user="u").when(5, click("b"), session="s2", user="u")
    assert of("b", case) == [(5, "user_busy")]
    assert [o.trigger_id for o in case.user().offers] == ["a"]


def test_quiet_hours_drop_and_say_so_once_a_night() -> None:
    case = Given(trigger(least=1), limits={"quiet_hours": {"from": "13:00", "to": "14:00"}})
    case.when(3600, click("t")).when(3700, click("t"))
    assert case.decided() == [(3600, "t", "quiet_hours")]
    case.on_time(hours(3))
    assert len(case.decided()) == 1  # dropped: the count left its window long before two o'clock
    case.when(7199, click("t")).timers(7200 + MICRO)
    assert case.decided()[1:] == [(7200, "t", OFFERED)]


def test_a_shared_gate_stops_every_trigger_and_each_says_so() -> None:
    case = Given(trigger("a"), trigger("b"), **TIMES).when(0, CHAT).when(1, click("a"), click("b"))
    assert case.decided() == [(1, "a", "state_reactive_assistance"), (1, "b", "state_reactive_assistance")]


def test_each_entry_into_a_state_is_a_new_episode() -> None:
    case = Given(trigger(), **TIMES).when(0, CHAT).when(1, click("t")).when(30, CHAT).when(31, click("t"))
    assert case.decided() == [
        (1, "t", "state_reactive_assistance"),
        (20, "t", "cooldown_active"),
        (30, "t", "state_reactive_assistance"),
    ]


# --- holdout ------------------------------------------------------------------------------------------


def test_a_holdout_takes_the_slot_and_runs_the_triggers_cooldown() -> None:
    case = Given(trigger("a", holdout=1.0, cooldown_s=50), trigger("b", "a")).when(0, click("a"))
    assert case.decided() == [(0, "a", "holdout"), (0, "b", "outranked")]
    assert [(o.trigger_id, o.holdout) for o in case.user().offers] == [("a", True)]
    assert case.state().current_state == "thinking"
    # While its own cooldown runs, the trigger yields.
    case.when(10, click("x"))
    assert case.decided()[2:] == [(10, "a", "trigger_cooldown"), (10, "b", OFFERED)]


def test_a_holdout_spends_no_budget_and_is_recorded_once_a_day() -> None:
    case = Given(trigger("a", holdout=1.0, cooldown_s=1), limits={"per_user": {"times": 1, "per": "day"}})
    for second in (0, 10, 20, hours(12), hours(12) + 5):
        case.when(second, click("a"))
    assert case.decided() == [(0, "a", "holdout"), (hours(12), "a", "holdout")]


def test_an_episode_that_comes_back_after_another_is_not_recorded_again() -> None:
    case = Given(trigger("h", holdout=1.0, cooldown_s=40), DWELL, trigger("c", "h")).when(0, click("h"))
    case.on_time(115)  # at 110 the holdout takes the slot before c once more, on the same day
    assert of("h", case)[:2] == [(0, "holdout"), (30, "trigger_cooldown")]
    assert [seconds for seconds, reason in of("c", case) if reason == "outranked"] == [0, 30]


def test_the_end_of_a_held_out_triggers_cooldown_wakes_the_session() -> None:
    case = Given(trigger("a", holdout=1.0, cooldown_s=50)).when(0, click("a"))
    assert case.world.session("s").due() == at(50)


def test_a_holdout_holds_its_share_and_always_the_same_users() -> None:
    rules = ruleset([trigger("a", holdout=0.3)])
    held = 0
    for n in range(300):
        case = Given()
        case.rules = rules
        reasons = {case.when(0, click("a"), user=f"user-{n}").decided()[0][2] for _ in range(1)}
        held += reasons == {"holdout"}
    assert 60 <= held <= 120


# --- noticed late -------------------------------------------------------------------------------------

DWELL = {"id": "d", "criteria": {"type": "user_page_dwell", "dwell_threshold_seconds": 30}}


@pytest.mark.parametrize(("noticed", "reason"), [(35, OFFERED), (35 + MICRO, "missed"), (90, "missed")])
def test_an_offer_noticed_more_than_five_seconds_late_is_missed(noticed: float, reason: str) -> None:
    case = Given(DWELL).when(0, click()).timers(noticed)
    assert case.decided() == [(30, "d", reason)]
    assert last(case).noticed_at == at(noticed)
    assert len(case.user().offers) == (reason == OFFERED)  # a missed one spends no budget
    assert (case.state().current_state == "thinking") == (reason == "missed")


def test_after_a_missed_offer_the_next_fact_may_bring_it() -> None:
    case = Given(DWELL).when(0, click()).when(100, click(url=None))
    assert case.decided() == [(30, "d", "missed"), (100, "d", OFFERED)]


def test_a_trigger_that_was_missed_is_woken_when_it_turns_true_again() -> None:
    both = {
        "operator": "OR",
        "conditions": [
            {"type": "count", "where": {"title_equals": "a"}, "at_least": 2, "within_s": 60},
            {"type": "absent", "where": {"title_equals": "a"}, "within_s": 100},
        ],
    }
    node = {
        "operator": "AND",
        "conditions": [both, {"type": "absent", "where": {"title_equals": "b"}, "within_s": 10}],
    }
    case = Given({"id": "t", "criteria": node}).when(0, click("b"), click("a"), click("a")).timers(40)
    assert case.decided() == [(10 + MICRO, "t", "missed")]
    assert case.on_time(101).decided()[1:] == [(100 + MICRO, "t", OFFERED)]


# --- users and merges ---------------------------------------------------------------------------------


def test_counters_of_a_merged_id_are_the_union() -> None:
    case = Given(trigger("a", cooldown_s=1, limits={"per_user": {"times": 2, "per": "ever"}}), **TIMES)
    case.when(0, click("a"), session="s1", user="anon").when(200, click("a"), session="s2", user="u")
    assert case.decided() == [(0, "a", OFFERED), (200, "a", OFFERED)]
    case.when(400, events.UserIdentified("anon"), session="s3", user="u")
    assert [s.stream for s in case.turns[-1].stored[1:]] == ["user-u", "user-anon"]
    case.when(500, click("a"), session="s3", user="u").when(501, click("a"), session="s4", user="anon")
    assert case.decided()[2:] == [(500, "a", "limit_reached"), (501, "a", "limit_reached")]
    assert {"session-s4", "user-u", "user-anon"} <= set(last(case).explanation["read"])


def test_a_merge_holds_from_its_position_onward_and_only_for_an_id_never_identified() -> None:
    case = Given().when(0, events.UserIdentified(), session="s1", user="known")
    case.when(1, events.UserIdentified("known"), session="s2", user="u")
    assert (case.user("u").merged_from, case.user("known").merged_into) == ((), None)
    case.when(2, events.UserIdentified("anon"), user="u").when(3, events.UserIdentified("anon"), user="v")
    assert (case.user("u").merged_from, case.user("v").merged_from) == (("anon",), ())
    case.when(4, events.UserIdentified("u"), user="u")
    assert case.user("u").merged_into is None


def test_what_merges_into_a_merged_id_merges_into_what_that_became() -> None:
    case = Given(trigger("a", cooldown_s=1, limits={"per_user": {"times": 1, "per": "ever"}}))
    case.when(0, click("a"), session="s0", user="phone")
    case.when(100, events.UserIdentified("laptop"), user="u")
    case.when(101, events.UserIdentified("phone"), session="s2", user="laptop")
    assert case.user("u").merged_from == ("laptop", "phone")
    case.when(200, click("a"), session="s3", user="u")
    assert case.decided() == [(0, "a", OFFERED), (200, "a", "limit_reached")]


@pytest.mark.parametrize("seen_before", [False, True])
def test_a_holdout_keeps_the_first_id(seen_before: bool) -> None:
    """The anonymous id came first, unless the user was offered something under the other id before."""
    case = Given(trigger("a"))
    if seen_before:
        case.when(0, click("a"), session="s0", user="u")
    case.when(500, events.UserIdentified("anon"), session="s1", user="u")
    assert case.user("u").holdout_id == ("u" if seen_before else "anon")
    case.when(501, events.UserIdentified("second"), session="s1", user="u")
    assert case.user("u").holdout_id == ("u" if seen_before else "anon")


def test_a_merge_told_without_a_session_says_so_in_both_streams() -> None:
    case = Given()
    turn = Turn("acme", case.rules, case.world, at(0))
    turn.record_user(
        "u", [Sent("e1", events.UserIdentified("anon", timezone="Asia/Tokyo"), "u", at(0))], at(0)
    )
    assert [(s.stream, s.event.TYPE) for s in turn.stored] == [
        ("user-u", "user_identified"),
        ("user-u", "user_linked"),
        ("user-anon", "user_linked"),
    ]
    assert (case.user("u").timezone, case.user("anon").merged_into) == ("Asia/Tokyo", "u")
    again = Turn("acme", case.rules, case.world, at(1))
    again.record_user("u", [Sent("e2", events.UserIdentified(timezone="Asia/Tokyo"), "u", at(1))], at(1))
    assert [s.event.TYPE for s in again.stored] == ["user_identified"]


def test_limits_of_an_unknown_user_count_the_session() -> None:
    case = Given(trigger("a", cooldown_s=1, limits={"per_user": {"times": 1, "per": "ever"}}), **TIMES)
    case.when(0, click("a"), user=None).when(100, click("a"), user=None)
    case.when(101, click("a"), session="s2", user=None)
    assert [d for d in case.decided() if d[2] in (OFFERED, "limit_reached")] == [
        (0, "a", OFFERED),
        (80, "a", "limit_reached"),
        (101, "a", OFFERED),
    ]
    assert not any(s.stream.startswith("user-") for s in case.stored)


# --- closing ------------------------------------------------------------------------------------------


def closed(case: Given) -> list[tuple[str, Any]]:
    return [(s.stream, s.event.reason) for s in case.stored if isinstance(s.event, events.NudgeClosed)]


def test_a_newer_offer_to_the_same_user_supersedes_the_open_one() -> None:
    case = Given(trigger("a"), trigger("b"), **TIMES).when(0, click("a"), session="s1")
    first = case.stored[1].event_id
    case.when(100, click("b"), session="s2")
    assert case.decided()[-1] == (100, "b", OFFERED)
    assert closed(case) == [(f"nudge-{first}", "superseded")]


def test_an_expired_offer_is_superseded_by_nothing() -> None:
    once = trigger("a", expires_s=50, limits={"per_session": 1})
    case = Given(once, trigger("b"), **TIMES).when(0, click("a")).when(100, click("b"))
    assert case.decided()[-1] == (100, "b", OFFERED)
    assert closed(case) == []


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (CHAT, "answered"),
        (events.OptionClicked("x"), "answered"),
        (events.TourStarted("t"), "answered"),
        (events.NudgeDismissed(""), "dismissed"),
    ],
)
def test_an_answer_or_a_dismissal_closes_the_nudge_once(fact: events.Outside, reason: str) -> None:
    case = Given(trigger("a"), **TIMES).when(0, click("a"))
    nudge = case.stored[1].event_id
    fact = events.NudgeDismissed(nudge) if isinstance(fact, events.NudgeDismissed) else fact
    case.when(1, fact).when(2, fact)
    assert closed(case) == [(f"nudge-{nudge}", reason)]


# --- tours --------------------------------------------------------------------------------------------

TOURS = [
    {"id": "second", "user_tour_id": "flow_2", "user_tour_name": "Second", "page_contains": "/Projects"},
    {"id": "first", "user_tour_id": "flow_1", "user_tour_name": "First"},
    {"id": "elsewhere", "page_contains": "/billing"},
]


def test_tours_are_offered_in_the_triggers_order_where_the_page_fits_and_why_not() -> None:
    case = Given(trigger("a", tours=["first", "elsewhere", "second"]), tours=TOURS).when(0, click("a"))
    offered = last(case)
    assert offered.message["tours"] == [
        {"id": "first", "flow_id": "flow_1", "label": "First"},
        {"id": "second", "flow_id": "flow_2", "label": "Second"},
    ]
    assert offered.explanation["tours"] == [
        {"id": "first", "offered": True, "reason": "ok"},
        {"id": "elsewhere", "offered": False, "reason": "page_mismatch"},
        {"id": "second", "offered": True, "reason": "ok"},
    ]


def test_who_has_left_the_page_is_offered_no_tour_of_it() -> None:
    case = Given(trigger("a", tours=["first", "second"]), tours=TOURS)
    case.when(0, click("a"), click("bye", type="pageleave"))
    assert [tour["id"] for tour in last(case).message["tours"]] == ["first"]


def test_a_playbook_row_is_what_is_shown() -> None:
    case = Given(
        {"builtin": "section_playbook_match"},
        sections={"rules": [{"prefix": "https://app/projects", "section_id": "p"}]},
        section_playbook={"p": {"body": "About projects", "reply_option_labels": ["Yes", "No"]}},
    ).when(0, click())
    shown = last(case).message
    assert shown["body"] == "About projects"
    assert shown["options"] == [{"id": "chip_1", "label": "Yes"}, {"id": "chip_2", "label": "No"}]


# --- failures, and laws -------------------------------------------------------------------------------


def test_an_evaluator_that_raises_costs_no_fact() -> None:
    def broken(name: str, window: Any, at: int) -> Finding:
        raise ZeroDivisionError("no")

    case = Given({"id": "t", "criteria": {"type": "predicate", "predicate": "p"}}, predicates=broken)
    case.when(0, click(), click())
    assert [s.event.TYPE for s in case.stored] == ["action", "action", "evaluation_failed"]
    turn = Turn("acme", case.rules, case.world, at(1))
    turn.rearm("s", at(1))  # neither does a config put
    assert turn.stored == []


def test_a_state_that_is_not_loaded_is_asked_for() -> None:
    for known, wanted in (({}, "session-s"), ({"s": Given().world.session("s")}, "user-u")):
        turn = Turn("acme", ruleset([trigger("a")]), World(known, {}), at(0))
        with pytest.raises(Missing) as missing:
            turn.record("s", [Sent("e", click("a"), "u", at(0))], at(0))
        assert missing.value.stream == wanted


def test_rearming_concludes_nothing_and_finds_the_next_instant() -> None:
    case = Given().when(0, click())
    case.rules = ruleset([DWELL])
    assert case.world.session("s").due() is None
    turn = Turn("acme", case.rules, case.world, at(1))
    turn.rearm("s", at(1))
    assert turn.stored == []
    assert case.world.session("s").due() == at(30)


RULES = ruleset(
    [
        trigger("a", least=2, interaction_timeout_s=5, cooldown_s=20, limits={"per_session": 3}),
        trigger("b", holdout=0.5, cooldown_s=40, tours=["first", "second"]),
        {**DWELL, "limits": {"per_user": {"times": 2, "per": "hour"}}},
        trigger("c", "a", limits={"per_user": {"times": 1, "per": "day"}}),
    ],
    limits={"min_gap_s": 7, "quiet_hours": {"from": "12:05", "to": "12:06"}},
    session={"interaction_timeout_s": 10, "cooldown_period_s": 15},
    tours=TOURS,
)
FACTS = st.sampled_from(
    [
        *(click("a"), click("a"), click("b", "https://app/x"), click("a", type="pageleave"), CHAT),
        *(events.OptionClicked("x"), events.TourStarted("first"), events.TourEnded("first")),
        *(events.UserIdentified("anon"), events.UserIdentified(timezone="Asia/Tokyo")),
    ]
)
STEPS = st.tuples(
    st.sampled_from([0, 1, 4, 5, 10, 26, 61]),
    st.lists(FACTS, min_size=1, max_size=3),
    st.sampled_from(["s1", "s2", "s3"]),
    st.sampled_from([None, "anon", "u", "u", "v"]),
)


def played(steps: list[Any], on_time: bool) -> Given:
    case = Given()
    case.rules = RULES
    now = 0
    for gap, facts, session, user in steps:
        now += gap
        if on_time:
            case.on_time(now)
        case.when(now, *facts, session=session, user=user)
    return case.on_time(now + 300)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=10), st.booleans())
def test_the_laws_of_deciding(steps: list[Any], on_time: bool) -> None:
    """Same inputs, same bytes; one offer a session and instant; nothing withheld twice; ids unique;
    instants never decrease in a stream; every decision comes out of what it read."""
    case = played(steps, on_time)
    assert case.bytes() == played(steps, on_time).bytes()
    ids = [s.event_id for s in case.stored]
    assert len(ids) == len(set(ids))
    offers = [(s.stream, s.at) for s in case.stored if isinstance(s.event, events.NudgeOffered)]
    assert len(offers) == len(set(offers))
    withheld = [
        (s.stream, s.event.trigger_id, s.event.gate, s.event.episode)
        for s in case.stored
        if isinstance(s.event, events.NudgeWithheld)
    ]
    assert len(withheld) == len(set(withheld))
    for stream in {s.stream for s in case.stored}:
        instants = [s.at for s in case.stored if s.stream == stream]
        assert instants == sorted(instants), stream
    for name, live in case.world.changed_sessions.items():
        assert fold(Given().state(name), case.facts(f"session-{name}")) == live.state
        assert live.state.anomalies == ()
    for stored in case.stored:
        if isinstance(stored.event, (events.NudgeOffered, events.NudgeWithheld)):
            assert _derived_again(case, stored) == codec.encode(stored.event)[0]


def _derived_again(case: Given, stored: Any) -> Any:
    """The decision, from the streams it says it read, folded to the versions it says."""
    read = stored.event.explanation["read"]

    def session_at(stream: str) -> SessionState:
        return fold(SessionState(stream.removeprefix("session-")), case.facts(stream)[: read[stream]])

    def user_at(name: str) -> users.UserState:
        stream = f"user-{name}"
        return users.fold(users.UserState(name), case.facts(stream)[: read[stream]])

    who = user_at(stored.event.user_id) if stored.event.user_id is not None else None
    aliases = tuple(user_at(name) for name in who.merged_from) if who is not None else ()
    others = tuple(session_at(s) for s in read if s.startswith("session-") and s != stored.stream)
    situation = Situation(
        "acme", session_at(stored.stream), who, aliases, others, stored.at, stored.event.noticed_at
    )
    drafts = decide(evaluate(situation, case.rules), situation, case.rules, stored.cause)
    return next((codec.encode(d.event)[0] for d in drafts if d.event_id == stored.event_id), None)


ALONE = ruleset(
    [
        trigger("a", least=2, interaction_timeout_s=5, cooldown_s=20, limits={"per_session": 3}),
        {**DWELL, "limits": {"per_user": {"times": 2, "per": "hour"}}},
        trigger("c", "a", limits={"per_user": {"times": 1, "per": "day"}}, cooldown_s=33),
        {
            "id": "gone",
            "criteria": {"operator": "NOT", "conditions": [{"type": "action_count", "at_least": 1}]},
        },
    ],
    limits={"min_gap_s": 7, "quiet_hours": {"from": "12:01", "to": "12:02"}},
    session={"interaction_timeout_s": 10, "cooldown_period_s": 15},
    tours=TOURS,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=6), st.integers(0, 90))
def test_due_instants_are_complete(steps: list[Any], wait: int) -> None:
    """Looked at when due, a session alone misses no offer that a look at any other instant would make."""
    case = Given()
    case.rules = ALONE
    now = 0
    for gap, facts, _, user in steps:
        now += gap
        case.on_time(now).when(now, *facts, user=user)
    now += wait
    case.on_time(now)
    due = case.world.session("s").due()
    looks = [at(second) + near for second in range(now, now + 200) for near in (0, 1)]
    for instant in looks:
        if due is not None and instant >= due:
            break
        turn = Turn("acme", case.rules, case.world, instant)
        assert evaluate(turn._situation("s", instant), case.rules).winner is None
