"""Things done once, however many ask: within this process, and in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from api import jobs
from api.jobs import Known, NoteJob, Outcome
from api.recorder import Recorder
from domain import events
from domain.errors import Unavailable
from domain.run import Turn
from projections import configs

T = TypeVar("T")
E = TypeVar("E", bound=events.Engine)

_TRIES = 20


class Shared(Generic[T]):
    """Work under way, shared by all who ask for the same."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` gives. It goes on where one of its callers leaves. Raises Unavailable at `stop`."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._ended(key, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            mine = asyncio.current_task()
            if mine is not None and not mine.cancelling():  # it was `stop`
                raise Unavailable("the service is stopping") from None
            raise

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: Hashable, task: asyncio.Task[T]) -> None:
        self._tasks.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever still waits is told; where nobody does, it is said nowhere


@dataclass(slots=True, eq=False)
class UnmovedJob(NoteJob):
    """A note that holds only while the session's stream stands where it was read."""

    read: int = 0  # version of the stream

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        self.outcome = Outcome(value=False)
        if turn.world.session(self.session_id).state.version == self.read:
            NoteJob.run(self, turn, known, product)
            self.outcome.value = True


async def settle(
    recorder: Recorder,
    make: Callable[[int], UnmovedJob],
    look: Callable[[], Awaitable[tuple[int, E | None]]],
    event: E,
) -> E:
    """Record `event`, unless `look` finds that it was said before: then what was said, here or elsewhere.

    `look` gives the version up to which it looked; a session that moves on meanwhile is looked at again.
    """
    for _ in range(_TRIES):
        read, found = await look()
        if found is not None:
            return found
        outcome: jobs.Outcome = (await recorder.submit(make(read)))[0]
        if outcome.value:
            return event
        await asyncio.sleep(0)
    raise Unavailable("the session moves too fast to be written to; try again")
