"""Which session an event belongs to whose source has no sessions: Segment, RudderStack, server SDKs.

An event that came before stays where it is. Else it joins the session that its person was in less than half
an hour ago: by its user's id, or by the id that the device had before anybody knew who it is; with a running
tour or an open offer first, then the one with the newest event. Where there is none, what happened in a page
begins one, whose id is derived from the person and that event; what happened on a server goes to the user's
own stream.

SDKs say at once who somebody is, and seconds later what that person did before it, under the anonymous id: in
the session of the user whom that id became, such an event is the user's.

Requests that arrive together see none of each other in the ledger yet, so what was begun just now is
remembered. Two servers that see a person's first events in the same instant may begin a session each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from api.clock import Clock
from api.ingest.acts import Seen
from api.ingest.arrivals import Arrival
from api.recorder import Recorder
from domain import events
from domain.envelope import OUTSIDE, derived_id, name_in
from domain.instants import MINUTE, SECOND
from eventstore import reader
from projections import lookups

IDLE = 30 * MINUTE  # after so long without an event a session is not joined any more
HELD = 10 * SECOND  # how long a begun session is remembered: longer than a commit takes


class Sessionizing:
    def __init__(self, recorder: Recorder, clock: Clock) -> None:
        self._recorder, self._clock = recorder, clock
        self._begun: OrderedDict[tuple[str, str], tuple[str, int]] = OrderedDict()  # by (product, person)

    async def place(self, product: str, arrivals: Sequence[Arrival]) -> list[Seen]:
        """The events with their sessions, in their order; and who somebody turned out to be, as facts."""
        placed = await self._placed(product, arrivals)
        people = _People(self._recorder, product)
        seen: list[Seen] = []
        for arrival, event in zip(arrivals, placed, strict=True):
            seen += await people.settled(arrival, event)
        return seen

    async def _placed(self, product: str, arrivals: Sequence[Arrival]) -> list[Seen]:
        loose = [arrival for arrival in arrivals if arrival.seen.session_id is None]
        if not loose:
            return [arrival.seen for arrival in arrivals]
        ids = [arrival.seen.event_id for arrival in loose if arrival.seen.event_id is not None]
        people = {name for arrival in loose for name in _people(arrival)}
        now = self._clock.now()
        async with self._recorder.ledger.reader() as conn:
            known = await reader.find_ids(conn, product, OUTSIDE, ids)
            recent = await lookups.recent_sessions(conn, product, sorted(people), now - IDLE, now)
        self._forget(now)
        placed: list[Seen] = []
        here: dict[str, str] = {}  # in this request
        for arrival in arrivals:
            event = arrival.seen
            if event.session_id is None:
                before = known.get(event.event_id or "")
                if before is not None:
                    session_id = name_in(before.stream) if before.stream.startswith("session-") else None
                else:
                    session_id = self._current(product, arrival, here, recent)
                    if session_id is None and arrival.in_page:
                        session_id = self._begin(product, arrival, now)
                event = event._replace(session_id=session_id)
            if event.session_id is not None:
                here.update(dict.fromkeys(_people(arrival), event.session_id))
            placed.append(event)
        return placed

    def _current(
        self, product: str, arrival: Arrival, here: dict[str, str], recent: dict[str, str]
    ) -> str | None:
        for name in _people(arrival):
            begun = self._begun.get((product, name))
            found = here.get(name) or (begun[0] if begun is not None else None) or recent.get(name)
            if found is not None:
                return found
        return None

    def _begin(self, product: str, arrival: Arrival, now: int) -> str:
        event = arrival.seen
        first = event.event_id or self._clock.new_id()
        session_id = derived_id(event.occurred_at, "session", product, event.user_id or "", first)
        for name in _people(arrival):
            self._begun[product, name] = (session_id, now)
        return session_id

    def _forget(self, now: int) -> None:
        while self._begun:
            key, (_, at) = next(iter(self._begun.items()))
            if now - at <= HELD:
                break
            del self._begun[key]


class _People:
    """Whose the sessions of one request are, event by event."""

    def __init__(self, recorder: Recorder, product: str) -> None:
        self._recorder, self._product = recorder, product
        self._owners: dict[str, str | None] = {}  # by session
        self._turned: set[tuple[str, str]] = set()  # (id before, user) as this request says

    async def settled(self, arrival: Arrival, event: Seen) -> list[Seen]:
        """The event, as it is to be recorded; before it who its user turns out to be, where it tells that."""
        session_id, user_id = event.session_id, event.user_id
        if session_id is None or user_id is None:
            return [event]
        settled = [event]
        owner = await self._owner(session_id)
        other = owner if owner != user_id else None
        if isinstance(event.what, events.UserIdentified):
            fact = event.what
            if arrival.renamed and other is not None:
                fact = replace(fact, previous_id=other)
            if fact.previous_id is not None:
                self._turned.add((fact.previous_id, user_id))
            settled = [event._replace(what=fact)]
        elif other is not None and other == arrival.device:
            self._turned.add((other, user_id))
            settled = [_identified(event, other), event]
        elif other is not None and await self._became(user_id, other):
            settled = [event._replace(user_id=other)]  # it was done before, and comes late
        self._owners[session_id] = settled[-1].user_id
        return settled

    async def _owner(self, session_id: str) -> str | None:
        if session_id not in self._owners:
            live = await self._recorder.session(self._product, session_id)
            self._owners[session_id] = live.state.user_id
        return self._owners[session_id]

    async def _became(self, anonymous: str, user_id: str) -> bool:
        if (anonymous, user_id) in self._turned:
            return True
        return (await self._recorder.user(self._product, anonymous)).merged_into == user_id


def _people(arrival: Arrival) -> list[str]:
    """The ids under which the person may be known, the surest first."""
    return [name for name in (arrival.seen.user_id, arrival.device) if name is not None]


def _identified(event: Seen, device: str) -> Seen:
    """The fact that this event's user is whom its session knew by the device's id."""
    user = event.user_id or ""
    event_id = derived_id(event.occurred_at, "identified", event.source, event.session_id or "", device, user)
    return event._replace(what=events.UserIdentified(previous_id=device), event_id=event_id)
