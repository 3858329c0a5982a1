"""A session: its state, folded from its own stream, and the instants at which time alone changes it.

Reads top to bottom: the values, the published methods, evolve and fold. Instants are microseconds and
always arguments. `evolve` is total: a fact that cannot apply leaves the state and notes an anomaly, so old
history never stops a replay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from domain import events, machine
from domain.errors import InvalidTransitionError
from domain.events import Timings
from domain.history import ActionFact, History
from domain.instants import SECOND
from domain.machine import THINKING
from domain.proposal import JUDGE_TIMEOUT, JUDGE_VETOED, Proposal, Refusal

DEFAULT_TIMINGS = Timings(session_timeout=20 * SECOND, session_cooldown=60 * SECOND)
SNAPSHOT = 1  # of `to_dict`


class Fact(NamedTuple):
    """An event with what a fold needs of its envelope."""

    version: int
    at: int
    occurred_at: int
    event_id: str
    user_id: str | None
    event: events.Event


class OfferMade(NamedTuple):
    """An offer as limits, gaps and cooldowns count it."""

    trigger_id: str
    at: int
    nudge_id: str
    session_id: str
    user_id: str | None  # None: the user was unknown, so it counts for this session
    version: int  # of the offer, in the stream that counts it
    holdout: bool = False  # held back: runs the trigger's cooldown, counts for nothing else


class Offer(NamedTuple):
    """The newest offer of a session."""

    nudge_id: str
    trigger_id: str
    user_id: str | None
    at: int
    expires_at: int
    open: bool = True  # not answered, not dismissed (expiry and superseding are seen from outside)
    unanswered: bool = True  # its trigger's timeout is in force


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a session's stream says, as of `version`."""

    session_id: str
    version: int = 0
    user_id: str | None = None  # the last non-empty id seen
    at: int = 0  # of the newest event; 0: none yet
    last_event_at: int = 0  # of the newest outside event
    current_state: str = THINKING
    entered_version: int = 0  # of the event by which the state was entered
    last_interaction_at: int | None = None
    timings: Timings = DEFAULT_TIMINGS  # as recorded with what last changed a timer
    in_force_since: int = 0  # the instant at which the timeout in force came into force
    cooldown_until: int = 0  # the first instant after the cooldown; 0: none
    timed_out_at: int = 0  # due instant of the newest timeout
    active_tour_id: str | None = None  # registry id where the config knew it, else as sent
    tour_sent_id: str | None = None  # as its start named it
    tour_touched_at: int = 0  # start or newest step of the running tour
    tour_version: int = 0  # of the event that started it
    offer: Offer | None = None
    offers: tuple[OfferMade, ...] = ()
    withheld: Mapping[tuple[str, str], tuple[str, ...]] = field(
        default_factory=dict
    )  # (trigger, gate): episodes
    proposal: Proposal | None = None
    refused: Mapping[str, Refusal] = field(default_factory=dict)  # by trigger: the judge's newest
    conversation_id: str | None = None
    actions: History = field(default_factory=History)
    anomalies: tuple[str, ...] = ()  # the newest few facts that could not apply

    # --- what it answers -------------------------------------------------------------------------

    @property
    def visual_guidance_active(self) -> bool:
        return self.active_tour_id is not None

    @property
    def timeout(self) -> int:
        """The timeout in force: the running tour's, else the unanswered offer's, else the session's."""
        if self.active_tour_id is not None and self.timings.tour_timeout is not None:
            return self.timings.tour_timeout
        if self.offer is not None and self.offer.unanswered and self.timings.offer_timeout is not None:
            return self.timings.offer_timeout
        return self.timings.session_timeout

    @property
    def cooldown(self) -> int:
        """The cooldown that a timeout would start now."""
        if self.active_tour_id is not None and self.timings.tour_cooldown is not None:
            return self.timings.tour_cooldown
        return self.timings.session_cooldown

    @property
    def timeout_due(self) -> int | None:
        """The timeout's due instant; it happens when more than that has passed. None while thinking."""
        if self.current_state == THINKING or self.last_interaction_at is None:
            return None
        return max(self.last_interaction_at + self.timeout, self.in_force_since)

    def state_at(self, at: int) -> str:
        """The state at `at`, a timeout that nobody noticed yet included."""
        due = self.timeout_due
        return THINKING if due is not None and due < at else self.current_state

    def cooldown_active(self, at: int) -> bool:
        return at < self.cooldown_until

    def tour_until(self) -> int | None:
        """The last instant at which the running tour still runs without another step; None: none runs."""
        if self.active_tour_id is None:
            return None
        timeout = self.timings.tour_timeout
        return self.tour_touched_at + (self.timings.session_timeout if timeout is None else timeout)

    def tour_running(self, at: int) -> bool:
        until = self.tour_until()
        return until is not None and (self.current_state != THINKING or at <= until)

    def open_offer(self, at: int) -> Offer | None:
        """The newest offer, while it is neither answered, dismissed nor expired."""
        offer = self.offer
        return offer if offer is not None and offer.open and at < offer.expires_at else None

    # --- the published names ---------------------------------------------------------------------
    # Each returns the next value: SessionState is immutable, and time is an argument.

    def tick(self, at: int) -> SessionState:
        """Apply what is due before `at`: a timeout, or in thinking the end of a tour without steps; and the
        end of a proposal that nobody concluded."""
        state = self
        due = state.timeout_due
        if due is not None and due < at:
            state = _timed_out(state, due, state.cooldown)
        elif state.active_tour_id is not None and not state.tour_running(at):
            state = replace(state, active_tour_id=None, tour_touched_at=0)
        proposal = state.proposal
        if proposal is not None and proposal.settled(at) and proposal.since < at:
            state = replace(state, proposal=None)
            if not proposal.allow:
                state = _refused(state, proposal.trigger_id, proposal.refusal())
        return state

    def transition_to_proactive(
        self, at: int, timings: Timings | None = None
    ) -> SessionState | Literal[False]:
        """The state after an offer; False while the cooldown runs.

        Raises InvalidTransitionError outside thinking.
        """
        state = self.tick(at)
        following = machine.advance(state.current_state, machine.OFFER)
        if state.cooldown_active(at):
            return False
        return replace(
            state,
            current_state=following,
            entered_version=state.version,
            last_interaction_at=at,
            in_force_since=at,
            timings=timings or state.timings,
        )

    def transition_to_reactive(self, at: int, timings: Timings | None = None) -> SessionState:
        """The state after the user opened the chat; clears the cooldown.

        Raises InvalidTransitionError outside thinking.
        """
        state = self.tick(at)
        return replace(
            state,
            current_state=machine.advance(state.current_state, machine.CHAT),
            entered_version=state.version,
            last_interaction_at=at,
            in_force_since=at,
            cooldown_until=0,
            timings=_session_timings(state, timings),
        )

    def record_user_interaction(self, at: int) -> SessionState:
        return replace(self, last_interaction_at=at)

    def record_option_click(self, at: int) -> SessionState:
        return _answered(replace(self, last_interaction_at=at), at)

    def record_reaction(self, at: int) -> SessionState:
        return replace(self, last_interaction_at=at)

    def record_tour_step(self, at: int) -> SessionState:
        if self.current_state == THINKING:  # moves the tour's own end only
            return replace(self, tour_touched_at=at) if self.tour_running(at) else self
        return replace(self, last_interaction_at=at, tour_touched_at=at)

    def set_visual_guidance(
        self, active: bool, at: int, tour_id: str | None = None, timings: Timings | None = None
    ) -> SessionState:
        """Start or end a tour. Starting one in thinking changes no state and is no interaction."""
        if not active:
            if self.active_tour_id is None:
                return self
            return replace(
                self,
                active_tour_id=None,
                tour_touched_at=0,
                in_force_since=at,
                timings=_session_timings(replace(self, active_tour_id=None), timings),
            )
        if not tour_id:
            raise InvalidTransitionError("a tour is started by its id")
        state = _answered(self, at)
        return replace(
            state,
            active_tour_id=tour_id,
            tour_touched_at=at,
            in_force_since=at,
            last_interaction_at=state.last_interaction_at if state.current_state == THINKING else at,
            timings=timings or state.timings,
        )

    def can_deliver_proactive(self, at: int) -> bool:
        return self.can_show_proactive_with_reason(at)[0]

    def can_show_proactive_with_reason(self, at: int) -> tuple[bool, str]:
        """Whether the machine would take an offer at `at`, and the reason code where not."""
        state = self.state_at(at)
        if state != THINKING:
            return False, f"state_{state}"
        if self.tick(at).cooldown_active(at):
            return False, "cooldown_active"
        return True, "ok"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready snapshot of the machine: everything but actions, offers and what was withheld."""
        snapshot: dict[str, Any] = {"_v": SNAPSHOT}
        for name in _SNAPSHOT_FIELDS:
            snapshot[name] = getattr(self, name)
        snapshot["timings"] = {name: getattr(self.timings, name) for name in Timings.__slots__}
        snapshot["offer"] = self.offer._asdict() if self.offer else None
        snapshot["proposal"] = self.proposal._asdict() if self.proposal else None
        return snapshot

    @classmethod
    def from_dict(cls, snapshot: Mapping[str, Any]) -> SessionState:
        """The state of a snapshot. Raises ValueError for another snapshot version."""
        if snapshot.get("_v") != SNAPSHOT:
            raise ValueError(f"a session snapshot of version {snapshot.get('_v')!r} cannot be read")
        offer, proposal = snapshot["offer"], snapshot.get("proposal")
        return cls(
            **{name: snapshot[name] for name in _SNAPSHOT_FIELDS},
            timings=Timings(**snapshot["timings"]),
            offer=Offer(**offer) if offer else None,
            proposal=Proposal(**proposal) if proposal else None,
        )


_SNAPSHOT_FIELDS = (
    "session_id",
    "version",
    "user_id",
    "at",
    "last_event_at",
    "current_state",
    "entered_version",
    "last_interaction_at",
    "in_force_since",
    "cooldown_until",
    "timed_out_at",
    "active_tour_id",
    "tour_sent_id",
    "tour_touched_at",
    "tour_version",
    "conversation_id",
)


def _session_timings(state: SessionState, new: Timings | None) -> Timings:
    """The timings after an event that carries the session's own: a running tour and an offer keep theirs."""
    if new is None:
        return state.timings
    return replace(state.timings, session_timeout=new.session_timeout, session_cooldown=new.session_cooldown)


def _answered(state: SessionState, at: int) -> SessionState:
    """The offer is answered: it is no longer open, and its trigger's timeout no longer in force."""
    offer = state.offer
    if offer is None or not (offer.open or offer.unanswered):
        return state
    return replace(state, offer=offer._replace(open=False, unanswered=False), in_force_since=at)


def _timed_out(state: SessionState, due: int, cooldown: int) -> SessionState:
    return replace(
        state,
        current_state=machine.advance(state.current_state, machine.TIME_OUT),
        entered_version=state.version,
        timed_out_at=due,
        cooldown_until=due + cooldown,
        active_tour_id=None,
        tour_touched_at=0,
    )


def _refused(state: SessionState, trigger_id: str, refused: Refusal) -> SessionState:
    return replace(state, refused={**state.refused, trigger_id: refused})


def _anomaly(state: SessionState, what: str) -> SessionState:
    return replace(state, anomalies=(*state.anomalies[-9:], f"version {state.version}: {what}"))


def _noted(state: SessionState, fact: Fact) -> SessionState:
    """The state with the fact's envelope taken in."""
    outside = isinstance(fact.event, events.Outside)
    return replace(
        state,
        version=fact.version,
        at=fact.at,
        last_event_at=fact.at if outside else state.last_event_at,
        user_id=(fact.user_id or state.user_id) if outside else state.user_id,
    )


def _seen(fact: Fact, action: events.Action) -> ActionFact:
    return ActionFact(
        fact.occurred_at,
        fact.event_id,
        fact.version,
        action.type,
        action.title,
        action.canonical_url,
        action.properties,
    )


def evolve(state: SessionState, fact: Fact) -> SessionState:
    """The state after one more fact of the session's stream."""
    state = _noted(state, fact)
    at = fact.at
    match fact.event:
        case events.Action() as action:
            return replace(state, actions=state.actions.extended([_seen(fact, action)]))
        case events.ChatMessage(role="user") as message:
            if state.current_state == THINKING:
                state = state.transition_to_reactive(at, message.timings)
            else:
                state = replace(
                    state,
                    last_interaction_at=at,
                    in_force_since=at,
                    timings=_session_timings(state, message.timings),
                )
            return _answered(state, at)
        case events.OptionClicked():
            return state.record_option_click(at)
        case events.Reaction():
            return state.record_reaction(at)
        case events.TourStarted() as tour:
            name = tour.registry_id or tour.tour_id
            if not name:
                return _anomaly(state, "tour_started without an id")
            started = state.set_visual_guidance(True, at, name, _tour_timings(state, tour.timings))
            return replace(started, tour_version=fact.version, tour_sent_id=tour.tour_id)
        case events.TourStep() as tour:
            if _runs(state, tour):
                return state.record_tour_step(at)
            return state if state.current_state == THINKING else state.record_user_interaction(at)
        case events.TourEnded() as tour:
            if not _runs(state, tour):
                return state  # a late end of another tour
            return state.set_visual_guidance(False, at, timings=tour.timings)
        case events.NudgeDismissed() as dismissed:
            offer = state.offer
            if offer is None or offer.nudge_id != dismissed.nudge_id:
                return state
            return replace(state, offer=offer._replace(open=False))
        case events.ConversationLinked() as linked:
            if linked.link == "reply_existing" and state.conversation_id is not None:
                return state
            return replace(state, conversation_id=linked.conversation_id)
        case events.NudgeOffered() as offered:
            return _offered(state, fact, offered)
        case events.NudgeWithheld() as withheld:
            key = (withheld.trigger_id, withheld.gate)
            episodes = (*state.withheld.get(key, ()), withheld.episode)
            state = _concluded(replace(state, withheld={**state.withheld, key: episodes}), withheld, at)
            if withheld.gate == "judge" and withheld.reason in (JUDGE_VETOED, JUDGE_TIMEOUT):
                refused = Refusal(withheld.episode, at, withheld.reason)
                state = _refused(state, withheld.trigger_id, refused)
            return _counted(state, fact, withheld, True) if withheld.gate == "holdout" else state
        case events.NudgeProposed() as proposed:
            return _proposed(state, fact, proposed)
        case events.JudgeAnswered() as answer:
            return _judged(state, fact, answer)
        case events.EvaluationFailed() if state.proposal is not None and state.proposal.settled(at):
            return replace(_anomaly(state, "a proposal was never concluded"), proposal=None)
        case events.InteractionTimedOut() as timed_out:
            if state.current_state == THINKING:
                return _anomaly(state, "interaction_timed_out while thinking")
            return _timed_out(state, at, timed_out.cooldown)
        case events.ActionRelabelled() as correction:
            return replace(
                state,
                actions=state.actions.relabelled(
                    correction.action_id, lambda action: relabelled(action, correction)
                ),
            )
        case _:  # facts that do not move the session: nudge_shown, goals, assistant messages …
            return state


class Label(NamedTuple):
    """What an action is called."""

    type: str
    title: str
    description: str | None
    url: str | None  # canonical

    def corrected(self, correction: events.ActionRelabelled) -> Label:
        """With its correction; fields that are None there stay as they were."""
        return Label(
            correction.type or self.type,
            correction.title or self.title,
            correction.description or self.description,
            correction.canonical_url or self.url,
        )


def relabelled(action: ActionFact, correction: events.ActionRelabelled) -> ActionFact:
    """The action with its corrected label, as far as criteria see it."""
    label = Label(action.type, action.title, None, action.url).corrected(correction)
    return action._replace(type=label.type, title=label.title, url=label.url)


def _runs(state: SessionState, tour: events.TourStep | events.TourEnded) -> bool:
    """Whether the event is about the session's tour: by registry id, or as the tour's start named it."""
    active = state.active_tour_id
    if active is None:
        return False
    return active in (tour.registry_id, tour.tour_id) or state.tour_sent_id == tour.tour_id


def _tour_timings(state: SessionState, timings: Timings | None) -> Timings:
    if timings is None:
        return replace(state.timings, tour_timeout=None, tour_cooldown=None)
    return replace(timings, offer_timeout=state.timings.offer_timeout)


def _proposed(state: SessionState, fact: Fact, proposed: events.NudgeProposed) -> SessionState:
    if state.proposal is not None:
        state = _anomaly(state, "nudge_proposed while another proposal waits")
    proposal = Proposal(
        fact.event_id,
        proposed.trigger_id,
        fact.at,
        proposed.deadline,
        proposed.message,
        proposed.explanation["criteria"],
    )
    return replace(state, proposal=proposal)


def _judged(state: SessionState, fact: Fact, answer: events.JudgeAnswered) -> SessionState:
    proposal = state.proposal
    if proposal is None or not proposal.takes(answer, fact.at):
        return _anomaly(state, "judge_answered to no proposal that waits")
    return replace(state, proposal=proposal.answered(answer, fact.at, fact.event_id))


def _concluded(
    state: SessionState, decision: events.NudgeOffered | events.NudgeWithheld, at: int
) -> SessionState:
    """The state after a decision: where it is the one upon the proposal, the slot is free again."""
    proposal = state.proposal
    if proposal is None or proposal.trigger_id != decision.trigger_id or not proposal.settled(at):
        return state
    return replace(state, proposal=None)


def _offered(state: SessionState, fact: Fact, offered: events.NudgeOffered) -> SessionState:
    state = _concluded(_counted(state, fact, offered, False), offered, fact.at)
    offer = Offer(fact.event_id, offered.trigger_id, offered.user_id, fact.at, offered.expires_at)
    if state.current_state != THINKING:
        return replace(_anomaly(state, "nudge_offered outside thinking"), offer=offer)
    if state.cooldown_active(fact.at):
        return replace(_anomaly(state, "nudge_offered in cooldown"), offer=offer)
    moved = state.transition_to_proactive(fact.at, offered.timings)
    return replace(moved, offer=offer) if moved else state


def _counted(
    state: SessionState, fact: Fact, event: events.NudgeOffered | events.NudgeWithheld, holdout: bool
) -> SessionState:
    made = OfferMade(
        event.trigger_id,
        fact.at,
        fact.event_id,
        state.session_id,
        event.user_id,
        fact.version,
        holdout,
    )
    return replace(state, offers=(*state.offers, made))


def skipped(state: SessionState, version: int, at: int, outside: bool) -> SessionState:
    """The state after an event of its stream that nothing could be made of: only counted, and noted."""
    counted = replace(state, version=version, at=at, last_event_at=at if outside else state.last_event_at)
    return _anomaly(counted, "cannot be applied")


def fold(state: SessionState, facts: Iterable[Fact]) -> SessionState:
    """`evolve` over many facts. Runs of plain actions, which move nothing else, are taken in one step."""
    run: list[Fact] = []
    for fact in facts:
        if type(fact.event) is events.Action:
            run.append(fact)
            continue
        if run:
            state = _acted(state, run)
            run = []
        state = evolve(state, fact)
    return _acted(state, run) if run else state


def _acted(state: SessionState, run: list[Fact]) -> SessionState:
    user_id = next((f.user_id for f in reversed(run) if f.user_id), None)
    seen = [_seen(f, f.event) for f in run]  # type: ignore[arg-type]
    return acted(state, seen, run[-1].version, run[-1].at, user_id)


def acted(
    state: SessionState, actions: Iterable[ActionFact], version: int, at: int, user_id: str | None
) -> SessionState:
    """The state after a run of plain actions, the newest of which has this version and instant.

    `user_id`: the last that any of them named.
    """
    return replace(
        state,
        version=version,
        at=at,
        last_event_at=at,
        user_id=user_id or state.user_id,
        actions=state.actions.extended(actions),
    )
