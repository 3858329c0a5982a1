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
from domain import events
from domain.config import Config
from domain.envelope import Recorded, name_in
from domain.instants import SECOND
from eventstore import reader
from projections import facts
from projections.replaying.units import HISTORY
from projections.views import activity
from projections.views.activity import Standing

log = structlog.get_logger()

REMEMBERED = 20_000  # streams and people kept in mind by one reader
AGAIN = 30 * SECOND  # a tour that was to start is not to start again within this
_KNOWN = 3  # identifications kept of a person: the newest may lack the e-mail

Keys = Mapping[str, bytes]


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
        self._product, self._config = product, config
        self._counted: Recent[tuple[int, int]] = Recent(REMEMBERED)  # stream: version, actions up to it
        self._people: Recent[tuple[Recorded, ...]] = Recent(REMEMBERED)  # user: newest identifications
        self._started: Recent[int] = Recent(1_000)  # session and flow: when it was to start

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
        wanted = [batch for batch in batches.values() if any(row.type in _SHAPED for row in batch)]
        if not wanted:
            self._remember(rows)
            return []
        before = await self._numbers(conn, rows, (batch[0] for batch in wanted))
        self._remember(rows)  # who identified themselves in these rows is known from their first on
        beside = await self._beside(conn, [row for batch in wanted for row in batch])
        made: list[Frame] = []
        for batch in wanted:
            try:
                objects = self._objects(batch, before[batch[0].stream, batch[0].version], beside)
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
        made = {row.event_id: self._action(row, before[row.stream, row.version], beside) for row in acted}
        for row in rows:
            if row.type == events.ActionRelabelled.TYPE:
                correction = facts.fact(row).event
                assert isinstance(correction, events.ActionRelabelled)
                if correction.action_id in made:
                    _correct(made[correction.action_id], correction)
        listed = sorted(made.values(), key=lambda action: action["timestamp_start"])
        _end(listed)
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

    async def _beside(self, conn: AsyncConnection, rows: Sequence[Recorded]) -> _Beside:
        sessions = dict.fromkeys(session_id for row in rows if (session_id := _session(row)))
        standings = await activity.standings(conn, self._product, list(sessions))
        users = {user for row in rows if (user := _user(row))}
        users |= {standing.user_id for standing in standings.values() if standing.user_id}
        unknown = {user for user in users if user not in self._people}
        for user, found in (await activity.identifications(conn, self._product, unknown)).items():
            self._people.put(user, tuple(found[:_KNOWN]))
        people = {user: self._people.get(user) or () for user in users}
        sealed = [*rows, *(row for known in people.values() for row in known)]
        return _Beside(standings, people, await facts.keys_of(conn, sealed))

    def _remember(self, rows: Iterable[Recorded]) -> None:
        """What later pages stand on: versions of streams that moved, and who people say they are."""
        for row in rows:
            counted = self._counted.get(row.stream)
            if counted is not None and row.version == counted[0] + 1:
                self._counted.put(row.stream, (row.version, counted[1] + (row.type == events.Action.TYPE)))
            user = _user(row) if row.type == events.UserIdentified.TYPE else None
            if user is not None and user in self._people:
                known = self._people.get(user) or ()
                if all(row.event_id != other.event_id for other in known):
                    self._people.put(user, (row, *known)[:_KNOWN])

    # --- objects ---------------------------------------------------------------------------------

    def _objects(self, batch: Sequence[Recorded], index: int, beside: _Beside) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        actions: list[dict[str, Any]] = []
        for row in batch:
            if row.type == events.Action.TYPE:
                actions.append(self._action(row, index + len(actions), beside))
        if actions:
            _end(actions)
            made.append(self._actions(batch, actions))
        started: list[dict[str, Any]] = []
        for row in batch:
            if row.type == events.SummaryGenerated.TYPE:
                made.append(self._summary(row, beside))
            elif row.type in _STARTING:
                started += self._started_tour(row)
        return made + started

    def _action(self, row: Recorded, index: int, beside: _Beside) -> dict[str, Any]:
        clear = orjson.loads(row.data)
        personal = facts.personal_of(row, beside.keys) or {}
        standing = beside.of(row)
        user_id = clear.get("user_id") or standing.user_id
        start = row.occurred_at / SECOND
        end = clear.get("timestamp_end")
        return {
            "index": index,
            "type": clear["type"],
            "title": clear["title"],
            "description": clear.get("description") or clear["title"],
            "timestamp_start": start,
            "timestamp_end": end / SECOND if end is not None else None,
            "raw_url": personal.get("raw_url") or "",
            "canonical_url": clear.get("canonical_url") or "",
            "session_id": _session(row),
            "user_id": user_id,
            "email": beside.email(user_id),
            "conversation_id": standing.conversation_id,
        }

    def _actions(self, batch: Sequence[Recorded], actions: list[dict[str, Any]]) -> dict[str, Any]:
        last = actions[-1]
        return {
            "type": "actions",
            "product_id": self._product,
            "session_id": last["session_id"],
            "user_id": last["user_id"],
            "email": last["email"],
            "conversation_id": last["conversation_id"],
            "count": len(actions),
            "forwarded_at": batch[-1].recorded_at / SECOND,
            "actions": actions,
        }

    def _summary(self, row: Recorded, beside: _Beside) -> dict[str, Any]:
        clear = orjson.loads(row.data)
        personal = facts.personal_of(row, beside.keys) or {}
        return {
            "type": "summary",
            "product_id": self._product,
            "session_id": _session(row),
            "summary": personal.get("text") or "",
            "replaces": clear["replaces"],
            "forwarded_at": row.recorded_at / SECOND,
        }

    def _started_tour(self, row: Recorded) -> list[dict[str, Any]]:
        """The tour that is to start in the page, by its provider's flow; at most one."""
        flow, session_id = self._flow(row), _session(row)
        if flow is None or session_id is None:
            return []
        key = f"{session_id}\0{flow}"
        before = self._started.get(key)
        if before is not None and row.recorded_at - before < AGAIN:
            return []
        self._started.put(key, row.recorded_at)
        return [
            {
                "type": "usertour_trigger",
                "product_id": self._product,
                "flow_id": flow,
                "session_id": session_id,
            }
        ]

    def _flow(self, row: Recorded) -> str | None:
        clear, config = orjson.loads(row.data), self._config()
        if row.type == events.TourStarted.TYPE:
            if row.source == "usertour":  # the provider's own word that it has started already
                return None
            tour = config.tour(clear.get("registry_id") or clear["tour_id"])
            return tour.user_tour_id if tour is not None else None
        chosen = (o for t in config.triggers for o in t.options if o.id == clear["option_id"])
        return next((o.user_tour_id for o in chosen if o.user_tour_exists and o.user_tour_id), None)


class _Beside(NamedTuple):
    standings: Mapping[str, Standing]
    people: Mapping[str, Sequence[Recorded]]
    keys: Keys

    def of(self, row: Recorded) -> Standing:
        session_id = _session(row)
        if session_id is None:
            return Standing(name_in(row.stream), None)
        return self.standings.get(session_id) or Standing(None, None)

    def email(self, user_id: str | None) -> str | None:
        """The newest that was said of the user; None where none was, "" where the user was erased."""
        erased = False
        for row in self.people.get(user_id, ()) if user_id is not None else ():
            personal = facts.personal_of(row, self.keys)
            erased = erased or (personal is None and row.sealed is not None)
            email = (personal or {}).get("email")
            if isinstance(email, str) and email:
                return email
        return "" if erased else None


_STARTING = frozenset((events.TourStarted.TYPE, events.OptionClicked.TYPE))
_SHAPED = _STARTING | {events.Action.TYPE, events.SummaryGenerated.TYPE}


def _framed(batch: Sequence[Recorded], objects: Sequence[Mapping[str, Any]]) -> list[Frame]:
    last = batch[-1]
    return [
        Frame(
            last.product_seq,
            last.position,
            last.recorded_at,
            number == len(objects),
            _session(last),
            _user(last) or made.get("user_id"),
            orjson.dumps(made),
        )
        for number, made in enumerate(objects, 1)
    ]


def _correct(action: dict[str, Any], correction: events.ActionRelabelled) -> None:
    for name in ("type", "title", "description", "canonical_url"):
        action[name] = getattr(correction, name) or action[name]


def _end(actions: Sequence[dict[str, Any]]) -> None:
    """An action that does not say when it ended lasted until the next one; the last one has no length."""
    following: float | None = None
    for action in reversed(actions):
        start: float = action["timestamp_start"]
        if action["timestamp_end"] is None:
            action["timestamp_end"] = start if following is None else max(start, following)
        following = start


def _session(row: Recorded) -> str | None:
    return name_in(row.stream) if row.stream.startswith("session-") else None


def _user(row: Recorded) -> str | None:
    found = orjson.loads(row.data).get("user_id")
    return found if isinstance(found, str) else None
