"""What the evaluator came to for a trigger at a moment, in the words and codes of the API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

from domain import config, sentences, triggers
from domain.criteria import reads_personal
from domain.finding import as_json, from_json
from domain.near import near
from domain.triggers import Ruleset, Situation, Verdict
from projections.configs import Revision
from projections.why.asof import Moment

Row = dict[str, Any]


def outcome(verdict: Verdict, moment: Moment, changes: Sequence[near.Change] = ()) -> Row:
    """What an evaluation comes to for a trigger: offered, withheld or silent."""
    verdict = _held(verdict, moment)
    met = verdict.finding.verdict is True
    return {
        "outcome": "silent" if not met else "offered" if verdict.blocked is None else "withheld",
        "verdict": verdict.finding.verdict,
        "summary": sentence(verdict, moment, changes),
        "criteria": worded(as_json(verdict.finding), verdict.trigger.criteria, moment.span()),
    }


def sentence(verdict: Verdict, moment: Moment, changes: Sequence[near.Change] = ()) -> str:
    """The verdict in one sentence."""
    if verdict.finding.verdict is True:
        verdict = _held(verdict, moment)
    return sentences.summary(verdict, moment.at, changes, moment.evaluation.winner, moment.span())


def _held(verdict: Verdict, moment: Moment) -> Verdict:
    """The verdict with all that holds it back, as `domain.decide` sees it."""
    gate = triggers.held(verdict, moment.evaluation, moment.situation, moment.rules)
    return verdict._replace(blocked=gate)


def blocked_by(moment: Moment, trigger_id: str) -> str | None:
    """The code of what stood in the way; None: nothing did."""
    verdict = moment.verdict(trigger_id)
    if verdict is None:
        return _unjudged(moment, trigger_id)
    if verdict.finding.verdict is True:
        held = _held(verdict, moment).blocked
        return held.reason if held is not None else None
    if not len(moment.situation.session.actions):
        return "no_actions"
    if verdict.finding.verdict is not None:
        return "criteria_unmet"
    return "erased" if moment.erased and reads_personal(verdict.trigger.criteria) else "criteria_unknown"


def _unjudged(moment: Moment, trigger_id: str) -> str:
    """Why there is no verdict at all."""
    if moment.rules.revision is None:
        return "no_config"
    if moment.rules.config.trigger(trigger_id) is not None:
        return "criteria_unknown"  # the evaluator failed
    ever = any(raw_trigger(revision, trigger_id) is not None for revision in moment.product.revisions)
    return "trigger_not_in_revision" if ever else "unknown_trigger"


def raw_trigger(revision: Revision | None, trigger_id: str) -> Any:
    """A trigger as the config was put; None where the revision has none of that id."""
    listed = revision.config.get("triggers", ()) if revision is not None else ()
    return next((t for t in listed if t.get("id", t.get("builtin")) == trigger_id), None)


def gates(verdict: Verdict, situation: Situation, rules: Ruleset) -> list[Row]:
    """Every gate, also where the criteria were not met and the evaluator needed to ask none."""
    asked = verdict.gates
    if not asked:
        offers = situation.offers()
        asked = (
            *triggers.shared_gates(situation, rules, offers),
            *triggers.own_gates(situation, rules, verdict.trigger, offers),
        )
    return [{"gate": gate.gate, "open": gate.open, "reason": gate.reason} for gate in asked]


def worded(criteria: Row, node: config.Node | None, lookback: int | None) -> Row:
    """Criteria as an explanation holds them, each leaf with what it saw in words.

    `node`: the same criteria in the config; None where that is not known. `lookback`: µs of its window,
    None where something else cuts that.
    """
    if "conditions" in criteria:
        children = criteria["conditions"]
        below: Iterable[config.Node | None] = repeat(None)
        if isinstance(node, config.Group) and len(node.conditions) == len(children):
            below = node.conditions
        told = [worded(child, part, lookback) for child, part in zip(children, below, strict=False)]
        return {**criteria, "conditions": told}
    return {**criteria, "text": sentences.leaf(from_json(criteria), node, lookback)}
