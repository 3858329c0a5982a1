"""What held around a session at a moment: who was named, what arrived when, what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from domain.envelope import OUTSIDE, session_stream
from domain.instants import MINUTE, text
from domain.triggers import LATE
from projections import poison
from projections.readable import Told
from projections.why.asof import Asking, Moment
from projections.why.trace import lasting

_NEWEST = 200  # events of the session in which user ids are looked for
_NEAR = MINUTE  # of a decision about the same trigger, before or after


class Cause(NamedTuple):
    """One cause."""

    cause: str  # its code
    text: str  # a sentence
    event_ids: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"cause": self.cause, "text": self.text, "event_ids": list(self.event_ids)}


def activity(moment: Moment) -> Iterator[Cause]:
    outside = next((row for row in reversed(moment.known) if row.origin == OUTSIDE), None)
    if outside is None:
        began = text(moment.rows[0].at)
        yield Cause("no_actions", f"The session's first event came at {began}; by then there was none.")
        return
    if not len(moment.situation.session.actions):
        told = "The session had no action by then: only other events, such as chat messages, had come."
        yield Cause("no_actions", told)
    silent = moment.at - outside.at
    if silent > moment.lookback:
        told = f"No event of this session arrived after {text(outside.at)}, {lasting(silent)} before."
        yield Cause("no_events_since", told, (outside.event_id,))


def nearby(moment: Moment, trigger_id: str) -> Iterator[Cause]:
    """A decision about the trigger at almost this instant: probably what was meant."""
    near: list[tuple[int, Told, Any]] = []
    for row in _within(moment.rows, moment.at - _NEAR, moment.at + _NEAR):
        if row.type in ("nudge_offered", "nudge_withheld") and row.at != moment.at:
            data = orjson.loads(row.data)
            if data["trigger_id"] == trigger_id:
                near.append((abs(row.at - moment.at), row, data))
    if near:
        _, row, data = min(near, key=lambda found: found[0])
        what = "offered" if row.type == "nudge_offered" else f"withheld ({data['reason']})"
        when = (
            f"{lasting(abs(row.at - moment.at))} {'before' if row.at < moment.at else 'after'} this instant"
        )
        told = f"A decision about this trigger is recorded at {text(row.at)}, {when}: {what}."
        yield Cause("decision_nearby", told, (row.event_id,))


def arrivals(moment: Moment) -> Iterator[Cause]:
    late: list[Told] = []
    suspect: list[Told] = []
    for row in _within(moment.known, moment.at - moment.lookback, moment.at):
        if row.origin != OUTSIDE:
            continue
        if row.clock_suspect:
            suspect.append(row)
        elif row.at - row.occurred_at > LATE:
            late.append(row)
    if late:
        worst = max(row.at - row.occurred_at for row in late)
        told = f"{_events(late)} arrived late, up to {lasting(worst)} after happening."
        yield Cause("late_events", told, ids(late))
    if suspect:
        told = f"The sender's clock could not be believed for {_events(suspect).lower()}: times may be off."
        yield Cause("clock_suspect", told, ids(suspect))


def users(asking: Asking, moment: Moment) -> Iterator[Cause]:
    if not any(row.origin == OUTSIDE for row in moment.known):
        return  # it had not begun
    who = moment.situation.user
    named: dict[str, str] = {}  # user id -> newest event that names it
    for row in moment.known[-_NEWEST:]:
        if row.origin == OUTSIDE:
            user_id = orjson.loads(row.data).get("user_id")
            if user_id:
                named[user_id] = row.event_id
    if who is None:
        told = (
            "No event of the session said who the user is: nudge streams are a user's, so nothing reaches it."
        )
        yield Cause("no_user", told)
    ours = {who.user_id, *who.merged_from, moment.situation.session.user_id} if who is not None else set()
    strangers = {user_id: event_id for user_id, event_id in named.items() if user_id not in ours}
    if who is not None and strangers:
        told = (
            f"The session's events name several users: {', '.join(sorted(strangers))} beside {who.user_id}."
        )
        yield Cause("user_mismatch", told, tuple(strangers.values()))
    elsewhere = {u for u, s in asking.listening or () if s == moment.session_id and u not in ours}
    if elsewhere:
        user = who.user_id if who is not None else "nobody"
        heard = ", ".join(sorted(elsewhere))
        told = f"The page of this session listens for user {heard} now, while its events name {user}."
        yield Cause("user_mismatch", told)


def failures(moment: Moment, product: Sequence[Told]) -> Iterator[Cause]:
    begin = moment.at - moment.lookback
    failed = [r for r in _within(moment.rows, begin, moment.at) if r.type == "evaluation_failed"]
    if failed:
        error = orjson.loads(failed[-1].data)["error"]
        told = f"The evaluation at {text(failed[-1].at)} failed ({error}), so nothing was decided by it."
        yield Cause("evaluation_failed", told, ids(failed))
    elif moment.failure is not None:
        told = f"The evaluator fails on this session's facts ({moment.failure}), so there is no verdict."
        yield Cause("evaluation_failed", told)
    rejected = [r for r in _within(product, begin, moment.at + LATE) if r.type == "rejected_input"]
    if rejected:
        faults = [fault for row in rejected for fault in orjson.loads(row.data)["faults"]]
        first = f"{faults[0]['path']}: {faults[0]['detail']}" if faults else "no detail"
        what = "1 event" if len(faults) == 1 else f"{len(faults)} events"
        told = (
            f"Around then {what} sent to this product could not be stored ({first}): perhaps this session's."
        )
        yield Cause("rejected_input", told, ids(rejected))


async def unapplied(asking: Asking, moment: Moment) -> list[Cause]:
    """Events of the session that are set aside: its state and history lack what they say."""
    stream = session_stream(moment.session_id)
    errors = await poison.of_stream(asking.conn, asking.product, stream)
    lost = [row for row in moment.known if row.position in errors]
    if not lost:
        return []
    told = f"{_events(lost)} of this session could not be applied ({errors[lost[-1].position]})"
    return [Cause("poisoned", f"{told}: the verdicts do without what was said there.", ids(lost))]


def _within(rows: Sequence[Told], begin: int, end: int) -> list[Told]:
    """The rows with `at` from `begin` to `end`, both included. `at` never decreases in a stream."""
    found: list[Told] = []
    for row in reversed(rows):
        if row.at < begin:
            break
        if row.at <= end:
            found.append(row)
    found.reverse()
    return found


def ids(rows: Sequence[Told]) -> tuple[str, ...]:
    return tuple(row.event_id for row in rows[-20:])


def _events(rows: Sequence[Told]) -> str:
    return "1 event" if len(rows) == 1 else f"{len(rows)} events"
