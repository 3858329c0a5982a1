"""The pushers of all products: one begins when a config names an endpoint, and ends when none does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from api.delivery.calls import Calls
from api.directory import Directory
from api.feed.leading import Leading
from api.feed.pusher import Pusher
from api.feed.shaping import Shaper
from api.recorder import Recorder
from domain.errors import NudgeledgerError

log = structlog.get_logger()

SWEEP_S = 5.0  # between two looks for products that others configured
CONNECTIONS = 20  # kept open: a frame that is sent twice because one broke does no harm


class Pushing:
    """The pushers of all products whose config names an endpoint."""

    def __init__(self, recorder: Recorder, directory: Directory, shaper: Callable[[str], Shaper]) -> None:
        self._recorder, self._directory, self._shaper = recorder, directory, shaper
        self._leading = Leading(recorder.ledger)
        self._calls = Calls(CONNECTIONS)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._stopping = False
        self.pushers: dict[str, Pusher] = {}

    async def start(self) -> None:
        self._looking = asyncio.create_task(self._look())

    async def stop(self) -> None:
        self._stopping = True
        tasks = [task for task in (self._looking, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pusher in self.pushers.values():
            await pusher.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._leading.close()
        await self._calls.stop()

    def moved(self, product: str) -> None:
        """Something was recorded for the product, perhaps its config."""
        pusher = self.pushers.get(product)
        if pusher is not None:
            pusher.wake.set()
        book = self._recorder.books.get(product)
        wanted = book is not None and book.rules.config.channels.push is not None
        if wanted != (pusher is not None) and not self._stopping:
            self._turn(product, wanted)

    def _turn(self, product: str, on: bool) -> None:
        if not on:
            ending = asyncio.create_task(_end(self._tasks.pop(product), self.pushers.pop(product)))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            return
        made = Pusher(product, self._recorder, self._leading, self._calls, self._shaper)
        self.pushers[product] = made
        self._tasks[product] = asyncio.create_task(made.run())

    async def _look(self) -> None:
        """Every product once; and, where others may configure one, again and again."""
        while True:
            try:
                for product in await self._directory.products():
                    await self._recorder.book(product)
                    self.moved(product)
            except NudgeledgerError as error:
                log.warning("push_cannot_look", error=str(error))
            else:
                if self._recorder.ledger.dialect != "postgresql":
                    return
            await asyncio.sleep(SWEEP_S)


async def _end(task: asyncio.Task[None], pusher: Pusher) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await pusher.stop()
