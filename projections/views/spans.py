"""States, cooldowns and tours of a session as spans of time.

Half-open, [from, to). A timeout counts at its due instant whether or not anybody has noticed it, so a span
that was drawn stays when the timeout is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from domain.machine import THINKING
from domain.session import SessionState


class Span(NamedTuple):
    name: str
    start: int  # µs
    end: int | None  # None: it goes on


class Step(NamedTuple):
    """The session from one instant to the next at which an event moved it."""

    state: SessionState
    start: int
    end: int | None  # None: the newest

    def timeout(self, now: int) -> tuple[int, int] | None:
        """A timeout that the step holds: when it was due, and from when on it counts in the step."""
        due = self.state.timeout_due
        if due is None or due >= (now if self.end is None else self.end):
            return None
        return due, max(due, self.start)


def append(steps: list[Step], state: SessionState, at: int) -> None:
    """The session is in `state` from `at` on."""
    if steps:
        last = steps.pop()
        if last.start < at:
            steps.append(last._replace(end=at))
    steps.append(Step(state, at, None))


def bands(steps: Sequence[Step], now: int) -> list[Span]:
    def pieces() -> Iterator[Span]:
        for step in steps:
            timeout = step.timeout(now)
            yield Span(step.state.current_state, step.start, step.end if timeout is None else timeout[1])
            if timeout is not None:
                yield Span(THINKING, timeout[1], step.end)

    return _joined(pieces())


def cooldowns(steps: Sequence[Step], now: int) -> list[Span]:
    """One that is still running has the end that it has unless the user opens the chat."""

    def pieces() -> Iterator[Span]:
        for step in steps:
            state, timeout = step.state, step.timeout(now)
            yield Span("", step.start, _earlier(state.cooldown_until, timeout[1] if timeout else step.end))
            if timeout is not None:
                due, start = timeout
                yield Span("", start, _earlier(due + state.cooldown, step.end))

    return _joined(pieces())


def tours(steps: Sequence[Step], now: int) -> list[Span]:
    tours: dict[str, str] = {}  # by the event that started it: one started again is another

    def pieces() -> Iterator[Span]:
        for state, start, end in steps:
            if state.active_tour_id is None:
                continue
            ends = state.tour_until() if state.current_state == THINKING else state.timeout_due
            if ends is not None and ends < (now if end is None else end):
                end = ends
            started = str(state.tour_version)
            tours[started] = state.active_tour_id
            yield Span(started, start, end)

    return [span._replace(name=tours[span.name]) for span in _joined(pieces())]


def _joined(pieces: Iterator[Span]) -> list[Span]:
    """Spans without the empty ones, and those that go on in the next as one."""
    spans: list[Span] = []
    for piece in pieces:
        if piece.end is not None and piece.end <= piece.start:
            continue
        if spans and spans[-1].name == piece.name and spans[-1].end == piece.start:
            spans[-1] = spans[-1]._replace(end=piece.end)
        else:
            spans.append(piece)
    return spans


def _earlier(one: int, other: int | None) -> int:
    return one if other is None else min(one, other)
