"""When the gates of a trigger open: by time, and what only another rule would open."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from domain import config, words
from domain.near import trial
from domain.triggers import Gate, Ruleset, Situation, own_gates, shared_gates
from domain.view import TICK

WAITS = 64  # instants looked at, one gate opening while another closes
RULES = ("limit", "holdout")  # gates that may stay closed however long one waits
_ENDS = {
    "state": "the session is thinking again",
    "session_cooldown": "the session's cooldown ends",
    "tour_running": "the tour has ended",
    "user_busy": "the nudge in the user's other session has timed out",
    "min_gap": "the gap after the last nudge has passed",
    "quiet_hours": "the quiet hours end",
    "trigger_cooldown": "the trigger's cooldown ends",
    "judge": "the judge may be asked again",
}


class Opening(NamedTuple):
    """The first instant at which no gate that time opens is closed."""

    situation: Situation  # there
    last: tuple[Gate, ...]  # the gates that open at that instant; empty where none had to


def opening(situation: Situation, rules: Ruleset, trigger: config.Trigger) -> Opening | None:
    """When time has opened the trigger's gates, its criteria aside; None where it never does."""
    last: tuple[Gate, ...] = ()
    for _ in range(WAITS):
        offers = situation.offers()
        gates = (*shared_gates(situation, rules, offers), *own_gates(situation, rules, trigger, offers))
        shut = [(gate, until) for gate in gates if (until := _reopens(gate, situation)) is not None]
        if not shut:
            stuck = any(not gate.open and gate.gate not in RULES for gate in gates)
            return None if stuck else Opening(situation, last)
        at = max(until for _, until in shut)
        last = tuple([gate for gate, until in shut if until == at])
        situation = trial.moved(situation, at)
    return None


def _reopens(gate: Gate, situation: Situation) -> int | None:
    if gate.open or gate.gate != "state":
        return gate.reopens
    due = situation.session.timeout_due
    return None if due is None else due + TICK


def ends(gate: Gate) -> str:
    """What happens when the gate opens, as it follows `when`."""
    if gate.gate == "limit":
        return f"the next {gate.episode.partition(' ')[0]} begins"
    return _ENDS[gate.gate]


class Rule(NamedTuple):
    """Rules with one thing changed."""

    rules: Ruleset
    text: str


def eased(situation: Situation, rules: Ruleset, trigger_id: str) -> Rule | None:
    """The rules with the first of the trigger's gates open that time does not open; None: there is none."""
    settings = rules.config
    trigger = settings.trigger(trigger_id)
    assert trigger is not None
    offers = situation.offers()
    for gate in shared_gates(situation, rules, offers):
        if gate.gate == "limit" and not gate.open and gate.reopens is None and settings.per_user is not None:
            made = sum(1 for offer in offers if not offer.holdout)
            budget, text = _raised(settings.per_user, made)
            return Rule(rules.limited(replace(settings, per_user=budget)), text)
    for gate in own_gates(situation, rules, trigger, offers):
        if gate.open or gate.gate not in RULES or gate.reopens is not None:
            continue
        if gate.gate == "holdout":
            text = f"if this user were not held out (holdout {trigger.holdout:g})"
            return Rule(_with(rules, replace(trigger, holdout=0.0)), text)
        limits, most = trigger.limits, trigger.limits.per_session
        here = [o for o in situation.session.offers if o.trigger_id == trigger_id and not o.holdout]
        if most is not None and len(here) >= most:
            text = f"a limit of {len(here) + 1} per session instead of {most}"
            limits = replace(limits, per_session=len(here) + 1)
        else:
            assert limits.per_user is not None
            mine = [o for o in offers if o.trigger_id == trigger_id and not o.holdout]
            budget, text = _raised(limits.per_user, len(mine))
            limits = replace(limits, per_user=budget)
        return Rule(_with(rules, replace(trigger, limits=limits)), text)
    return None


def _raised(budget: config.Budget, made: int) -> tuple[config.Budget, str]:
    """Room for one more offer in a budget that never begins anew."""
    return replace(budget, times=made + 1), f"a limit of {made + 1} per user instead of {budget.times}"


def _with(rules: Ruleset, trigger: config.Trigger) -> Ruleset:
    triggers = tuple(trigger if known.id == trigger.id else known for known in rules.config.triggers)
    return rules.limited(replace(rules.config, triggers=triggers))


def unrivalled(rules: Ruleset, rival: config.Trigger) -> Rule:
    """The rules without another trigger that takes the slot."""
    triggers = tuple(known for known in rules.config.triggers if known.id != rival.id)
    text = f"if {words.quoted(rival.name)} had not taken the slot"
    return Rule(rules.limited(replace(rules.config, triggers=triggers)), text)
