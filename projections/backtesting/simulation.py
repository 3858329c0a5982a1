"""A product in virtual time: the same `domain.run.Turn` as the service's decides, only time is another.

Time jumps from one batch or timer to the next. Every timer is noticed at its own instant, so nothing is ever
missed. Nothing here reads a clock, and nothing depends on the order of a set, so the same input gives the
same decisions.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from domain import events, session
from domain.envelope import name_in, session_stream
from domain.run import Incoming, Live, Stored, Transition, Turn, World, root
from domain.session import Fact
from domain.triggers import Ruleset
from domain.user import UserState

ASSUMED = "assumed"  # stands for the model where no judge was asked
STALE = 10_000  # timers that no longer count and are kept all the same
BEAT = 500  # timers between two signs of life


class Batch(NamedTuple):
    """Outside events that were recorded together: the boundary of an evaluation."""

    at: int  # µs, the instant of recording
    session_id: str | None  # None: events of a user's own stream
    user_id: str | None  # only where there is no session
    events: Sequence[Incoming]


class Correction(NamedTuple):
    """A label that was put right: it moves the session's history, and nothing is evaluated."""

    at: int
    session_id: str
    event_id: str
    event: events.ActionRelabelled


class Answer(NamedTuple):
    """A judge's recorded answer; it counts where what it is about is proposed here, too."""

    at: int
    session_id: str
    event: events.JudgeAnswered


Step = Batch | Correction | Answer
V = TypeVar("V")


class States(Protocol[V]):
    """Folded states by id: a dict, or one that knows more than it holds in memory."""

    def get(self, key: str, /) -> V | None: ...
    def __setitem__(self, key: str, value: V, /) -> None: ...


@dataclass(slots=True)
class Simulation:
    """A product that exists in virtual time only: its states, its timers, and what it counted."""

    product: str
    rules: Ruleset
    sessions: States[Live] = field(default_factory=dict)
    users: States[UserState] = field(default_factory=dict)
    unique: bool = False  # no event comes twice: nothing need be kept to find out
    now: int = 0
    events: int = 0  # different outside events, orphaned ones included
    orphaned: int = 0  # answers to nudges that were not offered here
    failed: int = 0  # evaluations that raised: the rows lack what they would have decided
    sessions_seen: set[str] = field(default_factory=set)
    users_seen: set[str] = field(default_factory=set)
    assumed: int = 0  # proposals of which no judge was asked: they count as allowed at once
    nudges: set[str] = field(default_factory=set)  # answers to these are taken
    proposals: set[str] = field(default_factory=set)  # really made: their judge's answer comes, or does not
    beat: Callable[[], None] = lambda: None  # a sign of life while time runs without a step; may raise
    _ids: set[str] = field(default_factory=set)
    _timers: list[tuple[int, str]] = field(default_factory=list)  # heap of (due, session); may be stale
    _armed: dict[str, int] = field(default_factory=dict)  # session -> due; what counts of the heap
    _instant: list[Stored | Transition] = field(default_factory=list)  # of `now`: sorted when it is over
    _fired: int = 0  # timers

    def over(self, batches: Iterable[Batch], until: int = 0) -> Iterator[Stored | Transition]:
        """Every decision and transition, by (`at`, session). `batches` and `until` as in `run`.

        At equal instants outside events come first, then timers by session.
        """
        for batch in batches:
            yield from self.step(batch)
        yield from self.finish(self.now + until)

    def step(self, step: Step) -> Iterator[Stored | Transition]:
        """Let time run to the step's instant and take it; gives what is over by then.

        Raises ValueError where the step lies before the one that precedes it.
        """
        if step.at < self.now:
            raise ValueError("batches must come in the order of their instants")
        yield from self._pass(step.at)
        self.now = step.at
        if isinstance(step, Correction):
            self._correct(step)
        elif isinstance(step, Answer):
            turn = self._turn(step.at)
            turn.judged(step.session_id, step.event, step.at)
            self._instant += self._concluded(turn)
        else:
            self._instant += self._record(step)

    def finish(self, end: int) -> Iterator[Stored | Transition]:
        """Let time run to `end`; what comes due at that very instant still happens."""
        yield from self._pass(end + 1)

    def rearm(self, session_ids: Iterable[str], at: int) -> list[Stored | Transition]:
        """Begin at `at` under these rules, as the service does after a config put: what came due before
        is applied, and each session's next instant is computed anew."""
        self.now = at
        found: list[Stored | Transition] = []
        for session_id in session_ids:
            turn = self._turn(at)
            turn.timers(session_id, at)
            turn.rearm(session_id, at)
            found += self._concluded(turn)
        return found

    def person(self, user_id: str) -> UserState:
        """The user that an id stands for now."""
        world = self._world()
        return root(world, world.user(user_id))

    def _pass(self, before: int) -> Iterator[Stored | Transition]:
        """Fire all timers due before `before`; give what is over, and keep what is not."""
        while (timer := self._next(before)) is not None:
            due, session_id = timer
            self._fired += 1
            if self._fired % BEAT == 0:
                self.beat()
            if due > self.now:
                yield from _over(self._instant)
                self.now = due
            turn = self._turn(due)
            turn.timers(session_id, due + 1)
            self._instant += self._concluded(turn)
        if before > self.now:
            yield from _over(self._instant)

    def _next(self, before: int) -> tuple[int, str] | None:
        """Take the first timer due before `before`."""
        while self._timers and self._timers[0][0] < before:
            due, session_id = heapq.heappop(self._timers)
            if self._armed.get(session_id) == due:
                del self._armed[session_id]
                return due, session_id
        return None

    def _record(self, batch: Batch) -> list[Stored | Transition]:
        fresh = [event for event in batch.events if self._taken(batch, event)]
        if not fresh:
            return []
        turn = self._turn(batch.at)
        if batch.session_id is not None:
            turn.record(batch.session_id, fresh, batch.at)
        else:
            assert batch.user_id is not None
            turn.record_user(batch.user_id, fresh, batch.at)
        return self._concluded(turn)

    def _taken(self, batch: Batch, incoming: Incoming) -> bool:
        """Count the event; whether it is to be recorded."""
        assert incoming.event_id is not None
        if not self.unique:
            if incoming.event_id in self._ids:
                return False
            self._ids.add(incoming.event_id)
        self.events += 1
        if batch.session_id is not None:
            self.sessions_seen.add(batch.session_id)
        if incoming.user_id:
            self.users_seen.add(incoming.user_id)
        match incoming.event:
            case (
                events.OptionClicked(nudge_id=str(nudge_id))
                | events.NudgeShown(nudge_id=nudge_id)
                | events.NudgeDismissed(nudge_id=nudge_id)
            ) if nudge_id not in self.nudges:
                self.orphaned += 1
                return False
        return True

    def _correct(self, step: Correction) -> None:
        live = self._world().session(step.session_id)
        fact = Fact(live.state.version + 1, step.at, step.at, step.event_id, None, step.event)
        self.sessions[step.session_id] = Live(session.evolve(live.state, fact), live.next_evaluation)

    def _world(self) -> World:
        return World(self.sessions, self.users, complete=True)

    def _turn(self, now: int) -> Turn:
        return Turn(self.product, self.rules, self._world(), now)

    def _concluded(self, turn: Turn) -> list[Stored | Transition]:
        """Take in what the turn changed; its decisions and transitions in the order of their events."""
        for stored in list(turn.stored):
            if isinstance(stored.event, events.NudgeProposed) and stored.event_id not in self.proposals:
                self.assumed += 1
                allowed = events.JudgeAnswered(stored.event_id, stored.event.trigger_id, True, model=ASSUMED)
                turn.judged(name_in(stored.stream), allowed, stored.at)
        for user_id, known in turn.world.changed_users.items():
            self.users[user_id] = known
        for session_id, live in turn.world.changed_sessions.items():
            self.sessions[session_id] = live
            self._arm(session_id, live.due())
        found: list[Stored | Transition] = []
        transitions = iter(turn.transitions)
        moved = next(transitions, None)
        for stored in turn.stored:
            if isinstance(stored.event, events.NudgeOffered):
                self.nudges.add(stored.event_id)
                found.append(stored)
            elif isinstance(stored.event, events.NudgeWithheld):
                found.append(stored)
            elif isinstance(stored.event, events.EvaluationFailed):
                self.failed += 1
            if moved is not None and _moved(stored, moved):
                found.append(moved)
                moved = next(transitions, None)
        assert moved is None
        return found

    def _arm(self, session_id: str, due: int | None) -> None:
        if due is None:
            self._armed.pop(session_id, None)
        elif self._armed.get(session_id) != due:
            self._armed[session_id] = due
            heapq.heappush(self._timers, (due, session_id))
            if len(self._timers) > 2 * len(self._armed) + STALE:
                self._timers = [(instant, name) for name, instant in self._armed.items()]
                heapq.heapify(self._timers)


def session_of(happening: Stored | Transition) -> str:
    """The session that a decision or a transition is about."""
    if isinstance(happening, Transition):
        return happening.session_id
    return name_in(happening.stream)


def _over(instant: list[Stored | Transition]) -> list[Stored | Transition]:
    """What happened at one instant, by session; `instant` is empty afterwards."""
    found = sorted(instant, key=session_of)
    instant.clear()
    return found


def _moved(stored: Stored, transition: Transition) -> bool:
    """Whether this is the event by which the machine moved.

    The first of its type will do where a batch has several: no decision stands between them.
    """
    return (
        transition.cause == stored.event.TYPE
        and stored.at == transition.at
        and stored.stream == session_stream(transition.session_id)
    )
