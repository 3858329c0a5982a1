"""What a simulation comes to, counted as it runs: for each trigger, for each reason, and what was reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from domain import events
from domain.envelope import session_stream, user_stream
from domain.run import Stored, Transition
from domain.user import UserState
from projections import tables
from projections.backtesting.simulation import session_of

MOST_DECISIONS = 20_000  # whose explanations are kept, a side
PRUNE = 10_000  # offers that wait for their goals, before those that waited too long are let go


class Decision(NamedTuple):
    """A simulated decision."""

    at: int
    session_id: str
    user_id: str | None
    trigger_id: str
    outcome: str  # offered | withheld
    reason: str
    explanation: str  # JSON


class Offer(NamedTuple):
    """A simulated offer, as sides are compared by it."""

    trigger_id: str
    at: int
    user_id: str | None


class Figures(NamedTuple):
    """Of one trigger, or of all."""

    offered: int = 0
    users: int = 0  # different ones who were offered something
    sessions: int = 0
    withheld: dict[str, int] = {}  # by reason  # noqa: RUF012  # never written to
    goals: int = 0  # offers after which the trigger's goal was reached in time

    def plus(self, other: Figures) -> Figures:
        """The figures of two shares together: no user or session is in both."""
        withheld = dict(sorted((Counter(self.withheld) + Counter(other.withheld)).items()))
        return Figures(
            self.offered + other.offered,
            self.users + other.users,
            self.sessions + other.sessions,
            withheld,
            self.goals + other.goals,
        )


@dataclass(slots=True)
class _Counts:
    offered: int = 0
    users: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    withheld: Counter[str] = field(default_factory=Counter)
    goals: int = 0

    def figures(self) -> Figures:
        withheld = dict(sorted(self.withheld.items()))
        return Figures(self.offered, len(self.users), len(self.sessions), withheld, self.goals)


@dataclass(slots=True, eq=False)
class _Hope:
    """An offer that waits for its goal."""

    at: int
    trigger_id: str
    reached: bool = False


class Tally:
    """One side's counts."""

    def __init__(self, most: int = MOST_DECISIONS) -> None:
        self.decisions: list[Decision] = []  # the first `most`, in the order of `take`
        self.cut = False  # there were more
        self.offers: dict[str, list[Offer]] = {}  # by session
        self._most = most
        self._all = _Counts()
        self._triggers: dict[str, _Counts] = {}
        self._hopes: dict[tuple[str, str], list[_Hope]] = {}  # by goal, and session or user
        self._prune_at = PRUNE

    def take(self, happened: Iterable[Stored | Transition]) -> None:
        for stored in happened:
            if isinstance(stored, Transition):
                continue
            event = stored.event
            assert isinstance(event, (events.NudgeOffered, events.NudgeWithheld))
            self._count(stored, event)
            if len(self.decisions) < self._most:
                self.decisions.append(_decision(stored, event))
            else:
                self.cut = True

    def _count(self, stored: Stored, event: events.NudgeOffered | events.NudgeWithheld) -> None:
        both = (self._all, self._triggers.setdefault(event.trigger_id, _Counts()))
        if isinstance(event, events.NudgeWithheld):
            for counts in both:
                counts.withheld[event.reason] += 1
            return
        session_id = session_of(stored)
        for counts in both:
            counts.offered += 1
            counts.sessions.add(session_id)
            if event.user_id is not None:
                counts.users.add(event.user_id)
        offer = Offer(event.trigger_id, stored.at, event.user_id)
        self.offers.setdefault(session_id, []).append(offer)
        if event.goal is not None:
            self._hope(event.goal, session_id, offer)

    def _hope(self, goal: str, session_id: str, offer: Offer) -> None:
        if len(self._hopes) > self._prune_at:
            since = offer.at - tables.ATTRIBUTION
            kept = {key: [h for h in waiting if h.at >= since] for key, waiting in self._hopes.items()}
            self._hopes = {key: waiting for key, waiting in kept.items() if waiting}
            self._prune_at = max(PRUNE, 2 * len(self._hopes))
        hope = _Hope(offer.at, offer.trigger_id)
        users = [user_stream(offer.user_id)] if offer.user_id else []
        for whose in (session_stream(session_id), *users):
            self._hopes.setdefault((goal, whose), []).append(hope)

    def reached(self, goal: str, at: int, session_id: str | None, who: UserState | None) -> None:
        """A goal was reached in a session, by a user: it counts for every offer to either shortly before."""
        names = [session_stream(session_id)] if session_id is not None else []
        if who is not None:
            names += [user_stream(name) for name in (who.user_id, *who.merged_from)]
        for name in names:
            waiting = self._hopes.pop((goal, name), [])
            for hope in waiting:
                if not hope.reached and hope.at < at <= hope.at + tables.ATTRIBUTION:
                    hope.reached = True
                    self._all.goals += 1
                    self._triggers[hope.trigger_id].goals += 1
            if later := [hope for hope in waiting if hope.at >= at]:
                self._hopes[goal, name] = later

    def total(self) -> Figures:
        return self._all.figures()

    def triggers(self) -> dict[str, Figures]:
        return {name: counts.figures() for name, counts in self._triggers.items()}


def _decision(stored: Stored, event: events.NudgeOffered | events.NudgeWithheld) -> Decision:
    offered = isinstance(event, events.NudgeOffered)
    return Decision(
        stored.at,
        session_of(stored),
        event.user_id,
        event.trigger_id,
        "offered" if offered else "withheld",
        event.reason if isinstance(event, events.NudgeWithheld) else "ok",
        orjson.dumps(event.explanation).decode(),
    )


def same(one: Sequence[Offer], other: Sequence[Offer]) -> bool:
    """Whether the same triggers were offered at the same instants."""
    return [offer[:2] for offer in one] == [offer[:2] for offer in other]
