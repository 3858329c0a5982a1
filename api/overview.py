"""What people look at: products, sessions, a session's timeline, figures of triggers. Without HTTP.

Reads only; nothing here takes a session into the recorder's cache, so that browsing old sessions pushes no
busy one out of it. Raises the errors of `domain.errors`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from api.service import Service
from domain.envelope import nudge_stream, session_stream
from domain.errors import Fault, InvalidInput, NotFound
from domain.instants import DAY, SECOND, optional_text, text
from domain.session import SessionState
from eventstore import reader
from projections import configs, lookups
from projections.views import figures, recent, timeline
from projections.views.recent import Place, Query

SPAN = 7 * DAY  # of figures, where nobody says from when
MOST_BUCKETS = 1_000
FOLDED_AT_ONCE = 5  # sessions: others wait meanwhile


async def products(service: Service) -> dict[str, Any]:
    """Every product, by id, with the config in force."""
    async with service.ledger.reader() as conn:
        known = await lookups.products(conn)
    listed = []
    for product in known:
        current = (await service.recorder.book(product)).state.current
        revision = current.revision if current is not None else None
        listed.append({"product_id": product, "config_revision": revision})
    return {"products": listed}


# --- sessions ----------------------------------------------------------------------------------------


async def sessions(service: Service, product: str, query: Query) -> dict[str, Any]:
    """A page of sessions, as they are now, newest outside event first."""
    await service.product(product)
    now = service.clock.now()
    listed: list[dict[str, Any]] = []
    while True:
        async with service.ledger.reader() as conn:
            places = await recent.sessions(conn, product, query, now)
        for place, row in zip(places, await _rows(service, product, places, now), strict=True):
            if query.state in (None, row["current_state"]):
                listed.append(row)
                if len(listed) == query.limit:
                    return {"sessions": listed, "next": cursor(place)}
        if len(places) < query.limit:
            return {"sessions": listed, "next": None}
        query = query._replace(after=places[-1])


async def _rows(service: Service, product: str, places: Sequence[Place], now: int) -> list[dict[str, Any]]:
    states = await _states(service, product, [place.session_id for place in places])
    offers = {offer.nudge_id for state in states if (offer := state.open_offer(now)) is not None}
    async with service.ledger.reader() as conn:
        closed = await recent.closed(conn, product, offers, now)
    return [_row(state, place, closed, now) for state, place in zip(states, places, strict=True)]


async def _states(service: Service, product: str, session_ids: Sequence[str]) -> list[SessionState]:
    """Each session as folded up to now: from the cache, and for the others from their streams."""
    book = await service.recorder.book(product)
    cached = {name: live.state for name in session_ids if (live := book.sessions.get(name)) is not None}
    lacking = [session_stream(name) for name in session_ids if name not in cached]
    for start in range(0, len(lacking), FOLDED_AT_ONCE):
        async with service.ledger.reader() as conn:
            loaded = await book.read(conn, lacking[start : start + FOLDED_AT_ONCE])
        cached |= {state.session_id: state for state in loaded.sessions}
    return [cached[name] for name in session_ids]


def _row(state: SessionState, place: Place, closed: set[str], now: int) -> dict[str, Any]:
    ticked, offer = state.tick(now), state.open_offer(now)
    cooling = ticked.cooldown_active(now)
    return {
        "session_id": state.session_id,
        "user_id": state.user_id,
        "version": state.version,
        "last_event_at": text(place.last_event_at),
        "current_state": ticked.current_state,
        "cooldown_until": text(ticked.cooldown_until) if cooling else None,
        "open_nudge_id": offer.nudge_id if offer is not None and offer.nudge_id not in closed else None,
        "active_tour_id": ticked.active_tour_id if ticked.tour_running(now) else None,
        "timeout_due_at": optional_text(ticked.timeout_due),
    }


def cursor(place: Place) -> str:
    """`place` as the opaque text that the next page is asked with."""
    return base64.urlsafe_b64encode(orjson.dumps(list(place))).decode().rstrip("=")


def place_of(given: str) -> Place:
    """The place that `cursor` made. Raises InvalidInput for any other text."""
    try:
        plain = orjson.loads(base64.b64decode(given + "=" * (-len(given) % 4), b"-_", validate=True))
        match plain:
            case [int() as last_event_at, str() as session_id] if 0 <= last_event_at < 2**53:
                return Place(last_event_at, session_id)
    except (binascii.Error, ValueError):
        pass
    raise InvalidInput([Fault("after", "must be `next` of the page before")])


# --- one session -------------------------------------------------------------------------------------


async def session_timeline(service: Service, product: str, session_id: str, limit: int) -> dict[str, Any]:
    """The whole session: every span of it, and its newest `limit` entries. Raises NotFound."""
    book = await service.product(product)
    async with service.ledger.reader() as conn:
        rows = await reader.read_stream(conn, product, session_stream(session_id))
        if not rows:
            raise NotFound(f"no session {session_id!r} in product {product!r}")
        nudges = [(product, nudge_stream(nudge_id)) for nudge_id in timeline.offered(rows)]
        beside = [row for listed in (await reader.read_streams(conn, nudges)).values() for row in listed]
    names, now = partial(configs.trigger_names, book.state), service.clock.now()
    return timeline.of(session_id, rows, beside, now, names=names, limit=limit).as_json()


# --- triggers ----------------------------------------------------------------------------------------


async def triggers(
    service: Service, product: str, start: int | None, end: int | None, bucket: int | None
) -> dict[str, Any]:
    """What each trigger did from `start` to `end`, in buckets of that length; in µs, None: the default."""
    book = await service.product(product)
    end = service.clock.now() if end is None else end
    start = max(0, end - SPAN) if start is None else start
    if start >= end:
        raise InvalidInput([Fault("from", "must be before `to`")])
    bucket = figures.bucket_of(start, end) if bucket is None else bucket
    if (end - start) // bucket >= MOST_BUCKETS:
        shortest = -(-(end - start) // (MOST_BUCKETS * SECOND))
        raise InvalidInput([Fault("bucket_s", f"more than {MOST_BUCKETS} buckets: at least {shortest} s")])
    window = figures.Window(start, end, bucket)
    async with service.ledger.reader() as conn:
        tallies = await figures.read(conn, product, window)
    in_force = [trigger.id for trigger in book.rules.config.triggers]
    names = configs.trigger_names(book.state, {*in_force, *tallies})
    return figures.as_json(window, tallies, in_force, names)
