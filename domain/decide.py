"""From an evaluation to the events that record it. Pure: the same evaluation gives the same events."""

from __future__ import annotations

from typing import Any, NamedTuple

from domain import config, events, sentences
from domain.envelope import derived_id, nudge_stream, session_stream, user_stream
from domain.events import Timings
from domain.finding import as_json
from domain.instants import optional_text, text
from domain.proposal import Proposal
from domain.triggers import PENDING, Evaluation, Gate, Ruleset, Situation, Verdict, held, settled
from domain.view import View


class Draft(NamedTuple):
    """An engine event before the store knows it."""

    stream: str
    event_id: str
    event: events.Engine
    at: int
    cause: str | None  # event id of the direct parent


def draft(product: str, stream: str, event: events.Engine, at: int, cause: str | None, key: str) -> Draft:
    """An engine event with its derived id: of product, stream, type, `key` (trigger), instant, cause."""
    return Draft(
        stream,
        derived_id(at, product, stream, event.TYPE, key, str(at), cause or ""),
        event,
        at,
        cause,
    )


def decide(
    evaluation: Evaluation, situation: Situation, rules: Ruleset, cause: str | None
) -> tuple[Draft, ...]:
    """What the evaluation means: withholdings at an episode's start, and at most one offer or proposal.

    "No events" is the answer of an evaluation that concludes nothing new.
    """
    if not any(verdict.finding.verdict is True for verdict in evaluation.verdicts):
        return ()
    drafts: list[Draft] = []
    waiting = situation.session.proposal
    for verdict in evaluation.verdicts:
        if verdict.finding.verdict is not True:
            continue
        gate = held(verdict, evaluation, situation, rules)
        if gate is None:
            drafts += _offer(verdict, evaluation, situation, rules, cause)
        elif verdict.blocked is None and gate.reason == PENDING:
            drafts.append(_propose(verdict, gate, evaluation, situation, rules, cause))
        elif waiting is None or waiting.trigger_id != verdict.trigger.id or settled(verdict, situation):
            drafts += _withhold(verdict._replace(blocked=gate), evaluation, situation, rules, cause)
    return tuple(drafts)


def _withhold(
    verdict: Verdict, evaluation: Evaluation, situation: Situation, rules: Ruleset, cause: str | None
) -> list[Draft]:
    gate, trigger = verdict.blocked, verdict.trigger
    assert gate is not None
    noted = gate.episode in situation.session.withheld.get((trigger.id, gate.gate), ())
    if noted and settled(verdict, situation) is None:  # a proposal always comes to something
        return []
    stream = session_stream(situation.session.session_id)
    withheld = events.NudgeWithheld(
        trigger_id=trigger.id,
        user_id=_user_id(situation),
        gate=gate.gate,
        reason=gate.reason,
        episode=gate.episode,
        noticed_at=situation.noticed_at,
        explanation=explain(verdict, evaluation, situation, rules),
    )
    made = draft(situation.product, stream, withheld, situation.at, cause, f"{trigger.id}\0{gate.gate}")
    if gate.gate != "holdout" or situation.user is None:
        return [made]
    return [made, _spend(made, trigger, situation, holdout=True)]


def _propose(
    verdict: Verdict,
    gate: Gate,
    evaluation: Evaluation,
    situation: Situation,
    rules: Ruleset,
    cause: str | None,
) -> Draft:
    trigger = verdict.trigger
    assert gate.reopens is not None
    proposed = events.NudgeProposed(
        trigger_id=trigger.id,
        user_id=_user_id(situation),
        noticed_at=situation.noticed_at,
        deadline=gate.reopens,
        message=message(verdict, situation, rules),
        explanation=explain(verdict._replace(blocked=gate), evaluation, situation, rules),
    )
    stream = session_stream(situation.session.session_id)
    return draft(situation.product, stream, proposed, situation.at, cause, trigger.id)


def _offer(
    verdict: Verdict, evaluation: Evaluation, situation: Situation, rules: Ruleset, cause: str | None
) -> list[Draft]:
    trigger, settings = verdict.trigger, rules.config
    offered = events.NudgeOffered(
        trigger_id=trigger.id,
        user_id=_user_id(situation),
        noticed_at=situation.noticed_at,
        expires_at=situation.at + trigger.expires,
        timings=Timings(settings.interaction_timeout, settings.cooldown_period, trigger.interaction_timeout),
        message=message(verdict, situation, rules),
        explanation=explain(verdict, evaluation, situation, rules),
        goal=trigger.goal,
    )
    stream = session_stream(situation.session.session_id)
    made = draft(situation.product, stream, offered, situation.at, cause, trigger.id)
    drafts = [made]
    if situation.user is not None:
        drafts.append(_spend(made, trigger, situation, holdout=False))
    superseded = _superseded(situation)
    if superseded is not None:
        closed = events.NudgeClosed("superseded", superseded[1], _user_id(situation))
        stream = nudge_stream(superseded[0])
        drafts.append(draft(situation.product, stream, closed, situation.at, made.event_id, ""))
    return drafts


def _user_id(situation: Situation) -> str | None:
    return situation.user.user_id if situation.user is not None else None


def _spend(made: Draft, trigger: config.Trigger, situation: Situation, holdout: bool) -> Draft:
    assert situation.user is not None
    spent = events.BudgetSpent(
        trigger_id=trigger.id,
        session_id=situation.session.session_id,
        nudge_id=made.event_id,
        offered_at=situation.at,
        expires_at=situation.at + trigger.expires,
        holdout=holdout,
    )
    stream = user_stream(situation.user.user_id)
    at = max(situation.at, situation.user.at)  # a stream's instants never decrease
    return draft(situation.product, stream, spent, at, made.event_id, trigger.id)


def _superseded(situation: Situation) -> tuple[str, str] | None:
    """The user's open nudge and its session, which a new offer puts out."""
    last = next((o for o in reversed(situation.offers()) if not o.holdout), None)
    if last is None:
        return None
    for state in (situation.session, *situation.others):
        offer = state.open_offer(situation.at)
        if offer is not None and offer.nudge_id == last.nudge_id:
            return last.nudge_id, state.session_id
    return None


# --- what a channel shows ----------------------------------------------------------------------------


def message(verdict: Verdict, situation: Situation, rules: Ruleset) -> dict[str, Any]:
    """The nudge as channels show it. One that the judge allowed says what was proposed, with such tours as
    fit the page by now."""
    trigger, settings = verdict.trigger, rules.config
    body = trigger.body
    options = [_option(option) for option in trigger.options]
    if trigger.builtin == "section_playbook_match":
        row = next((r for r in settings.playbook if r.section_id == verdict.finding.observed), None)
        if row is not None:
            body = row.body
            labels = enumerate(row.reply_option_labels, 1)
            options = [{"id": f"chip_{n}", "label": label} for n, label in labels] or options
    fitting = [settings.tour(fit["id"]) for fit in tour_fits(trigger, situation, rules) if fit["offered"]]
    tours = [
        {"id": tour.id, "flow_id": tour.user_tour_id, "label": tour.user_tour_name}
        for tour in fitting
        if tour is not None
    ]
    proposal = settled(verdict, situation)
    if proposal is not None:
        return {**proposal.message, "tours": tours}
    shown: dict[str, Any] = {"body": body, "tours": tours, "options": options}
    shown["channels"] = list(trigger.channels)
    if trigger.target is not None:
        shown["target"] = trigger.target
    if trigger.how_to is not None:
        shown["how_to"] = trigger.how_to
    return shown


def _option(option: config.Option) -> dict[str, Any]:
    row: dict[str, Any] = {"id": option.id, "label": option.label}
    if option.user_tour_exists:
        row["user_tour_exists"] = True
        row["user_tour_id"] = option.user_tour_id
    return row


def tour_fits(trigger: config.Trigger, situation: Situation, rules: Ruleset) -> list[dict[str, Any]]:
    """Each tour of the trigger: whether it fits the page that the user is on, and why not."""
    view = View(situation.session.actions, situation.at, rules.config, rules.matcher, rules.predicates)
    page = view.current_page()
    url = (page.url or "").casefold() if page is not None else ""
    fits: list[dict[str, Any]] = []
    for tour_id in trigger.tours:
        tour = rules.config.tour(tour_id)
        fit = tour is not None and (tour.page_contains is None or tour.page_contains in url)
        fits.append({"id": tour_id, "offered": fit, "reason": "ok" if fit else "page_mismatch"})
    return fits


# --- the explanation ---------------------------------------------------------------------------------


def read_set(situation: Situation) -> dict[str, int]:
    """Every stream that the decision depended on, with its version then."""
    read = {session_stream(situation.session.session_id): situation.session.version}
    users = () if situation.user is None else (situation.user, *situation.aliases)
    for user in users:
        read[user_stream(user.user_id)] = user.version
    for other in situation.others:
        read[session_stream(other.session_id)] = other.version
    return read


def explain(verdict: Verdict, evaluation: Evaluation, situation: Situation, rules: Ruleset) -> dict[str, Any]:
    """The evaluator's own output for one trigger."""
    session, at = situation.session, situation.at
    blocked = verdict.blocked
    span = View(session.actions, at, rules.config, rules.matcher, rules.predicates).span()
    proposal = settled(verdict, situation)
    judge = {} if proposal is None else {"judge": judged(proposal)}
    return {
        "summary": sentences.summary(verdict, at, winner=evaluation.winner, lookback=span),
        "state": {
            "current_state": session.state_at(at),
            "cooldown_active": session.cooldown_active(at),
            "cooldown_until": optional_text(session.cooldown_until or None),
            "timeout_due_at": optional_text(session.timeout_due),
        },
        "read": read_set(situation),
        "criteria": as_json(verdict.finding),
        "gates": [{"gate": g.gate, "open": g.open, "reason": g.reason} for g in verdict.gates],
        "blocked_by": blocked.reason if blocked is not None else None,
        "other_triggers": [
            {
                "trigger_id": other.trigger.id,
                "verdict": other.finding.verdict,
                "outranked": other.blocked is not None and other.blocked.gate == "outranked",
            }
            for other in evaluation.verdicts
            if other.trigger.id != verdict.trigger.id
        ],
        "tours": tour_fits(verdict.trigger, situation, rules),
        **judge,
    }


def judged(proposal: Proposal) -> dict[str, Any]:
    """What an explanation holds of a settled proposal; the judge's reason is in its own event, sealed."""
    told: dict[str, Any] = {
        "proposal_id": proposal.proposal_id,
        "proposed_at": text(proposal.at),
        "deadline": text(proposal.deadline),
        "answer_id": proposal.answer_id,
        "allow": None if proposal.answered_at is None else proposal.allow,
    }
    for name in ("model", "prompt_version", "failure"):
        if getattr(proposal, name) is not None:
            told[name] = getattr(proposal, name)
    return told
