"""Bounded concurrency: a few attempts at once for each host, and a bound over all of them.

A slow vendor fills its own lane, and the others go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

AT_ONCE = 32  # over all lanes
PER_LANE = 4

T = TypeVar("T")


class Lanes(Generic[T]):
    def __init__(self, work: Callable[[T], Awaitable[None]]) -> None:
        self._work = work  # must raise nothing
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._queues: dict[str, deque[T]] = {}
        self._running: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, lane: str, item: T) -> None:
        self._queues.setdefault(lane, deque()).append(item)
        if self._running.get(lane, 0) < PER_LANE:
            self._running[lane] = self._running.get(lane, 0) + 1
            task = asyncio.create_task(self._drain(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _drain(self, lane: str) -> None:
        queue = self._queues[lane]
        while queue:
            async with self._slots:
                if queue:
                    await self._work(queue.popleft())
        self._running[lane] -= 1
        if not self._running[lane]:
            del self._running[lane], self._queues[lane]

    async def idle(self, within_s: float) -> None:
        """Wait until nothing is under way, or for so long; what only waits is forgotten."""
        for queue in self._queues.values():
            queue.clear()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
