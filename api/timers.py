"""Wakes sessions at the instants at which time alone may change something. An idle session costs nothing.

A heap of (due, product, session). An entry is valid while the recorder's `due` still names its instant;
others are skipped when they come up.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq

import structlog

from api.jobs import TimerJob
from api.recorder import Recorder
from domain.errors import NudgeledgerError
from domain.instants import SECOND

log = structlog.get_logger()

RETRY = SECOND  # after a failure of the database
MOST = 1_000  # sessions woken in one go
PAUSE_S = 60.0  # at most: the machine's clock may be set, or the machine sleep
SLACK = 10_000  # entries that no longer count and are kept all the same


class Timers:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._heap: list[tuple[int, str, str]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        recorder.on_armed = self.arm

    def arm(self, product: str, session_id: str, due: int) -> None:
        heapq.heappush(self._heap, (due, product, session_id))
        if len(self._heap) > 2 * len(self._recorder.due) + SLACK:
            # A session that acts again and again leaves an entry each time, perhaps for a day ahead.
            self._heap = [(at, *key) for key, at in self._recorder.due.items()]
            heapq.heapify(self._heap)
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
            pause = PAUSE_S
            if self._heap:
                # A timer's instant must lie in the past before it is applied: one microsecond more.
                pause = min(pause, (self._heap[0][0] + 1 - self._recorder.clock.now()) / SECOND)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # wait_for may swallow the cancellation that ends this
                    await self._wake.wait()

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
            TimerJob(product, self._recorder.clock.new_id(), session_id=session_id)
            for _, product, session_id in entries
        ]
        try:
            await self._recorder.submit(*jobs)
        except Exception as error:  # whatever it is, the other sessions' timers go on
            reason = str(error) if isinstance(error, NudgeledgerError) else type(error).__name__
            log.warning("timers_postponed", sessions=len(entries), error=reason)
            await asyncio.sleep(RETRY / SECOND)
        for job, entry in zip(jobs, entries, strict=True):
            failed = job.future is None or not job.future.done() or job.future.exception() is not None
            if failed and self._recorder.due.get(entry[1:]) == entry[0]:
                heapq.heappush(self._heap, entry)
