"""The truth table: every state and every event type, and the methods by their published names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain import events, machine, session
from domain.errors import InvalidTransitionError
from domain.events import Timings
from domain.instants import SECOND
from domain.machine import PROACTIVE, REACTIVE, THINKING
from domain.session import Fact, Offer, SessionState

TIMINGS = Timings(20 * SECOND, 60 * SECOND)
T = 1_000 * SECOND
NOW = T + 5 * SECOND


def standing(state: str) -> SessionState:
    """A session that entered `state` at T, as its own facts would bring it there."""
    fresh = SessionState("s", version=3, at=T, timings=TIMINGS)
    match state:
        case machine.PROACTIVE:
            moved = fresh.transition_to_proactive(T, TIMINGS)
            assert moved
            return replace(moved, offer=Offer("n", "t", "u", T, T + 600 * SECOND))
        case machine.REACTIVE:
            return fresh.transition_to_reactive(T, TIMINGS)
        case _:
            return fresh


SAMPLES: dict[str, events.Event] = {
    "action": events.Action("click", "Save"),
    "chat_message": events.ChatMessage("user", "hello", timings=TIMINGS),
    "option_clicked": events.OptionClicked("chip_1"),
    "reaction": events.Reaction("up"),
    "tour_started": events.TourStarted("tour", timings=TIMINGS),
    "tour_step": events.TourStep("tour"),
    "tour_ended": events.TourEnded("tour", timings=TIMINGS),
    "nudge_shown": events.NudgeShown("n"),
    "nudge_dismissed": events.NudgeDismissed("n"),
    "conversation_linked": events.ConversationLinked("c", "new"),
    "user_identified": events.UserIdentified("anon"),
    "goal_reached": events.GoalReached("g"),
    "nudge_offered": events.NudgeOffered("t", "u", NOW, NOW + 600 * SECOND, TIMINGS, {}, {}),
    "nudge_withheld": events.NudgeWithheld("t", "u", "state", "state_x", "version 1", NOW, {}),
    "nudge_proposed": events.NudgeProposed("t", "u", NOW, NOW + 3 * SECOND, {}, {"criteria": {}}),
    "judge_answered": events.JudgeAnswered("p", "t", True),
    "interaction_timed_out": events.InteractionTimedOut(PROACTIVE, 20 * SECOND, 60 * SECOND, NOW),
    "budget_spent": events.BudgetSpent("t", "s", "n", NOW, NOW),
    "user_linked": events.UserLinked("s"),
    "nudge_delivered": events.NudgeDelivered("toast", 1),
    "delivery_attempted": events.DeliveryAttempted("rasa", 1, NOW),
    "delivery_failed": events.DeliveryFailed("rasa", 1, "e"),
    "delivery_unknown": events.DeliveryUnknown("rasa", 1, "e"),
    "reply_generated": events.ReplyGenerated("reply"),
    "summary_generated": events.SummaryGenerated(1, 1),
    "nudge_closed": events.NudgeClosed("answered", "s", "u"),
    "config_activated": events.ConfigActivated("r1-x", {}),
    "engine_activated": events.EngineActivated("1-x", {}, "2026b"),
    "evaluation_failed": events.EvaluationFailed("ValueError", NOW),
    "rejected_input": events.RejectedInput(()),
    "action_relabelled": events.ActionRelabelled("a1", "test-1", title="Save"),
}
STAYS = {state: state for state in machine.STATES}
MOVES = {
    "chat_message": {**STAYS, THINKING: REACTIVE},
    "nudge_offered": {**STAYS, THINKING: PROACTIVE},
    "interaction_timed_out": dict.fromkeys(machine.STATES, THINKING),
}
# In proactive and reactive assistance; a chat message or an offer in thinking begins a new count.
INTERACTIONS = {"chat_message", "option_clicked", "reaction", "tour_started", "tour_step"}
REFUSED = {
    ("nudge_offered", PROACTIVE),
    ("nudge_offered", REACTIVE),
    ("interaction_timed_out", THINKING),
    *[("judge_answered", state) for state in machine.STATES],  # to no proposal
}


def test_the_table_covers_every_event_type() -> None:
    assert set(SAMPLES) == set(events.TYPES)
    assert all(name == sample.TYPE for name, sample in SAMPLES.items())


@pytest.mark.parametrize("state", machine.STATES)
@pytest.mark.parametrize("kind", events.TYPES)
def test_every_state_and_every_event(state: str, kind: str) -> None:
    """What follows, whether it is an interaction, and whether a refusal leaves an anomaly."""
    before = standing(state)
    after = session.evolve(before, Fact(4, NOW, NOW, "e", "u", SAMPLES[kind]))
    assert after.current_state == MOVES.get(kind, STAYS)[state]
    if state != THINKING:
        running = replace(before, active_tour_id="tour")
        acted = session.evolve(running, Fact(4, NOW, NOW, "e", "u", SAMPLES[kind]))
        assert (acted.last_interaction_at == NOW) == (kind in INTERACTIONS)
    assert bool(after.anomalies) == ((kind, state) in REFUSED)
    assert after.version == 4
    assert (after.entered_version == 4) == (after.current_state != state)


def test_an_offer_in_the_cooldown_is_an_anomaly_and_moves_nothing() -> None:
    cooling = replace(standing(THINKING), cooldown_until=NOW + 1)
    after = session.evolve(cooling, Fact(4, NOW, NOW, "e", "u", SAMPLES["nudge_offered"]))
    assert after.current_state == THINKING
    assert after.anomalies == ("version 4: nudge_offered in cooldown",)


def test_a_tour_without_an_id_never_stops_a_fold() -> None:
    after = session.evolve(standing(THINKING), Fact(4, NOW, NOW, "e", "u", events.TourStarted("")))
    assert after.active_tour_id is None
    assert after.anomalies


def test_only_the_user_opens_the_chat() -> None:
    said = events.ChatMessage("assistant", "hello", timings=TIMINGS)
    for state in machine.STATES:
        before = standing(state)
        after = session.evolve(before, Fact(4, NOW, NOW, "e", "u", said))
        assert replace(after, version=3, at=T, last_event_at=0, user_id=None) == before


def test_the_table_has_four_arrows_and_no_more() -> None:
    found = {}
    for state in machine.STATES:
        for name in machine.TRIGGERS:
            try:
                found[state, name] = machine.advance(state, name)
            except InvalidTransitionError:
                continue
    assert found == {
        (THINKING, machine.OFFER): PROACTIVE,
        (THINKING, machine.CHAT): REACTIVE,
        (PROACTIVE, machine.TIME_OUT): THINKING,
        (REACTIVE, machine.TIME_OUT): THINKING,
    }


def test_the_rulebook_itself_refuses_without_changing_anything() -> None:
    with pytest.raises(InvalidTransitionError, match="no 'offer' from 'reactive_assistance'"):
        machine.advance(REACTIVE, machine.OFFER)
    assert machine.advance(THINKING, machine.OFFER) == PROACTIVE


def test_the_picture_shows_every_arrow() -> None:
    assert machine.mermaid().splitlines() == [
        "stateDiagram-v2",
        "  [*] --> thinking",
        "  thinking --> proactive_assistance: offer",
        "  thinking --> reactive_assistance: chat",
        "  proactive_assistance --> thinking: time_out",
        "  reactive_assistance --> thinking: time_out",
    ]


# --- the published names ------------------------------------------------------------------------------


def test_an_offer_is_false_in_the_cooldown_and_an_error_outside_thinking() -> None:
    cooling = replace(standing(THINKING), cooldown_until=NOW)
    assert cooling.transition_to_proactive(NOW - 1) is False
    moved = cooling.transition_to_proactive(NOW)
    assert moved
    assert moved.current_state == PROACTIVE
    for state in (PROACTIVE, REACTIVE):
        with pytest.raises(InvalidTransitionError):
            standing(state).transition_to_proactive(NOW)
        with pytest.raises(InvalidTransitionError):
            standing(state).transition_to_reactive(NOW)


def test_the_chat_clears_the_cooldown() -> None:
    cooling = replace(standing(THINKING), cooldown_until=NOW + SECOND)
    chatting = cooling.transition_to_reactive(NOW)
    assert (chatting.current_state, chatting.cooldown_until) == (REACTIVE, 0)


@pytest.mark.parametrize("state", [PROACTIVE, REACTIVE])
def test_tick_times_out_only_when_more_than_the_timeout_has_passed(state: str) -> None:
    before = standing(state)
    due = T + 20 * SECOND
    assert before.tick(due) is before
    after = before.tick(due + 1)
    assert (after.current_state, after.timed_out_at, after.cooldown_until) == (
        THINKING,
        due,
        due + 60 * SECOND,
    )
    assert after.tick(due + 10**12) is after


def test_may_it_be_shown_and_why_not() -> None:
    due = T + 20 * SECOND
    over = due + 60 * SECOND
    shown = standing(PROACTIVE)
    assert shown.can_show_proactive_with_reason(due) == (False, "state_proactive_assistance")
    assert shown.can_show_proactive_with_reason(due + 1) == (False, "cooldown_active")
    assert shown.can_show_proactive_with_reason(over - 1) == (False, "cooldown_active")
    assert shown.can_show_proactive_with_reason(over) == (True, "ok")
    assert standing(REACTIVE).can_show_proactive_with_reason(T) == (False, "state_reactive_assistance")
    assert standing(THINKING).can_deliver_proactive(T) is True
    assert shown.can_deliver_proactive(T) is False


def test_interactions_move_the_due_instant() -> None:
    for name in ("record_user_interaction", "record_option_click", "record_reaction", "record_tour_step"):
        after = getattr(standing(PROACTIVE), name)(NOW)
        assert after.timeout_due == NOW + 20 * SECOND, name
        assert after.current_state == PROACTIVE


def test_visual_guidance_starts_and_ends() -> None:
    tour = Timings(20 * SECOND, 60 * SECOND, None, 40 * SECOND, 90 * SECOND)
    running = standing(PROACTIVE).set_visual_guidance(True, NOW, "tour", tour)
    assert (running.visual_guidance_active, running.timeout_due) == (True, NOW + 40 * SECOND)
    ended = running.set_visual_guidance(False, NOW + SECOND)
    assert (ended.visual_guidance_active, ended.timeout_due) == (False, NOW + 20 * SECOND)
    assert ended.set_visual_guidance(False, NOW + SECOND) is ended
    with pytest.raises(InvalidTransitionError):
        standing(PROACTIVE).set_visual_guidance(True, NOW)


@pytest.mark.parametrize("state", machine.STATES)
def test_a_snapshot_gives_the_same_session_back(state: str) -> None:
    before = standing(state)
    if state != THINKING:
        before = before.set_visual_guidance(True, NOW, "tour", TIMINGS)
    assert SessionState.from_dict(before.to_dict()) == before


def test_a_snapshot_of_another_version_is_refused() -> None:
    snapshot: dict[str, Any] = standing(THINKING).to_dict()
    with pytest.raises(ValueError, match="version 99"):
        SessionState.from_dict({**snapshot, "_v": 99})
