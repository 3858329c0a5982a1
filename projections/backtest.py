"""Backtest: what a config would have done over recorded outside events, in virtual time.

The same `domain.run.Turn` as the service's decides; only time is another: it jumps from one batch or timer
to the next. Every timer is noticed at its own instant, so nothing is ever missed. Nothing here reads a
clock, and nothing depends on the order of a set, so the same input gives the same bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import orjson

from domain import events, instants
from domain.envelope import name_in, session_stream
from domain.run import Incoming, Live, Stored, Transition, Turn, World
from domain.triggers import Ruleset
from domain.user import UserState

Row = dict[str, Any]


class Line(Incoming, Protocol):
    """An outside event as an events file tells it."""

    @property
    def session_id(self) -> str | None: ...
    @property
    def received_at(self) -> int: ...
    @property
    def batch_id(self) -> str | None: ...


class Batch(NamedTuple):
    """Outside events that were recorded together: the boundary of an evaluation."""

    at: int  # µs, the instant of recording
    session_id: str | None  # None: events of a user's own stream
    user_id: str | None  # only where there is no session
    events: Sequence[Incoming]


def batches(lines: Iterable[Line]) -> list[Batch]:
    """The batches of an events file, in the order of virtual time.

    Lines of one session (or, without a session, of one user) are a batch where they name the same
    `batch_id`, else where they were received at the same instant. A named batch was received whole when its
    last line was. At equal instants what is known of users comes first, then sessions by their ids; batches
    of one session keep the order of their first lines.
    """
    groups: dict[tuple[str | None, str | None, str | int], list[Line]] = {}
    for line in lines:
        user_id = line.user_id if line.session_id is None else None
        boundary = line.received_at if line.batch_id is None else line.batch_id
        groups.setdefault((line.session_id, user_id, boundary), []).append(line)
    found = [
        Batch(max(line.received_at for line in group), session_id, user_id, group)
        for (session_id, user_id, _), group in groups.items()
    ]
    found.sort(key=lambda batch: (batch.at, batch.session_id or "", batch.user_id or ""))
    return found


def run(
    product: str,
    rules: Ruleset,
    batches: Iterable[Batch],
    until: int = 0,
    clock: Callable[[], float] | None = None,
) -> Iterator[Row]:
    """The output rows, ordered by (`at`, session); the last is the summary.

    `until`: µs that virtual time runs past the last event; what comes due at that very instant still happens.
    `at` in a row is an instant in µs: `line` renders it. `clock` gives seconds, for the summary's `seconds`
    alone; without one they are 0. Raises ValueError where a batch lies before the one that precedes it.
    """
    started = clock() if clock is not None else 0.0
    simulation = Simulation(product, rules)
    offered: dict[str, int] = {}
    withheld: dict[str, int] = {}
    for happening in simulation.over(batches, until):
        row = _row(happening)
        if row["kind"] == "offered":
            offered[row["trigger_id"]] = offered.get(row["trigger_id"], 0) + 1
        elif row["kind"] == "withheld":
            withheld[row["reason"]] = withheld.get(row["reason"], 0) + 1
        yield row
    yield {
        "kind": "summary",
        "events": simulation.events,
        "sessions": len(simulation.sessions_seen),
        "users": len(simulation.users_seen),
        "offered": dict(sorted(offered.items())),
        "withheld": dict(sorted(withheld.items())),
        "orphaned": simulation.orphaned,
        "seconds": round(clock() - started, 6) if clock is not None else 0.0,
    }


def line(row: Row) -> bytes:
    """A row as a line of JSON: keys in their fixed order, `at` as a number with six decimals."""
    if "at" in row:
        row = {**row, "at": orjson.Fragment(instants.unix(row["at"]))}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _row(happening: Stored | Transition) -> Row:
    if isinstance(happening, Transition):
        return {
            "kind": "transition",
            "at": happening.at,
            "session_id": happening.session_id,
            "from": happening.source,
            "to": happening.target,
            "cause": happening.cause,
        }
    event = happening.event
    assert isinstance(event, (events.NudgeOffered, events.NudgeWithheld))
    row: Row = {
        "kind": "offered" if isinstance(event, events.NudgeOffered) else "withheld",
        "at": happening.at,
        "session_id": _session_of(happening),
        "user_id": event.user_id,
        "trigger_id": event.trigger_id,
        "explanation": event.explanation,
    }
    if isinstance(event, events.NudgeWithheld):
        row["reason"] = event.reason
    return row


def _session_of(happening: Stored | Transition) -> str:
    if isinstance(happening, Transition):
        return happening.session_id
    return name_in(happening.stream)


@dataclass(slots=True)
class Simulation:
    """A product that exists in virtual time only: its states, its timers, and what it counted."""

    product: str
    rules: Ruleset
    events: int = 0  # different outside events, orphaned ones included
    orphaned: int = 0  # answers to nudges that were not offered here
    failed: int = 0  # evaluations that raised: the rows lack what they would have decided
    sessions_seen: set[str] = field(default_factory=set)
    users_seen: set[str] = field(default_factory=set)
    _sessions: dict[str, Live] = field(default_factory=dict)
    _users: dict[str, UserState] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)
    _nudges: set[str] = field(default_factory=set)
    _timers: list[tuple[int, str]] = field(default_factory=list)  # heap of (due, session); may be stale
    _armed: dict[str, int] = field(default_factory=dict)  # session -> due; what counts of the heap

    def over(self, batches: Iterable[Batch], until: int = 0) -> Iterator[Stored | Transition]:
        """Every decision and transition, by (`at`, session). `batches` and `until` as in `run`.

        At equal instants outside events come first, then timers by session.
        """
        now = 0
        instant: list[Stored | Transition] = []  # what happened at `now`: sessions are sorted when it is over
        for batch in batches:
            if batch.at < now:
                raise ValueError("batches must come in the order of their instants")
            yield from self._pass(now, batch.at, instant)
            now = batch.at
            instant += self._record(batch)
        yield from self._pass(now, now + until + 1, instant)

    def _pass(
        self, now: int, before: int, instant: list[Stored | Transition]
    ) -> Iterator[Stored | Transition]:
        """Fire all timers due before `before`; give what is over, and leave in `instant` what is not."""
        while (timer := self._next(before)) is not None:
            due, session_id = timer
            if due != now:
                yield from _over(instant)
                now = due
            turn = self._turn(due)
            turn.timers(session_id, due + 1)
            instant += self._concluded(turn)
        if before > now:
            yield from _over(instant)

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
            ) if nudge_id not in self._nudges:
                self.orphaned += 1
                return False
        return True

    def _turn(self, now: int) -> Turn:
        return Turn(self.product, self.rules, World(self._sessions, self._users, complete=True), now)

    def _concluded(self, turn: Turn) -> list[Stored | Transition]:
        """Take in what the turn changed; its decisions and transitions in the order of their events."""
        self._users.update(turn.world.changed_users)
        for session_id, live in turn.world.changed_sessions.items():
            self._sessions[session_id] = live
            self._arm(session_id, live.due())
        found: list[Stored | Transition] = []
        transitions = iter(turn.transitions)
        moved = next(transitions, None)
        for stored in turn.stored:
            if isinstance(stored.event, events.NudgeOffered):
                self._nudges.add(stored.event_id)
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


def _over(instant: list[Stored | Transition]) -> list[Stored | Transition]:
    """What happened at one instant, by session; `instant` is empty afterwards."""
    found = sorted(instant, key=_session_of)
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
