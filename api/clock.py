"""The one place that reads the clock and makes ids: everything else is told."""

from __future__ import annotations

import os
import time

from api.ingest import ids


class Clock:
    """Microseconds since 1970 that never go back, whatever the machine's clock does."""

    def __init__(self) -> None:
        self._floor = 0

    def now(self) -> int:
        self._floor = max(self._floor, self.machine())
        return self._floor

    def next(self) -> int:
        """Later than every instant that was told before: no two batches share one."""
        self._floor = max(self._floor + 1, self.machine())
        return self._floor

    def machine(self) -> int:
        """What the machine's own clock says."""
        return time.time_ns() // 1000

    def observe(self, instant: int) -> None:
        """Never say less than `instant` from here on: the ledger holds something recorded then."""
        self._floor = max(self._floor, instant)

    def new_id(self) -> str:
        """A fresh UUIDv7."""
        return ids.uuid7(self.now(), os.urandom(10))
