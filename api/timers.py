"""Wakes sessions at the instants at which time alone may change something. An idle session costs nothing.

A heap of (due, product, session). An entry is valid while the recorder's `due` still names its instant;
others are skipped when they come up.
"""

from __future__ import annotations

import asyncio
import heapq

import structlog

from api.jobs import TimerJob
from api.recorder import Recorder
from domain.errors import NudgeledgerError
from domain.instants import SECOND

log = structlog.get_logger()

RETRY = SECOND  # after a failure of the database
MOST = 1_000  # sessions woken in one go


class Timers:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._heap: list[tuple[int, str, str]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        recorder.on_armed = self.arm

    def arm(self, product: str, session_id: str, due: int) -> None:
        heapq.heappush(self._heap, (due, product, session_id))
        if self._heap[0][0] == due:
            self._wake.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            due = self._taken()
            if due:
                await self._fire(due)
                continue
            pause = None
            if self._heap:
                # A timer's instant must lie in the past before it is applied: one microsecond more.
                pause = (self._heap[0][0] + 1 - self._recorder.clock.now()) / SECOND
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
            except TimeoutError:
                pass

    def _taken(self) -> list[tuple[int, str, str]]:
        now = self._recorder.clock.now()
        taken: list[tuple[int, str, str]] = []
        while self._heap and self._heap[0][0] < now and len(taken) < MOST:
            entry = heapq.heappop(self._heap)
            due, product, session_id = entry
            if self._recorder.due.get((product, session_id)) == due:
                taken.append(entry)
        return taken

    async def _fire(self, entries: list[tuple[int, str, str]]) -> None:
        jobs = [
            TimerJob(product, self._recorder.clock.new_id(), session_id=session_id, due=due)
            for due, product, session_id in entries
        ]
        try:
            await self._recorder.submit(*jobs)
        except NudgeledgerError as error:
            log.warning("timers_postponed", sessions=len(entries), error=str(error))
            await asyncio.sleep(RETRY / SECOND)
        for job, entry in zip(jobs, entries, strict=True):
            failed = job.future is None or not job.future.done() or job.future.exception() is not None
            if failed and self._recorder.due.get(entry[1:]) == entry[0]:
                heapq.heappush(self._heap, entry)
