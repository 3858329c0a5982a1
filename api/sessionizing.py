"""Which session an event belongs to whose source has no sessions: Segment, RudderStack, server SDKs.

An event that came before stays where it is. Else it joins the session that its person was in less than half
an hour ago: by its user's id, or by the id that the device had before anybody knew who it is; with a running
tour or an open offer first, then the one with the newest event. Where there is none, what happened in a page
begins one, whose id is derived from the person and that event; what happened on a server goes to the user's
own stream.

Requests that arrive together see none of each other in the ledger yet, so what was begun just now is
remembered. Two servers that see a person's first events in the same instant may begin a session each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

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
        seen: list[Seen] = []
        owners: dict[str, str | None] = {}
        for arrival, event in zip(arrivals, placed, strict=True):
            session_id = event.session_id
            if session_id is not None:
                if arrival.device is not None and not isinstance(event.what, events.UserIdentified):
                    if session_id not in owners:
                        live = await self._recorder.session(product, session_id)
                        owners[session_id] = live.state.user_id
                    if owners[session_id] == arrival.device:
                        seen.append(_identified(event, arrival.device))
                owners[session_id] = event.user_id
            seen.append(event)
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


def _people(arrival: Arrival) -> list[str]:
    """The ids under which the person may be known, the surest first."""
    return [name for name in (arrival.seen.user_id, arrival.device) if name is not None]


def _identified(event: Seen, device: str) -> Seen:
    """The fact that this event's user is whom its session knew by the device's id."""
    user = event.user_id or ""
    event_id = derived_id(event.occurred_at, "identified", event.source, event.session_id or "", device, user)
    return event._replace(what=events.UserIdentified(previous_id=device), event_id=event_id)
