"""Where a client goes on that names no place from which to, and comes back within a minute.

Published stream clients send no id of what they had. So each is known by its face (address, credentials,
filters; a hash), and what it had is noted when its connection ends. Every second what the open ones have had
is written to the ledger, a checkpoint a face: for the next process, a client of this one is a client that has
just left. A stop writes where each was left; behind a crash the note is one to two seconds old, so what
was told in between is told again. Lost is only what a reader left untaken in its connection for that long.

Of several clients with one face nobody can say which of them comes: each gets what the furthest behind lacks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from api.clock import Clock
from api.feed.listening import Listener
from domain.errors import NudgeledgerError
from domain.instants import SECOND
from eventstore import subscription
from eventstore.engine import Ledger
from projections.views import activity

log = structlog.get_logger()

RETURN = 60 * SECOND  # within which a client that comes back is known
MOST_LEFT = 2_000  # faces that are expected back
EVERY_S = 1.0  # between two notes in the ledger
OLDEST = 600 * SECOND  # what was recorded before is nobody's live activity any more
_COUNT = 10  # bits of a note that say how many clients have the face
_MOST = (1 << _COUNT) - 1


class Place(NamedTuple):
    """What the clients of one face have had."""

    seq: int  # the furthest behind of them
    clients: int

    def note(self) -> int:
        return self.seq << _COUNT | min(self.clients, _MOST)

    @staticmethod
    def of(note: int) -> Place:
        return Place(note >> _COUNT, note & _MOST)


class Returning:
    def __init__(self, ledger: Ledger, clock: Clock, mark: str) -> None:
        self._ledger, self._clock, self._mark = ledger, clock, mark
        self._open: set[Listener] = set()
        self._left: dict[str, list[tuple[int, int]]] = {}  # name: (until, sequence) of each that left
        self._noted: dict[str, int] = {}  # what the ledger holds
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Whom an earlier process of this address served is expected back."""
        until = self._clock.now() + RETURN
        async with self._ledger.reader() as conn:
            self._noted = await subscription.checkpoints(conn, self._mark)
            oldest: dict[str, int] = {}
            for name, note in self._noted.items():
                product = name.removeprefix(self._mark).rpartition(":")[0]
                if product not in oldest:
                    oldest[product] = await activity.newest_seq(
                        conn, product, before=self._clock.now() - OLDEST
                    )
                seq, clients = Place.of(note)
                self._left[name] = [(until, max(seq, oldest[product]))] * clients
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """After the streams ended: write where each was left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            with contextlib.suppress(NudgeledgerError):
                await self._note({name: place.note() for name, place in self._places().items()}, whole=True)

    def begins(self, listener: Listener) -> int | None:
        """The sequence behind which a client goes on; None: nobody like it is expected back."""
        name, now = self._name(listener), self._clock.now()
        known = [] if name is None else [left for left in self._left.pop(name, []) if left[0] > now]
        if name is None or not known:
            return None
        seqs = sorted(seq for _, seq in known)
        if seqs[1:]:  # the others may be those that are further behind
            self._left[name] = [(max(known)[0], seq) for seq in seqs[:-1]]
        return seqs[0]

    async def opened(self, listener: Listener) -> None:
        """A client listens, and the ledger knows its face. Raises Unavailable."""
        name = self._name(listener)
        if name is None:
            return
        self._open.add(listener)
        if name not in self._noted:
            await self._note({name: Place(listener.served(), 1).note()})

    def closed(self, listener: Listener) -> None:
        name = self._name(listener)
        if name is None:
            return
        self._open.discard(listener)
        self._left.setdefault(name, []).append((self._clock.now() + RETURN, listener.served()))
        while len(self._left) > MOST_LEFT:
            del self._left[next(iter(self._left))]

    def _name(self, listener: Listener) -> str | None:
        """Of the client's checkpoint; None for one that resumes by ids of its own."""
        if not listener.face or listener.ids:
            return None
        return f"{self._mark}{listener.product}:{listener.face}"

    def _places(self) -> dict[str, Place]:
        """What each face that is here, or expected back, has had."""
        now = self._clock.now()
        self._left = {
            name: kept for name, left in self._left.items() if (kept := [x for x in left if x[0] > now])
        }
        listed = [(name, seq) for name, left in self._left.items() for _, seq in left]
        listed += [(name, open_.served()) for open_ in self._open if (name := self._name(open_)) is not None]
        return _places(listed)

    async def _keep(self) -> None:
        before = self._places()
        failing = False
        while True:
            await asyncio.sleep(EVERY_S)
            places = self._places()
            surely = {
                name: Place(min(place.seq, before.get(name, place).seq), place.clients).note()
                for name, place in places.items()
            }
            try:
                await self._note(surely, whole=True)
                failing = False
            except NudgeledgerError as error:
                if not failing:
                    log.warning("feed_cannot_note", error=str(error))
                failing = True
            before = places

    async def _note(self, notes: Mapping[str, int], *, whole: bool = False) -> None:
        """Write notes to the ledger; `whole`: others are taken out of it. Raises Unavailable."""
        async with self._writing:
            changed = [name for name, note in notes.items() if self._noted.get(name) != note]
            gone = [name for name in self._noted if whole and name not in notes]
            if changed or gone:
                async with self._ledger.transaction() as conn:
                    for name in changed:
                        await subscription.save_checkpoint(conn, name, notes[name])
                    for name in gone:
                        await subscription.drop_checkpoint(conn, name)
            kept = {} if whole else self._noted
            self._noted = {**kept, **notes}


def _places(listed: Iterable[tuple[str, int]]) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for name, seq in listed:
        known = found.get(name, Place(seq, 0))
        found[name] = Place(min(known.seq, seq), known.clients + 1)
    return found
