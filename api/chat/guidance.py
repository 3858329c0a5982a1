"""Guidance streams: a session's offers, and the start of its tours, for front ends that show both themselves.

A guidance stream counts as a front end of the older kind: an offer goes to the session's newest stream alone,
to the next if that drops before anything says it was seen, and to none while a nudge stream has it: at most
one visible toast. A tour's start is told to all of them, where this service itself starts it; what a host or
a vendor reports as started runs already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from api.chat import nudges
from api.chat.nudges import Nudge
from api.chat.options import GUIDE
from api.hub import QUEUE, Outlet, frame
from domain import events
from domain.envelope import Recorded, name_in, session_stream
from domain.instants import text
from domain.machine import PROACTIVE
from eventstore import reader
from projections import facts
from projections.inline import Written

if TYPE_CHECKING:
    from api.service import Service


@dataclass(eq=False, slots=True)
class Guide(Outlet):
    """One open stream."""

    product: str
    session_id: str
    frames: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    holds: set[str] = field(default_factory=set)  # nudges sent to it that nobody has seen yet
    lost: bool = False


class Guidance:
    """The guidance streams of all sessions. `spawn` runs work in the background, until the service stops."""

    def __init__(self, service: Service, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._service, self._spawn = service, spawn
        self.settings = service.settings
        self._guides: dict[tuple[str, str], list[Guide]] = {}
        self._closed = False

    # --- streams come and go ---------------------------------------------------------------------

    async def listen(self, guide: Guide, last_event_id: int | None) -> None:
        """Join; say so; send the offer that waits, and to who resumes a start that was missed."""
        if self._closed:
            guide.send_end()
            return
        guide.send(frame("ready", self._said("ready", guide)))
        self._guides.setdefault((guide.product, guide.session_id), []).append(guide)
        state = (await self._service.recorder.session(guide.product, guide.session_id)).state
        now = self._service.clock.now()
        offer = state.open_offer(now)
        if offer is not None:
            nudge = await self._nudge(guide.product, offer.nudge_id)
            resumed = last_event_id is not None and nudge is not None and nudge.position > last_event_id
            waits = resumed or state.state_at(now) == PROACTIVE
            if nudge is not None and waits and self._send(guide.product, nudge):
                self._service.delivered(guide.product, nudge.nudge_id, 1)
        if last_event_id is not None and state.tour_running(now):
            await self._missed(guide, last_event_id)

    def leave(self, guide: Guide) -> None:
        """A stream ended; what it held and nobody saw goes to the next."""
        key = (guide.product, guide.session_id)
        listed = self._guides.get(key, [])
        if guide in listed:
            listed.remove(guide)
        if not listed:
            self._guides.pop(key, None)
        for nudge_id in () if self._closed else guide.holds:
            self._spawn(self._hand_over(guide.product, nudge_id))

    def close(self) -> None:
        """End every stream; clients come back by themselves."""
        self._closed = True
        for listed in self._guides.values():
            for guide in listed:
                guide.send_end()

    def heartbeat(self, guide: Guide) -> bytes:
        return frame("heartbeat", self._said("heartbeat", guide))

    # --- what happens ----------------------------------------------------------------------------

    def offered(self, product: str, row: Recorded, event: events.NudgeOffered) -> int:
        """A nudge was offered that no nudge stream took; to how many streams it was sent."""
        return self._send(product, nudges.of_row(row, event)) if self._guides else 0

    def held(self, product: str, session_id: str, nudge_id: str) -> bool:
        """Whether a guidance stream shows the nudge."""
        listed = self._guides.get((product, session_id), ())
        return any(nudge_id in guide.holds and not guide.lost for guide in listed)

    async def take_over(self, product: str, nudge_id: str) -> bool:
        """Show a nudge whose nudge stream ended before anybody saw it."""
        nudge = await self._nudge(product, nudge_id) if self._guides else None
        return nudge is not None and self._send(product, nudge) > 0

    def written(self, product: str, written: Sequence[Written]) -> None:
        """Events were stored, here or by another process."""
        if not self._guides:
            return
        for row, event in written:
            match event:
                case events.NudgeShown(nudge_id=nudge_id):
                    self._seen(product, name_in(row.stream), nudge_id)
                case events.NudgeClosed(session_id=session_id):
                    self._seen(product, session_id, name_in(row.stream))
                case events.TourStarted() as tour if row.source == GUIDE:
                    if (product, name_in(row.stream)) in self._guides:
                        self._spawn(self._started(product, row, tour))
                case _:
                    pass

    def _send(self, product: str, nudge: Nudge) -> int:
        """Send an open offer to the newest stream of its session, unless it is on a screen already."""
        session_id, nudge_id, now = nudge.session_id, nudge.nudge_id, self._service.clock.now()
        listed = [g for g in self._guides.get((product, session_id), ()) if not g.lost]
        if not listed or not nudge.unseen_at(now) or self.held(product, session_id, nudge_id):
            return 0
        user_id = nudge.user_id
        others = self._service.hub.of_user(product, user_id) if user_id is not None else []
        if any(nudge_id in other.holds and not other.lost for other in others):
            return 0
        guide = listed[-1]
        if not guide.send(frame("guidance_offer", nudges.guidance("guidance_offer", nudge), nudge.position)):
            return 0
        guide.holds.add(nudge_id)
        return 1

    def _seen(self, product: str, session_id: str, nudge_id: str) -> None:
        for guide in self._guides.get((product, session_id), ()):
            guide.holds.discard(nudge_id)

    async def _hand_over(self, product: str, nudge_id: str) -> None:
        nudge = await self._nudge(product, nudge_id)
        if nudge is not None and not self._send(product, nudge) and nudge.user_id is not None:
            await self._service.hand_over(product, nudge.user_id, frozenset((nudge_id,)))

    async def _started(self, product: str, row: Recorded, tour: events.TourStarted) -> None:
        told = await self._start(product, row, tour)
        for guide in self._guides.get((product, name_in(row.stream)), ()):
            guide.send(told)

    async def _missed(self, guide: Guide, last_event_id: int) -> None:
        """The start of the running tour, where it was told after that position."""
        async with self._service.ledger.reader() as conn:
            rows = await reader.read_stream(conn, guide.product, session_stream(guide.session_id))
        started = [r for r in rows if r.type == events.TourStarted.TYPE and r.source == GUIDE]
        if started and started[-1].position > last_event_id:
            tour = facts.fact(started[-1]).event
            assert isinstance(tour, events.TourStarted)
            guide.send(await self._start(guide.product, started[-1], tour))

    async def _start(self, product: str, row: Recorded, tour: events.TourStarted) -> bytes:
        kind, tour_id = "guidance_start", tour.registry_id or tour.tour_id
        nudge = await self._nudge(product, row.correlation_id) if row.correlation_id is not None else None
        if nudge is not None:
            told = nudges.guidance(kind, nudge, tour_id)
        else:
            told = _told(kind, name_in(row.stream), tour_id)
        return frame(kind, told | {"created_at": text(row.at)}, row.position)

    async def _nudge(self, product: str, nudge_id: str) -> Nudge | None:
        async with self._service.ledger.reader() as conn:
            return await nudges.of_id(conn, product, nudge_id)

    def _said(self, kind: str, guide: Guide) -> dict[str, Any]:
        return _told(kind, guide.session_id) | {"created_at": text(self._service.clock.now())}


def _told(kind: str, session_id: str, tour_id: str | None = None) -> dict[str, Any]:
    """A frame's data that is about no nudge."""
    nothing = dict.fromkeys(("message", "target", "tour_id", "reason", "created_at"))
    return {"type": kind, "session_id": session_id, **nothing, "tour_id": tour_id}
