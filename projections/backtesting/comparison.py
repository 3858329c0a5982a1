"""Two configs over one window of the ledger, side by side: the candidate, and the one in force.

Each runs in a virtual time of its own from the real states as of the window's begin; the ledger is read and
decoded once for both. Nothing is written. A share of the window's components can be simulated alone, and all
shares together come to what the whole does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache, partial
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from domain import events
from domain.envelope import Recorded as Row
from domain.envelope import name_in, session_stream, user_stream
from domain.run import Incoming, Live, Stored, Transition
from domain.triggers import Ruleset
from domain.user import UserState
from projections import facts
from projections.backtesting import shelf, window
from projections.backtesting.recorded import Displaced, Recorded
from projections.backtesting.simulation import Batch, Simulation, Step, session_of
from projections.backtesting.tally import Decision, Figures, Offer, Tally, same
from projections.backtesting.window import Batcher, Window
from projections.partition import Components

MOST_LISTED = 1_000  # sessions that differ, and displaced nudges, that a result names
ARMED_AT_ONCE = 200  # sessions whose states are read together

R = TypeVar("R")


class Ask(Protocol):
    """Asks the ledger something and waits for the answer."""

    def __call__(self, question: Callable[[AsyncConnection], Awaitable[R]], /) -> R: ...


class Task(NamedTuple):
    """One share of a backtest."""

    window: Window
    until: int  # µs that virtual time runs past the window's end
    components: Components
    share: int = 0
    shares: int = 1


class SideOf(NamedTuple):
    """What one config came to in a share."""

    total: Figures
    triggers: dict[str, Figures]
    decisions: list[Decision]
    cut: bool  # there were more decisions
    failed: int  # evaluations that raised
    assumed: int = 0  # proposals that count as allowed, since no judge was asked


class Differing(NamedTuple):
    """A session in which the two configs offer something else."""

    at: int  # of the first offer
    session_id: str
    user_id: str | None
    candidate: list[Offer]
    in_force: list[Offer]


class Share(NamedTuple):
    """What a share came to; its lists are cut at `MOST_LISTED`, beside their whole length."""

    events: int
    sessions: int
    users: int
    orphaned: int
    candidate: SideOf
    in_force: SideOf
    recorded: dict[str, tuple[int, int]]  # by trigger: really offered, shown
    displaced_by: dict[str, int]  # by trigger
    displaced: list[Displaced]
    differing: int
    sessions_differing: list[Differing]


def simulate(
    task: Task, candidate: Ruleset, in_force: Ruleset, ask: Ask, report: Callable[[int], None]
) -> Share:
    """Run the share to its end; `report` is told how many positions of the window are behind it."""
    found = _Comparison(task, candidate, in_force, ask, report)
    try:
        found.run()
        return found.share()
    finally:
        found.close()


class _Side:
    """One config in its own virtual time."""

    def __init__(self, product: str, rules: Ruleset, load: Callable[[str], window.Before]) -> None:
        self.sessions = shelf.sessions(lambda name: Live(load(session_stream(name)).sessions[0]))
        self.users = shelf.users(lambda name: load(user_stream(name)).users[0])
        self.simulation = Simulation(product, rules, self.sessions, self.users, unique=True)
        self.tally = Tally()

    def lacks(self, stream: str) -> bool:
        kind, _, name = stream.partition("-")
        return name not in (self.sessions if kind == "session" else self.users)

    def put(self, states: window.Before) -> None:
        """Take in states as of the window's begin, where it does not have its own."""
        for state in states.sessions:
            if state.session_id not in self.sessions:
                self.sessions[state.session_id] = Live(state)
        for who in states.users:
            if who.user_id not in self.users:
                self.users[who.user_id] = who

    def step(self, step: Step) -> None:
        self.tally.take(self.simulation.step(step))
        if isinstance(step, Batch):
            for incoming in step.events:
                if isinstance(incoming.event, events.GoalReached):
                    self.reached(incoming.event.goal_id, step.at, step.session_id, incoming.user_id)

    def reached(self, goal: str, at: int, session_id: str | None, user_id: str | None) -> None:
        who: UserState | None = None
        if user_id is None and session_id is not None:
            live = self.sessions.get(session_id)
            user_id = live.state.user_id if live is not None else None
        if user_id is not None:
            who = self.simulation.person(user_id)
        self.tally.reached(goal, at, session_id, who)

    def came_to(self) -> SideOf:
        tally = self.tally
        failed, assumed = self.simulation.failed, self.simulation.assumed
        return SideOf(tally.total(), tally.triggers(), tally.decisions, tally.cut, failed, assumed)


class _Comparison:
    def __init__(
        self, task: Task, candidate: Ruleset, in_force: Ruleset, ask: Ask, report: Callable[[int], None]
    ) -> None:
        self._task, self._window, self._ask = task, task.window, ask
        self._personal = candidate.reads_properties or in_force.reads_properties
        product = task.window.product
        self._candidate = _Side(product, candidate, lambda stream: self._before([stream]))
        self._in_force = _Side(product, in_force, lambda stream: self._before([stream]))
        self._sides = (self._candidate, self._in_force)
        self._report = report
        self._done = 0  # positions
        for side in self._sides:
            side.simulation.beat = self._beat
        self._recorded = Recorded()

        @lru_cache(maxsize=100_000)
        def mine(stream: str) -> bool:
            return task.components.mine(stream, task.share, task.shares)

        self._mine = mine

    def run(self) -> None:
        batcher = Batcher(self._window, self._mine)
        self._arm()
        after = self._window.before
        while rows := self._ask(partial(window.page, window=self._window, after=after)):
            after = rows[-1].product_seq
            self._note(rows)
            keys = None
            if self._personal:
                wanted = [row for row in rows if batcher.wants(row)]
                keys = self._ask(partial(facts.keys_of, rows=wanted))
            self._take(batcher.take(rows, keys))
            self._done = rows[-1].position - self._window.from_position + 1
            self._beat()
        self._take(batcher.rest())
        for side in self._sides:
            side.tally.take(side.simulation.finish(self._window.end + self._task.until))
        self._afterwards()

    def share(self) -> Share:
        candidate, in_force = self._candidate, self._in_force
        displaced = self._recorded.displaced(candidate.tally.offers)
        by: dict[str, int] = {}
        for nudge in displaced:
            by[nudge.trigger_id] = by.get(nudge.trigger_id, 0) + 1
        differing = self._differing()
        return Share(
            candidate.simulation.events,
            len(candidate.simulation.sessions_seen),
            len(candidate.simulation.users_seen),
            candidate.simulation.orphaned,
            candidate.came_to(),
            in_force.came_to(),
            self._recorded.by_trigger(),
            by,
            displaced[:MOST_LISTED],
            len(differing),
            differing[:MOST_LISTED],
        )

    def close(self) -> None:
        for side in self._sides:
            side.sessions.close()
            side.users.close()

    # --- inside ----------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Say how far it is; whoever waits may end it here."""
        self._report(self._done)

    def _arm(self) -> None:
        """Sessions that were active lately begin as after a config put right before the window: what comes
        due at its first instant belongs to it."""
        active = self._ask(partial(window.active_before, window=self._window))
        active = [stream for stream in active if self._mine(stream)]
        armed: list[list[Stored | Transition]] = [[] for _ in self._sides]
        for start in range(0, len(active), ARMED_AT_ONCE):
            streams = active[start : start + ARMED_AT_ONCE]
            self._load(streams)
            self._beat()
            for side, happened in zip(self._sides, armed, strict=True):
                happened += side.simulation.rearm(map(name_in, streams), self._window.start - 1)
        for side, happened in zip(self._sides, armed, strict=True):
            side.tally.take(sorted(happened, key=lambda each: (each.at, session_of(each))))

    def _note(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.type == "nudge_proposed" and self._mine(row.stream):
                for side in self._sides:
                    side.simulation.proposals.add(row.event_id)
            if row.type == "nudge_offered" and row.at >= self._window.start and self._mine(row.stream):
                self._recorded.offered(row)

    def _take(self, steps: list[Step]) -> None:
        if not steps:
            return
        self._load(window.streams_of(steps))
        self._know(told for step in steps if isinstance(step, Batch) for told in step.events)
        for step in steps:
            for side in self._sides:
                side.step(step)

    def _know(self, incoming: Iterable[Incoming]) -> None:
        """Note what was shown. Nudges really offered before the window count as offered on both sides."""
        named: set[str] = set()
        for told in incoming:
            match told.event:
                case events.NudgeShown(nudge_id=nudge_id):
                    self._recorded.shown(nudge_id)
                    named.add(nudge_id)
                case events.OptionClicked(nudge_id=str(nudge_id)) | events.NudgeDismissed(nudge_id=nudge_id):
                    named.add(nudge_id)
                case _:
                    pass
        unknown = [nudge_id for nudge_id in named if nudge_id not in self._recorded]
        if unknown:
            earlier = self._ask(partial(window.offered_before, window=self._window, nudge_ids=unknown))
            for side in self._sides:
                side.simulation.nudges |= earlier

    def _afterwards(self) -> None:
        """Goals and showings past the window's end; nothing is decided any more."""
        after = self._window.last
        while rows := self._ask(partial(window.page_afterwards, window=self._window, after=after)):
            after = rows[-1].product_seq
            for row in rows:
                if not self._mine(row.stream):
                    continue
                told = window.told(row, None)
                match told.event:
                    case events.NudgeShown(nudge_id=nudge_id):
                        self._recorded.shown(nudge_id)
                    case events.GoalReached(goal_id=goal_id):
                        session_id = name_in(row.stream) if row.stream.startswith("session-") else None
                        for side in self._sides:
                            side.reached(goal_id, row.at, session_id, told.user_id)
                    case _:
                        pass

    def _before(self, streams: Iterable[str]) -> window.Before:
        """States as of the window's begin."""
        return self._ask(
            partial(window.states_before, window=self._window, streams=streams, personal=self._personal)
        )

    def _load(self, streams: Iterable[str]) -> None:
        """Read what is not known yet of these streams, and of the users and sessions that they lead to."""
        waiting = list(streams)
        while waiting := [stream for stream in dict.fromkeys(waiting) if self._lacked(stream)]:
            states = self._before(waiting)
            for side in self._sides:
                side.put(states)
            waiting = [user_stream(state.user_id) for state in states.sessions if state.user_id]
            for who in states.users:
                into = [who.merged_into] if who.merged_into else []
                waiting += [user_stream(name) for name in (*who.merged_from, *into)]
                waiting += [session_stream(name) for name in who.last_sessions]

    def _lacked(self, stream: str) -> bool:
        return any(side.lacks(stream) for side in self._sides)

    def _differing(self) -> list[Differing]:
        ours, theirs = self._candidate.tally.offers, self._in_force.tally.offers
        found: list[Differing] = []
        for session_id in {**ours, **theirs}:
            one, other = ours.get(session_id, []), theirs.get(session_id, [])
            if not same(one, other):
                first = min((*one, *other), key=lambda offer: offer.at)
                found.append(Differing(first.at, session_id, first.user_id, one, other))
        return sorted(found, key=lambda each: (each.at, each.session_id))
