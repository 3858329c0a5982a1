"""Keeps this process in step with others on the same PostgreSQL: their events, and timers that they left.

SQLite is one process's own and needs none of this.
"""

from __future__ import annotations

import asyncio

import structlog

from api.recorder import Recorder
from domain.errors import NudgeledgerError
from domain.instants import SECOND
from eventstore import subscription
from projections import lookups

log = structlog.get_logger()

SWEEP_S = 5.0
GRACE = 1 * SECOND  # how long whoever armed a timer has to fire it before others do
MOST = 1_000  # overdue sessions taken over in one sweep


class Follower:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to follow; does nothing where no other process can write."""
        if self._recorder.ledger.dialect != "postgresql":
            return
        self._tasks = [
            asyncio.create_task(subscription.listen(self._recorder.ledger, self._recorder.look)),
            asyncio.create_task(self._sweep()),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        """Timers of a process that died, and notices that never came."""
        recorder = self._recorder
        while True:
            await asyncio.sleep(SWEEP_S)
            recorder.look()
            try:
                async with recorder.ledger.reader() as conn:
                    late = await lookups.overdue(conn, recorder.clock.now() - GRACE, MOST)
            except NudgeledgerError as error:
                log.warning("sweep_failed", error=str(error))
                continue
            for product, session_id, due in late:
                book = await recorder.book(product)
                book.sessions.drop(session_id)  # folded, perhaps, without knowing when it is due
                recorder.due[product, session_id] = due
                recorder.on_armed(product, session_id, due)
