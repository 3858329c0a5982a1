"""Work that nobody waits for: kept until it ends, and what goes wrong in it is said in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from domain.errors import NudgeledgerError

log = structlog.get_logger()


class Unattended:
    def __init__(self, failed: str, *expected: type[Exception]) -> None:
        """`failed`: the log's event for a failure. `expected`: errors that need no traceback, beside ours."""
        self._failed = failed
        self._expected: tuple[type[Exception], ...] = (NudgeledgerError, *expected)
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __len__(self) -> int:
        return len(self._tasks)

    async def settle(self) -> None:
        """Wait for all of it, also for what it begins."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def stop(self, within_s: float = 0) -> None:
        """Let what is under way end within so many seconds, then cancel the rest."""
        late = set(self._tasks)
        if late and within_s:
            _, late = await asyncio.wait(late, timeout=within_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _quietly(self, work: Awaitable[object]) -> None:
        try:
            await work
        except self._expected as error:
            log.warning(self._failed, error=str(error))
        except Exception as error:  # whatever it is: nobody waits for it, so say it here
            log.error(self._failed, error=type(error).__name__, exc_info=True)
