"""A stretch of one product's ledger as a backtest reads it: its bounds, its batches, the states before it.

Everything is read up to a position that is fixed when the window is, so reading it again gives the same,
whatever was recorded meanwhile. Nothing is held but the page at hand.
"""

# ruff: noqa: S608 (built from constants: no value ever becomes part of a statement)

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain import events
from domain.envelope import ENGINE, OUTSIDE, Recorded, name_in, session_stream, user_stream
from domain.instants import DAY
from domain.session import SessionState
from domain.user import UserState
from eventstore import reader, statements
from eventstore.statements import COLUMNS
from projections import facts, tables
from projections.backtesting.simulation import Answer, Batch, Correction, Step

PAGE = 2_000  # rows
CORRECTION, ANSWER = events.ActionRelabelled.TYPE, events.JudgeAnswered.TYPE
_AFTERWARDS = ("goal_reached", "nudge_shown")  # what counts past the window's end


class Window(NamedTuple):
    """Which part of a product's sequence a backtest is about. Sequence numbers, each the last of its part."""

    product: str
    start: int  # µs, the first instant that belongs to it
    end: int  # µs, the last one
    idle: int  # before the day that precedes it: sessions that did nothing since are left as they are
    before: int  # of what is history
    last: int  # of the window
    known: int  # nothing beyond this is read: goals and showings that came afterwards
    from_position: int  # of the first and the last event in it; 0 both where there is none
    to_position: int
    known_position: int


class Told(NamedTuple):
    """A recorded outside event as it came, without what the service added when it recorded it."""

    event_id: str
    event: events.Outside
    user_id: str | None
    occurred_at: int


class Before(NamedTuple):
    """States as of the instant at which the window begins."""

    sessions: list[SessionState]
    users: list[UserState]


async def locate(conn: AsyncConnection, product: str, start: int, end: int) -> Window:
    """The window of [start, end] as the ledger holds it now."""
    newest = await statements.fetch(
        conn, "SELECT coalesce(max(product_seq), 0) FROM events WHERE product = $1", product
    )
    head = int(newest[0][0])
    idle = await _last_by(conn, product, start - DAY - 1, head)
    before = await _last_by(conn, product, start - 1, head)
    last = await _last_by(conn, product, end, head)
    known = await _last_by(conn, product, end + tables.ATTRIBUTION, head)
    places = [await _place(conn, product, seq) for seq in (before + 1, last, known)]
    positions = [0, 0] if last <= before else [position for _, position in places[:2]]
    return Window(product, start, end, idle, before, last, known, positions[0], positions[1], places[2][1])


async def _last_by(conn: AsyncConnection, product: str, at: int, head: int) -> int:
    """The last sequence number recorded at or before `at`; 0: none. Recording goes forward in time."""
    low, high = 0, head
    while low < high:
        middle = (low + high + 1) // 2
        recorded_at, _ = await _place(conn, product, middle)
        low, high = (middle, high) if recorded_at <= at else (low, middle - 1)
    return low


async def _place(conn: AsyncConnection, product: str, seq: int) -> tuple[int, int]:
    """(recorded_at, position) of a sequence number; zeros where there is none."""
    rows = await statements.fetch(
        conn,
        "SELECT recorded_at, position FROM events WHERE product = $1 AND product_seq = $2::bigint",
        product,
        seq,
    )
    return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)


async def page(conn: AsyncConnection, window: Window, after: int) -> list[Recorded]:
    """The window's rows after a sequence number, a page of them; empty at its end."""
    if after >= window.last:
        return []
    limit = min(PAGE, window.last - after)
    return await reader.read_product(conn, window.product, after_seq=after, limit=limit)


async def page_afterwards(conn: AsyncConnection, window: Window, after: int) -> list[Recorded]:
    """Goals and showings past the window's end, a page of them."""
    rows = await statements.fetch(
        conn,
        f"SELECT {COLUMNS} FROM events WHERE product = $1 AND product_seq > $2::bigint "
        "AND product_seq <= $3::bigint AND type IN ($4, $5) ORDER BY product_seq LIMIT $6::bigint",
        window.product,
        after,
        window.known,
        *_AFTERWARDS,
        PAGE,
    )
    return [Recorded._make(row) for row in rows]


async def active_before(conn: AsyncConnection, window: Window) -> list[str]:
    """The session streams with an outside event in the day before the window, in byte order."""
    rows = await statements.fetch(
        conn,
        "SELECT DISTINCT stream FROM events WHERE product = $1 AND product_seq > $2::bigint "
        "AND product_seq <= $3::bigint AND origin = $4 AND substr(stream, 1, 8) = 'session-' "
        "ORDER BY stream",  # not a range of streams: an index over them would be read whole
        window.product,
        window.idle,
        window.before,
        OUTSIDE,
    )
    return [row[0] for row in rows]


async def states_before(
    conn: AsyncConnection, window: Window, streams: Iterable[str], *, personal: bool
) -> Before:
    """These streams folded as of the window's begin; one without events then is a state of nothing.

    `personal`: with the fields that rules over properties read.
    """
    wanted = list(dict.fromkeys(streams))
    streams_before = [(window.product, stream) for stream in wanted]
    told = await reader.read_streams(conn, streams_before, before=window.start)
    rows = [row for own in told.values() for row in own]
    data_keys = await facts.keys_of(conn, rows) if personal else None
    found = Before([], [])
    for (_, stream), listed in told.items():
        own = [row for row in listed if row.product_seq <= window.known]
        kind, _, name = stream.partition("-")
        if kind == "session":
            found.sessions.append(facts.folded_session(SessionState(name), own, data_keys)[0])
        else:
            found.users.append(facts.folded_user(UserState(name), own)[0])
    return found


async def offered_before(conn: AsyncConnection, window: Window, nudge_ids: Iterable[str]) -> set[str]:
    """Those of the nudges that were really offered before the window."""
    rows = await reader.find_ids(conn, window.product, ENGINE, sorted(set(nudge_ids)))
    return {row.event_id for row in rows.values() if row.at < window.start}


class Batcher:
    """Puts the rows of a window together to the batches in which they were recorded.

    `mine` says which streams are wanted. Where a server's clock was behind another's, a batch counts as of
    the newest instant before it: virtual time does not go back.
    """

    def __init__(self, window: Window, mine: Callable[[str], bool]) -> None:
        self._window, self._mine = window, mine
        self._now = 0
        self._open: tuple[str, str] | None = None  # batch and stream of what is being put together
        self._at = 0
        self._events: list[Told] = []

    def wants(self, row: Recorded) -> bool:
        """Whether the row is part of the simulation's input."""
        if row.origin != OUTSIDE and row.type not in (CORRECTION, ANSWER):
            return False
        return self._window.start <= row.at <= self._window.end and self._mine(row.stream)

    def take(self, rows: Sequence[Recorded], data_keys: Mapping[str, bytes] | None) -> list[Step]:
        """What these rows complete; the newest batch stays open, it may go on in the next page."""
        done: list[Step] = []
        for row in rows:
            if row.origin == OUTSIDE and row.at <= self._window.end:
                self._now = max(self._now, row.at)
            if not self.wants(row):
                continue
            if row.origin != OUTSIDE:
                self._now = max(self._now, row.at)
            if (row.batch_id, row.stream) != self._open:
                done += self.rest()
            if row.type == CORRECTION:
                done.append(_correction(row, self._now, data_keys))
                continue
            if row.type == ANSWER:
                done.append(_answer(row, self._now))
                continue
            self._open, self._at = (row.batch_id, row.stream), self._now
            self._events.append(told(row, data_keys))
        return done

    def rest(self) -> list[Step]:
        """The batch that was open."""
        if self._open is None:
            return []
        kind, _, name = self._open[1].partition("-")
        is_session = kind == "session"
        batch = Batch(self._at, name if is_session else None, None if is_session else name, self._events)
        self._open, self._events = None, []
        return [batch]


def told(row: Recorded, data_keys: Mapping[str, bytes] | None) -> Told:
    """A row as an outside event. What was added when it was recorded is resolved anew where it is again."""
    fact = facts.fact(row, data_keys)
    assert isinstance(fact.event, events.Outside)
    return Told(fact.event_id, fact.event, fact.user_id, fact.occurred_at)


def _correction(row: Recorded, at: int, data_keys: Mapping[str, bytes] | None) -> Correction:
    event = facts.fact(row, data_keys).event
    assert isinstance(event, events.ActionRelabelled)
    return Correction(at, name_in(row.stream), row.event_id, event)


def _answer(row: Recorded, at: int) -> Answer:
    event = facts.fact(row).event
    assert isinstance(event, events.JudgeAnswered)
    return Answer(at, name_in(row.stream), event)


def streams_of(steps: Iterable[Step]) -> dict[str, None]:
    """The streams whose states the steps will ask for, as far as can be seen from them."""
    found: dict[str, None] = {}
    for step in steps:
        if step.session_id is not None:
            found[session_stream(step.session_id)] = None
        if not isinstance(step, Batch):
            continue
        for incoming in step.events:
            names = [incoming.user_id or step.user_id]
            if isinstance(incoming.event, events.UserIdentified):
                names.append(incoming.event.previous_id)
            found.update({user_stream(name): None for name in names if name})
    return found
