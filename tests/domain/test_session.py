"""Timers and timings of a session, and the laws of its fold."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import events, session
from domain.history import ActionFact, History
from domain.instants import SECOND
from domain.machine import PROACTIVE, REACTIVE, THINKING
from domain.run import Turn
from domain.session import Fact, SessionState
from domain.triggers import Ruleset
from tests.domain.builders import Sent, at, click, ruleset, trigger
from tests.domain.given import Given

TIMES: dict[str, Any] = {"session": {"interaction_timeout_s": 20, "cooldown_period_s": 60}}
TOURS = [{"id": "tour", "user_tour_id": "flow", "interaction_timeout_s": 40, "cooldown_period_s": 100}]
CHAT = events.ChatMessage("user", "hello")
MICRO = 0.000_001


def timeouts(case: Given, session_id: str = "s") -> list[tuple[float, int, int]]:
    """Every timeout so far: (seconds, timeout in s, cooldown in s)."""
    found = [s for s in case.stored if isinstance(s.event, events.InteractionTimedOut)]
    return [
        ((s.at - at(0)) / SECOND, s.event.timeout // SECOND, s.event.cooldown // SECOND)
        for s in found
        if isinstance(s.event, events.InteractionTimedOut) and s.stream == f"session-{session_id}"
    ]


# --- when a timeout happens ---------------------------------------------------------------------------


def test_an_interaction_at_the_due_instant_still_counts() -> None:
    case = Given(**TIMES).when(0, CHAT).when(20, events.Reaction("up"))
    assert case.state().current_state == REACTIVE
    assert case.state().timeout_due == at(40)


def test_a_microsecond_later_it_does_not() -> None:
    case = Given(**TIMES).when(0, CHAT).when(20 + MICRO, events.Reaction("up"))
    assert timeouts(case) == [(20, 20, 60)]
    assert case.state().current_state == THINKING


@pytest.mark.parametrize(
    "fact",
    [
        events.ChatMessage("user", "more"),
        events.OptionClicked("a"),
        events.Reaction("up"),
        events.TourStep("other"),
    ],
)
def test_interactions_extend(fact: events.Outside) -> None:
    assert Given(**TIMES).when(0, CHAT).when(5, fact).state().timeout_due == at(25)


@pytest.mark.parametrize(
    "fact",
    [
        click(),
        events.ChatMessage("assistant", "yes?"),
        events.NudgeShown("n"),
        events.NudgeDismissed("n"),
        events.TourEnded("tour"),
        events.GoalReached("g"),
    ],
)
def test_nothing_else_extends(fact: events.Outside) -> None:
    assert Given(**TIMES).when(0, CHAT).when(5, fact).state().timeout_due == at(20)


def test_a_timeout_noticed_late_takes_effect_at_its_own_instant() -> None:
    case = Given(**TIMES).when(0, CHAT).timers(3600)
    assert timeouts(case) == [(20, 20, 60)]
    (timed_out,) = [s.event for s in case.stored if isinstance(s.event, events.InteractionTimedOut)]
    assert timed_out.noticed_at == at(3600)
    assert case.state().cooldown_until == at(80)


# --- the timings in force -----------------------------------------------------------------------------


def test_an_unanswered_offer_runs_on_its_triggers_timeout_and_dismissing_it_is_no_answer() -> None:
    case = Given(trigger(interaction_timeout_s=10), **TIMES).when(0, click("t"))
    offer = case.state().offer
    assert offer is not None
    assert case.state().timeout_due == at(10)
    case.when(2, events.NudgeDismissed(offer.nudge_id))
    assert case.state().timeout_due == at(10)
    assert case.state().open_offer(at(2)) is None


@pytest.mark.parametrize("answer", [CHAT, events.OptionClicked("a")])
def test_an_answer_brings_the_sessions_timeout_into_force(answer: events.Outside) -> None:
    case = Given(trigger(interaction_timeout_s=10), **TIMES).when(0, click("t")).when(5, answer)
    assert case.state().timeout_due == at(25)
    assert case.on_time(84).state().cooldown_until == at(85)


def test_a_tour_brings_both_its_values_into_force() -> None:
    case = Given(trigger(interaction_timeout_s=10), tours=TOURS, **TIMES).when(0, click("t"))
    case.when(5, events.TourStarted("flow"))
    assert (case.state().active_tour_id, case.state().timeout_due) == ("tour", at(45))
    case.when(10, events.TourStep("flow"))
    assert timeouts(case.on_time(100)) == [(50, 40, 100)]
    assert case.state().active_tour_id is None


def test_an_unknown_tour_runs_on_the_sessions_values() -> None:
    case = Given(tours=TOURS, **TIMES).when(0, CHAT).when(5, events.TourStarted("nobody's"))
    assert timeouts(case.on_time(200)) == [(25, 20, 60)]


def test_when_a_long_timeout_gives_way_to_one_that_is_over_the_timeout_is_due_then() -> None:
    """The later of last interaction + timeout and the instant at which that timeout came into force."""
    case = Given(tours=TOURS, **TIMES).when(0, CHAT).when(1, events.TourStarted("tour"))
    case.when(35, events.TourEnded("tour"))
    assert case.state().timeout_due == at(35)
    assert timeouts(case.timers(35 + MICRO)) == [(35, 20, 60)]


def test_a_config_change_moves_no_running_deadline() -> None:
    case = Given(trigger(interaction_timeout_s=10), tours=TOURS, **TIMES)
    case.when(0, click("t"))
    case.rules = ruleset([trigger(interaction_timeout_s=30)], session={"interaction_timeout_s": 99})
    case.when(5, events.OptionClicked("a"))
    assert case.state().timeout_due == at(25)  # the session's timeout as the offer recorded it
    case.when(6, CHAT)
    assert case.state().timeout_due == at(105)  # a chat message brings the new one
    case.when(7, events.TourStarted("flow"))
    assert case.state().timeout_due == at(106)


@pytest.mark.parametrize(
    ("before", "then"), [(TOURS, []), ([], TOURS)], ids=["taken out of the config", "put into the config"]
)
def test_a_tour_ends_although_the_config_forgot_or_learnt_it_meanwhile(before: Any, then: Any) -> None:
    case = Given(tours=before, **TIMES).when(0, CHAT).when(1, events.TourStarted("flow"))
    case.rules = ruleset([], tours=then)
    assert case.state().visual_guidance_active
    assert not case.when(2, events.TourEnded("flow")).state().visual_guidance_active


def test_the_end_of_another_tour_ends_nothing() -> None:
    case = Given(tours=TOURS, **TIMES).when(0, CHAT).when(1, events.TourStarted("flow"))
    assert case.when(2, events.TourEnded("other")).state().active_tour_id == "tour"


# --- a tour in thinking -------------------------------------------------------------------------------


def touring() -> Given:
    return Given(trigger(), tours=TOURS, **TIMES).when(0, events.TourStarted("tour"))


def test_a_tour_in_thinking_changes_no_state_and_holds_offers_back_until_it_lapses() -> None:
    case = touring()
    assert (case.state().current_state, case.state().last_interaction_at) == (THINKING, None)
    case.when(30, click("t")).on_time(50)
    assert case.decided() == [(30, "t", "tour_running"), (40 + MICRO, "t", "offered")]
    case.on_time(100)
    assert timeouts(case) == [(60 + MICRO, 20, 60)]  # on the session's values: the tour is over
    assert case.state().active_tour_id is None


def test_a_step_in_thinking_keeps_the_tour_and_its_end_opens_the_gate() -> None:
    case = touring().when(30, events.TourStep("tour")).when(50, click("t"))
    assert case.decided() == [(50, "t", "tour_running")]
    case.when(60, events.TourEnded("tour"))
    assert case.decided()[1:] == [(60, "t", "offered")]


def test_a_step_after_the_lapse_revives_nothing() -> None:
    case = touring().when(40 + MICRO, events.TourStep("tour"))
    assert not case.state().tour_running(at(41))


def test_a_step_of_another_tour_keeps_nothing() -> None:
    case = touring().when(30, events.TourStep("other"))
    assert not case.state().tour_running(at(41))


def test_a_lapsed_tour_is_not_in_force_when_the_chat_opens() -> None:
    assert touring().when(50, CHAT).state().timeout_due == at(70)
    assert touring().when(30, CHAT).state().timeout_due == at(70)  # still running: its 40 s


# --- the cooldown -------------------------------------------------------------------------------------


def test_the_cooldown_is_over_once_it_has_passed_since_the_due_instant() -> None:
    case = Given(trigger(), **TIMES).when(0, CHAT).when(21, click("t")).timers(80)
    assert case.decided() == [(21, "t", "cooldown_active")]
    case.timers(80 + MICRO)
    assert case.decided() == [(21, "t", "cooldown_active"), (80, "t", "offered")]


def test_the_chat_clears_the_cooldown() -> None:
    case = Given(trigger(), **TIMES).when(0, CHAT).when(30, CHAT)
    assert (case.state().current_state, case.state().cooldown_until) == (REACTIVE, 0)


def test_the_clock_stepping_back_never_takes_the_stream_back() -> None:
    case = Given(**TIMES).when(100, CHAT).when(50, click())
    assert [s.at for s in case.stored] == [at(100), at(100)]
    assert case.state().timeout_due == at(120)


# --- laws ---------------------------------------------------------------------------------------------

OUTSIDE = st.sampled_from(
    [
        click("a"),
        click("b", "https://app/billing"),
        click("a", None),
        click("left", type="pageleave"),
        CHAT,
        events.ChatMessage("assistant", "yes?"),
        events.OptionClicked("x"),
        events.Reaction("up"),
        events.TourStarted("tour"),
        events.TourStarted("other"),
        events.TourStep("tour"),
        events.TourEnded("flow"),
        events.UserIdentified("anon"),
    ]
)
GAPS = st.sampled_from([0, 1, 999_999, SECOND, 10 * SECOND, 20 * SECOND, 20 * SECOND + 1, 61 * SECOND])
HISTORIES = st.lists(
    st.tuples(GAPS, st.lists(OUTSIDE, min_size=1, max_size=4), st.sampled_from([None, "u", "v"])), max_size=12
)
RULES = ruleset(
    [
        trigger("a", least=2, interaction_timeout_s=15, cooldown_s=45),
        {
            "id": "quiet",
            "cooldown_s": 50,
            "criteria": {"type": "user_page_dwell", "dwell_threshold_seconds": 7},
        },
    ],
    tours=TOURS,
    limits={"min_gap_s": 33},
    **TIMES,
)


def played(history: list[tuple[int, list[events.Outside], str | None]], rules: Ruleset = RULES) -> Given:
    case = Given()
    case.rules = rules
    now = 0
    for gap, facts, user in history:
        now += gap
        case.when(now / SECOND, *facts, user=user)
    return case.timers((now + 1000 * SECOND) / SECOND)


@settings(max_examples=150, deadline=None)
@given(HISTORIES, st.data())
def test_folding_in_parts_is_folding_the_whole(history: Any, data: st.DataObject) -> None:
    """fold(a + b) = fold(b from fold(a)) = evolve one by one = what the turn itself kept."""
    case = played(history)
    facts = case.facts("session-s")
    cut = data.draw(st.integers(0, len(facts)))
    fresh = SessionState("s")
    whole = session.fold(fresh, facts)
    assert session.fold(session.fold(fresh, facts[:cut]), facts[cut:]) == whole
    one_by_one = fresh
    for fact in facts:
        one_by_one = session.evolve(one_by_one, fact)
    assert one_by_one == whole == case.state()


@settings(max_examples=150, deadline=None)
@given(HISTORIES, st.randoms(use_true_random=False))
def test_late_early_and_never_run_timers_give_the_same_events(history: Any, rng: random.Random) -> None:
    """Polled at any instants, at the due instants, or only when the next event comes: the same events.

    An offer noticed more than 5 s late is `missed`, by the contract; here nothing is ever that late.
    """
    lazy, exact, polled = (Given() for _ in range(3))
    now = 0
    for case in (lazy, exact, polled):
        case.rules = RULES
    with mock.patch("domain.triggers.LATE", 10**15):
        for gap, facts, user in history:
            instants = sorted({rng.randint(now, now + gap) for _ in range(3)})
            now += gap
            exact.on_time(now / SECOND)
            for instant in instants:
                polled.timers(instant / SECOND)
            for case in (lazy, exact, polled):
                case.when(now / SECOND, *facts, user=user)
        for case in (lazy, exact, polled):
            case.timers(now / SECOND + 1000)

    def told(case: Given) -> list[Any]:
        return [(s.stream, s.event_id, s.at, _unnoticed(s.event)) for s in case.stored if s.incoming is None]

    assert told(exact) == told(polled) == told(lazy)
    assert exact.state().actions == lazy.state().actions


def _unnoticed(event: events.Event) -> Any:
    return replace(event, noticed_at=0) if hasattr(event, "noticed_at") else event  # type: ignore[type-var]


ACTIONS = st.lists(
    st.builds(
        lambda when, n: ActionFact(when, f"e{n:03d}", n, "click", "a", None, None),
        st.integers(0, 6),
        st.integers(0, 40),
    ),
    unique_by=lambda action: action.event_id,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(ACTIONS, st.randoms(use_true_random=False))
def test_any_arrival_order_gives_the_same_history(actions: list[ActionFact], rng: random.Random) -> None:
    shuffled = actions[:]
    rng.shuffle(shuffled)
    history, kept = History(), []
    while shuffled:
        size = rng.randint(1, 4)
        history, shuffled = history.extended(shuffled[:size]), shuffled[size:]
        kept.append((history, list(history)))
    assert list(history) == sorted(actions)
    for earlier, then in kept:  # a value never changes under whoever holds it
        assert list(earlier) == then


@settings(max_examples=100, deadline=None)
@given(ACTIONS, ACTIONS, ACTIONS)
def test_two_successors_of_one_history_do_not_see_each_other(
    common: list[ActionFact], left: list[ActionFact], right: list[ActionFact]
) -> None:
    base = History().extended(common)
    matcher = RULES.matcher
    matcher.fill(base)
    taken = {a.event_id for a in common}
    one = [a._replace(event_id=a.event_id + "l", title="b") for a in left if a.event_id not in taken]
    two = [a._replace(event_id=a.event_id + "r") for a in right if a.event_id not in taken]
    first = base.extended(one)
    marks_of_first = list(matcher.fill(first).bits[: len(first)])
    second = base.extended(two)
    marks = matcher.fill(second)
    assert list(base) == sorted(common)
    assert list(first) == sorted(common + one)
    assert list(second) == sorted(common + two)
    assert marks.bits[: len(second)] == [matcher.marks(a) for a in second]
    assert marks_of_first == [matcher.marks(a) for a in first]
    for bit, hits in marks.hits.items():
        mine = [i for i in hits if i < len(second)]
        assert mine == [i for i, a in enumerate(second) if matcher.marks(a) & bit]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab")), max_size=8),
    st.randoms(use_true_random=False),
)
def test_the_order_inside_a_batch_changes_no_verdict(rows: list[tuple[int, str]], rng: random.Random) -> None:
    sent = [Sent(f"e{n}", click(title), "u", at(when)) for n, (when, title) in enumerate(rows)]
    shuffled = sent[:]
    rng.shuffle(shuffled)
    told = []
    for batch in (sent, shuffled):
        case = Given(trigger("a", least=2), trigger("b", least=3)).when(10, *batch)
        told.append(
            [(s.event.trigger_id, _criteria(s.event)) for s in case.stored if isinstance(s.event, DECISIONS)]
        )
    assert told[0] == told[1]


DECISIONS = (events.NudgeOffered, events.NudgeWithheld)


def _criteria(event: Any) -> Any:
    return event.explanation["criteria"]


def test_runs_of_actions_are_taken_in_one_step_with_the_newest_user() -> None:
    facts = [
        Fact(1, 5, 5, "a", "u", click()),
        Fact(2, 5, 4, "b", "v", click()),
        Fact(3, 6, 6, "c", None, click()),
    ]
    state = session.fold(SessionState("s"), facts)
    assert (state.user_id, state.version, state.at, state.last_event_at) == ("v", 3, 6, 6)
    assert [a.event_id for a in state.actions] == ["b", "a", "c"]


def test_a_turn_counts_what_came_due_before_its_batch() -> None:
    case = Given(**TIMES).when(0, CHAT).when(30, click())
    turn: Turn = case.turns[-1]
    assert turn.own == 1
    assert [(t.source, t.target, t.cause) for t in turn.transitions] == [
        (REACTIVE, THINKING, "interaction_timed_out")
    ]
    assert PROACTIVE not in {t.target for t in turn.transitions}
