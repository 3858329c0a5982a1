"""Frames of every product: for who listens, and for who is pushed to. It reads the ledger, after the commit.

What other processes wrote comes the same way as our own. While nobody listens to a product and nothing of it
is pushed, nothing is read.

Published clients name no place from which to go on: they come back, and are known by their address,
credentials and filters for a while. So a connection that broke, or was cut off because its reader was too
slow, goes on where it was left. After a restart of this server, every connection of its first minute is first
given what was recorded since the streams ended, where somebody listened then; after a crash, since two
seconds before the last event, of which the client may have had the first part already: session and index say
which actions those are.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from api.directory import Directory
from api.feed import marks
from api.feed.listening import Listener, Tail
from api.feed.pushing import Pushing
from api.feed.shaping import Shaper
from api.recorder import Recorder
from api.settings import Settings
from domain.config import Config
from domain.errors import NudgeledgerError
from domain.instants import SECOND
from eventstore import subscription
from projections.views import activity

log = structlog.get_logger()

RETURN = 60 * SECOND  # within which a client that comes back is known, and a restart made good
OVERLAP = 2 * SECOND  # before the last event of a server that crashed: perhaps not sent any more
MOST_LEFT = 2_000  # clients that are expected back


class Feed:
    def __init__(self, recorder: Recorder, settings: Settings, directory: Directory) -> None:
        self.settings = settings
        self._recorder, self._clock = recorder, recorder.clock
        self._tails: dict[str, Tail] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._left: dict[tuple[str, ...], list[tuple[int, int]]] = {}  # face: (until, sequence), oldest first
        self._owed: dict[str, int] = {}  # product: sequence from which a restart is made good
        self._marked: set[str] = set()  # products of which the ledger knows that somebody listens
        self._born = 0
        self._closed = False
        self._sent = 0
        self._ended: dict[str, int] = {}  # product: position up to which listeners were told at the close
        self.pushing = Pushing(recorder, directory, self.shaper)

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """See what an earlier process owes its listeners; go on with what is pushed."""
        self._born = self._clock.now()
        async with self._recorder.ledger.reader() as conn:
            for name, position in (await subscription.checkpoints(conn, self._mark(""))).items():
                product = name.removeprefix(self._mark(""))
                if position:
                    self._owed[product] = await _owed(conn, product, position)
        await self.pushing.start()

    def close(self) -> None:
        """End every stream, each behind what waits in it; clients come back by themselves."""
        if self._closed:
            return
        self._closed = True
        for product, tail in self._tails.items():
            if tail.listeners or tail.joining:
                self._ended[product] = tail.position
            for listener in tail.listeners:
                listener.finish()
            for listener in tail.joining:
                listener.send_end()

    async def stop(self) -> None:
        self.close()
        await self.pushing.stop()
        with contextlib.suppress(NudgeledgerError):
            for product in self._marked:
                position = self._ended.get(product)
                if position is None:
                    await self._save(product, 0)  # nobody listened at the end
                elif position:
                    await self._save(product, position)
        tasks = list(self._tasks.values())
        tasks += [task for tail in self._tails.values() for task in tail.joining.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def moved(self, product: str) -> None:
        """Something was recorded for the product. After the commit."""
        tail = self._tails.get(product)
        if tail is not None and not self._closed:
            tail.wake.set()
        self.pushing.moved(product)

    # --- listeners -------------------------------------------------------------------------------

    async def place(self, listener: Listener) -> None:
        """Find where the listener begins, before it is told that it listens: what is recorded from then on
        is its own. Raises Unavailable."""
        listener.frames.taken = listener.seq = await self._begins(listener)
        if not self._closed:
            await self._say_listened(listener.product)

    async def listen(self, listener: Listener, last_event_id: int | None) -> None:
        """Join; `place` has said from where. (`last_event_id` was read by then.)"""
        if self._closed:
            listener.send_end()
            return
        tail = await self._tail(listener.product)
        if listener.lost:
            return
        if listener.seq >= tail.seq:
            tail.listeners.append(listener)
        else:
            behind = self._catch_up(tail, listener)
            tail.joining[listener] = asyncio.create_task(behind)

    def leave(self, listener: Listener) -> None:
        listener.lost = True
        if listener.face and not listener.ids:
            self._left.setdefault(listener.face, []).append((self._clock.now() + RETURN, listener.served()))
            while len(self._left) > MOST_LEFT:
                del self._left[next(iter(self._left))]
        tail = self._tails.get(listener.product)
        if tail is None:
            return
        if listener in tail.joining:
            tail.joining.pop(listener).cancel()
        if listener in tail.listeners:
            tail.listeners.remove(listener)
        if not tail.listeners and not tail.joining and not self._closed:
            del self._tails[listener.product]
            self._tasks.pop(listener.product).cancel()
            self._sent += tail.sent

    async def _begins(self, listener: Listener) -> int:
        now = self._clock.now()
        known = [left for left in self._left.pop(listener.face, []) if left[0] > now]
        if known[1:]:
            self._left[listener.face] = known[1:]
        if known and listener.after is None:
            return known[0][1]
        owed = self._owed.get(listener.product)
        if owed is not None and listener.after is None and not listener.ids and now - self._born < RETURN:
            return owed
        async with self._recorder.ledger.reader() as conn:
            newest = await activity.newest_seq(conn, listener.product)
        return newest if listener.after is None else min(listener.after, newest)

    async def _tail(self, product: str) -> Tail:
        tail = self._tails.get(product)
        if tail is None:
            async with self._recorder.ledger.reader() as conn:
                newest = await activity.newest_seq(conn, product)
            tail = self._tails.get(product)
        if tail is None:
            tail = Tail(self._recorder.ledger, self.shaper(product), newest, self._clock.now)
            self._tails[product] = tail
            self._tasks[product] = asyncio.create_task(self._run(tail))
        return tail

    async def _run(self, tail: Tail) -> None:
        try:
            await tail.run()
        except Exception as error:  # whatever it is: its listeners come back and begin anew
            log.error("feed_failed", error=type(error).__name__, exc_info=True)
            for listener in tail.listeners:
                listener.send_end()

    async def _catch_up(self, tail: Tail, listener: Listener) -> None:
        try:
            await tail.catch_up(listener, self.shaper(listener.product))
        except Exception as error:  # as above
            log.error("feed_failed", error=type(error).__name__, exc_info=True)
            listener.send_end()

    def shaper(self, product: str) -> Shaper:
        def config() -> Config:
            return self._recorder.books[product].rules.config

        return Shaper(product, config)

    # --- what outlives the process ---------------------------------------------------------------

    async def _say_listened(self, product: str) -> None:
        """Once a product: should this process crash, the next one knows that somebody listened."""
        if product in self._marked:
            return
        self._marked.add(product)
        try:
            async with self._recorder.ledger.reader() as conn:
                position = await activity.newest_position(conn, product)
            await self._save(product, position)
        except NudgeledgerError as error:
            self._marked.discard(product)
            log.warning("feed_cannot_note", error=str(error))

    async def _save(self, product: str, position: int) -> None:
        async with self._recorder.ledger.transaction() as conn:
            await subscription.save_checkpoint(conn, self._mark(product), position)

    def _mark(self, product: str) -> str:
        """A checkpoint's name; of this server's own, where several share a database."""
        return marks.listened(self.settings.host, self.settings.port) + product

    # --- figures ---------------------------------------------------------------------------------

    @property
    def listeners(self) -> int:
        return sum(len(tail.listeners) for tail in self._tails.values())

    @property
    def sent(self) -> int:
        """Frames handed to listeners since the start."""
        return self._sent + sum(tail.sent for tail in self._tails.values())


async def _owed(conn: AsyncConnection, product: str, told: int) -> int:
    """The sequence from which a restart is made good: what was told at the end, as far as anybody knows."""
    newest = await activity.newest_at(conn, product)
    surely = await activity.newest_position(conn, product, before=newest - OVERLAP)
    return await activity.newest_seq(conn, product, position=max(told, surely))
