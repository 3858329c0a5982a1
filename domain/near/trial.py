"""A session that goes on otherwise than it did: time passes, actions are added or were never there.

Time passes as it does for `domain.run.Turn`: from one due instant to the next, each looked at in its turn.
Nothing is concluded; where a nudge would be offered, the trial is over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from domain import session
from domain.events import Action
from domain.history import History
from domain.session import Fact, OfferMade
from domain.triggers import Ruleset, Situation, Verdict, evaluate
from domain.view import TICK

STEPS = 64  # due instants looked at before a trial is given up
_LAST = "\U0010ffff"  # sorts after every id, so that what is added at an instant is the newest there


class Step(NamedTuple):
    situation: Situation
    winner: Verdict | None  # who takes the slot there
    due: int | None  # the next instant at which the session must be looked at


def begun(situation: Situation) -> Situation:
    """The situation as its own instant finds it: what was due before has happened, nothing is late.

    Its history shares nothing with the one given, which somebody else may be going on with.
    """
    actions, length = situation.session.actions.slots()
    history = History(actions[:length])
    if situation.session.actions.marks is not None:
        history.marks = situation.session.actions.marks.first(length)
    return _with_history(moved(situation, situation.at), history)


def moved(situation: Situation, at: int) -> Situation:
    """The situation at `at`, what was due before that instant applied, before anything happens at it."""
    return situation._replace(session=situation.session.tick(at), at=at, noticed_at=at)


def allowed(situation: Situation) -> Situation:
    """The situation as if the judge had just allowed what is proposed."""
    state, at = situation.session, situation.at
    if state.proposal is not None:
        state = replace(state, proposal=state.proposal._replace(answered_at=at, allow=True))
    return situation._replace(session=state)


def steps(situation: Situation, rules: Ruleset) -> Iterator[Step]:
    """The instant of the situation and each due instant after it, as time passes."""
    for _ in range(STEPS):
        evaluation = evaluate(situation, rules)
        timeout = situation.session.timeout_due
        due = min((d for d in (timeout, evaluation.next_at) if d is not None), default=None)
        yield Step(situation, evaluation.winner, due)
        if due is None:
            return
        if evaluation.winner is not None and evaluation.winner.blocked is not None:
            situation = _held_out(situation, evaluation.winner)
        state = situation.session
        # A timeout happens first, then the session is evaluated.
        state = state.tick(due + TICK if timeout == due else due)
        situation = situation._replace(session=state, at=due, noticed_at=due)


def _held_out(situation: Situation, winner: Verdict) -> Situation:
    """The situation after a trigger took the slot that is held out: its cooldown runs as if it were shown."""
    state, gate, trigger_id = situation.session, winner.blocked, winner.trigger.id
    assert gate is not None
    noted = state.withheld.get((trigger_id, gate.gate), ())
    if gate.episode in noted:
        return situation  # recorded once
    who = situation.user
    user_id = who.user_id if who is not None else None
    nudge_id = f"{_LAST}{trigger_id}@{situation.at}"
    made = OfferMade(trigger_id, situation.at, nudge_id, state.session_id, user_id, state.version, True)
    withheld = {**state.withheld, (trigger_id, gate.gate): (*noted, gate.episode)}
    state = replace(state, withheld=withheld, offers=(*state.offers, made))
    if who is not None:
        who = replace(who, offers=(*who.offers, made))
    return situation._replace(session=state, user=who)


def settled(situation: Situation, rules: Ruleset) -> tuple[int, Verdict] | None:
    """When, by time alone, the first nudge is offered, and which.

    Where none is, the first trigger that took a slot and was held out; None where there is none either.
    """
    held: tuple[int, Verdict] | None = None
    for step in steps(situation, rules):
        if step.winner is not None and step.winner.blocked is None:
            return step.situation.at, step.winner
        if step.winner is not None and held is None:
            held = step.situation.at, step.winner
    return held


def reached(situation: Situation, rules: Ruleset, at: int) -> Situation | Verdict | None:
    """The situation at `at`; the trigger that is offered before it; None where neither can be known."""
    if at <= situation.at:
        return situation
    for step in steps(situation, rules):
        if step.winner is not None and step.winner.blocked is None:
            return step.winner
        if step.due is None or step.due >= at:
            there = step.situation
            if step.winner is not None:
                there = _held_out(there, step.winner)
            return moved(there, at)
    return None


def acted(situation: Situation, actions: Iterable[Action]) -> Situation:
    """The situation after one more batch: the actions, in their order, at its instant."""
    state, at = situation.session, situation.at
    facts = [
        Fact(state.version + n, at, at, f"{_LAST}{n:09d}", None, action)
        for n, action in enumerate(actions, 1)
    ]
    return situation._replace(session=session.fold(state, facts))


def without(situation: Situation, event_ids: Collection[str]) -> Situation:
    """The situation had these actions not happened."""
    if not event_ids:
        return situation
    kept = [action for action in situation.session.actions if action.event_id not in event_ids]
    return _with_history(situation, History(kept))


def _with_history(situation: Situation, history: History) -> Situation:
    return situation._replace(session=replace(situation.session, actions=history))
