"""Frames of every product: for who listens, and for who is pushed to. It reads the ledger, after the commit.

What other processes wrote comes the same way as our own. While nobody listens to a product and nothing of it
is pushed, nothing is read. A client that comes back goes on where it was left; see `returning`.
"""

from __future__ import annotations

import asyncio

import structlog

from api.directory import Directory
from api.feed import marks
from api.feed.listening import Listener, Tail
from api.feed.pushing import Pushing
from api.feed.returning import Returning
from api.feed.shaping import Shaper
from api.recorder import Recorder
from api.settings import Settings
from domain.config import Config
from domain.errors import NudgeledgerError
from projections.views import activity

log = structlog.get_logger()


class Feed:
    def __init__(self, recorder: Recorder, settings: Settings, directory: Directory) -> None:
        self.settings = settings
        self._recorder = recorder
        self._tails: dict[str, Tail] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        mark = marks.listened(settings.host, settings.port)
        self._returning = Returning(recorder.ledger, recorder.clock, mark)
        self._closed = False
        self._sent = 0
        self.pushing = Pushing(recorder, directory, self.shaper)

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """See whom an earlier process served; go on with what is pushed."""
        await self._returning.start()
        await self.pushing.start()

    def close(self) -> None:
        """End every stream, each behind what waits in it; clients come back by themselves."""
        if self._closed:
            return
        self._closed = True
        for tail in self._tails.values():
            for listener in tail.listeners:
                listener.finish()
            for listener in tail.joining:
                listener.send_end()

    async def stop(self) -> None:
        self.close()
        await self.pushing.stop()
        await self._returning.stop()
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
        begin = self._returning.begins(listener) if listener.after is None else None
        if begin is None:
            async with self._recorder.ledger.reader() as conn:
                begin = await activity.newest_seq(conn, listener.product)
            begin = begin if listener.after is None else min(listener.after, begin)
        listener.frames.taken = listener.seq = begin
        try:
            await self._returning.opened(listener)
        except NudgeledgerError as error:  # should this process crash, the next one does not know it
            log.warning("feed_cannot_note", error=str(error))

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
        self._returning.closed(listener)
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

    async def _tail(self, product: str) -> Tail:
        tail = self._tails.get(product)
        if tail is None:
            async with self._recorder.ledger.reader() as conn:
                newest = await activity.newest_seq(conn, product)
            tail = self._tails.get(product)
        if tail is None:
            tail = Tail(self._recorder.ledger, self.shaper(product), newest, self._recorder.clock.now)
            self._tails[product] = tail
            self._tasks[product] = asyncio.create_task(self._run(product, tail))
        return tail

    async def _run(self, product: str, tail: Tail) -> None:
        try:
            await tail.run()
        except Exception as error:  # whatever it is: its listeners come back, to a tail of their own
            log.error("feed_failed", error=type(error).__name__, exc_info=True)
            del self._tails[product], self._tasks[product]
            self._sent += tail.sent
            for listener in (*tail.listeners, *tail.joining):
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

    # --- figures ---------------------------------------------------------------------------------

    @property
    def listeners(self) -> int:
        return sum(len(tail.listeners) for tail in self._tails.values())

    @property
    def sent(self) -> int:
        """Frames handed to listeners since the start."""
        return self._sent + sum(tail.sent for tail in self._tails.values())
