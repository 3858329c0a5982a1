"""The judge: a proposal holds the session's slot until it is answered or its time is over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import codec, events, session
from domain.config_around import Judge
from domain.instants import SECOND
from domain.near import near
from domain.run import Turn
from domain.session import SessionState
from domain.triggers import evaluate
from tests.domain.builders import at, click, trigger
from tests.domain.given import Given

MODEL = {"url": "https://llm.test/v1", "name": "small-1"}


def judged(*triggers: dict[str, Any], judge: dict[str, Any] | None = None, **more: Any) -> Given:
    rules = {"timeout_s": 3, **(judge or {})}
    return Given(*(triggers or (trigger(),)), model=MODEL, judge=rules, **more)


def types(case: Given) -> list[str]:
    return [kind for _, kind, _ in case.then()]


def test_a_judged_trigger_is_proposed_and_offered_when_the_judge_allows_it() -> None:
    case = judged().when(0, click("t"))
    assert types(case) == ["nudge_proposed"]
    proposed = case.then()[0][2]
    assert proposed["deadline"] == at(3)
    assert proposed["message"]["body"] == "Need my expert help?"
    assert proposed["explanation"]["blocked_by"] == "judge_pending"
    assert case.state().current_state == "thinking"
    case.answers(2)
    assert types(case) == ["judge_answered", "nudge_offered", "budget_spent"]
    (_, _, answer), (_, _, offered), _ = case.then()
    assert answer == {
        "proposal_id": case.stored[1].event_id,
        "trigger_id": "t",
        "allow": True,
        "model": "m",
        "prompt_version": "judge-1",
        "tokens": 9,
    }
    assert offered["explanation"]["criteria"] == proposed["explanation"]["criteria"]
    assert offered["explanation"]["judge"] == {
        "proposal_id": case.stored[1].event_id,
        "proposed_at": "2026-05-19T12:00:00.000000Z",
        "deadline": "2026-05-19T12:00:03.000000Z",
        "answer_id": case.stored[2].event_id,
        "allow": True,
        "model": "m",
        "prompt_version": "judge-1",
    }
    assert offered["explanation"]["blocked_by"] is None
    assert "said" not in str(offered)
    assert case.state().current_state == "proactive_assistance"
    assert case.state().proposal is None


def test_the_criteria_stay_as_proposed_and_the_gates_are_asked_again() -> None:
    """A user who opened the chat meanwhile is not interrupted, whatever the judge says."""
    case = judged(trigger(least=2), judge={"timeout_s": 60}).when(0, click("t"), click("t"))
    case.on_time(59).answers(59.5)  # the actions stay in the window: the criteria would be met anyway
    assert case.decided() == [(59.5, "t", "offered")]
    case = judged().when(0, click("t"))
    case.when(1, events.ChatMessage("user", "hello")).answers(2)
    assert case.decided() == [(2.0, "t", "state_reactive_assistance")]
    gone = trigger(criteria={"type": "count", "where": {"title_equals": "t"}, "at_least": 1, "within_s": 1})
    case = judged(gone).when(0, click("t")).when(2, click("else")).answers(2.5)
    assert case.decided() == [(2.5, "t", "offered")]  # met when it was proposed


def test_while_a_proposal_waits_nothing_else_is_offered() -> None:
    case = judged(trigger("a"), trigger("b"), judge={"triggers": ["a"]}).when(0, click("a"))
    case.when(1, click("b")).when(1.5, click("b"), click("a"))
    assert case.decided() == [(1.0, "b", "judge_pending")]  # once; of the proposed one nothing is said
    case.answers(2, allow=False)
    assert case.decided()[1:] == [(2.0, "a", "judge_vetoed"), (2.0, "b", "offered")]


def test_an_unjudged_trigger_of_the_same_product_is_offered_at_once() -> None:
    case = judged(trigger("a"), trigger("b"), judge={"triggers": ["b"]}).when(0, click("a"))
    assert case.decided() == [(0.0, "a", "offered")]


def test_a_veto_costs_no_budget_and_holds_as_long_as_the_triggers_cooldown() -> None:
    case = judged(trigger(cooldown_s=10), trigger("b")).when(0, click("t")).answers(1, allow=False)
    assert types(case) == ["judge_answered", "nudge_withheld"]
    assert case.user().offers == ()
    case.when(2, click("t")).when(9, click("t"))
    assert case.decided() == [(1.0, "t", "judge_vetoed")]
    case.when(9.5, click("b"))
    assert types(case) == ["nudge_proposed"]  # the refused one yields
    assert case.then()[0][2]["trigger_id"] == "b"
    case.answers(10, allow=False).on_time(12)
    again = [s for s in case.stored if isinstance(s.event, events.NudgeProposed)]
    assert [(s.event.trigger_id, s.at) for s in again[2:]] == [("t", at(11))]  # by time alone


def test_no_answer_in_time_and_none_of_use_are_the_same() -> None:
    for useless in (False, True):
        case = judged().when(0, click("t"))
        if useless:
            case.answers(1, allow=None)
            assert types(case) == ["judge_answered"]
        case.on_time(10)
        assert case.decided() == [(3.0, "t", "judge_timeout")]
        told = case.stored[-1].event
        assert isinstance(told, events.NudgeWithheld)
        assert told.explanation["judge"]["allow"] is None
        assert told.explanation["judge"].get("failure") == ("nonsense" if useless else None)


def test_an_answer_after_the_deadline_or_to_another_proposal_is_dropped() -> None:
    case = judged().when(0, click("t")).answers(1, proposal="another")
    assert case.then() == []
    case.answers(3.1)  # the deadline comes first, though nobody looked at it
    assert [kind for _, kind, _ in case.then()] == ["nudge_withheld"]
    assert case.decided() == [(3.0, "t", "judge_timeout")]
    case.answers(4)
    assert case.then() == []


def test_an_answer_at_the_very_deadline_counts() -> None:
    assert judged().when(0, click("t")).answers(3).decided() == [(3.0, "t", "offered")]


def test_only_the_first_answer_counts() -> None:
    case = judged().when(0, click("t")).answers(1, allow=False).answers(2)
    assert case.decided() == [(1.0, "t", "judge_vetoed")]


def test_what_the_service_slept_through_is_missed_and_never_proposed() -> None:
    dwell = {"id": "t", "criteria": {"type": "user_page_dwell", "dwell_threshold_seconds": 10}}
    case = judged(dwell).when(0, click()).timers(60)
    assert case.decided() == [(10.0, "t", "missed")]


def test_a_trigger_that_the_config_lost_meanwhile_is_withheld() -> None:
    case = judged(trigger("a")).when(0, click("a"))
    case.rules = judged(trigger("b")).rules
    assert case.answers(1).decided() == [(1.0, "a", "trigger_not_in_revision")]


def test_a_trigger_whose_criteria_were_rewritten_meanwhile_is_told_as_proposed() -> None:
    case = judged(trigger("a")).when(0, click("a"))
    other = {"id": "a", "criteria": {"operator": "AND", "conditions": [{"type": "canonical_url_ping_pong"}]}}
    case.rules = judged(other).rules
    assert case.answers(1).decided() == [(1.0, "a", "offered")]


def test_other_sessions_of_the_user_are_not_held() -> None:
    """Only one is offered all the same: the gates are asked again when the answer comes."""
    case = judged(trigger("a"), trigger("b"), judge={"triggers": ["a"]}).when(0, click("a"))
    case.when(1, click("b"), session="s2").answers(2)
    assert case.decided() == [(1.0, "b", "offered"), (2.0, "a", "user_busy")]


def test_a_proposal_survives_a_snapshot() -> None:
    state = judged().when(0, click("t")).state()
    again = SessionState.from_dict(state.to_dict())
    assert again.proposal == state.proposal
    before = {name: value for name, value in state.to_dict().items() if name != "proposal"}
    assert SessionState.from_dict(before).proposal is None  # a snapshot from before there were judges


def test_near_misses_claim_no_more_than_that_the_judge_would_be_asked() -> None:
    case = judged(trigger(least=2)).when(0, click("t"))
    situation = case.turns[-1]._situation("s", at(0))
    told = near.changes(situation, case.rules, "t")
    assert told
    assert all(change.text.endswith("the judge allows it") for change in told)
    free = Given(trigger(least=2)).when(0, click("t"))
    assert "judge" not in near.changes(free.turns[-1]._situation("s", at(0)), free.rules, "t")[0].text


def test_while_the_judge_is_asked_its_yes_is_the_nearest_change() -> None:
    case = judged(trigger(cooldown_s=10)).when(0, click("t"))

    def told(seconds: float) -> list[tuple[str, int]]:
        situation = case.turns[-1]._situation("s", at(seconds))
        return [(change.text, change.at) for change in near.changes(situation, case.rules, "t")]

    assert told(1)[0] == ("if the judge allows it by 12:00:03Z", at(1))
    assert not told(3.5)[0][0].startswith("if the judge allows it by")  # too late
    case.when(2, events.ChatMessage("user", "?"))
    assert all("if the judge allows it by" not in text for text, _ in told(2))  # it would not be enough


def test_a_failing_evaluation_does_not_lose_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    case = judged().when(0, click("t"))
    with monkeypatch.context() as patched:
        patched.setattr("domain.run.decide", fail)
        case.when(1, click("t"))
    assert types(case) == ["evaluation_failed"]
    assert case.world.session("s").due() == at(3)
    with monkeypatch.context() as patched:
        patched.setattr("domain.run.evaluate", fail)
        case.turns[-1].rearm("s", at(2))
    assert case.world.session("s").due() == at(3)
    assert case.on_time(10).decided() == [(3.0, "t", "judge_timeout")]


def fail(*given: Any, **more: Any) -> Any:
    raise RuntimeError("a bug of ours")


def test_near_misses_after_a_veto_wait_until_the_judge_may_be_asked_again() -> None:
    case = judged(trigger(cooldown_s=10)).when(0, click("t")).answers(1, allow=False)
    told = near.changes(case.turns[-1]._situation("s", at(2)), case.rules, "t")
    assert [c.at for c in told][:1] == [at(11)]
    waiting = judged(trigger(cooldown_s=10), trigger("b"), judge={"triggers": ["t"]}).when(0, click("t"))
    told = near.changes(waiting.when(1, click("b")).turns[-1]._situation("s", at(1)), waiting.rules, "b")
    assert [c.at for c in told][:1] == [at(3)]


def test_without_a_judge_nothing_is_said_of_one() -> None:
    case = Given(trigger()).when(0, click("t"))
    explanation = case.then()[0][2]["explanation"]
    assert "judge" not in explanation
    assert "judge" not in [gate["gate"] for gate in explanation["gates"]]
    assert Judge().timeout == 3 * SECOND


# --- laws --------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("click"), st.sampled_from("ab"), st.sampled_from(["s", "s2"])),
        st.tuples(st.just("chat"), st.sampled_from(["s", "s2"])),
        st.tuples(
            st.just("answer"), st.sampled_from([True, True, False, None]), st.sampled_from(["s", "s2"])
        ),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 3.0, 7.0, 40.0]), st.booleans()),
    ),
    min_size=1,
    max_size=30,
)


def play(steps: list[Any], **more: Any) -> Given:
    case = judged(
        trigger("a", cooldown_s=5, interaction_timeout_s=2),
        trigger("b", cooldown_s=2, holdout=0.5),
        judge={"triggers": ["a"]} if more.pop("one", False) else None,
        session={"interaction_timeout_s": 4, "cooldown_period_s": 3},
        **more,
    )
    now = 0.0
    for step in steps:
        now += 0.25
        match step:
            case ("click", title, where):
                case.when(now, click(title), session=where)
            case ("chat", where):
                case.when(now, events.ChatMessage("user", "?"), session=where)
            case ("answer", allow, where):
                made = [s for s in case.stored if isinstance(s.event, events.NudgeProposed)]
                if any(s.stream == f"session-{where}" for s in made):
                    case.answers(now, allow, where)
            case ("wait", seconds, on_time):
                now += seconds
                if on_time:
                    case.on_time(now)
    return case.on_time(now + 300)  # by then no click is in any window


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, one=st.booleans())
def test_every_proposal_ends_in_one_decision_and_no_slot_is_given_twice(steps: list[Any], one: bool) -> None:
    case = play(steps, one=one)
    for stream in ("session-s", "session-s2"):
        waiting: str | None = None
        told = []
        for stored in case.stored:
            if stored.stream != stream:
                continue
            match stored.event:
                case events.NudgeProposed():
                    assert waiting is None
                    waiting = stored.event_id
                case events.NudgeOffered() | events.NudgeWithheld() as decision:
                    judge = decision.explanation.get("judge")
                    if judge is not None:
                        assert judge["proposal_id"] == waiting
                        told.append(waiting)
                        waiting = None
                    elif isinstance(decision, events.NudgeOffered):
                        assert waiting is None
                        assert not case.rules.config.judged(decision.trigger_id)
                case events.EvaluationFailed():
                    raise AssertionError(stored)
        assert waiting is None
        assert len(told) == len(set(told))


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_a_session_is_the_fold_of_its_stream_and_is_decided_the_same_from_it(steps: list[Any]) -> None:
    case = play(steps)
    for name in ("s", "s2"):
        state = case.state(name)
        facts = [
            fact._replace(event=codec.decode(fact.event.TYPE, 1, *codec.encode(fact.event)))
            for fact in case.facts(f"session-{name}")
        ]
        again = session.fold(SessionState(name), facts)
        assert again.to_dict() == state.to_dict()
        assert (again.offers, again.withheld, again.refused) == (state.offers, state.withheld, state.refused)
        situation = Turn("acme", case.rules, case.world, state.at)._situation(name, max(state.at, at(0)))
        assert evaluate(situation._replace(session=again), case.rules) == evaluate(situation, case.rules)
