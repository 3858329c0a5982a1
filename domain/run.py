"""The life of sessions: due timers, a batch of facts, an evaluation; for the service, backtests and replay.

`Turn` is where one batch (or one due timer) meets the rules. It reads a `World` of folded states, writes
what it concludes into that world's overlay, and lists every event to be stored. It raises `Missing` where a
state is needed that the world does not have; the caller loads it and begins the turn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

from domain import errors, events, session, user
from domain.decide import Draft, decide, draft
from domain.envelope import nudge_stream, session_stream, user_stream
from domain.events import Timings
from domain.machine import PROACTIVE
from domain.nudge import NudgeState
from domain.session import Fact, SessionState
from domain.triggers import Evaluation, Ruleset, Situation, evaluate
from domain.user import UserState


class Incoming(Protocol):
    """An outside event that passed its checks."""

    @property
    def event_id(self) -> str | None: ...
    @property
    def event(self) -> events.Outside: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def occurred_at(self) -> int: ...


class Live(NamedTuple):
    """A session's state and the next instant at which time alone may change an outcome."""

    state: SessionState
    next_evaluation: int | None = None

    def due(self) -> int | None:
        """The next instant at which the session must be looked at; None: idle."""
        timeout = self.state.timeout_due
        if timeout is None or self.next_evaluation is None:
            return self.next_evaluation if timeout is None else timeout
        return min(timeout, self.next_evaluation)


class Missing(Exception):
    """The world lacks this stream's state."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream


V_co = TypeVar("V_co", covariant=True)


class Lookup(Protocol[V_co]):
    """A mapping as far as a world asks it."""

    def get(self, key: str, /) -> V_co | None: ...


class World:
    """Folded states of one product, and what a turn has changed of them."""

    def __init__(
        self,
        sessions: Lookup[Live],
        users: Lookup[UserState],
        *,
        complete: bool = False,  # what is not here does not exist yet
        nudges: Lookup[NudgeState] | None = None,  # only deliveries ask for them
    ) -> None:
        self._sessions, self._users, self._complete = sessions, users, complete
        self._nudges = nudges
        self.changed_sessions: dict[str, Live] = {}
        self.changed_users: dict[str, UserState] = {}
        self.read: dict[str, int] = {}  # every stream read, with its version when first read

    def session(self, session_id: str) -> Live:
        live = self.changed_sessions.get(session_id) or self._sessions.get(session_id)
        if live is None:
            if not self._complete:
                raise Missing(session_stream(session_id))
            live = Live(SessionState(session_id))
        self.read.setdefault(session_stream(session_id), live.state.version)
        return live

    def user(self, user_id: str) -> UserState:
        state = self.changed_users.get(user_id) or self._users.get(user_id)
        if state is None:
            if not self._complete:
                raise Missing(user_stream(user_id))
            state = UserState(user_id)
        self.read.setdefault(user_stream(user_id), state.version)
        return state

    def nudge(self, nudge_id: str) -> NudgeState:
        state = self._nudges.get(nudge_id) if self._nudges is not None else None
        if state is None:
            raise Missing(nudge_stream(nudge_id))
        self.read.setdefault(nudge_stream(nudge_id), state.version)
        return state


def root(world: World, known: UserState) -> UserState:
    """The user that an id stands for now, its merges followed."""
    while known.merged_into is not None:
        known = world.user(known.merged_into)
    return known


def situation(product: str, world: World, session_id: str, at: int, noticed_at: int) -> Situation:
    """Everything in the world that a decision about the session at `at` may depend on.

    Raises Missing where the world lacks a stream that it needs.
    """
    state = world.session(session_id).state
    who: UserState | None = None
    aliases: tuple[UserState, ...] = ()
    others: list[SessionState] = []
    if state.user_id is not None:
        who = root(world, world.user(state.user_id))
        aliases = tuple([world.user(name) for name in who.merged_from])
        names = dict.fromkeys(s for owner in (who, *aliases) for s in owner.last_sessions)
        for name in names:
            if name == session_id:
                continue
            other = world.session(name).state
            if other.user_id == who.user_id or other.user_id in who.merged_from:
                others.append(other)  # else the session is somebody else's by now
    return Situation(product, state, who, aliases, tuple(others), at, noticed_at)


class Stored(NamedTuple):
    """An event that the turn wants stored."""

    stream: str
    event_id: str
    event: events.Event
    at: int
    cause: str | None
    user_id: str | None
    incoming: Incoming | None  # None: made by the engine


class Transition(NamedTuple):
    """The machine moved."""

    at: int
    session_id: str
    source: str
    target: str
    cause: str  # the type of the event


class Unapplied(NamedTuple):
    """An outside fact that a fold raised over: it is stored, and counts as skipped."""

    fold: str  # sessions | users
    stream: str
    version: int
    error: str  # exception type and place


ADDED = ("timings", "registry_id")  # what `Turn` adds to outside events on storing them, and resolves anew


class Turn:
    """One batch of a session, or its due timers, against the rules in force."""

    def __init__(self, product: str, rules: Ruleset, world: World, now: int) -> None:
        self.product, self.rules, self.world, self.now = product, rules, world, now
        self.stored: list[Stored] = []
        self.transitions: list[Transition] = []
        self.evaluation: Evaluation | None = None  # the newest
        self.own = 0  # where in `stored` the batch itself begins; before it, what came due earlier
        self.unapplied: list[Unapplied] = []
        self.evaluates = True  # False: facts are taken in, and nothing is concluded from them

    # --- what callers ask ------------------------------------------------------------------------

    def timers(self, session_id: str, before: int) -> None:
        """Apply, each at its own instant, all that came due before `before`."""
        while True:
            live = self.world.session(session_id)
            due = live.due()
            if due is None or due >= before:
                return
            cause = None
            state = live.state
            if state.timeout_due == due:
                timed_out = events.InteractionTimedOut(
                    state.current_state, state.timeout, state.cooldown, self.now
                )
                cause = self._conclude(
                    draft(self.product, session_stream(session_id), timed_out, due, None, state.current_state)
                )
            self._evaluate(session_id, due, cause)

    def record(self, session_id: str, batch: Sequence[Incoming], at: int) -> None:
        """Store a batch of outside events of one session at `at`, then evaluate once."""
        self.timers(session_id, at)
        self.own = len(self.stored)
        live = self.world.session(session_id)
        state = live.state
        at = max(at, state.at)  # a stream's instants never decrease, whatever the clock does
        stream = session_stream(session_id)
        run: list[Fact] = []
        last: str | None = None
        for incoming in batch:
            assert incoming.event_id is not None
            event = incoming.event
            plain = type(event) is events.Action  # most facts are, and most of a turn's time is theirs
            if not plain:
                event = self._enriched(event)
            last = incoming.event_id
            fact = Fact(
                state.version + len(run) + 1,
                at,
                min(incoming.occurred_at, at),
                last,
                incoming.user_id,
                event,
            )
            self.stored.append(Stored(stream, last, event, at, None, incoming.user_id, incoming))
            if plain:
                run.append(fact)
                continue
            before = self._folded(state, run)
            state = self._moved(self._evolved(before, fact), before, fact)
            run = []
            self.world.changed_sessions[session_id] = Live(state, live.next_evaluation)
            self._consequences(before, state, fact)
        if run:
            state = self._folded(state, run)
        self.world.changed_sessions[session_id] = Live(state, live.next_evaluation)
        if live.state.user_id is None and state.user_id is not None:
            self._claimed(state, state.user_id, at, last)
        self._evaluate(session_id, at, last)

    def record_user(self, user_id: str, batch: Sequence[Incoming], at: int) -> None:
        """Store outside events that name no session in their user's stream."""
        for incoming in batch:
            assert incoming.event_id is not None
            state = self.world.user(user_id)
            at = max(at, state.at)
            fact = Fact(
                state.version + 1,
                at,
                min(incoming.occurred_at, at),
                incoming.event_id,
                user_id,
                incoming.event,
            )
            stream = user_stream(user_id)
            self.stored.append(Stored(stream, fact.event_id, fact.event, at, None, user_id, incoming))
            self.world.changed_users[user_id] = known = self._evolved_user(state, fact)
            if isinstance(incoming.event, events.UserIdentified):
                self._identified(None, known, incoming.event, at, fact.event_id)

    def correct(self, session_id: str, corrections: Sequence[events.ActionRelabelled], at: int) -> None:
        """Store those corrections of the session's actions that change something; nothing is evaluated."""
        self.evaluates = False
        self.timers(session_id, at)
        self.own = len(self.stored)
        for correction in corrections:
            state = self.world.session(session_id).state
            before = next((a for a in state.actions if a.event_id == correction.action_id), None)
            if before is None:
                continue
            seen = correction.type or correction.title or correction.canonical_url
            if session.relabelled(before, correction) == before and (seen or not correction.description):
                continue  # somebody was quicker
            key = f"{correction.action_id}\0{correction.labeller}"
            stream = session_stream(session_id)
            self._conclude(draft(self.product, stream, correction, max(at, state.at), None, key))

    def note(
        self, session_id: str, event: events.Engine, at: int, key: str, user_id: str | None = None
    ) -> None:
        """Store something that the service itself says of the session; nothing is evaluated for it.

        `key` makes its id its own. `user_id`: whose key seals its personal fields; else the session's.
        """
        self.timers(session_id, at)
        self.own = len(self.stored)
        state = self.world.session(session_id).state
        made = draft(self.product, session_stream(session_id), event, max(at, state.at), None, key)
        self._conclude(made, user_id)

    def judged(self, session_id: str, answer: events.JudgeAnswered, at: int) -> None:
        """Store the judge's answer to the session's proposal, and evaluate: the gates are asked again.

        An answer to no proposal that waits, or after its deadline, is dropped. One that says neither yes nor
        no is stored and changes nothing: the deadline will come.
        """
        self.timers(session_id, at)
        self.own = len(self.stored)
        state = self.world.session(session_id).state
        proposal = state.proposal
        at = max(at, state.at)
        if proposal is None or not proposal.takes(answer, at):
            return
        stream = session_stream(session_id)
        made = draft(self.product, stream, answer, at, proposal.proposal_id, str(answer.allow))
        self._conclude(made, state.user_id)
        if answer.allow is not None:
            self._evaluate(session_id, at, made.event_id)

    def rearm(self, session_id: str, at: int) -> None:
        """Recompute the next due instant under the rules in force; nothing is concluded."""
        situation = self._situation(session_id, at)
        try:
            next_at = evaluate(situation, self.rules).next_at
        except Exception:  # the next evaluation says so in the ledger
            next_at = _deadline(situation.session, at)
        self.world.changed_sessions[session_id] = Live(situation.session, next_at)

    # --- inside ----------------------------------------------------------------------------------

    def _folded(self, state: SessionState, run: Sequence[Fact]) -> SessionState:
        try:
            return session.fold(state, run)
        except Exception:  # whatever it is: one by one, to find which
            for fact in run:
                state = self._evolved(state, fact)
            return state

    def _evolved(self, state: SessionState, fact: Fact) -> SessionState:
        """The session after an outside fact. No fact is refused because a fold fails over it."""
        try:
            return session.evolve(state, fact)
        except Exception as error:  # whatever it is, it costs what this fact says, not the fact
            stream = session_stream(state.session_id)
            self.unapplied.append(Unapplied("sessions", stream, fact.version, errors.where(error)))
            return session.skipped(state, fact.version, fact.at, True)

    def _evolved_user(self, state: UserState, fact: Fact) -> UserState:
        try:
            return user.evolve(state, fact)
        except Exception as error:  # as above
            stream = user_stream(state.user_id)
            self.unapplied.append(Unapplied("users", stream, fact.version, errors.where(error)))
            return user.skipped(state, fact.version, fact.at)

    def _moved(self, after: SessionState, before: SessionState, fact: Fact) -> SessionState:
        if after.current_state != before.current_state:
            self.transitions.append(
                Transition(
                    fact.at, after.session_id, before.current_state, after.current_state, fact.event.TYPE
                )
            )
        return after

    def _enriched(self, event: events.Outside) -> events.Outside:
        """The event with the resolved timings it runs under and its tour's registry id."""
        settings = self.rules.config
        match event:
            case events.ChatMessage():
                return replace(event, timings=Timings(settings.interaction_timeout, settings.cooldown_period))
            case events.TourStarted() | events.TourEnded():
                tour = settings.tour(event.tour_id)
                timings = Timings(
                    settings.interaction_timeout,
                    settings.cooldown_period,
                    None,
                    tour.interaction_timeout if tour else None,
                    tour.cooldown_period if tour else None,
                )
                return replace(event, timings=timings, registry_id=tour.id if tour else None)
            case events.TourStep():
                tour = settings.tour(event.tour_id)
                return replace(event, registry_id=tour.id if tour else None)
            case _:
                return event

    def _consequences(self, before: SessionState, after: SessionState, fact: Fact) -> None:
        """What an outside event means for other streams."""
        event = fact.event
        closed = _closed(before, after, fact.at)
        if closed is not None:
            reason = "dismissed" if isinstance(event, events.NudgeDismissed) else "answered"
            closing = events.NudgeClosed(reason, after.session_id, after.user_id)
            self._conclude(draft(self.product, nudge_stream(closed), closing, fact.at, fact.event_id, ""))
        if isinstance(event, events.UserIdentified) and fact.user_id:
            known = self.world.user(fact.user_id)
            self._identified(after.session_id, known, event, fact.at, fact.event_id)

    def _claimed(self, state: SessionState, user_id: str, at: int, cause: str | None) -> None:
        """A nudge is on that was offered before anybody said who the user is: now it is that user's."""
        offer = state.offer
        if offer is None or offer.user_id is not None or state.current_state != PROACTIVE:
            return
        who = root(self.world, self.world.user(user_id))
        spent = events.BudgetSpent(
            offer.trigger_id, state.session_id, offer.nudge_id, offer.at, offer.expires_at
        )
        stream = user_stream(who.user_id)
        self._conclude(draft(self.product, stream, spent, max(at, who.at), cause, offer.trigger_id))

    def _identified(
        self, session_id: str | None, known: UserState, event: events.UserIdentified, at: int, cause: str
    ) -> None:
        known = root(self.world, known)  # an id that became another user counts for that one
        previous = event.previous_id
        merged: str | None = None
        if previous and previous != known.user_id:
            anonymous = self.world.user(previous)
            if not anonymous.identified and anonymous.merged_into is None:
                merged = previous
        news = event.timezone is not None and event.timezone != known.timezone
        if known.identified and merged is None and not news:
            return
        linked = events.UserLinked(session_id, merged_from=merged, timezone=event.timezone)
        self._conclude(draft(self.product, user_stream(known.user_id), linked, max(at, known.at), cause, ""))
        if merged is not None:
            anonymous = self.world.user(merged)
            linked = events.UserLinked(session_id, merged_into=known.user_id)
            self._conclude(draft(self.product, user_stream(merged), linked, max(at, anonymous.at), cause, ""))

    def _situation(self, session_id: str, at: int) -> Situation:
        return situation(self.product, self.world, session_id, at, self.now)

    def _evaluate(self, session_id: str, at: int, cause: str | None) -> None:
        """One evaluation, and the events that record what it concluded. A failure costs no fact."""
        if not self.evaluates:
            self._postpone(session_id)
            return
        situation = self._situation(session_id, at)
        undo: Callable[[], None] | None = None
        try:
            evaluation = evaluate(situation, self.rules)
            drafts = decide(evaluation, situation, self.rules, cause)
            self.world.changed_sessions[session_id] = Live(situation.session, evaluation.next_at)
            if drafts:
                undo = self._undo()
            for made in drafts:
                self._conclude(made)
        except Missing:
            raise
        except Exception as error:  # whatever it is: facts are stored, and the failure is one
            if undo is not None:
                undo()
            failed = events.EvaluationFailed(errors.where(error), self.now)
            live = self.world.session(session_id)
            self.world.changed_sessions[session_id] = Live(live.state, _deadline(live.state, at))
            self._conclude(draft(self.product, session_stream(session_id), failed, at, cause, ""))
            return
        self.evaluation = evaluation
        if any(_moves_gates(made.event) for made in drafts):
            self.rearm(session_id, at)  # gates that were open are closed, or the reverse: when to look again

    def _undo(self) -> Callable[[], None]:
        """Takes back what is concluded from here on."""
        stored, transitions = len(self.stored), len(self.transitions)
        sessions, users = dict(self.world.changed_sessions), dict(self.world.changed_users)

        def undo() -> None:
            del self.stored[stored:], self.transitions[transitions:]
            self.world.changed_sessions, self.world.changed_users = sessions, users

        return undo

    def _postpone(self, session_id: str) -> None:
        """No evaluation at instants that have passed; what waits for a later one waits on."""
        live = self.world.session(session_id)
        due = live.next_evaluation
        self.world.changed_sessions[session_id] = Live(
            live.state, None if due is None else max(due, self.now)
        )

    def _conclude(self, made: Draft, user_id: str | None = None) -> str:
        """Take an engine event into the world; its id."""
        stream, event = made.stream, made.event
        self.stored.append(Stored(stream, made.event_id, event, made.at, made.cause, user_id, None))
        kind, _, name = stream.partition("-")
        if kind == "session":
            live = self.world.session(name)
            fact = Fact(live.state.version + 1, made.at, made.at, made.event_id, None, event)
            state = self._moved(session.evolve(live.state, fact), live.state, fact)
            self.world.changed_sessions[name] = Live(state, live.next_evaluation)
        elif kind == "user":
            known = self.world.user(name)
            fact = Fact(known.version + 1, made.at, made.at, made.event_id, None, event)
            self.world.changed_users[name] = user.evolve(known, fact)
        return made.event_id


def _deadline(state: SessionState, at: int) -> int | None:
    """When a proposal that waits at `at` is over: the one instant to come that needs no evaluation."""
    proposal = state.proposal
    return proposal.deadline if proposal is not None and not proposal.settled(at) else None


def _moves_gates(event: events.Engine) -> bool:
    if isinstance(event, events.NudgeWithheld):
        return event.gate == "holdout" or "judge" in event.explanation  # the end of a proposal
    return isinstance(event, (events.NudgeOffered, events.NudgeProposed))


def _closed(before: SessionState, after: SessionState, at: int) -> str | None:
    """The nudge whose offer the step from `before` to `after` closed; None: none."""
    offer = before.open_offer(at)
    if offer is None:
        return None
    following = after.offer
    still = following is not None and following.nudge_id == offer.nudge_id and following.open
    return None if still else offer.nudge_id
