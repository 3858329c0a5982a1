"""How near a trigger was: the smallest changes that would have made it fire, in words.

What a change is said to do is not argued but tried, by `domain.near.search`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from domain import words
from domain.near import search, trial
from domain.near.deadline import deadline
from domain.near.search import Found
from domain.triggers import LATE, Ruleset, Situation, evaluate, held


class Change(NamedTuple):
    """One sufficient alternative."""

    text: str  # what would have made it fire
    at: int  # the instant at which it would then have fired


def changes(situation: Situation, rules: Ruleset, trigger_id: str, most: int = 3) -> tuple[Change, ...]:
    """The smallest changes each of which would have made the trigger fire, smallest first; at most `most`.

    Empty where the trigger fires as it is, where the rules do not have it, or where none was found: what a
    predicate wants is not known, and large criteria are not searched to the end. Of a trigger that is judged
    a change tells no more than that the judge would be asked.
    """
    trigger = rules.config.trigger(trigger_id)
    if trigger is None:
        return ()
    start = trial.begun(situation)
    evaluation = evaluate(start, rules)
    winner = evaluation.winner
    if winner is not None and winner.trigger.id == trigger_id and winner.blocked is None:
        gate = held(winner, evaluation, situation, rules)
        if gate is None or gate.gate != "missed":
            return ()
        text = f"if it had been noticed by {words.clock(start.at + LATE, start.at)}"
        return (Change(_provided(text, rules, trigger_id), start.at),)
    told: dict[str, Change] = {}
    waiting = _if_allowed(start, rules, trigger_id)
    if waiting is not None:
        told[waiting.text] = waiting
    for each in search.plans(start, rules, trigger_id):
        text = _provided(_text(each, start, trigger_id), rules, trigger_id)
        told.setdefault(text, Change(text, each.at))
        if len(told) >= most:
            break
    return tuple(told.values())[:most]


def _if_allowed(start: Situation, rules: Ruleset, trigger_id: str) -> Change | None:
    """Where the judge is being asked about this trigger: that it says yes, if that were enough now."""
    proposal = start.session.proposal
    if proposal is None or proposal.trigger_id != trigger_id or proposal.settled(start.at):
        return None
    winner = evaluate(trial.allowed(start), rules).winner
    if winner is None or winner.trigger.id != trigger_id or winner.blocked is not None:
        return None
    return Change(f"if the judge allows it by {words.clock(proposal.deadline, start.at)}", start.at)


def _provided(text: str, rules: Ruleset, trigger_id: str) -> str:
    if not rules.config.judged(trigger_id):
        return text
    joined = " and" if text.startswith("if ") or ", if " in text else ", if"
    return f"{text}{joined} the judge allows it"


def _text(found: Found, start: Situation, trigger_id: str) -> str:
    """What the plan does, in words, with the instants that came out."""
    now, plan = start.at, found.plan
    nouns = [piece.text for piece in plan if piece.make is not None and not piece.stays]
    undisturbed = f"(at {words.clock(found.at, now)}) without another action"
    nouns += [f"{piece.text} {undisturbed}" for piece in plan if piece.stays]
    nouns += [text for text in found.changed if not text.startswith("if ")]
    provisos = [piece.text for piece in plan if piece.without]
    provisos += [text for text in found.changed if text.startswith("if ")]
    leaves = [piece.text for piece in plan if piece.waits and not piece.stays]
    head = ""
    if found.actions and found.begins > now:
        head = _when(words.after(found.begins, now), found.gates)
    elif not found.actions and found.at > now and not any(piece.stays for piece in plan):
        gates = found.gates if found.at == found.begins else ()
        head, leaves = _when(words.after(found.at, now), leaves or gates), []
        if not nouns and not provisos:
            return f"{head} ({words.later(found.at - now)} later)"
    text = head + (", with " if head and nouns else "") + words.both(nouns)
    if found.actions and found.at == now and not found.changed and not provisos:
        end = deadline(start, found.rules, trigger_id, found.actions)
        text += f" {words.before(end, now)}" if end is not None else ""
    text += (", " if text and provisos else "") + words.both(provisos)
    return f"{text} ({_when(words.after(found.at, now), leaves)})" if leaves else text


def _when(instant: str, clauses: Sequence[str]) -> str:
    return f"{instant}, when {words.both(clauses)}" if clauses else instant
