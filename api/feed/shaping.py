"""From rows of the ledger to the objects that published clients read: actions, summaries, tour triggers.

What an object says is a function of the ledger as it stands when it is made: made twice, it is the same, but
for an e-mail or a conversation that was learnt in between, and for erased people, of whom it then says "".
A history that was filled in later is nobody's live activity and makes no object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from api.book import Recent
from api.feed.objects import SHAPED, Beside, Objects, correct, end, session_of, user_of
from domain import events
from domain.config import Config
from domain.envelope import Recorded
from eventstore import reader
from projections import facts
from projections.replaying.units import HISTORY
from projections.views import activity

log = structlog.get_logger()

REMEMBERED = 20_000  # streams and people kept in mind by one reader
_KNOWN = 3  # identifications kept of a person: the newest may lack the e-mail


class Frame(NamedTuple):
    """One object, as it is sent."""

    seq: int  # of the batch's last event: who has this frame has the batch
    position: int  # of the same event
    recorded_at: int
    last: bool  # of its batch
    session_id: str | None
    user_id: str | None
    body: bytes  # JSON


class Page(NamedTuple):
    """What a reader finds behind a place in a product's sequence."""

    frames: list[Frame]
    seq: int  # how far that is
    position: int
    recorded_at: int  # of the newest event of it
    more: bool  # perhaps there is more


class Shaper:
    """Makes frames of one product. It keeps in mind where each stream stands, so one serves one reader."""

    def __init__(self, product: str, config: Callable[[], Config]) -> None:
        self._product = product
        self._counted: Recent[tuple[int, int]] = Recent(REMEMBERED)  # stream: version, actions up to it
        self._people: Recent[tuple[Recorded, ...]] = Recent(REMEMBERED)  # user: newest identifications
        self._making = Objects(product, config)

    async def page(self, conn: AsyncConnection, after: int, limit: int = 2_000) -> Page | None:
        """The frames behind a sequence; None at the head. Batches are never cut in two."""
        rows = await reader.read_product(conn, self._product, after_seq=after, limit=limit)
        if not rows:
            return None
        more = len(rows) == limit
        if more:
            whole = [row for row in rows if row.batch_id != rows[-1].batch_id]
            rows = whole or rows
        frames = await self.frames(conn, rows)
        last = rows[-1]
        return Page(frames, last.product_seq, last.position, last.recorded_at, more)

    async def frames(self, conn: AsyncConnection, rows: Sequence[Recorded]) -> list[Frame]:
        """The frames of consecutive rows of the product, in the order of their batches."""
        told = [row for row in rows if not row.batch_id.startswith(HISTORY)]
        batches: dict[tuple[str, str], list[Recorded]] = {}
        for row in told:
            if row.stream.startswith(("session-", "user-")):
                batches.setdefault((row.batch_id, row.stream), []).append(row)
        wanted = [batch for batch in batches.values() if any(row.type in SHAPED for row in batch)]
        if not wanted:
            self._remember(rows)
            return []
        before = await self._numbers(conn, rows, (batch[0] for batch in wanted))
        self._remember(rows)  # who identified themselves in these rows is known from their first on
        beside = await self._beside(conn, [row for batch in wanted for row in batch])
        made: list[Frame] = []
        for batch in wanted:
            try:
                objects = self._making.of_batch(batch, before[batch[0].stream, batch[0].version], beside)
            except Exception as error:  # whatever it is, it costs this batch's frames alone
                log.error("frame_failed", position=batch[0].position, error=type(error).__name__)
                continue
            made += _framed(batch, objects)
        return made

    async def actions(self, conn: AsyncConnection, rows: Sequence[Recorded]) -> list[dict[str, Any]]:
        """Single actions, as frames hold them, the earliest first; `rows` hold every action of each of their
        streams from the first that they hold, and corrections of labels."""
        acted = [row for row in rows if row.type == events.Action.TYPE]
        before = await self._numbers(conn, acted, acted)
        beside = await self._beside(conn, acted)
        made = {
            row.event_id: self._making.action(row, before[row.stream, row.version], beside) for row in acted
        }
        for row in rows:
            if row.type == events.ActionRelabelled.TYPE:
                correction = facts.fact(row).event
                assert isinstance(correction, events.ActionRelabelled)
                if correction.action_id in made:
                    correct(made[correction.action_id], correction)
        listed = sorted(made.values(), key=lambda action: action["timestamp_start"])
        end(listed)
        return listed

    # --- what stands beside the rows -------------------------------------------------------------

    async def _numbers(
        self, conn: AsyncConnection, rows: Sequence[Recorded], wanted: Iterable[Recorded]
    ) -> dict[tuple[str, int], int]:
        """By stream and version, how many actions stand before each row of the streams that are wanted."""
        first: dict[str, int] = {}
        streams = {row.stream for row in wanted}
        for row in rows:
            if row.stream in streams:
                first.setdefault(row.stream, row.version)
        lacking: dict[str, int] = {}
        running: dict[str, int] = {}
        for stream, version in first.items():
            counted = self._counted.get(stream)
            if version == 1:
                running[stream] = 0
            elif counted is not None and counted[0] == version - 1:
                running[stream] = counted[1]
            else:
                lacking[stream] = version
        running |= await activity.actions_before(conn, self._product, lacking)
        before: dict[tuple[str, int], int] = {}
        for row in rows:
            if row.stream in streams:
                before[row.stream, row.version] = running[row.stream]
                running[row.stream] += row.type == events.Action.TYPE
                self._counted.put(row.stream, (row.version, running[row.stream]))
        return before

    async def _beside(self, conn: AsyncConnection, rows: Sequence[Recorded]) -> Beside:
        sessions = dict.fromkeys(session_id for row in rows if (session_id := session_of(row)))
        standings = await activity.standings(conn, self._product, list(sessions))
        users = {user for row in rows if (user := user_of(row))}
        users |= {standing.user_id for standing in standings.values() if standing.user_id}
        unknown = {user for user in users if user not in self._people}
        for user, found in (await activity.identifications(conn, self._product, unknown)).items():
            self._people.put(user, tuple(found[:_KNOWN]))
        people = {user: self._people.get(user) or () for user in users}
        sealed = [*rows, *(row for known in people.values() for row in known)]
        return Beside(standings, people, await facts.keys_of(conn, sealed))

    def _remember(self, rows: Iterable[Recorded]) -> None:
        """What later pages stand on: versions of streams that moved, and who people say they are."""
        for row in rows:
            counted = self._counted.get(row.stream)
            if counted is not None and row.version == counted[0] + 1:
                self._counted.put(row.stream, (row.version, counted[1] + (row.type == events.Action.TYPE)))
            user = user_of(row) if row.type == events.UserIdentified.TYPE else None
            if user is not None and user in self._people:
                known = self._people.get(user) or ()
                if all(row.event_id != other.event_id for other in known):
                    self._people.put(user, (row, *known)[:_KNOWN])


def _framed(batch: Sequence[Recorded], objects: Sequence[Mapping[str, Any]]) -> list[Frame]:
    last = batch[-1]
    return [
        Frame(
            last.product_seq,
            last.position,
            last.recorded_at,
            number == len(objects),
            session_of(last),
            user_of(last) or made.get("user_id"),
            orjson.dumps(made),
        )
        for number, made in enumerate(objects, 1)
    ]
