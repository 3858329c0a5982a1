"""Who watches a product live, and what each watcher is sent: decisions as they fall, sessions as they move.

Every decision is sent once, in the order of the ledger, and can be resumed from the last one that came. Of a
session only the newest is told, a few times a second: under load a watcher sees each session less often, and
the thousand that moved last. While nobody watches a product, nothing is made for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from api.hub import Outlet, frame
from api.recorder import Recorder
from api.settings import Settings
from domain import events
from domain.errors import NudgeledgerError
from domain.instants import text
from domain.run import Live
from domain.session import SessionState
from projections import inline
from projections.inline import Written
from projections.views import recent

log = structlog.get_logger()

QUEUE = 2_000  # frames a watcher may be behind; a slower one is cut off and comes back with its last id
RESUMED = 500  # decisions one connection is sent of what it missed; it comes back for the rest
TELL_S = 0.25  # between two tellings of sessions that moved
MOVED = 1_000  # sessions of one telling


@dataclass(eq=False, slots=True)
class Watcher(Outlet):
    """One open stream."""

    product: str
    frames: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    position: int = 0  # of the newest decision sent
    held: list[tuple[int, bytes]] | None = None  # while it resumes: decisions that fell meanwhile
    lost: bool = False

    def decided(self, position: int, told: bytes) -> None:
        """Send a decision, unless it was sent already; after what is still being resumed."""
        if self.held is None:
            if position > self.position and self.send(told):
                self.position = position
        elif len(self.held) < QUEUE:
            self.held.append((position, told))
        else:
            self.send_end()

    def finish(self) -> None:
        """End the stream behind what waits in it."""
        self.send(None)
        self.lost = True

    def release(self) -> None:
        """What was resumed is sent: go on with what fell meanwhile."""
        held, self.held = self.held or [], None
        for position, told in held:
            self.decided(position, told)


class Watching:
    """The watchers of all products. `spawn` runs work in the background, until the service stops."""

    def __init__(
        self,
        recorder: Recorder,
        settings: Settings,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.settings = settings
        self._recorder, self._spawn = recorder, spawn
        self._watchers: dict[str, list[Watcher]] = {}
        self._moved: dict[tuple[str, str], SessionState | None] = {}  # None: another process moved it
        self._telling = False
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._watchers.values()))

    # --- watchers come and go --------------------------------------------------------------------

    async def listen(self, watcher: Watcher, last_event_id: int | None) -> None:
        """Join; whoever names the last decision that came is sent what it missed first."""
        if self._closed:
            watcher.send_end()
            return
        self._watchers.setdefault(watcher.product, []).append(watcher)
        if last_event_id is None:
            return
        watcher.held = []
        async with self._recorder.ledger.reader() as conn:
            rows = await recent.decisions(conn, watcher.product, last_event_id, RESUMED)
        for row in rows:
            watcher.send(_decision(row))
            watcher.position = row["position"]
        if len(rows) < RESUMED:
            watcher.release()
        else:
            watcher.finish()

    def leave(self, watcher: Watcher) -> None:
        listed = self._watchers.get(watcher.product, [])
        if watcher in listed:
            listed.remove(watcher)
        if not listed:
            self._watchers.pop(watcher.product, None)

    def close(self) -> None:
        """End every stream; clients come back by themselves."""
        self._closed = True
        for listed in self._watchers.values():
            for watcher in listed:
                watcher.send_end()

    # --- what happens ----------------------------------------------------------------------------

    def written(self, product: str, written: Sequence[Written]) -> None:
        """Events are stored, here or by another process: send the decisions among them."""
        watchers = self._watchers.get(product)
        if not watchers:
            return
        for item in written:
            if isinstance(item.event, (events.NudgeOffered, events.NudgeWithheld)):
                told = _decision(inline.decision_row(item))
                for watcher in watchers:
                    watcher.decided(item.row.position, told)

    def moved(self, product: str, sessions: Mapping[str, Live | None]) -> None:
        """Stored events moved these sessions; None: in another process, the state is not known here."""
        if product not in self._watchers:
            return
        for session_id, live in sessions.items():
            key = (product, session_id)
            self._moved.pop(key, None)  # the newest stand last
            self._moved[key] = live.state if live is not None else None
        while len(self._moved) > MOVED:
            del self._moved[next(iter(self._moved))]
        if self._moved and not self._telling:
            self._telling = True
            self._spawn(self._tell())

    async def _tell(self) -> None:
        try:
            while self._moved:
                moved, self._moved = self._moved, {}
                for (product, session_id), state in moved.items():
                    await self._tell_one(product, session_id, state)
                await asyncio.sleep(TELL_S)
        finally:
            self._telling = False

    async def _tell_one(self, product: str, session_id: str, state: SessionState | None) -> None:
        if state is None and product in self._watchers:
            try:
                state = (await self._recorder.session(product, session_id)).state
            except NudgeledgerError as error:
                log.warning("session_not_told", error=str(error))
        watchers = self._watchers.get(product)
        if watchers and state is not None:
            told = _session(state)
            for watcher in watchers:
                watcher.send(told)


def _decision(row: Mapping[str, Any]) -> bytes:
    return frame("decision", inline.decision_json(row), row["position"])


def _session(state: SessionState) -> bytes:
    data = {
        "session_id": state.session_id,
        "user_id": state.user_id,
        "version": state.version,
        "at": text(state.at),
        "current_state": state.state_at(state.at),
    }
    return frame("session", data)
