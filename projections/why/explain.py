"""Why a nudge was offered or held back, and why nothing happened: the evaluator's own output, told.

Nothing here judges a criterion or a gate. Verdicts come from `domain.triggers.evaluate`, their JSON from
`domain.decide.explain`, sentences from `domain.sentences`, near misses from `domain.near.near`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from domain import config
from domain.decide import explain
from domain.envelope import name_in
from domain.finding import Finding
from domain.instants import text
from domain.near import near
from domain.triggers import Verdict
from domain.view import View
from projections import rederive
from projections.readable import Told
from projections.why import aftermath, asof, causes, hindsight, judged, judging, trace
from projections.why.asof import Asking, Moment
from projections.why.circumstances import Cause

Row = dict[str, Any]

MOST_CHANGES = 3  # of `would_fire_if`

UNJUDGED = {
    "no_config": "the product had no config then",
    "unknown_trigger": "no revision of the config ever had this trigger",
    "trigger_not_in_revision": "the revision in force did not have this trigger",
    "criteria_unknown": "the evaluator fails on this session's facts",
}


async def decision(asking: Asking, row: Told) -> Row:
    """The explanation of a recorded decision: as recorded, with what is known of it today."""
    data = orjson.loads(row.data)
    trigger_id, told = data["trigger_id"], data["explanation"]
    derived = await rederive.derive(asking.inputs, row)
    if derived is not None:
        moment = await asof.of_decision(asking, row, derived)
    else:  # its revision is not in this ledger: nothing can be derived, but its facts are here
        moment = await asof.moment(asking, name_in(row.stream), version=row.version)
    offered = row.type == "nudge_offered"
    after = await aftermath.of_offer(asking, moment, row) if offered else aftermath.NOTHING
    opinion = await judging.of_decision(asking, moment, told)
    same = rederive.confirmed(derived, row) if derived is not None and not moment.erased else None
    return {
        **_shape(asking, moment, trigger_id, told),
        "decision_id": row.event_id,
        "nudge_id": row.event_id if offered else None,
        "outcome": "offered" if offered else "withheld",
        "user_id": data.get("user_id"),
        "noticed_at": text(data["noticed_at"]),
        "position": row.position,
        "reason": data.get("reason", "ok"),
        "config_revision": row.config_revision,
        "engine_version_then": row.engine_version,
        "reproduced": same,
        "blocked_by": told["blocked_by"],
        "would_fire_if": [] if offered or derived is None else _texts(_changes(moment, trigger_id)),
        "delivery": [aftermath.step_json(later) for later in after.delivery],
        "responses": [aftermath.step_json(later) for later in after.responses],
        "causes": _json(await causes.of_decision(asking, moment, row, data, after)),
        "known_now": await _known_now(asking, moment, trigger_id) if derived is not None else None,
        **({} if opinion is None else {"judge": opinion.as_json()}),
        "trace": trace.steps(moment, row, data, after, opinion),
    }


async def why_not(asking: Asking, session_id: str, trigger_id: str, at: int | None) -> Row:
    """Why a trigger did not fire at an instant (None: now); where it was decided upon then, that decision's.

    Raises NotFound for a session that the ledger does not know.
    """
    moment = await asof.moment(asking, session_id, at=at)
    for row in moment.decisions:
        if row.type in rederive.DECISIONS and orjson.loads(row.data)["trigger_id"] == trigger_id:
            return await decision(asking, row)
    verdict = moment.verdict(trigger_id)
    blocked_by = judged.blocked_by(moment, trigger_id)
    changes = _changes(moment, trigger_id)
    told = explain(verdict or _unjudged(trigger_id), moment.evaluation, moment.situation, moment.rules)
    if verdict is not None:
        told["summary"] = _silent(verdict, moment, blocked_by, changes)
        told["gates"] = judged.gates(verdict, moment.situation, moment.rules)
    else:
        told["summary"] = f"Not offered: {UNJUDGED[blocked_by or 'criteria_unknown']}."
        told["criteria"] = None
    return {
        **_shape(asking, moment, trigger_id, told),
        "reason": blocked_by or "ok",
        "blocked_by": blocked_by,
        "would_fire_if": _texts(changes),
        "causes": _json(await causes.of_silence(asking, moment, trigger_id, blocked_by)),
        "known_now": await _known_now(asking, moment, trigger_id),
    }


def evaluation(moment: Moment) -> Row:
    """Every trigger as of a moment, and the window that its criteria saw."""
    situation, rules = moment.situation, moment.rules
    actions, at = situation.session.actions, moment.at
    window = View(actions, at, rules.config, rules.matcher, rules.predicates).window()
    return {
        "at": text(at),
        "version": moment.version,
        "config_revision": rules.revision,
        "engine_version": moment.engine,
        "window": [
            {
                "event_id": action.event_id,
                "occurred_at": text(action.occurred_at),
                "type": action.type,
                "title": action.title,
                "url": action.url,
            }
            for action in window
        ],
        "triggers": [
            {
                "trigger_id": verdict.trigger.id,
                "name": verdict.trigger.name,
                **judged.outcome(verdict, moment),
                "blocked_by": judged.blocked_by(moment, verdict.trigger.id),
                "gates": judged.gates(verdict, situation, rules),
            }
            for verdict in moment.evaluation.verdicts
        ],
    }


# --- parts -------------------------------------------------------------------------------------------


def _shape(asking: Asking, moment: Moment, trigger_id: str, told: Mapping[str, Any]) -> Row:
    """An explanation of silence, from the evaluator's output; a decision's says more in the same places."""
    trigger = moment.rules.config.trigger(trigger_id)
    user, criteria = moment.situation.user, told["criteria"]
    if criteria is not None:
        node = trigger.criteria if trigger is not None else None
        criteria = judged.worded(criteria, node, moment.span())
    return {
        "decision_id": None,
        "nudge_id": None,
        "outcome": "silent",
        "trigger_id": trigger_id,
        "name": trigger.name if trigger is not None else None,
        "session_id": moment.session_id,
        "user_id": user.user_id if user is not None else None,
        "at": text(moment.at),
        "noticed_at": text(moment.at),
        "position": None,
        "reason": "ok",
        "summary": told["summary"],
        "config_revision": moment.rules.revision,
        "engine_version_then": moment.engine,
        "engine_version_now": asking.engine,
        "reproduced": None,
        "state": told["state"],
        "read": told["read"],
        "criteria": criteria,
        "gates": told["gates"],
        "blocked_by": None,
        "would_fire_if": [],
        "other_triggers": told["other_triggers"],
        "tours": told["tours"],
        "delivery": [],
        "responses": [],
        "causes": [],
        "known_now": None,
        "trace": [],
    }


def _unjudged(trigger_id: str) -> Verdict:
    """Stands in for a trigger of which there is no verdict; `explain` says all the rest."""
    trigger = config.Trigger(trigger_id, trigger_id, config.ActionCount(0))
    return Verdict(trigger, Finding("action_count", None), (), None)


def _silent(verdict: Verdict, moment: Moment, blocked_by: str | None, changes: Sequence[near.Change]) -> str:
    match blocked_by:
        case None:
            return "Not offered: everything was met, but nothing was evaluated at this instant."
        case "erased":
            return "Not offered; why cannot be known any more: what its criteria looked at was erased."
        case "no_actions":
            return "Not offered: the session had no action by then."
        case _:
            return judged.sentence(verdict, moment, changes)


def _changes(moment: Moment, trigger_id: str) -> tuple[near.Change, ...]:
    if moment.verdict(trigger_id) is None:
        return ()
    return near.changes(moment.situation, moment.rules, trigger_id, MOST_CHANGES)


def _texts(changes: Sequence[near.Change]) -> list[str]:
    return [change.text for change in changes]


async def _known_now(asking: Asking, moment: Moment, trigger_id: str) -> Row | None:
    """What would be said of that instant today; None where nothing was recorded later about it."""
    later = await hindsight.known_now(asking, moment)
    verdict = later.verdict(trigger_id) if later is not None else None
    if later is None or verdict is None:
        return None
    changes: tuple[near.Change, ...] = ()
    if verdict.finding.verdict is not True:
        changes = near.changes(later.situation, later.rules, trigger_id, MOST_CHANGES)
    return {
        "late_events": list(later.late),
        **judged.outcome(verdict, later, changes),
        "blocked_by": judged.blocked_by(later, trigger_id),
    }


def _json(found: Sequence[Cause]) -> list[Row]:
    return [cause.as_json() for cause in found]
