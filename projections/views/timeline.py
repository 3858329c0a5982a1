"""A session as people read it: a sentence per event, its states as bands, its cooldowns and tours as spans.

A pure function of the rows and an instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from domain import events, session
from domain.envelope import OUTSIDE, Recorded
from domain.instants import SECOND, optional_text, text
from domain.machine import PROACTIVE
from domain.session import Fact, SessionState
from projections import facts
from projections.views import narrative, spans

LATE = 5 * SECOND  # recorded longer than this after it happened: a late arrival
Names = Callable[[Iterable[str]], Mapping[str, str]]
_PLAIN = ("action", "action_relabelled", "nudge_withheld")  # what moves neither state, cooldown nor tour


class Timeline(NamedTuple):
    """`entries` is a page of it, the newest; the spans are whole."""

    session_id: str
    user_id: str | None
    version: int
    start: int
    end: int  # the newest instant at which something is known to have changed
    entries: list[dict[str, Any]]
    bands: list[spans.Span]
    cooldowns: list[spans.Span]
    tours: list[spans.Span]

    def as_json(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "user_id": self.user_id,
            "version": self.version,
            "from": text(self.start),
            "to": text(self.end),
            "entries": self.entries,
            "bands": [{"state": name, **_ends(start, end)} for name, start, end in self.bands],
            "cooldowns": [_ends(start, end) for _, start, end in self.cooldowns],
            "tours": [{"tour_id": name, **_ends(start, end)} for name, start, end in self.tours],
        }


def of(
    session_id: str,
    rows: Sequence[Recorded],
    beside: Sequence[Recorded],
    now: int,
    *,
    names: Names,
    limit: int,
) -> Timeline:
    """The timeline of a session's stream, which must have an event.

    `beside`: what the streams of the session's nudges say; `names`: the names of triggers with these ids;
    `limit`: of entries, the newest.
    """
    now = max(now, rows[-1].at)
    listed = sorted([*rows, *beside], key=lambda row: (row.at, row.position))
    shown = max(0, len(listed) - limit)
    read = [
        (row, _fact(row), index >= shown)
        for index, row in enumerate(listed)
        if index >= shown or row.type not in _PLAIN  # most are plain, and reading is most of the time
    ]
    offers: dict[str, events.NudgeOffered] = {}
    known = narrative.Known(names(_triggers(fact.event for _, fact, _ in read)), offers)
    state = SessionState(session_id)
    steps: list[spans.Step] = []
    entries: list[dict[str, Any]] = []
    for row, fact, wanted in read:
        own, unanswered = row.stream == rows[0].stream, _unanswered(state)
        if own and row.type not in _PLAIN:
            state = _evolved(state, row, fact)
            spans.append(steps, state, row.at)
        if isinstance(fact.event, events.NudgeOffered):
            offers[row.event_id] = fact.event
        if wanted:
            said = _said(fact, row, known, unanswered)
            entries.append(_entry(row, fact.event, own, said, state.state_at(row.at)))
    if not steps or steps[0].start > rows[0].at:
        steps.insert(0, spans.Step(SessionState(session_id), rows[0].at, steps[0].start if steps else None))
    bands, cooldowns = spans.bands(steps, now), spans.cooldowns(steps, now)
    changes = [bands[-1].start, *(min(span.end or 0, now) for span in cooldowns)]
    return Timeline(
        session_id,
        _user_id(rows),
        rows[-1].version,
        rows[0].at,
        max(listed[-1].at, *changes),
        entries,
        bands,
        cooldowns,
        spans.tours(steps, now),
    )


def offered(rows: Sequence[Recorded]) -> list[str]:
    """The ids of the nudges that the stream offered."""
    return [row.event_id for row in rows if row.type == events.NudgeOffered.TYPE]


def _triggers(found: Iterable[events.Event]) -> set[str]:
    kinds = (events.NudgeOffered, events.NudgeWithheld)
    return {event.trigger_id for event in found if isinstance(event, kinds)}


class _Unreadable(events.Event):
    """In place of an event that nothing can be made of: it costs its own line alone."""

    TYPE = "cannot be read"


def _fact(row: Recorded) -> Fact:
    try:
        return facts.fact(row)
    except Exception:  # whatever it is; the fold that found it first has set it aside
        return Fact(row.version, row.at, row.occurred_at, row.event_id, None, _Unreadable())


def _evolved(state: SessionState, row: Recorded, fact: Fact) -> SessionState:
    try:
        return session.evolve(state, fact)
    except Exception:  # as the session's own fold does it
        return session.skipped(state, row.version, row.at, row.origin == OUTSIDE)


def _said(fact: Fact, row: Recorded, known: narrative.Known, unanswered: bool) -> str:
    try:
        return narrative.sentence(fact, row.stream, known, unanswered)
    except Exception:  # a value that is no text, a field that is not there
        return narrative.sentence(fact._replace(event=_Unreadable()), row.stream, known)


def _unanswered(state: SessionState) -> bool:
    """Whether a nudge is on that nobody has answered."""
    return state.current_state == PROACTIVE and state.offer is not None and state.offer.unanswered


def _user_id(rows: Sequence[Recorded]) -> str | None:
    """The last non-empty id that a sender gave."""
    given = (_sender(row) for row in reversed(rows) if row.origin == OUTSIDE)
    return next((user_id for user_id in given if user_id), None)


def _sender(row: Recorded) -> str | None:
    try:  # without decoding the event: in a session of nobody that is done for every row
        user_id: str | None = orjson.loads(row.data).get("user_id")
    except (ValueError, AttributeError):
        return None
    return user_id


# --- entries -----------------------------------------------------------------------------------------


def _entry(row: Recorded, event: events.Event, own: bool, said: str, state: str) -> dict[str, Any]:
    decision = isinstance(event, (events.NudgeOffered, events.NudgeWithheld))
    late = row.recorded_at - row.occurred_at
    return {
        "version": row.version if own else None,
        "position": row.position,
        "event_id": row.event_id,
        "at": text(row.at),
        "occurred_at": text(row.occurred_at),
        "type": row.type,
        "origin": row.origin,
        "kind": narrative.kind(event),
        "text": said,
        "state": state,
        "late_by_s": late / SECOND if row.origin == OUTSIDE and late > LATE else None,
        "clock_suspect": row.clock_suspect,
        "decision_id": row.event_id if decision else None,
        "trigger_id": getattr(event, "trigger_id", None),
        "reason": getattr(event, "reason", None),
        "nudge_id": _nudge_id(row, event),
    }


def _nudge_id(row: Recorded, event: events.Event) -> str | None:
    if isinstance(event, events.NudgeOffered):
        return row.event_id
    kind, _, name = row.stream.partition("-")
    return name if kind == "nudge" else getattr(event, "nudge_id", None)


def _ends(start: int, end: int | None) -> dict[str, str | None]:
    return {"from": text(start), "to": optional_text(end)}
