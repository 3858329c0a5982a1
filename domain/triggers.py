"""Rulesets, gates, and the evaluation of one session at one instant.

`evaluate` gives every trigger's verdict, which gates stand open, who gets the slot, and the next instant at
which time alone could change any of it. It concludes nothing: `domain.decide` makes events of it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from zoneinfo import ZoneInfo

from domain import calendar, config, criteria
from domain.finding import Finding, from_json, wake
from domain.instants import SECOND, text
from domain.machine import PROACTIVE, THINKING
from domain.proposal import Proposal
from domain.session import OfferMade, SessionState
from domain.user import UserState
from domain.view import TICK, Matcher, Predicates, View, no_predicates

LATE = 5 * SECOND  # an offer noticed later than this after its instant is missed: nobody could have seen it
JUDGE = "judge"  # the gate
PENDING = "judge_pending"  # its reason while a proposal holds the session's slot


class Ruleset:
    """A config made ready to evaluate. Immutable in meaning; holds memos of matches."""

    def __init__(
        self,
        settings: config.Config,
        revision: str | None,
        predicates: Predicates = no_predicates,
    ) -> None:
        self.config = settings
        self.revision = revision
        self.predicates = predicates
        self.matcher = Matcher()
        self.criteria = tuple(
            (trigger, criteria.build(trigger.criteria, settings, self.matcher))
            for trigger in settings.triggers
        )
        self.zone = calendar.zone(settings.timezone)
        self.reads_properties = self.matcher.reads_properties or any(
            criteria.reads_personal(trigger.criteria) for trigger in settings.triggers
        )

    def erased(self) -> Ruleset:
        """These rules where personal fields can be read no more: what asks for them is unknown."""
        other = self.limited(self.config)
        other.criteria = tuple(
            (trigger, criteria.build(trigger.criteria, self.config, self.matcher, erased=True))
            for trigger in self.config.triggers
        )
        return other

    def limited(self, settings: config.Config) -> Ruleset:
        """These rules under other limits, or without some of the triggers; criteria stay as they are.

        The two share their memos, so a history need not be matched anew.
        """
        other = Ruleset.__new__(Ruleset)
        other.__dict__.update(self.__dict__)
        known = {trigger.id: criterion for trigger, criterion in self.criteria}
        other.config = settings
        other.criteria = tuple((trigger, known[trigger.id]) for trigger in settings.triggers)
        return other


class Situation(NamedTuple):
    """All that a decision may depend on besides the rules."""

    product: str
    session: SessionState
    user: UserState | None  # the user that the session's id stands for now; None: unknown
    aliases: tuple[UserState, ...]  # anonymous ids merged into the user
    others: tuple[SessionState, ...]  # the user's sessions that may be in proactive assistance
    at: int
    noticed_at: int

    def offers(self) -> list[OfferMade]:
        """The offers that limits, gaps and cooldowns count: the user's, or an unknown user's session's."""
        if self.user is None:
            return list(self.session.offers)
        counted = {o.nudge_id: o for o in self.session.offers if o.user_id is None}
        for state in (*self.aliases, self.user):
            for offer in state.offers:
                counted[offer.nudge_id] = offer
        return sorted(counted.values(), key=lambda o: (o.at, o.nudge_id))


class Gate(NamedTuple):
    """A rule that may hold back a nudge whose criteria are met."""

    gate: str
    open: bool
    reason: str = "ok"
    episode: str = ""  # the recorded fact with which the closure began
    reopens: int | None = None  # the instant at which time alone opens it


class Verdict(NamedTuple):
    """One trigger at one instant."""

    trigger: config.Trigger
    finding: Finding
    gates: tuple[Gate, ...]  # empty where the criteria are not met: then no gate was asked
    blocked: Gate | None  # the first that is closed; an `outranked` pseudo-gate for those behind the winner


class Evaluation(NamedTuple):
    """Every trigger's verdict at one instant."""

    at: int
    verdicts: tuple[Verdict, ...]
    winner: Verdict | None  # takes the slot: to be offered, or held out, or missed
    next_at: int | None  # the next instant at which time alone may change an outcome


def evaluate(situation: Situation, rules: Ruleset, *, whole: bool = False) -> Evaluation:
    """Every trigger in config order; the first whose criteria are true and whose gates are open wins.

    The finding of a trigger that is met is always whole. Of one that is not met it ends at the conditions
    that settled it, unless `whole` is asked for, as explanations do; verdicts are the same.

    A proposal that is settled goes first, its criteria as they were proposed: only the gates are asked again.
    """
    session, at = situation.session, situation.at
    view = View(session.actions, at, rules.config, rules.matcher, rules.predicates)
    verdicts: list[Verdict] = []
    winner: Verdict | None = None
    next_at: int | None = None
    shared: tuple[Gate, ...] | None = None
    offers: list[OfferMade] = []
    proposal = session.proposal
    proposed: Proposal | None = None  # where it is settled
    asked = rules.criteria
    if proposal is not None:
        proposed = proposal if proposal.settled(at) else None
        next_at = at + TICK if proposed is not None else proposal.deadline
        if proposed is not None:
            asked = _proposed_first(proposed, asked)
    for trigger, criterion in asked:
        if proposed is not None and trigger.id == proposed.trigger_id:
            finding = from_json(proposed.criteria)
        else:
            view.brief = not whole
            finding = criterion(view, _used(session, trigger.id))
            if finding.verdict is True and not _is_whole(finding, trigger.criteria):
                view.brief = False
                finding = criterion(view, _used(session, trigger.id))
        if finding.verdict is not True:
            verdicts.append(Verdict(trigger, finding, (), None))
            change = wake(finding) if finding.next_change is not None else None
            if change is not None and change > at and (next_at is None or change < next_at):
                next_at = change
            continue
        if shared is None:
            offers = situation.offers()
            shared = shared_gates(situation, rules, offers)
        gates = (*shared, *own_gates(situation, rules, trigger, offers))
        blocked = next((gate for gate in gates if not gate.open), None)
        slot = blocked is None or blocked.gate == "holdout"
        if slot and winner is not None:
            blocked = Gate("outranked", False, "outranked", _winner_episode(winner, at))
        verdict = Verdict(trigger, finding, gates, blocked)
        verdicts.append(verdict)
        if slot and winner is None:
            winner = verdict
        if slot:  # where it is not offered now, it may turn false and true again while no gate moves
            change = finding.next_change
            if change is not None and change > at and (next_at is None or change < next_at):
                next_at = change
        for gate in gates:
            if gate.reopens is not None and gate.reopens > at and (next_at is None or gate.reopens < next_at):
                next_at = gate.reopens
    return Evaluation(at, tuple(verdicts), winner, next_at)


Asked = tuple[tuple[config.Trigger, criteria.Criterion], ...]


def _proposed_first(proposal: Proposal, listed: Asked) -> Asked:
    """The trigger of a settled proposal before all others, also where the rules in force lack it by now."""
    own = [pair for pair in listed if pair[0].id == proposal.trigger_id]
    if not own:
        gone = config.Trigger(proposal.trigger_id, proposal.trigger_id, config.ActionCount(0))
        own = [(gone, lambda view, used: from_json(proposal.criteria))]
    return (*own, *[pair for pair in listed if pair[0].id != proposal.trigger_id])


def settled(verdict: Verdict, situation: Situation) -> Proposal | None:
    """The proposal that the verdict settles; None: it is about no proposal."""
    proposal = situation.session.proposal
    if proposal is None or proposal.trigger_id != verdict.trigger.id:
        return None
    return proposal if proposal.settled(situation.at) else None


def held(verdict: Verdict, evaluation: Evaluation, situation: Situation, rules: Ruleset) -> Gate | None:
    """What keeps a trigger whose criteria are met from being offered here and now; None: nothing does.

    Besides its gates: it was noticed too late for anybody to see it, or a judge is to be heard first.
    """
    if verdict.blocked is not None or verdict is not evaluation.winner:
        return verdict.blocked
    at = situation.at
    if situation.noticed_at - at > LATE:
        return Gate("missed", False, "missed", text(at))
    judge = rules.config.judge
    if judge is None or not rules.config.judged(verdict.trigger.id) or settled(verdict, situation):
        return None
    return Gate(JUDGE, False, PENDING, reopens=at + judge.timeout)


def _is_whole(finding: Finding, node: config.Node) -> bool:
    if not isinstance(node, config.Group):
        return True
    if len(finding.conditions) < len(node.conditions):
        return False
    return all(map(_is_whole, finding.conditions, node.conditions))


def _used(session: SessionState, trigger_id: str) -> int:
    """The version of the trigger's last offer in this session: no earlier event completes a sequence."""
    for offer in reversed(session.offers):
        if offer.trigger_id == trigger_id and not offer.holdout:
            return offer.version
    return 0


def _winner_episode(winner: Verdict, at: int) -> str:
    held = winner.blocked
    return f"{winner.trigger.id}@{text(at)}" if held is None else f"{winner.trigger.id}:{held.episode}"


# --- gates -------------------------------------------------------------------------------------------


def shared_gates(situation: Situation, rules: Ruleset, offers: list[OfferMade]) -> tuple[Gate, ...]:
    """The gates that stop every trigger, in their order."""
    session, at, settings = situation.session, situation.at, rules.config
    return (
        _state(session, at),
        _session_cooldown(session, at),
        _tour_running(session, at),
        _user_busy(situation),
        _min_gap(settings, offers, at),
        _limit(settings.per_user, offers, at, user_zone(situation, rules)),
        _quiet_hours(settings, at, user_zone(situation, rules)),
    )


def own_gates(
    situation: Situation, rules: Ruleset, trigger: config.Trigger, offers: list[OfferMade]
) -> tuple[Gate, ...]:
    """The gates of one trigger; a closed one yields to the next trigger, but a holdout takes the slot."""
    mine = [offer for offer in offers if offer.trigger_id == trigger.id]
    at = situation.at
    limit = _session_limit(trigger, situation.session)
    if limit.open:
        limit = _limit(trigger.limits.per_user, mine, at, user_zone(situation, rules))
    cooldown, holdout = _trigger_cooldown(trigger, mine, at), _holdout(situation, rules, trigger)
    if rules.config.judge is None and situation.session.proposal is None:
        return (cooldown, limit, holdout)
    return (cooldown, limit, _judge(situation, rules, trigger), holdout)


def user_zone(situation: Situation, rules: Ruleset) -> ZoneInfo:
    """The user's own time zone where a known one was given, else the product's."""
    name = situation.user.timezone if situation.user is not None else None
    if name is not None:
        try:
            return calendar.zone(name)
        except ValueError:
            pass  # what a host sends as a trait is not ours to refuse
    return rules.zone


def _state(session: SessionState, at: int) -> Gate:
    state = session.state_at(at)
    if state == THINKING:
        return Gate("state", True)
    # The timeout is armed anyway; the evaluation at its instant looks again.
    return Gate("state", False, f"state_{state}", f"version {session.entered_version}")


def _session_cooldown(session: SessionState, at: int) -> Gate:
    if not session.cooldown_active(at):
        return Gate("session_cooldown", True)
    began = f"timeout {text(session.timed_out_at)}"
    return Gate("session_cooldown", False, "cooldown_active", began, session.cooldown_until)


def _tour_running(session: SessionState, at: int) -> Gate:
    if not session.tour_running(at):
        return Gate("tour_running", True)
    until = session.tour_until()
    reopens = until + TICK if until is not None and session.current_state == THINKING else None
    return Gate("tour_running", False, "tour_running", f"version {session.tour_version}", reopens)


def _user_busy(situation: Situation) -> Gate:
    for other in situation.others:
        if other.state_at(situation.at) == PROACTIVE:
            due = other.timeout_due
            episode = f"{other.session_id} version {other.entered_version}"
            return Gate("user_busy", False, "user_busy", episode, due + TICK if due is not None else None)
    return Gate("user_busy", True)


def _min_gap(settings: config.Config, offers: list[OfferMade], at: int) -> Gate:
    last = next((o for o in reversed(offers) if not o.holdout), None)
    if last is None or not settings.min_gap or at >= last.at + settings.min_gap:
        return Gate("min_gap", True)
    return Gate("min_gap", False, "min_gap", last.nudge_id, last.at + settings.min_gap)


def _limit(budget: config.Budget | None, offers: list[OfferMade], at: int, zone: ZoneInfo) -> Gate:
    if budget is None:
        return Gate("limit", True)
    start = calendar.period_start(at, budget.per, zone)
    spent = sum(1 for o in offers if not o.holdout and o.at >= start)
    if spent < budget.times:
        return Gate("limit", True)
    episode = f"{budget.per} from {text(start)}"
    return Gate("limit", False, "limit_reached", episode, calendar.next_period_start(at, budget.per, zone))


def _session_limit(trigger: config.Trigger, session: SessionState) -> Gate:
    most = trigger.limits.per_session
    made = [o for o in session.offers if o.trigger_id == trigger.id and not o.holdout]
    if most is None or len(made) < most:
        return Gate("limit", True)
    return Gate("limit", False, "limit_reached", f"session, last {made[-1].nudge_id}")


def _quiet_hours(settings: config.Config, at: int, zone: ZoneInfo) -> Gate:
    quiet = settings.quiet_hours
    if quiet is None or not calendar.in_quiet_hours(at, quiet, zone):
        return Gate("quiet_hours", True)
    night = calendar.quiet_started(at, quiet, zone)
    return Gate("quiet_hours", False, "quiet_hours", night, calendar.quiet_end(at, quiet, zone))


def _trigger_cooldown(trigger: config.Trigger, mine: list[OfferMade], at: int) -> Gate:
    if not mine or at >= mine[-1].at + trigger.cooldown:
        return Gate("trigger_cooldown", True)
    last = mine[-1]
    return Gate("trigger_cooldown", False, "trigger_cooldown", last.nudge_id, last.at + trigger.cooldown)


def _judge(situation: Situation, rules: Ruleset, trigger: config.Trigger) -> Gate:
    """Closed for all while a proposal waits; for one that the judge refused, as long as its cooldown runs."""
    session, at = situation.session, situation.at
    proposal, refused = session.proposal, session.refused.get(trigger.id)
    if proposal is not None and not proposal.settled(at):
        return Gate(JUDGE, False, PENDING, proposal.proposal_id, proposal.deadline)
    if proposal is not None and proposal.trigger_id == trigger.id:
        if rules.config.trigger(trigger.id) is None:
            return Gate(JUDGE, False, "trigger_not_in_revision", proposal.proposal_id)
        refused = None if proposal.allow else proposal.refusal()
    elif not rules.config.judged(trigger.id):
        refused = None
    if refused is None or at >= refused.at + trigger.cooldown:
        return Gate(JUDGE, True)
    return Gate(JUDGE, False, refused.reason, refused.proposal_id, refused.at + trigger.cooldown)


def _holdout(situation: Situation, rules: Ruleset, trigger: config.Trigger) -> Gate:
    """Held out: a fixed share of users, by the hash of product, trigger and the user's first id."""
    if trigger.holdout <= 0:
        return Gate("holdout", True)
    who = situation.user.holdout_id if situation.user is not None else situation.session.session_id
    digest = hashlib.sha256(f"{situation.product}\0{trigger.id}\0{who}".encode()).digest()
    if int.from_bytes(digest[:8]) >= trigger.holdout * 2**64:
        return Gate("holdout", True)
    zone = user_zone(situation, rules)
    day = text(calendar.period_start(situation.at, "day", zone))
    return Gate("holdout", False, "holdout", f"{rules.revision} {day}")
